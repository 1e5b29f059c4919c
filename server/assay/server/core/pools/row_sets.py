"""Immutable sets of rows: who answered what, and who does not want to be asked again."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from pyroaring import BitMap64, FrozenBitMap64

from assay.server.core.records.annotations import ByteArray, EventKind
from assay.server.core.records.arrays import MaskArray, RowArray

# Fewer rows than this are looked up one by one.
FEW_ROWS = 64


class RowSet:
    """An immutable set of rows, compressed: ten million rows in a run are a few kilobytes, and any ten million at most
    a bit for each row of the pool.

    Args:
        bitmap: the rows.
    """

    def __init__(self, bitmap: FrozenBitMap64) -> None:
        self._bitmap = bitmap

    @classmethod
    def of(cls, rows: RowArray) -> "RowSet":
        """The set of some rows."""
        return cls(FrozenBitMap64(_bitmap(rows)))

    @classmethod
    def unpacked(cls, packed: bytes) -> "RowSet":
        """The set that `packed` gave the bytes of."""
        return cls(FrozenBitMap64.deserialize(packed))

    @property
    def packed(self) -> bytes:
        """The set as bytes, to be stored."""
        packed: bytes = self._bitmap.serialize()
        return packed

    def __len__(self) -> int:
        return len(self._bitmap)

    @cached_property
    def array(self) -> RowArray:
        """The rows, ascending."""
        return np.array(self._bitmap.to_array(), np.int64)

    def holds(self, rows: RowArray) -> MaskArray:
        """Which of the rows are in the set."""
        if len(self._bitmap) == 0:
            return np.zeros(len(rows), np.bool_)
        if len(rows) <= FEW_ROWS:
            return np.fromiter((row in self._bitmap for row in rows.tolist()), np.bool_, len(rows))
        common = np.array((self._bitmap & _bitmap(rows)).to_array(), np.int64)
        return np.isin(rows, common)

    def with_rows(self, rows: RowArray) -> "RowSet":
        """The set with some rows more."""
        return RowSet(self._bitmap | _bitmap(rows)) if len(rows) else self

    def without(self, other: "RowSet") -> "RowSet":
        """The set without the rows of another."""
        return RowSet(self._bitmap - other._bitmap) if len(other) and len(self) else self

    def without_rows(self, rows: RowArray) -> "RowSet":
        """The set without some rows."""
        return RowSet(self._bitmap - _bitmap(rows)) if len(rows) else self


def _bitmap(rows: RowArray) -> BitMap64:
    values = array("Q")
    values.frombytes(np.ascontiguousarray(rows, np.uint64).tobytes())
    return BitMap64(values)


NO_ROWS = RowSet(FrozenBitMap64())


@dataclass(frozen=True, slots=True)
class WorkerRows:
    """What a worker did with rows.

    Attributes:
        answered: rows with a standing annotation of the worker.
        declined: rows that it skipped or gave back: they are not offered to it again.
    """

    answered: RowSet = NO_ROWS
    declined: RowSet = NO_ROWS

    def after(self, rows: RowArray, kinds: ByteArray) -> "WorkerRows":
        """The same once some events of the worker have happened, on distinct rows."""
        answers = (kinds == EventKind.ANNOTATE) | (kinds == EventKind.CORRECT)
        return replace(
            self,
            answered=self.answered.with_rows(rows[answers]).without_rows(rows[kinds == EventKind.WITHDRAW]),
            declined=self.declined.with_rows(rows[kinds == EventKind.SKIP]).without_rows(
                rows[kinds == EventKind.RESUME]
            ),
        )


@dataclass(frozen=True, slots=True)
class Workers:
    """What each worker did.

    Attributes:
        by_name: the same by worker.
        judged: rows on which there was ever a verdict.
    """

    by_name: Mapping[str, WorkerRows] = field(default_factory=dict)
    judged: RowSet = NO_ROWS

    def of(self, worker: str) -> WorkerRows:
        """What a worker did; nothing, if nobody has heard of it."""
        return self.by_name.get(worker) or WorkerRows()

    def after(self, worker: str, rows: RowArray, kinds: ByteArray) -> "Workers":
        """The same once some events of a worker have happened, on distinct rows."""
        judged = self.judged.with_rows(rows[kinds == EventKind.VERDICT])
        return Workers({**self.by_name, worker: self.of(worker).after(rows, kinds)}, judged)
