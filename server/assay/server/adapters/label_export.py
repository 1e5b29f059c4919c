"""Labels, or their history, as an Apache Parquet file, written page by page."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.server.core.labeling.exporting import Column, Form, Row, Table
from assay.server.core.records.tasks import TaskKind, TaskRecord

_TIME = pa.timestamp("us", tz="UTC")
_TYPES: Mapping[Form, pa.DataType] = {
    Form.TEXT: pa.string(),
    Form.WHOLE: pa.int64(),
    Form.REAL: pa.float64(),
    Form.SHARE: pa.float32(),
    Form.TIME: _TIME,
}
_BOX = pa.struct(
    [
        pa.field("class_name", pa.string()),
        *(pa.field(side, pa.float64()) for side in ("x", "y", "w", "h")),
        pa.field("score", pa.float64()),
        # As JSON: what one box calls a number is text of another.
        pa.field("attributes", pa.string()),
    ]
)
_SPAN = pa.struct([pa.field("class_name", pa.string()), pa.field("start", pa.int64()), pa.field("end", pa.int64())])
_VALUES: Mapping[TaskKind, Callable[[TaskRecord], pa.DataType]] = {
    TaskKind.CLASSIFICATION: lambda task: pa.string(),
    TaskKind.MULTILABEL: lambda task: pa.list_(pa.string()),
    TaskKind.REGRESSION: lambda task: pa.struct([pa.field(each.name, pa.float64()) for each in task.targets]),
    TaskKind.BOXES: lambda task: pa.list_(_BOX),
    TaskKind.SPANS: lambda task: pa.list_(_SPAN),
    TaskKind.FREEFORM: lambda task: pa.string(),
}


class _Chunks:
    """A file that is only written to; what was written since is taken away in one piece."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Has nothing to do: what is written is there to take."""

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def parquet_chunks(table: Table) -> Iterator[bytes]:
    """A Parquet file of a table in pieces, one row group a page."""
    sink = _Chunks()
    schema = pa.schema([_field(column, table.task) for column in table.columns])
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        for page in table.pages:
            writer.write_table(_group(page, table, schema))
            yield sink.take()
    yield sink.take()


def _field(column: Column, task: TaskRecord) -> pa.Field:
    kind = _VALUES[task.kind](task) if column.form is Form.VALUE else _TYPES[column.form]
    return pa.field(column.name, kind, nullable=column.optional)


def _group(page: Sequence[Row], table: Table, schema: pa.Schema) -> pa.Table:
    columns = zip(table.columns, zip(*page, strict=True), schema, strict=True)
    return pa.table([_array(column, cells, field.type, table.task) for column, cells, field in columns], schema=schema)


def _array(column: Column, cells: Sequence[Any], kind: pa.DataType, task: TaskRecord) -> pa.Array:
    if column.form is Form.TIME:
        return pa.array(np.array(cells, np.int64)).cast(_TIME)
    if column.form is Form.VALUE and task.kind is TaskKind.BOXES:
        cells = [None if boxes is None else [_plain(box) for box in boxes] for boxes in cells]
    return pa.array(cells, kind)


def _plain(box: Mapping[str, Any]) -> dict[str, Any]:
    attributes = box.get("attributes")
    return {**box, "attributes": json.dumps(attributes, ensure_ascii=False) if attributes else None}
