"""What people keep vectors in, as numpy arrays: frames, columns of lists, tensors, masked arrays."""

from collections.abc import Iterable, Sequence, ValuesView
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.client._values import Place, dense_tensor, kind_of, plain, shown

# Entries of an array that numpy keeps as Python objects.
_OBJECTS = "O"


def array_of(values: Any, place: Place) -> NDArray[Any]:
    """The array that something array-like stands for; memory-mapped arrays stay where they are.

    Raises:
        ValueError: rows of unequal length; a row or entry that is missing or masked.
        TypeError: sparse, structured, or nothing that numpy can read.
    """
    what = place.what
    if isinstance(values, np.ma.MaskedArray):
        return _unmasked(values, place)
    if isinstance(values, np.ndarray):
        array = values
    elif isinstance(values, str | bytes):
        raise TypeError(f"{what} takes numbers, not one string")
    elif hasattr(values, "toarray"):
        raise TypeError(f"{what} is sparse, {kind_of(values)}: give {what}.toarray()")
    elif hasattr(values, "detach"):
        array = _of_tensor(values, what)
    elif hasattr(values, "to_pylist"):
        array = _of_arrow(values, place)
    elif hasattr(values, "to_numpy"):
        array = _of_frame(values, place)
    else:
        array = _read(values, place)
    if array.dtype.names:
        raise TypeError(
            f"{what} is a structured array of {', '.join(array.dtype.names)}: give "
            f"numpy.lib.recfunctions.structured_to_unstructured({what})"
        )
    if array.dtype.kind == _OBJECTS:
        return _stacked(list(array), place)
    return _widened(array) if array.dtype.kind == "V" else array


def _unmasked(values: np.ma.MaskedArray[Any, Any], place: Place) -> NDArray[Any]:
    mask = np.ma.getmaskarray(values)
    if mask.any():
        row = int(np.argwhere(mask)[0][0])
        raise ValueError(f"{place.at(row)} has masked entries: every number is needed; leave the row out or fill it")
    return array_of(np.asarray(values.data), place)


def _of_tensor(tensor: Any, what: str) -> NDArray[Any]:
    dense = dense_tensor(tensor, what)
    try:
        array: NDArray[Any] = dense.numpy()
    except TypeError:  # numpy has no such type: bfloat16, float8
        array = dense.float().numpy()
    return array


def _of_arrow(values: Any, place: Place) -> NDArray[Any]:
    """Arrow: a table's columns side by side, or a column whose entries are vectors."""
    if hasattr(values, "column_names"):
        columns = [
            array_of(values.column(position), replace(place, what=f"{place.what} {name!r}"))
            for position, name in enumerate(values.column_names)
        ]
        return np.column_stack(columns) if columns else np.empty((values.num_rows, 0))
    if hasattr(values, "combine_chunks"):
        values = values.combine_chunks()
    if hasattr(values, "to_numpy_ndarray"):
        array: NDArray[Any] = values.to_numpy_ndarray()
        return array
    if hasattr(values, "flatten") and hasattr(values, "value_lengths"):
        flat = _equal_lists(values)
        if flat is not None:
            return flat
    return _read(values.to_pylist(), place)


def _equal_lists(lists: Any) -> NDArray[Any] | None:
    """Arrow lists of one length as a matrix; None where there are gaps, other lengths or lists in lists."""
    lengths = set(lists.value_lengths().to_pylist())
    numbers = lists.flatten()
    if len(lengths) != 1 or None in lengths or numbers.null_count or hasattr(numbers, "value_lengths"):
        return None
    matrix: NDArray[Any] = numbers.to_numpy(zero_copy_only=False).reshape(len(lists), -1)
    return matrix


def _of_frame(values: Any, place: Place) -> NDArray[Any]:
    """pandas, polars and what else turns itself into numpy."""
    array: NDArray[Any] = np.asarray(values.to_numpy())
    return array_of(array, place)


def _read(values: Any, place: Place) -> NDArray[Any]:
    if isinstance(values, Iterable) and (not hasattr(values, "__len__") or isinstance(values, ValuesView)):
        values = list(values)
    if isinstance(values, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in values):
        return _stacked(values, place)
    try:
        array = np.asarray(values)
    except Exception as error:  # whatever the library behind it raises
        # Rows of unequal length, tensors with a graph, arrays of a device: looked at one by one.
        if isinstance(values, Sequence):
            return _stacked(values, place)
        raise TypeError(f"{place.what} is {kind_of(values)}, which numpy cannot read: {error}") from error
    if array.dtype.kind in "US" and isinstance(values, list | tuple):
        return _stacked(values, place)  # which says where the text is
    if array.ndim == 0 and array.dtype.kind == _OBJECTS:
        hint = f": give {place.what}.collect()" if hasattr(values, "collect") else ""
        raise TypeError(f"{place.what}{place.sample} takes an array, not {shown(values)}, {kind_of(values)}{hint}")
    return array


def _stacked(rows: Sequence[Any] | NDArray[Any], place: Place) -> NDArray[Any]:
    """Vectors that lie apart, or rows with objects among them, as one array."""
    vectors = [_vector(value, place, row) for row, value in enumerate(rows)]
    for row, vector in enumerate(vectors):
        if vector.shape != vectors[0].shape:
            raise ValueError(f"{place.at(row)} has the shape {vector.shape}, the rows before it {vectors[0].shape}")
    return np.stack(vectors) if vectors else np.empty((0,))


def _vector(value: Any, place: Place, row: int) -> NDArray[Any]:
    entry = plain(value)
    if entry is None:
        raise ValueError(f"{place.at(row)} is missing: every sample needs one")
    if isinstance(entry, bool | int | float):
        return np.asarray(entry)
    here = place.within(row)
    if isinstance(entry, list | tuple) or (isinstance(entry, np.ndarray) and entry.dtype.kind == _OBJECTS):
        return _stacked(entry, here) if len(entry) else np.empty(0)
    if isinstance(entry, str | bytes) or not isinstance(entry, Iterable):
        raise TypeError(f"{place.at(row)} is {shown(value)}, {kind_of(value)}; numbers are needed")
    return array_of(entry, here)


def _widened(array: NDArray[Any]) -> NDArray[Any]:
    """Floats of types that numpy itself has not, such as bfloat16 of ml_dtypes."""
    try:
        return array.astype(np.float32)
    except (TypeError, ValueError):
        return array
