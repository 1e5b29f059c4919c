"""What was said of samples before: each event names the one before it of its row, so the history of a sample is a walk
from its last event back, and never a scan of the log."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.server.core.pools.pool import Diverged, Pool
from assay.server.core.ports.catalog import Catalog
from assay.server.core.records.annotations import NO_CLASS, NO_EVENT, ClassArray, EventBlock, EventKind, NumberArray
from assay.server.core.records.arrays import MaskArray

# The blocks that hold events, by number.
Read = Callable[[NumberArray], list[EventBlock]]
Places = npt.NDArray[np.int64]

ANSWERS = (EventKind.ANNOTATE, EventKind.CORRECT)


def reader(catalog: Catalog, pool: Pool) -> Read:
    """Reads blocks of a pool's log."""

    def read(numbers: NumberArray) -> list[EventBlock]:
        with catalog.reading() as tx:
            return tx.blocks_of_events(pool.snapshot.pool.uid, numbers)

    return read


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
    """The newest answer of a worker in each chain: its number, and its class in a classification; -1 for none."""

    numbers_N: NumberArray
    classes_N: ClassArray


def own_answers(read: Read, last_events: NumberArray, worker: str) -> Answers:
    """The newest answer of a worker in each chain. Raises as walk."""
    answers = np.full(len(last_events), NO_EVENT, np.int64)
    classes = np.full(len(last_events), NO_CLASS, np.int32)
    done = np.zeros(len(last_events), np.bool_)
    for found in walk(read, last_events, done):
        if found.block.worker == worker:
            said = np.isin(found.kinds, ANSWERS)
            answers[found.chains[said]] = found.numbers[said]
            if isinstance(found.block.values, np.ndarray):
                classes[found.chains[said]] = found.block.values[found.positions[said]]
            done[found.chains[said]] = True
    return Answers(answers, classes)


def givers(read: Read, last_events: NumberArray) -> list[EventBlock]:
    """The block of the event that gave each chain its label: the last one in which somebody said something. Raises as
    walk."""
    blocks: list[EventBlock | None] = [None] * len(last_events)
    done = np.zeros(len(last_events), np.bool_)
    for found in walk(read, last_events, done):
        gave = found.chains[~np.isin(found.kinds, (EventKind.SKIP, EventKind.RESOLVE))]
        done[gave] = True
        for chain in gave.tolist():
            blocks[chain] = found.block
    if not all(blocks):
        raise Diverged
    return [block for block in blocks if block is not None]
