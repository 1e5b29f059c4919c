"""Blocks of annotation events as bytes: one msgpack array of columns behind a version and a checksum.

A column of numbers is one number where all are the same, else a raw little-endian array of the narrowest integers that
hold them; rows are kept as their differences. A column of bytes is its lengths and all bytes, which are there once
where all values are the same. So an import of a million labels takes about a million bytes, and a single label about
thirty.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgpack
import numpy as np
import numpy.typing as npt
import xxhash

from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.annotations import (
    NO_CLASS,
    NO_EVENT,
    Blobs,
    EventBlock,
    EventColumns,
    Origin,
    PackedBlock,
    Values,
)
from assay.server.core.records.arrays import FloatArray

VERSION = 1
COLUMNS = 17
_HEAD = struct.Struct("<BQ")  # version, checksum of the shared columns and of the rest
_WIDTHS = ("<i1", "<i2", "<i4", "<i8")
# Events that are given on at once when a pool is opened.
PIECE = 1 << 20

T = TypeVar("T", bound=np.generic)

# first_number, count, worker, create_time, lease_id, origin, columns
Stored = tuple[int, int, str, float, str, str, bytes]


def pack(block: EventBlock) -> PackedBlock:
    """A block as the catalog stores it."""
    columns = [
        _pack_rows(block.rows_N),
        _pack_ints(block.kinds_N),
        _pack_values(block.values),
        _pack_values(block.labels_after),
        _pack_ints(block.answered_after_N),
        _pack_ints(block.previous_N),
        _pack_ints(block.supersedes_N),
        _pack_ints(block.durations_N),
        _pack_floats(block.confidences_N),
        _pack_blobs(block.comments),
        _pack_blobs(block.external_ids),
        _pack_floats(block.agreements_after_N),
        _pack_floats(block.confidences_after_N),
        _pack_ints(block.times_N),
        block.by or None,
        None if block.action == NO_EVENT else int(block.action),
        None if block.undoes == NO_EVENT else int(block.undoes),
    ]
    while columns[-1] is None:
        columns.pop()
    body = msgpack.packb(columns)
    first, count = int(block.first_number), len(block)
    shared = (first, count, block.worker, float(block.create_time), block.lease_id, block.origin.value)
    return PackedBlock(
        *shared[:5],
        block.origin,
        _HEAD.pack(VERSION, _checksum(shared, body)) + body,
        block.actor,
        _external_ids(block),
    )


def unpack(stored: Stored) -> EventBlock:
    """Inverse of pack. Raises AssayError(STORAGE_FAILED) for a block that is damaged or of a newer assay."""
    columns = _body(stored)
    columns += [None] * (COLUMNS - len(columns))
    first, count, worker, create_time, lease_id, origin, _ = stored
    try:
        return EventBlock(
            first,
            worker,
            create_time,
            lease_id,
            Origin(origin),
            rows_N=_rows(columns[0], count),
            kinds_N=_ints(columns[1], count, np.uint8),
            values=_values(columns[2], count),
            labels_after=_values(columns[3], count),
            answered_after_N=_ints(columns[4], count, np.uint8),
            previous_N=_ints(columns[5], count, np.int64),
            supersedes_N=_optional_ints(columns[6], count),
            durations_N=_optional_ints(columns[7], count),
            confidences_N=_floats(columns[8], count),
            comments=_optional_blobs(columns[9], count),
            external_ids=_optional_blobs(columns[10], count),
            agreements_after_N=_floats(columns[11], count),
            confidences_after_N=_floats(columns[12], count),
            times_N=_optional_ints(columns[13], count),
            by=columns[14] or "",
            action=NO_EVENT if columns[15] is None else int(columns[15]),
            undoes=NO_EVENT if columns[16] is None else int(columns[16]),
        )
    except (ValueError, TypeError, IndexError) as error:
        raise _damaged(stored, str(error)) from error


def event_columns(blocks: Iterable[Stored], *, classes: bool) -> Iterator[EventColumns]:
    """All events of blocks, in order, with what opening a pool needs of them, in pieces of about PIECE events. Many
    small blocks are as good as one large one. Raises as unpack."""
    piece = _Piece(classes)
    for stored in blocks:
        piece.add(stored)
        if piece.count >= PIECE:
            yield piece.columns()
            piece = _Piece(classes)
    if piece.count:
        yield piece.columns()


class _Piece:
    """Events of consecutive blocks on their way into one array a column."""

    def __init__(self, classes: bool) -> None:
        self._classes = classes
        self._labels: list[Blobs] = []
        self.count = 0
        self._workers: list[tuple[str, int]] = []
        self._arrays: list[tuple[npt.NDArray[Any], ...]] = []
        # Blocks of one event wait here as tuples: an array of each would cost more than all the rest.
        self._singles: list[tuple[int, int, int, int, int]] = []

    def add(self, stored: Stored) -> None:
        columns = _body(stored)
        first, count, worker = stored[:3]
        try:
            label = columns[3] if columns[3] is not None else columns[2]
            if not self._classes:
                self._labels.append(_blobs([NO_CLASS, b""] if label is None else label, count))
            if not self._classes or label is None:
                label = NO_CLASS
            if count == 1:
                self._singles.append((first, columns[0], columns[1], label, columns[4]))
            else:
                self._flush()
                self._arrays.append(
                    (
                        np.arange(first, first + count, dtype=np.int64),
                        _rows(columns[0], count),
                        _ints(columns[1], count, np.uint8),
                        _ints(label, count, np.int32),
                        _ints(columns[4], count, np.uint8),
                    )
                )
        except (ValueError, TypeError, IndexError) as error:
            raise _damaged(stored, str(error)) from error
        self.count += count
        if self._workers and self._workers[-1][0] == worker:
            self._workers[-1] = (worker, self._workers[-1][1] + count)
        else:
            self._workers.append((worker, count))

    def columns(self) -> EventColumns:
        self._flush()
        numbers_N, rows_N, kinds_N, labels_N, answered_N = map(np.concatenate, zip(*self._arrays, strict=True))
        labels = labels_N if self._classes else _joined(self._labels)
        return EventColumns(numbers_N, rows_N, kinds_N, labels, answered_N, tuple(self._workers))

    def _flush(self) -> None:
        if self._singles:
            together = np.array(self._singles, np.int64).T
            kinds = (np.int64, np.int64, np.uint8, np.int32, np.uint8)
            self._arrays.append(tuple(column.astype(kind) for column, kind in zip(together, kinds, strict=True)))
            self._singles.clear()


def _body(stored: Stored) -> list[Any]:
    """The columns of a block, checked against its checksum."""
    blob = stored[6]
    if len(blob) <= _HEAD.size:
        raise _damaged(stored, "it is cut off")
    version, checksum = _HEAD.unpack_from(blob)
    if version != VERSION:
        raise _damaged(stored, f"its version is {version}, and {VERSION} is known")
    body = memoryview(blob)[_HEAD.size :]
    if _checksum(stored[:6], body) != checksum:
        raise _damaged(stored, "its checksum is another")
    columns: list[Any] = msgpack.unpackb(body, max_bin_len=len(blob), max_array_len=64)
    if not 6 <= len(columns) <= COLUMNS:
        raise _damaged(stored, f"it has {len(columns)} columns")
    return columns


def _checksum(shared: Sequence[object], body: bytes | memoryview) -> int:
    return xxhash.xxh3_64_intdigest(body, seed=xxhash.xxh3_64_intdigest(msgpack.packb(shared)))


def _damaged(stored: Stored, why: str) -> AssayError:
    return AssayError(
        Reason.STORAGE_FAILED,
        f"The catalog is damaged: the block of annotation events {stored[0]} to {stored[0] + stored[1] - 1} of worker "
        f"{stored[2]!r} cannot be read, {why}. Restore the catalog from a backup.",
        first_event=stored[0],
        events=stored[1],
    )


def _external_ids(block: EventBlock) -> tuple[tuple[int, str], ...]:
    if block.external_ids is None:
        return ()
    given = np.flatnonzero(block.external_ids.lengths_N > 0)
    return tuple(zip(block.numbers_N[given].tolist(), block.external_ids.texts(given), strict=True))


# --- columns ---------------------------------------------------------------------------------------------------------


def _pack_rows(rows_N: npt.NDArray[np.int64]) -> Any:
    first = int(rows_N[0])
    return first if len(rows_N) == 1 else [first, _pack_ints(np.diff(rows_N))]


def _rows(column: Any, count: int) -> npt.NDArray[np.int64]:
    if count == 1:
        return np.array([column], np.int64)
    first, steps = column
    rows_N = np.empty(count, np.int64)
    rows_N[0] = first
    rows_N[1:] = _ints(steps, count - 1, np.int64)
    return np.cumsum(rows_N, out=rows_N)


def _pack_ints(values_N: npt.NDArray[Any] | None) -> int | bytes | None:
    if values_N is None:
        return None
    low, high = int(values_N.min()), int(values_N.max())
    if low == high:
        return low
    width = next(width for width in _WIDTHS if np.iinfo(width).min <= low and high <= np.iinfo(width).max)
    return values_N.astype(width).tobytes()


def _ints(column: Any, count: int, kind: type[T]) -> npt.NDArray[T]:
    if isinstance(column, int):
        return np.full(count, column, kind)
    width, rest = divmod(len(column), count)
    if rest:
        raise ValueError(f"{len(column)} bytes are no column of {count} numbers")
    return np.frombuffer(column, f"<i{width}").astype(kind)


def _optional_ints(column: Any, count: int) -> npt.NDArray[np.int64] | None:
    return None if column is None else _ints(column, count, np.int64)


def _pack_floats(values_N: FloatArray | None) -> float | bytes | None:
    if values_N is None or np.isnan(values_N).all():
        return None
    if (values_N == values_N[0]).all():
        return float(values_N[0])
    return values_N.astype("<f4").tobytes()


def _floats(column: Any, count: int) -> FloatArray | None:
    if column is None:
        return None
    if isinstance(column, float):
        return np.full(count, column, np.float32)
    if len(column) != 4 * count:
        raise ValueError(f"{len(column)} bytes are no column of {count} numbers")
    return np.frombuffer(column, "<f4").astype(np.float32)


def _pack_blobs(values: Blobs | None) -> list[Any] | None:
    if values is None:
        return None
    length, count = int(values.lengths_N[0]), len(values)
    data = values.data
    if count > 1 and length > 0 and (values.lengths_N == length).all() and data == data[:length] * count:
        data = data[:length]
    return [_pack_ints(values.lengths_N), data]


def _optional_blobs(column: Any, count: int) -> Blobs | None:
    return None if column is None else _blobs(column, count)


def _joined(parts: list[Blobs]) -> Blobs:
    return Blobs(np.concatenate([part.lengths_N for part in parts]), b"".join(part.data for part in parts))


def _blobs(column: Any, count: int) -> Blobs:
    lengths_N, data = _ints(column[0], count, np.int64), column[1]
    if isinstance(column[0], int) and column[0] > 0 and len(data) == column[0]:
        data *= count
    if int(np.maximum(lengths_N, 0).sum()) != len(data) or int(lengths_N.min()) < -1:
        raise ValueError(f"{len(data)} bytes do not fit the lengths of {count} values")
    return Blobs(lengths_N, data)


def _pack_values(values: Values | None) -> Any:
    return _pack_blobs(values) if isinstance(values, Blobs) else _pack_ints(values)


def _values(column: Any, count: int) -> Values | None:
    if column is None or isinstance(column, list):
        return _optional_blobs(column, count)
    return _ints(column, count, np.int32)
