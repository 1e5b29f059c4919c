"""Labels as an Apache Parquet file, written page by page."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.server.core.labeling.messages import LabelView

_CLASSES = (
    pa.field("class_name", pa.string(), nullable=False),
    pa.field("class_index", pa.int32(), nullable=False),
)
# Of other tasks, as JSON.
_VALUE = (pa.field("value", pa.string(), nullable=False),)


def _schema(said: Iterable[pa.Field]) -> pa.Schema:
    return pa.schema(
        [
            pa.field("sample_id", pa.string(), nullable=False),
            *said,
            pa.field("worker", pa.string(), nullable=False),
            pa.field("create_time", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("uri", pa.string(), nullable=False),
        ]
    )


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


def parquet_chunks(pages: Iterable[Sequence[LabelView]]) -> Iterator[bytes]:
    """A Parquet file of labels in pieces, one row group a page."""
    sink, rest = _Chunks(), iter(pages)
    page = next(rest, ())
    classes = all(isinstance(view.value, str) for view in page)
    schema = _schema(_CLASSES if classes else _VALUE)
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        while page:
            writer.write_table(_table(page, schema, classes=classes))
            yield sink.take()
            page = next(rest, ())
    yield sink.take()


def _table(page: Sequence[LabelView], schema: pa.Schema, *, classes: bool) -> pa.Table:
    micros = np.array([round(view.create_time * 1_000_000) for view in page], np.int64)
    return pa.table(
        [
            [view.sample_id for view in page],
            *_said(page, classes=classes),
            [view.worker for view in page],
            pa.array(micros).cast(pa.timestamp("us", tz="UTC")),
            [view.uri for view in page],
        ],
        schema=schema,
    )


def _said(page: Sequence[LabelView], *, classes: bool) -> list[list[Any]]:
    if classes:
        return [[view.value for view in page], [view.class_index for view in page]]
    return [[json.dumps(view.cell, ensure_ascii=False) for view in page]]
