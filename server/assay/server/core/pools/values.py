"""Values between what callers give, what the log keeps, and what callers are told. Labels that are no classes are kept
once each in a table that only grows, and known by their place in it."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from assay.server.core.records.annotations import NO_CLASS, Blobs, ClassArray, Values
from assay.server.core.records.tasks import TaskKind, TaskRecord
from assay.server.core.tasks.base import Task
from assay.server.core.tasks.given import Given

# So many different values are told apart; what comes after them is kept as often as it comes.
MOST_INTERNED = 1 << 16


class ValueTable:
    """Canonical values of a pool's task, by code. Codes never change, so all snapshots of a pool share one table; who
    appends to it holds the pool's lock.

    Args:
        interned: keep equal values once, where they repeat much: sets of classes.
    """

    def __init__(self, *, interned: bool) -> None:
        self._interned = interned
        self._known: dict[bytes, int] = {}
        self._firsts: list[int] = []
        self._parts: list[tuple[npt.NDArray[np.int64], bytes]] = []  # where each value of a part ends, and all bytes
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def codes(self, values: Blobs) -> ClassArray:
        """The code of each value, -1 for none; new ones are appended."""
        codes_N = np.full(len(values), NO_CLASS, np.int32)
        there = np.flatnonzero(values.lengths_N >= 0)
        if self._interned:
            codes_N[there] = self._intern(values.at(there))
        elif len(there):
            codes_N[there] = np.arange(self._length, self._length + len(there))
            self._append(values.lengths_N[there], values.data)
        return codes_N

    def _intern(self, given: list[bytes | None]) -> list[int]:
        codes, fresh = list[int](), list[bytes]()
        for value in given:
            assert value is not None
            code = self._known.get(value)
            if code is None:
                code = self._length + len(fresh)
                fresh.append(value)
                if len(self._known) < MOST_INTERNED:
                    self._known[value] = code
            codes.append(code)
        if fresh:
            self._append(np.array([len(value) for value in fresh], np.int64), b"".join(fresh))
        return codes

    def _append(self, lengths_N: npt.NDArray[np.int64], data: bytes) -> None:
        # Seen by readers only through codes, which they get later.
        self._parts.append((np.cumsum(lengths_N), data))
        self._firsts.append(self._length)
        self._length += len(lengths_N)

    def at(self, codes_N: ClassArray) -> Blobs:
        """The values of some codes, none for -1."""
        found: list[bytes | None] = [None] * len(codes_N)
        for place, code in enumerate(codes_N.tolist()):
            if code >= 0:
                found[place] = self._value(code)
        return Blobs.of(found)

    def _value(self, code: int) -> bytes:
        part = bisect_right(self._firsts, code) - 1
        ends, data = self._parts[part]
        place = code - self._firsts[part]
        return data[int(ends[place - 1]) if place else 0 : int(ends[place])]


def codes_of(labels: Values | None, table: ValueTable | None) -> ClassArray | int:
    """Labels by code; the table is that of a pool whose labels are no classes."""
    if labels is None:
        return NO_CLASS
    if isinstance(labels, Blobs):
        assert table is not None
        return table.codes(labels)
    return labels


def table_for(task: TaskRecord) -> ValueTable | None:
    """The empty table of a pool with a task; None where labels are classes."""
    if task.kind is TaskKind.CLASSIFICATION:
        return None
    return ValueTable(interned=task.kind is TaskKind.MULTILABEL)


def checked(task: Task, given: Sequence[Given], text_lengths: Sequence[int | None] | None = None) -> Values:
    """What callers give, as the log keeps it. Raises as Task.check_all."""
    values = task.check_all(given, text_lengths)
    return values if isinstance(values, np.ndarray) else Blobs.of([task.encode(value) for value in values])


def shown(task: Task, values: Values) -> list[Given]:
    """What the log keeps, as callers gave it; None where there is nothing."""
    said: Sequence[object]
    if isinstance(values, Blobs):
        said = [None if each is None else task.decode(each) for each in values.at(np.arange(len(values)))]
    else:
        said = [None if each == NO_CLASS else each for each in values.tolist()]
    return task.given(said)
