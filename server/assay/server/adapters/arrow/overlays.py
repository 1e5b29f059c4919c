"""Overlays: files of what was changed of samples after theirs was written, and the two read as one.

What is kept in memory of a file's changed samples is small beside the file: their attributes, and of other columns
those that were changed. A merge writes them into the file.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from assay.server.adapters.arrow import header as headers
from assay.server.adapters.arrow.columns import ATTRIBUTE, ROW, attribute_column, is_ours, text_columns
from assay.server.adapters.arrow.header import Header
from assay.server.adapters.arrow.ids import PositionArray
from assay.server.adapters.arrow.ipc import numbers, record_batch
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.samples import SampleColumns, SegmentFile

KIND = "overlay"


def overlay_batch(rows_N: RowArray, columns: SampleColumns) -> pa.RecordBatch:
    """The content of an overlay: the columns that are given. Raises ValueError where columns differ in length."""
    content = {
        ROW: pa.array(np.ascontiguousarray(rows_N, np.int64)),
        **text_columns(columns),
        **{ATTRIBUTE + name: attribute_column(column) for name, column in columns.attributes.items()},
    }
    lengths = {name: len(column) for name, column in content.items()}
    if set(lengths.values()) != {len(rows_N)}:
        raise ValueError(f"columns of {len(rows_N)} samples have lengths {lengths}")
    return record_batch(content, headers.encode(Header(KIND, {})))


class ArrowOverlay:
    """An open overlay."""

    def __init__(self, file: SegmentFile, batch: pa.RecordBatch) -> None:
        self.file = file
        self.batch = batch

    @property
    def rows_N(self) -> RowArray:
        """Rows, ascending: read-only, zero copy."""
        return numbers(self.batch.column(ROW))

    def check(self) -> None:
        """Touches what could fail later. Raises ValueError."""
        for field in self.batch.schema:
            if not is_ours(field):
                raise ValueError(f"unknown column {field.name} of {field.type}")


@dataclass(frozen=True, slots=True)
class Patch:
    """The changed samples of a file as they are now.

    Attributes:
        positions: their positions in the file, ascending.
        batch: all attributes of theirs, and every other column of which something was changed.
        overlays: what they were changed by, in order.
    """

    positions: PositionArray
    batch: pa.RecordBatch
    overlays: tuple[ArrowOverlay, ...]

    def found(self, positions: PositionArray) -> tuple[PositionArray, PositionArray]:
        """Which of some positions were changed: (places in `positions`, places in the patch)."""
        places = np.minimum(np.searchsorted(self.positions, positions), len(self.positions) - 1)
        hit = np.flatnonzero(self.positions[places] == positions)
        return hit, places[hit]


def patched(batch: pa.RecordBatch, before: Patch | None, overlay: ArrowOverlay) -> Patch | None:
    """A file's patch once an overlay is laid over it; as before where the overlay changes none of its samples."""
    positions, changed = _inside(numbers(batch.column(ROW)), overlay.rows_N)
    if not len(positions):
        return before
    earlier = () if before is None else before.overlays
    everything = positions if before is None else np.union1d(before.positions, positions)
    over = overlay.batch.take(pa.array(changed))
    taken, content = pa.array(everything), dict[str, pa.Array]()
    for name, kind in _columns(batch, before, over).items():
        column = column_of(batch, name, kind).take(taken)
        if before is not None:
            column = laid(column, before.batch, name, np.searchsorted(everything, before.positions))
        content[name] = laid(column, over, name, np.searchsorted(everything, positions))
    return Patch(everything, record_batch(content, {}), (*earlier, overlay))


def laid(under: pa.Array, over: pa.RecordBatch, name: str, at: PositionArray) -> pa.Array:
    """A column with the values at some positions, ascending, taken from a batch; as it is if the batch lacks it."""
    index = over.schema.get_field_index(name)
    if index < 0:
        return under
    taken = np.arange(len(under))
    taken[at] = len(under) + np.arange(len(at))
    return pa.concat_arrays([under, over.column(index)]).take(pa.array(taken))


def column_of(batch: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.Array:
    """A column of a batch; nulls where it has none of the name."""
    index = batch.schema.get_field_index(name)
    return pa.nulls(batch.num_rows, kind) if index < 0 else batch.column(index)


def _columns(batch: pa.RecordBatch, before: Patch | None, over: pa.RecordBatch) -> dict[str, pa.DataType]:
    """The columns of a patch, with their types: all attributes, for a filter may ask for several, and what else was
    changed."""
    changed = [*(before.batch.schema if before else ()), *(field for field in over.schema if field.name != ROW)]
    attributes = (field for field in batch.schema if field.name.startswith(ATTRIBUTE))
    return {field.name: field.type for field in (*attributes, *changed)}


def _inside(rows_N: RowArray, changed_M: RowArray) -> tuple[PositionArray, PositionArray]:
    """Which changed rows are among some: (positions in rows_N, positions in changed_M), ascending."""
    places = np.minimum(np.searchsorted(rows_N, changed_M), len(rows_N) - 1)
    hit = np.flatnonzero(rows_N[places] == changed_M)
    return places[hit], hit
