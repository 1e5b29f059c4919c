"""What was said of samples before: each event names the one before it of its row, so the history of a sample is a walk
from its last event back, and never a scan of the log."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.server.core.pools.pool import Change, Diverged, Pool
from assay.server.core.ports.catalog import Catalog
from assay.server.core.records.annotations import (
    NO_CLASS,
    NO_EVENT,
    Blobs,
    EventBlock,
    EventKind,
    NumberArray,
    Values,
)
from assay.server.core.records.arrays import MaskArray, RowArray

# The blocks that hold events, by number.
Read = Callable[[NumberArray], list[EventBlock]]
Places = npt.NDArray[np.int64]

ANSWERS = (EventKind.ANNOTATE, EventKind.CORRECT)
# Nothing of a label follows from these.
SILENT = (EventKind.SKIP, EventKind.RESUME)


def reader(catalog: Catalog, pool: Pool) -> Read:
    """Reads blocks of a pool's log."""

    def read(numbers: NumberArray) -> list[EventBlock]:
        with catalog.reading() as tx:
            return tx.blocks_of_events(pool.snapshot.pool.uid, numbers)

    return read


def within(change: Change, read: Read) -> Read:
    """Reads blocks of a log, those among them that a change has appended and not written yet."""

    def both(numbers: NumberArray) -> list[EventBlock]:
        first = change.before.pool.next_event
        stored = read(numbers[numbers < first]) if (numbers < first).any() else []
        fresh = numbers[numbers >= first]
        return [*stored, *(block for block in change.appended if np.isin(block.numbers_N, fresh).any())]

    return both


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Events of one block, one of each of some chains.

    Attributes:
        chains: which of the chains they are of.
        block: their block.
        positions: where they are in it, one a chain.
    """

    chains: Places
    block: EventBlock
    positions: Places

    @property
    def kinds(self) -> npt.NDArray[np.uint8]:
        """Kind of each."""
        return self.block.kinds_N[self.positions]

    @property
    def numbers(self) -> NumberArray:
        """Number of each."""
        return self.block.numbers_N[self.positions]


def walk(read: Read, last_events: NumberArray, done: MaskArray) -> Iterator[Found]:
    """Events of chains, from the last one of each back to its first; of one chain, the newer always before the older.

    Args:
        read: reads blocks.
        last_events: where each chain begins; -1 for one without events.
        done: one flag a chain; whoever has seen enough of a chain sets its flag.

    Raises:
        Diverged: the log has no such event.
    """
    numbers = last_events.copy()
    while len(chains := np.flatnonzero((numbers != NO_EVENT) & ~done)):
        for found in _at(read, chains, numbers[chains]):
            numbers[found.chains] = found.block.previous_N[found.positions]
            yield found


def _at(read: Read, chains: Places, numbers: NumberArray) -> Iterator[Found]:
    """The events with some numbers, block by block."""
    order = np.argsort(numbers, kind="stable")
    chains, numbers = chains[order], numbers[order]
    known = 0
    for block in read(np.unique(numbers)):
        start, stop = np.searchsorted(numbers, (block.first_number, block.first_number + len(block)))
        known += int(stop - start)
        yield Found(chains[start:stop], block, numbers[start:stop] - block.first_number)
    if known < len(numbers):
        raise Diverged


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The newest answer of a worker in each chain: its number, -1 for none, and what it says."""

    numbers_N: NumberArray
    values: Values


def own_answers(
    read: Read,
    last_events: NumberArray,
    worker: str,
    *,
    like: Values,
    kinds: Sequence[EventKind] = ANSWERS,
) -> Answers:
    """The newest answer of a worker in each chain, or event of other kinds; `like` is any column of the pool's values.
    Raises as walk."""
    answers = np.full(len(last_events), NO_EVENT, np.int64)
    said = _Column(len(last_events), like)
    done = np.zeros(len(last_events), np.bool_)
    for found in walk(read, last_events, done):
        if found.block.worker == worker:
            right = np.isin(found.kinds, kinds)
            answers[found.chains[right]] = found.numbers[right]
            said.put(found.chains[right], found.block, found.positions[right])
            done[found.chains[right]] = True
    return Answers(answers, said.values())


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Some events, in the order in which they were asked for."""

    rows_N: RowArray
    workers: list[str]
    values: Values


def events_at(read: Read, numbers: NumberArray, *, like: Values) -> Events:
    """Events by number. Raises as walk."""
    rows_N, workers, said = np.full(len(numbers), -1, np.int64), [""] * len(numbers), _Column(len(numbers), like)
    for found in _at(read, np.arange(len(numbers)), numbers):
        rows_N[found.chains] = found.block.rows_N[found.positions]
        said.put(found.chains, found.block, found.positions)
        for chain in found.chains.tolist():
            workers[chain] = found.block.worker
    return Events(rows_N, workers, said.values())


class _Column:
    """A column of values that is filled from blocks; `like` says of what kind."""

    def __init__(self, length: int, like: Values) -> None:
        self._classes = np.full(length, NO_CLASS, np.int32)
        self._bytes: list[bytes | None] | None = [None] * length if isinstance(like, Blobs) else None

    def put(self, places: Places, block: EventBlock, positions: Places) -> None:
        """Takes over what some events of a block say."""
        if self._bytes is None:
            if isinstance(block.values, np.ndarray):
                self._classes[places] = block.values[positions]
        elif isinstance(block.values, Blobs):
            for place, value in zip(places.tolist(), block.values.at(positions), strict=True):
                self._bytes[place] = value

    def values(self) -> Values:
        """The column."""
        return self._classes if self._bytes is None else Blobs.of(self._bytes)


@dataclass(frozen=True, slots=True, eq=False)
class Giver:
    """The event that gave a sample its label, and the one that settled it since, which may be the same.

    Attributes:
        block: in which somebody said the last that counted.
        settled: block of the last event but skips; position: where in it that is.
    """

    block: EventBlock
    settled: EventBlock
    position: int


def givers(read: Read, last_events: NumberArray) -> list[Giver | None]:
    """The event that gave each chain its label: the last one in which somebody said something; None where nobody did
    more than skip. Raises as walk."""
    settled: list[tuple[EventBlock, int] | None] = [None] * len(last_events)
    gave: list[Giver | None] = [None] * len(last_events)
    done = np.zeros(len(last_events), np.bool_)
    for found in walk(read, last_events, done):
        counts = ~np.isin(found.kinds, SILENT)
        done[found.chains[counts & (found.kinds != EventKind.RESOLVE)]] = True
        for chain, position in zip(found.chains[counts].tolist(), found.positions[counts].tolist(), strict=True):
            last = settled[chain] = settled[chain] or (found.block, position)
            if done[chain]:
                gave[chain] = Giver(found.block, *last)
    return gave
