"""Matrices and tensors: bytes to arrays and back, without a copy where the element type allows."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.records.arrays import FloatArray
from assay.v1 import types_pb2

_F16, _F32, _F64 = np.dtype("<f2"), np.dtype("<f4"), np.dtype("<f8")
_DTYPES: Mapping[int, np.dtype[Any]] = {
    types_pb2.DTYPE_FLOAT32: _F32,
    types_pb2.DTYPE_FLOAT16: _F16,
    types_pb2.DTYPE_FLOAT64: _F64,
    types_pb2.DTYPE_INT64: np.dtype("<i8"),
    types_pb2.DTYPE_INT32: np.dtype("<i4"),
    types_pb2.DTYPE_UINT8: np.dtype("u1"),
    types_pb2.DTYPE_BOOL: np.dtype(np.bool_),
    types_pb2.DTYPE_INT8: np.dtype("i1"),
    types_pb2.DTYPE_INT16: np.dtype("<i2"),
    types_pb2.DTYPE_UINT16: np.dtype("<u2"),
    types_pb2.DTYPE_UINT32: np.dtype("<u4"),
}
_WIRE_DTYPES = {dtype.name: value for value, dtype in _DTYPES.items()}
MAX_RANK = 8
MAX_TENSORS = 64


def _refused(reason: Reason, field: str, problem: str) -> AssayError:
    return AssayError(reason, f"{field} {problem}", field=field)


def _dtype(value: int, field: str, reason: Reason) -> np.dtype[Any]:
    try:
        return _DTYPES[value]
    except KeyError:
        raise _refused(reason, field, f"has no usable dtype ({value}). Name one of DType.") from None


def to_matrix(matrix: types_pb2.Matrix, field: str) -> FloatArray:
    """A matrix as float32 [rows, cols], read-only; no copy if it is float32 already.

    Raises:
        AssayError: INVALID_MATRIX for an integer dtype, a bad shape or a wrong byte length; NOT_FINITE for a value
            beyond float32.
    """
    dtype = _dtype(matrix.dtype, field, Reason.INVALID_MATRIX)
    if dtype.kind != "f":
        raise _refused(Reason.INVALID_MATRIX, field, f"is of {dtype.name}; it must be of a float type.")
    if matrix.rows < 0 or matrix.cols < 0 or (matrix.rows > 0 and matrix.cols == 0):
        raise _refused(Reason.INVALID_MATRIX, field, f"cannot have the shape {matrix.rows} x {matrix.cols}.")
    shape = (matrix.rows, matrix.cols)
    return _float32(_from_bytes(matrix.data, dtype, shape, field, Reason.INVALID_MATRIX), field)


def to_tensors(tensors: Iterable[types_pb2.NamedTensor]) -> dict[str, npt.NDArray[Any]]:
    """Named inputs by name, read-only; float16 is widened to float32.

    Raises:
        AssayError: INPUTS_INVALID for a name that is empty or comes twice, a bad dtype, shape or byte length, unequal
            numbers of samples.
    """
    inputs: dict[str, npt.NDArray[Any]] = {}
    for tensor in tensors:
        if not tensor.name or tensor.name in inputs or len(inputs) == MAX_TENSORS:
            raise _refused(
                Reason.INPUTS_INVALID, "inputs", f"must be at most {MAX_TENSORS} tensors, each under a name of its own."
            )
        inputs[tensor.name] = _tensor(tensor)
    if len({len(values) for values in inputs.values()}) > 1:
        raise _refused(Reason.INPUTS_INVALID, "inputs", "differ in their number of samples.")
    return inputs


def _tensor(tensor: types_pb2.NamedTensor) -> npt.NDArray[Any]:
    field = f"input {tensor.name[:100]!r}"
    dtype = _dtype(tensor.dtype, field, Reason.INPUTS_INVALID)
    shape = tuple(tensor.shape)
    if not 1 <= len(shape) <= MAX_RANK or min(shape) < 0:
        raise _refused(Reason.INPUTS_INVALID, field, f"must have 1 to {MAX_RANK} dimensions of 0 or more.")
    values = _from_bytes(tensor.data, dtype, shape, field, Reason.INPUTS_INVALID)
    if dtype.kind == "b" and values.size and values.view(np.uint8).max() > 1:
        raise _refused(Reason.INPUTS_INVALID, field, "is of bool, and holds bytes other than 0 and 1.")
    return _float32(values, field) if dtype == _F16 else values


def _from_bytes(
    data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], field: str, reason: Reason
) -> npt.NDArray[Any]:
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        sizes = " x ".join(str(size) for size in shape)
        raise _refused(
            reason, field, f"has {len(data):,} bytes, but {sizes} elements of {dtype.name} take {expected:,}."
        )
    try:
        return np.frombuffer(data, dtype).reshape(shape)
    except ValueError:  # sizes beyond what numpy can index, beside a 0
        raise _refused(reason, field, "has a dimension that is too large.") from None


def _float32(values: npt.NDArray[Any], field: str) -> FloatArray:
    if values.dtype == _F32:
        return values
    with np.errstate(over="ignore"):
        narrowed: FloatArray = values.astype(np.float32)
    if values.dtype == _F64 and np.any(np.isinf(narrowed) & np.isfinite(values)):
        row = int(np.argwhere(np.isinf(narrowed) & np.isfinite(values))[0][0])
        raise SampleError(Reason.NOT_FINITE, row, f"{field} has a value beyond the range of binary32.", field=field)
    narrowed.setflags(write=False)
    return narrowed


def matrix_message(values: npt.NDArray[Any] | None) -> types_pb2.Matrix | None:
    """A float matrix [rows, cols] as binary32; None stays None, which leaves a field unset."""
    if values is None:
        return None
    rows, cols = values.shape
    data = np.ascontiguousarray(values, _F32).tobytes()
    return types_pb2.Matrix(dtype=types_pb2.DTYPE_FLOAT32, rows=rows, cols=cols, data=data)


def dtype_message(name: str) -> types_pb2.DType.ValueType:
    """Wire word for a numpy dtype's name; unspecified for one that no Tensor can carry."""
    return types_pb2.DType.ValueType(_WIRE_DTYPES.get(name, types_pb2.DTYPE_UNSPECIFIED))
