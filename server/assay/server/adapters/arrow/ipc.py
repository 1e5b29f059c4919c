"""One record batch a file, so that every column is one buffer: written without copies, read as a mapping."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from assay.server.adapters.arrow.files import new_file
from assay.server.core.ports.machine import Alarm

ALIGNMENT = 64
_PADDING = b"padding"


class _Ruler:
    """A sink that only measures: where the body starts, and how long the file is."""

    closed = False

    def __init__(self) -> None:
        self.size = 0
        self.body = -1

    def write(self, data: Any) -> int:
        # Metadata comes as bytes, columns as Arrow buffers.
        if self.body < 0 and isinstance(data, pa.Buffer):
            self.body = self.size
        length = memoryview(data).nbytes
        self.size += length
        return length

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""


def write_batch(path: Path, batch: pa.RecordBatch, alarm: Alarm) -> tuple[int, str]:
    """Writes a file whose first buffer starts at a multiple of 64 bytes; returns its size and checksum.

    Raises AssayError(STORAGE_FULL | STORAGE_FAILED), leaving nothing behind.
    """
    batch = _padded(batch, 0)
    batch = _padded(batch, -_measure(batch).body % ALIGNMENT)
    with new_file(path, xxhash.xxh3_128(), alarm, _measure(batch).size) as sink:
        _write(sink, batch)
    return sink.size, sink.digest.hexdigest()


def read_batch(path: Path) -> pa.RecordBatch:
    """The record batch of a file, as views of its mapping; the mapping lives as long as a view does, the descriptor
    does not. Raises what Arrow raises."""
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        if reader.num_record_batches != 1:
            raise pa.ArrowInvalid("not one record batch")
        return reader.get_batch(0)


def list_array(values_NX: npt.NDArray[Any]) -> pa.Array:
    """A matrix as a fixed-size-list column that shares its memory."""
    count, width = values_NX.shape
    kind = pa.from_numpy_dtype(values_NX.dtype)
    return pa.Array.from_buffers(pa.list_(kind, width), count, [None], children=[flat_array(values_NX)])


def flat_array(values: npt.NDArray[Any]) -> pa.Array:
    """All numbers of an array as one column that shares its memory."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return pa.Array.from_buffers(pa.from_numpy_dtype(flat.dtype), flat.size, [None, pa.py_buffer(flat)])


def numbers(column: pa.Array) -> npt.NDArray[Any]:
    """A column of numbers without nulls as an array that shares its memory."""
    array: npt.NDArray[Any] = column.to_numpy(zero_copy_only=True)
    return array


def matrix(column: pa.Array) -> npt.NDArray[Any]:
    """A fixed-size-list column as a matrix that shares its memory."""
    width = column.type.list_size
    return numbers(column.values).reshape(-1, width)[column.offset : column.offset + len(column)]


def record_batch(columns: Mapping[str, pa.Array], metadata: Mapping[bytes, bytes]) -> pa.RecordBatch:
    """Named columns of equal length as a batch."""
    schema = pa.schema([(name, column.type) for name, column in columns.items()], metadata=dict(metadata))
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)


def _measure(batch: pa.RecordBatch) -> _Ruler:
    ruler = _Ruler()
    _write(ruler, batch)
    return ruler


def _write(sink: Any, batch: pa.RecordBatch) -> None:
    with pa.PythonFile(sink, mode="w") as stream, pa.ipc.new_file(stream, batch.schema) as writer:
        writer.write_batch(batch)


def _padded(batch: pa.RecordBatch, length: int) -> pa.RecordBatch:
    # The schema precedes the body in the file: lengthening it moves the body.
    return batch.replace_schema_metadata({**(batch.schema.metadata or {}), _PADDING: b" " * length})
