"""What stands of all that was said of samples: the newest answer of each worker that was not withdrawn."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from assay.server.core.labeling.history import Read, walk
from assay.server.core.records.annotations import (
    NO_CLASS,
    NO_EVENT,
    Blobs,
    ByteArray,
    EventBlock,
    EventKind,
    NumberArray,
    Values,
)
from assay.server.core.records.arrays import MaskArray

SAYING = (EventKind.ANNOTATE, EventKind.CORRECT, EventKind.VERDICT)

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """Events on some samples, as columns; `chains_A` says which sample each is of.

    Attributes:
        chains_A: place of the sample among those that were asked for.
        numbers_A, kinds_A, supersedes_A: see EventBlock.
        workers_A: int64 places in `names`.
        names: workers.
        values: class ids, or bytes.
        undoing_A: whether each says the contrary of an earlier one, to undo it.
    """

    chains_A: Places
    numbers_A: NumberArray
    kinds_A: ByteArray
    supersedes_A: NumberArray
    workers_A: npt.NDArray[np.int64]
    names: tuple[str, ...]
    values: Values
    undoing_A: MaskArray

    def __len__(self) -> int:
        return len(self.chains_A)

    def take(self, places: Places) -> "Told":
        """Some of the events."""
        return Told(
            self.chains_A[places],
            self.numbers_A[places],
            self.kinds_A[places],
            self.supersedes_A[places],
            self.workers_A[places],
            self.names,
            take(self.values, places),
            self.undoing_A[places],
        )

    def since(self, chain: int) -> "Told":
        """The same, with samples counted from one on."""
        return replace(self, chains_A=self.chains_A - chain)

    def offsets(self, chains: int) -> npt.NDArray[np.int64]:
        """Where the events of each sample begin, and the end, if they are ordered by sample. Shape [chains + 1]."""
        return np.searchsorted(self.chains_A, np.arange(chains + 1))


def told(read: Read, last_events: NumberArray, *, classes: bool) -> Told:
    """All that was said of samples, given the last event of each. Raises Diverged: the log has no such event."""
    parts = [
        of_block(found.block, found.positions, found.chains, classes=classes)
        for found in walk(read, last_events, np.zeros(len(last_events), np.bool_))
    ]
    return together(parts, classes=classes)


def of_block(block: EventBlock, positions: Places, chains: Places, *, classes: bool) -> Told:
    """Some events of a block."""
    count = len(positions)
    supersedes = np.full(count, NO_EVENT) if block.supersedes_N is None else block.supersedes_N[positions]
    values: Values
    if block.values is None:
        values = np.full(count, NO_CLASS, np.int32) if classes else Blobs.of([None] * count)
    else:
        values = take(block.values, positions)
    workers = np.zeros(count, np.int64)
    numbers, kinds = block.numbers_N[positions], block.kinds_N[positions]
    undoing = np.full(count, block.undoes != NO_EVENT)
    return Told(chains, numbers, kinds, supersedes, workers, (block.worker,), values, undoing)


def together(parts: list[Told], *, classes: bool) -> Told:
    """Events of several parts, by sample and number."""
    if not parts:
        none = np.empty(0, np.int64)
        values: Values = np.empty(0, np.int32) if classes else Blobs.of([])
        return Told(none, none, none.astype(np.uint8), none, none, (), values, none.astype(np.bool_))
    names: dict[str, int] = {}
    workers = [
        np.array([names.setdefault(name, len(names)) for name in part.names], np.int64)[part.workers_A]
        for part in parts
    ]
    chains, numbers = (np.concatenate([getattr(part, name) for part in parts]) for name in ("chains_A", "numbers_A"))
    order = np.lexsort((numbers, chains))
    return Told(
        chains,
        numbers,
        np.concatenate([part.kinds_A for part in parts]),
        np.concatenate([part.supersedes_A for part in parts]),
        np.concatenate(workers),
        tuple(names),
        joined([part.values for part in parts]),
        np.concatenate([part.undoing_A for part in parts]),
    ).take(order)


def standing(events: Told) -> Told:
    """What stands of events that are ordered by sample and number: of each worker the newest answer, and beside it the
    newest verdict, unless a later event took its place or withdrew it. By sample, the oldest first."""
    gone = np.isin(events.numbers_A, events.supersedes_A[events.supersedes_A != NO_EVENT])
    says = np.flatnonzero(np.isin(events.kinds_A, SAYING) & ~gone)
    verdicts = events.kinds_A[says] == EventKind.VERDICT
    # Of each sample, worker and kind the last one: the order within stays.
    keys = (events.chains_A[says] * len(events.names) + events.workers_A[says]) * 2 + verdicts
    _, last = np.unique(keys[::-1], return_index=True)
    return events.take(_by_age(events, np.sort(says[len(says) - 1 - last])))


def _by_age(events: Told, places: Places) -> Places:
    """Places of answers, the oldest of each sample first: one that an undo brought back is as old as it was, or it
    would count as newer than what others said before it was undone."""
    back = np.flatnonzero(events.undoing_A[places])
    if not len(back):
        return places
    order = np.argsort(events.numbers_A)

    def superseded(by: Places) -> Places:
        return order[np.searchsorted(events.numbers_A, events.supersedes_A[by], sorter=order)]

    ages = events.numbers_A[places].copy()
    at = places[back]
    while len(at):
        # What took its place was undone.
        at = superseded(superseded(at))
        ages[back] = events.numbers_A[at]
        again = events.undoing_A[at]
        back, at = back[again], at[again]
    return places[np.lexsort((ages, events.chains_A[places]))]


def take(values: Values, places: Places) -> Values:
    """Some of the values."""
    return Blobs.of(values.at(places)) if isinstance(values, Blobs) else values[places]


def joined(parts: list[Values]) -> Values:
    """Values of one or more parts, one after the other."""
    blobs = [part for part in parts if isinstance(part, Blobs)]
    if blobs:
        return Blobs(np.concatenate([part.lengths_N for part in blobs]), b"".join(part.data for part in blobs))
    return np.concatenate([part for part in parts if not isinstance(part, Blobs)])
