"""Labels as an Apache Parquet file, written page by page."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.server.core.labeling.messages import LabelView

SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("class_name", pa.string(), nullable=False),
        pa.field("class_index", pa.int32(), nullable=False),
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
    sink = _Chunks()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), SCHEMA, compression="zstd") as writer:
        for page in pages:
            writer.write_table(_table(page))
            yield sink.take()
    yield sink.take()


def _table(page: Sequence[LabelView]) -> pa.Table:
    micros = np.array([round(view.create_time * 1_000_000) for view in page], np.int64)
    return pa.table(
        [
            [view.sample_id for view in page],
            [view.class_name for view in page],
            [view.class_index for view in page],
            [view.worker for view in page],
            pa.array(micros).cast(pa.timestamp("us", tz="UTC")),
            [view.uri for view in page],
        ],
        schema=SCHEMA,
    )
