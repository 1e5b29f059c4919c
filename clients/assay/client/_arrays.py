"""numpy arrays as they travel: raw little-endian bytes, row by row."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from assay.client._tables import array_of
from assay.client._values import Place, kind_of
from assay.v1 import types_pb2 as pb

_WIRE_TYPES: Final[dict[np.dtype[Any], pb.DType.ValueType]] = {
    np.dtype(np.float32): pb.DTYPE_FLOAT32,
    np.dtype(np.float16): pb.DTYPE_FLOAT16,
    np.dtype(np.float64): pb.DTYPE_FLOAT64,
    np.dtype(np.int64): pb.DTYPE_INT64,
    np.dtype(np.int32): pb.DTYPE_INT32,
    np.dtype(np.uint8): pb.DTYPE_UINT8,
    np.dtype(np.bool_): pb.DTYPE_BOOL,
    np.dtype(np.int8): pb.DTYPE_INT8,
    np.dtype(np.int16): pb.DTYPE_INT16,
    np.dtype(np.uint16): pb.DTYPE_UINT16,
    np.dtype(np.uint32): pb.DTYPE_UINT32,
}
_NUMPY_TYPES: Final = {number: dtype.newbyteorder("<") for dtype, number in _WIRE_TYPES.items()}


def float_rows(values: Any, what: str, ids: Sequence[str] | None = None, first: int = 0) -> NDArray[Any]:
    """A matrix of floats from any table, list of vectors or column of vectors; whole numbers become float32, floats of
    the wire's types keep theirs. `ids` and `first` are for what an error says: see `Place`.

    Raises:
        ValueError: not two-dimensional, no numbers, rows of unequal length, or a row or entry that is missing.
        TypeError: sparse, or nothing that numpy can read.
    """
    rows = array_of(values, Place(what, ids, first))
    if rows.ndim != 2:
        raise ValueError(f"{what} must be a matrix, one row per sample, not an array of shape {rows.shape}")
    if rows.dtype.kind == "f" and rows.dtype.itemsize <= 8:
        return rows
    if rows.dtype.kind in "iu":
        return rows.astype(np.float32)
    raise ValueError(f"{what} must be float16, float32 or float64, not {rows.dtype}: give {what}.astype(numpy.float32)")


def matrix(rows: NDArray[Any]) -> pb.Matrix:
    """The message of a matrix; takes any memory layout."""
    return pb.Matrix(dtype=wire_type(rows.dtype), rows=rows.shape[0], cols=rows.shape[1], data=wire_bytes(rows))


def named_tensor(name: str, values: NDArray[Any]) -> pb.NamedTensor:
    """The message of one named model input."""
    return pb.NamedTensor(name=name, dtype=wire_type(values.dtype), shape=values.shape, data=wire_bytes(values))


def named_arrays(inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Model inputs as arrays, with types that can travel.

    Raises:
        ValueError: none, an input without a sample axis, or of another type.
        TypeError: no mapping; sparse, or nothing that numpy can read.
    """
    if not hasattr(inputs, "items"):
        raise TypeError(f"inputs are arrays by the names that the model has for them, not {kind_of(inputs)}")
    if not inputs:
        raise ValueError("inputs is empty: give one array for each input of the model")
    arrays = {name: array_of(values, Place(f"input {name!r}")) for name, values in inputs.items()}
    for name, values in arrays.items():
        if values.ndim == 0:
            raise ValueError(f"input {name!r} needs a first axis of samples")
        try:
            wire_type(values.dtype)
        except ValueError as error:
            raise ValueError(f"input {name!r}: {error}") from None
    return arrays


def from_matrix(message: pb.Matrix) -> NDArray[Any]:
    """The array of a matrix; read-only, it shares the message's bytes.

    Raises:
        ValueError: the bytes do not fit the shape.
    """
    if message.dtype not in _NUMPY_TYPES:
        raise ValueError(f"the matrix is of unknown type {message.dtype}")
    flat = np.frombuffer(message.data, dtype=_NUMPY_TYPES[message.dtype])
    return flat.reshape(message.rows, message.cols)


def wire_type(dtype: np.dtype[Any]) -> pb.DType.ValueType:
    """The wire's name of an element type, whatever its byte order.

    Raises:
        ValueError: a type that does not travel.
    """
    native = dtype.newbyteorder("=")
    if native not in _WIRE_TYPES:
        raise ValueError(f"{dtype} does not travel; use one of {', '.join(map(str, _WIRE_TYPES))}")
    return _WIRE_TYPES[native]


def wire_bytes(values: NDArray[Any]) -> bytes:
    """Row-major little-endian bytes."""
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
