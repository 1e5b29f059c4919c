"""Samples files: what is known of each sample, and the way from its id to its row."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.server.adapters.arrow import header as headers
from assay.server.adapters.arrow.columns import (
    ATTRIBUTE,
    ID,
    MEDIA_TYPE,
    PAYLOAD,
    PREDICTION,
    ROW,
    URI,
    attribute_column,
    is_ours,
    text_columns,
)
from assay.server.adapters.arrow.filters import evaluate
from assay.server.adapters.arrow.header import Header
from assay.server.adapters.arrow.ids import HashIds, IdLookup, PositionArray, lookup_columns
from assay.server.adapters.arrow.inputs import input_columns, input_header, read_inputs
from assay.server.adapters.arrow.ipc import list_array, matrix, numbers, record_batch
from assay.server.adapters.arrow.overlays import ArrowOverlay, Patch, column_of, laid, patched
from assay.server.core.ports.segments import Overlay
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray, Scalar
from assay.server.core.records.filters import Filter, HasId
from assay.server.core.records.samples import SampleColumns, SampleRecord, SegmentFile


def sample_batch(rows_N: RowArray, columns: SampleColumns, hash_ids: HashIds) -> pa.RecordBatch:
    """The content of a samples file. Raises ValueError where columns differ in length."""
    inputs = columns.inputs or {}
    content = {
        ROW: pa.array(np.ascontiguousarray(rows_N, np.int64)),
        ID: pa.array(columns.ids, pa.large_string()),
        **lookup_columns(hash_ids(columns.ids)),
        **text_columns(columns),
        **{ATTRIBUTE + name: attribute_column(column) for name, column in columns.attributes.items()},
        **input_columns(inputs),
    }
    if columns.predictions_NC is not None:
        content[PREDICTION] = list_array(np.ascontiguousarray(columns.predictions_NC, np.float32))
    lengths = {name: len(column) for name, column in content.items()}
    if set(lengths.values()) != {len(rows_N)}:
        raise ValueError(f"columns of {len(rows_N)} samples have lengths {lengths}")
    return record_batch(content, headers.encode(input_header(len(rows_N), inputs)))


# Places of changed samples among those asked for, and in the patch.
Changed = tuple[PositionArray, PositionArray]
_UNCHANGED: Changed = (np.empty(0, np.int64), np.empty(0, np.int64))


class ArrowSampleSegment:
    """An open samples file, with what was changed of its samples since."""

    def __init__(
        self, file: SegmentFile, batch: pa.RecordBatch, header: Header, lookup: IdLookup, patch: Patch | None = None
    ) -> None:
        self._file = file
        self.batch = batch
        self.header = header
        self.lookup = lookup
        self.patch = patch

    def overlaid(self, overlay: Overlay) -> "ArrowSampleSegment":
        """The file with an overlay laid over it; itself where the overlay changes none of its samples."""
        if not isinstance(overlay, ArrowOverlay):
            raise TypeError(f"{type(overlay).__name__} was not opened by this store")
        patch = patched(self.batch, self.patch, overlay)
        if patch is self.patch:
            return self
        return ArrowSampleSegment(self._file, self.batch, self.header, self.lookup, patch)

    @property
    def bare(self) -> "ArrowSampleSegment":
        """The file without overlays."""
        return ArrowSampleSegment(self._file, self.batch, self.header, self.lookup)

    @property
    def overlays(self) -> tuple[ArrowOverlay, ...]:
        """The overlays that change some of its samples, in order."""
        return () if self.patch is None else self.patch.overlays

    @property
    def changed(self) -> int:
        """How many of its samples they change."""
        return 0 if self.patch is None else len(self.patch.positions)

    @property
    def types(self) -> dict[str, pa.DataType]:
        """Its columns, as they are now, by name."""
        fields = [*self.batch.schema, *(self.patch.batch.schema if self.patch else ())]
        return {field.name: field.type for field in fields}

    def column(self, name: str, kind: pa.DataType) -> pa.Array:
        """A whole column as it is now; nulls where there is none of the name."""
        column = column_of(self.batch, name, kind)
        return column if self.patch is None else laid(column, self.patch.batch, name, self.patch.positions)

    @property
    def file(self) -> SegmentFile:
        """The file as the catalog knows it."""
        return self._file

    @property
    def rows_N(self) -> RowArray:
        """Rows, ascending: read-only, zero copy."""
        return numbers(self.batch.column(ROW))

    def check(self) -> None:
        """Touches what could fail later in a file whose checksum was not looked at. Raises ValueError, KeyError,
        TypeError or what Arrow raises."""
        for field in self.batch.schema:
            if not is_ours(field):
                raise ValueError(f"unknown column {field.name} of {field.type}")
        self.lookup.check()
        _ = self.predictions_NC
        for start, stop in self.input_runs:
            self.inputs(start, stop)

    @property
    def predictions_NC(self) -> FloatArray | None:
        """Pushed class probabilities: read-only, zero copy; rows of NaN where a sample has none."""
        column = self._column(PREDICTION)
        return None if column is None else matrix(column)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the stored model inputs."""
        return tuple(self.header.dtypes)

    @property
    def input_runs(self) -> tuple[tuple[int, int], ...]:
        """Position ranges within which inputs have one shape."""
        stops = [run.stop for run in self.header.runs]
        ranges = zip([0, *stops], stops, self.header.runs, strict=False)
        return tuple((start, stop) for start, stop, run in ranges if run.shapes)

    def find(self, ids: Sequence[str]) -> RowArray:
        """Row of each id, the newest where an id occurs twice, -1 where it does not."""
        found = np.full(len(ids), -1, np.int64)
        queries, rows = self.find_all(ids)
        np.maximum.at(found, queries, rows)
        return found

    def find_all(self, ids: Sequence[str]) -> tuple[PositionArray, RowArray]:
        """(position in ids, row) of every occurrence, ascending."""
        queries, positions = self.lookup.occurrences(ids)
        return queries, self.rows_N[positions]

    def ids(self, positions: PositionArray) -> list[str]:
        """Ids at positions of the file."""
        ids: list[str] = self.batch.column(ID).take(pa.array(positions, pa.int64())).to_pylist()
        return ids

    def describe(
        self, positions: PositionArray, *, payload: bool = True, attributes: bool = True
    ) -> list[SampleRecord]:
        """Records at positions of the file."""
        taken = pa.array(positions, pa.int64())
        count = len(taken)
        changed = _UNCHANGED if self.patch is None else self.patch.found(positions)
        wanted = ((URI, "", True), (PAYLOAD, b"", payload), (MEDIA_TYPE, "", payload))
        texts = [self._taken(name, taken, changed, empty) if want else [empty] * count for name, empty, want in wanted]
        facts = self._taken_attributes(taken, changed) if attributes else [{} for _ in range(count)]
        return [SampleRecord(*fields) for fields in zip(self.ids(positions), *texts, facts, strict=True)]

    def matches(self, filter: Filter) -> MaskArray:
        """Which samples match."""
        mask = evaluate(filter, self.batch, self._have_ids)
        if self.patch is not None:
            positions = self.patch.positions
            mask[positions] = evaluate(filter, self.patch.batch, lambda ids: self._have_ids(ids)[positions])
        return mask

    def _have_ids(self, filter: HasId) -> MaskArray:
        mask = np.zeros(self.batch.num_rows, np.bool_)
        mask[self.lookup.occurrences(filter.ids)[1]] = True
        return mask

    def inputs(self, start: int, stop: int) -> Mapping[str, npt.NDArray[Any]] | None:
        """Stored model inputs of positions start..stop: read-only, zero copy. Raises ValueError across runs."""
        return read_inputs(self.batch, self.header, start, stop)

    def _column(self, name: str) -> pa.Array | None:
        index = self.batch.schema.get_field_index(name)
        return None if index < 0 else self.batch.column(index)

    def _taken(self, name: str, taken: pa.Array, changed: Changed, empty: Any) -> list[Any]:
        """Values of a column, those of changed samples as they are now."""
        column = self._column(name)
        values = [None] * len(taken) if column is None else column.take(taken).to_pylist()
        for place, value in self._now(name, changed):
            values[place] = value
        return [empty if value is None else value for value in values]

    def _taken_attributes(self, taken: pa.Array, changed: Changed) -> list[dict[str, Scalar]]:
        facts: list[dict[str, Scalar]] = [{} for _ in range(len(taken))]
        for field in self.types:
            if field.startswith(ATTRIBUTE):
                name = field.removeprefix(ATTRIBUTE)
                for fact, value in zip(facts, self._taken(field, taken, changed, None), strict=True):
                    if value is not None:
                        fact[name] = value
        return facts

    def _now(self, name: str, changed: Changed) -> Iterator[tuple[int, Any]]:
        """Values of changed samples in a column, with their places among those that are asked for."""
        index = -1 if self.patch is None else self.patch.batch.schema.get_field_index(name)
        if self.patch is None or index < 0:
            return iter(())
        places, at = changed
        values = self.patch.batch.column(index).take(pa.array(at, pa.int64())).to_pylist()
        return zip(places.tolist(), values, strict=True)
