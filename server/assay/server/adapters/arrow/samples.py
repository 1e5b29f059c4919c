"""Samples files: what is known of each sample, and the way from its id to its row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.server.adapters.arrow import header as headers
from assay.server.adapters.arrow.filters import ATTRIBUTE, evaluate
from assay.server.adapters.arrow.header import Header
from assay.server.adapters.arrow.ids import HASHES, ORDER, HashIds, IdLookup, PositionArray, lookup_columns
from assay.server.adapters.arrow.inputs import INPUT, input_columns, input_header, read_inputs
from assay.server.adapters.arrow.ipc import list_array, matrix, numbers, record_batch
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray, Scalar
from assay.server.core.records.filters import Filter
from assay.server.core.records.samples import AttributeColumn, SampleColumns, SampleRecord, SegmentFile

ROW, ID, URI = "row", "id", "uri"
PAYLOAD, MEDIA_TYPE = "payload", "payload_media_type"
PREDICTION = "prediction"

_TYPES = {
    ROW: pa.int64(),
    ID: pa.large_string(),
    HASHES: pa.uint64(),
    ORDER: pa.uint32(),
    URI: pa.large_string(),
    PAYLOAD: pa.large_binary(),
    MEDIA_TYPE: pa.dictionary(pa.int16(), pa.string()),
}
_KINDS = {"string": pa.large_string(), "double": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}


def sample_batch(rows_N: RowArray, columns: SampleColumns, hash_ids: HashIds) -> pa.RecordBatch:
    """The content of a samples file. Raises ValueError where columns differ in length."""
    inputs = columns.inputs or {}
    content = {
        ROW: pa.array(np.ascontiguousarray(rows_N, np.int64)),
        ID: pa.array(columns.ids, pa.large_string()),
        **lookup_columns(hash_ids(columns.ids)),
        **_texts(columns),
        **{ATTRIBUTE + name: _attribute(column) for name, column in columns.attributes.items()},
        **input_columns(inputs),
    }
    if columns.predictions_NC is not None:
        content[PREDICTION] = list_array(np.ascontiguousarray(columns.predictions_NC, np.float32))
    lengths = {name: len(column) for name, column in content.items()}
    if set(lengths.values()) != {len(rows_N)}:
        raise ValueError(f"columns of {len(rows_N)} samples have lengths {lengths}")
    return record_batch(content, headers.encode(input_header(len(rows_N), inputs)))


class ArrowSampleSegment:
    """An open samples file."""

    def __init__(self, file: SegmentFile, batch: pa.RecordBatch, header: Header, hash_ids: HashIds) -> None:
        self._file = file
        self.batch = batch
        self.header = header
        self.lookup = IdLookup(batch, hash_ids)

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
            if not _is_ours(field):
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
        texts = (
            self._taken(URI, taken, "", wanted=True),
            self._taken(PAYLOAD, taken, b"", wanted=payload),
            self._taken(MEDIA_TYPE, taken, "", wanted=payload),
        )
        facts = self._taken_attributes(taken) if attributes else [{} for _ in range(count)]
        return [SampleRecord(*fields) for fields in zip(self.ids(positions), *texts, facts, strict=True)]

    def matches(self, filter: Filter) -> MaskArray:
        """Which samples match."""
        return evaluate(filter, self.batch, self.lookup)

    def inputs(self, start: int, stop: int) -> Mapping[str, npt.NDArray[Any]] | None:
        """Stored model inputs of positions start..stop: read-only, zero copy. Raises ValueError across runs."""
        return read_inputs(self.batch, self.header, start, stop)

    def _column(self, name: str) -> pa.Array | None:
        index = self.batch.schema.get_field_index(name)
        return None if index < 0 else self.batch.column(index)

    def _taken(self, name: str, taken: pa.Array, missing: Any, *, wanted: bool) -> list[Any]:
        column = self._column(name) if wanted else None
        if column is None:
            return [missing] * len(taken)
        return [missing if value is None else value for value in column.take(taken).to_pylist()]

    def _taken_attributes(self, taken: pa.Array) -> list[dict[str, Scalar]]:
        facts: list[dict[str, Scalar]] = [{} for _ in range(len(taken))]
        for field in self.batch.schema.names:
            if field.startswith(ATTRIBUTE):
                name = field.removeprefix(ATTRIBUTE)
                for fact, value in zip(facts, self.batch.column(field).take(taken).to_pylist(), strict=True):
                    if value is not None:
                        fact[name] = value
        return facts


def _is_ours(field: pa.Field) -> bool:
    """Whether a column of this name has a type that sample_batch gives it."""
    if field.name.startswith(ATTRIBUTE):
        return field.type in _KINDS.values()
    if field.name.startswith(INPUT):
        return bool(pa.types.is_large_list(field.type))
    if field.name == PREDICTION:
        return bool(pa.types.is_fixed_size_list(field.type) and field.type.value_type == pa.float32())
    return bool(field.type == _TYPES.get(field.name))


def _texts(columns: SampleColumns) -> dict[str, pa.Array]:
    content = {}
    if columns.uris is not None:
        content[URI] = pa.array(columns.uris, pa.large_string())
    if columns.payloads is not None:
        content[PAYLOAD] = pa.array(columns.payloads, pa.large_binary())
        media_types = pa.array([columns.payload_media_type])
        codes = pa.array(np.zeros(len(columns.ids), np.int16))
        content[MEDIA_TYPE] = pa.DictionaryArray.from_arrays(codes, media_types)
    return content


def _attribute(column: AttributeColumn) -> pa.Array:
    missing = None if column.present_N is None else ~np.asarray(column.present_N, np.bool_)
    return pa.array(column.values, _KINDS[column.kind], mask=missing)
