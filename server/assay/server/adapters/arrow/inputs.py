"""Model inputs in a samples file: one list column a tensor, and runs of samples whose tensors have one shape.

Lists, not fixed-size lists: batches padded to other lengths can then live in one merged file. Within a run all lists
are of one length and lie one after the other, so that a block of them is a view.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.server.adapters.arrow.header import Header, Run
from assay.server.adapters.arrow.ipc import flat_array, numbers
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.arrays import MaskArray

INPUT = "input:"

_DTYPES = frozenset(
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
)


def input_columns(inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, pa.Array]:
    """The columns that hold tensors [N, ...]. Raises AssayError(INPUTS_INVALID) for a dtype that cannot be kept."""
    return {INPUT + name: _list_column(name, array) for name, array in inputs.items()}


def input_header(count: int, inputs: Mapping[str, npt.NDArray[Any]]) -> Header:
    """The header of a samples file with these tensors."""
    dtypes = {name: array.dtype.name for name, array in inputs.items()}
    shapes = {name: tuple(array.shape[1:]) for name, array in inputs.items()}
    return Header("samples", dtypes, [Run(count, shapes)])


def read_inputs(batch: pa.RecordBatch, header: Header, start: int, stop: int) -> dict[str, npt.NDArray[Any]] | None:
    """Tensors of positions start..stop as views; None in a run without. Raises ValueError across runs."""
    begin = 0
    for run in header.runs:
        if begin <= start <= stop <= run.stop:
            blocks = {name: _block(batch, header, name, shape, start, stop) for name, shape in run.shapes.items()}
            return blocks or None
        begin = run.stop
    raise ValueError(f"positions {start}..{stop} are not within one run of equal input shapes")


def kept_runs(parts: Sequence[tuple[Header, MaskArray]]) -> list[Run]:
    """The runs of several files one after the other, without the samples that the masks refuse."""
    runs: list[Run] = []
    total = 0
    for header, keep in parts:
        begin = 0
        for run in header.runs:
            kept = int(np.count_nonzero(keep[begin : run.stop]))
            begin = run.stop
            total += kept
            if kept and runs and runs[-1].shapes == run.shapes:
                runs[-1] = Run(total, run.shapes)
            elif kept:
                runs.append(Run(total, run.shapes))
    return runs


def _list_column(name: str, array: npt.NDArray[Any]) -> pa.Array:
    if array.dtype.name not in _DTYPES:
        raise AssayError(
            Reason.INPUTS_INVALID,
            f"Model input {name!r} has dtype {array.dtype}, which cannot be kept. Send numbers or booleans.",
            input=name,
        )
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    values = flat_array(little.view(np.uint8) if little.dtype == np.bool_ else little)
    width = len(values) // max(len(array), 1)
    offsets = np.arange(len(array) + 1, dtype=np.int64) * width
    kind = pa.large_list(values.type)
    return pa.Array.from_buffers(kind, len(array), [None, pa.py_buffer(offsets)], children=[values])


def _block(
    batch: pa.RecordBatch, header: Header, name: str, shape: tuple[int, ...], start: int, stop: int
) -> npt.NDArray[Any]:
    column = batch.column(INPUT + name)
    first, last = numbers(column.offsets)[[start, stop]]
    return numbers(column.values)[first:last].view(header.dtypes[name]).reshape(stop - start, *shape)
