"""Labels derived anew where what they follow from has changed: the classes, the policy, how many answers are wanted.
What was said stays; what follows from it now is appended as RESOLVE events."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from assay.server.core.labeling import standing as standings
from assay.server.core.labeling.deriving import Derived, derive
from assay.server.core.labeling.history import Read
from assay.server.core.pools.pool import Change
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.catalog import Catalog
from assay.server.core.records.annotations import (
    Blobs,
    EventBlock,
    EventKind,
    NumberArray,
    Origin,
    Policy,
    Values,
)
from assay.server.core.records.arrays import MaskArray, RowArray
from assay.server.core.records.pools import PoolRecord, State
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.base import Task
from assay.server.core.tasks.classes import merge_roots
from assay.strategies import checkpoint

# Who derives labels is nobody among the workers.
NOBODY = ""
# Up to so many rows are looked up event by event; more are worth reading the whole log once.
FEW_ROWS = 4096
# Rows whose events are in memory at once, an event taking some 40 bytes; rows that are decided between two looks at the
# stop; blocks that are read at once; and events in a block.
ROWS_AT_ONCE = 1 << 21
DECIDED_AT_ONCE = 1 << 14
BLOCKS_AT_ONCE = 32
BLOCK_EVENTS = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Rederived:
    """Labels of rows as they follow from what was said up to some event of each.

    Attributes:
        rows_N: ascending.
        last_events_N: the last event of each that was read.
        derived: what followed.
    """

    rows_N: RowArray
    last_events_N: NumberArray
    derived: Derived


def affected(before: Snapshot, after: PoolRecord) -> RowArray:
    """Rows whose labels may be others under the pool's record to come, ascending."""
    same_terms = (before.pool.policy, before.pool.annotations_per_sample) == (
        after.policy,
        after.annotations_per_sample,
    )
    known = len(before.pool.task.classes)
    old_C, new_C = merge_roots(before.pool.task), merge_roots(after.task)[:known]
    moved = np.flatnonzero(old_C != new_C)
    if same_terms and not len(moved):
        return np.empty(0, np.int64)
    answered_N = before.answered.array.astype(np.uint8, copy=False)
    which_N: MaskArray = answered_N > 0
    which_N[before.workers.judged.array] = True
    if same_terms and before.pool.task.kind is TaskKind.CLASSIFICATION:
        touched_N = np.isin(before.labels.array, np.concatenate([moved, old_C[moved], new_C[moved]]))
        # Of several answers, those may agree from now on that did not, and the other way round.
        undecided_N = np.zeros_like(which_N) if after.policy is Policy.LATEST else answered_N > 1
        which_N &= touched_N | undecided_N
    which_N &= ~np.isin(before.states.array, (State.DELETED, State.ABSENT))
    return np.flatnonzero(which_N)


def rederive(
    catalog: Catalog, read: Read, snapshot: Snapshot, task: Task, record: PoolRecord, rows_N: RowArray
) -> Rederived:
    """Labels of rows by the policy of a record, from all that was said of them up to the snapshot. Operations and reads
    in proportion to the log, or to the histories of a few rows.

    Raises:
        Diverged: the log is not as the snapshot has it.
        Interrupted: the work is to stop.
    """
    if not len(rows_N):
        return nothing(snapshot)
    judged_N = snapshot.workers.judged.holds(rows_N)
    parts: list[Derived] = []
    order: list[RowArray] = []
    # A verdict among many samples would have all of them decided one by one.
    for some in (np.flatnonzero(~judged_N), np.flatnonzero(judged_N)):
        for start in range(0, len(some), ROWS_AT_ONCE):
            places = some[start : start + ROWS_AT_ONCE]
            order.append(places)
            parts += _decided(catalog, read, snapshot, task, record, rows_N[places])
    last_events_N = snapshot.last_events.at(rows_N).astype(np.int64, copy=False)
    return Rederived(rows_N, last_events_N, _taken(_together(parts), np.argsort(np.concatenate(order))))


def _decided(
    catalog: Catalog, read: Read, snapshot: Snapshot, task: Task, record: PoolRecord, rows_N: RowArray
) -> Iterator[Derived]:
    classes = task.record.kind is TaskKind.CLASSIFICATION
    if len(rows_N) <= FEW_ROWS:
        last_events_N = snapshot.last_events.at(rows_N).astype(np.int64, copy=False)
        events = standings.told(read, last_events_N, classes=classes)
    else:
        events = standings.together(list(_logged(catalog, snapshot, rows_N, classes=classes)), classes=classes)
    stands = standings.standing(events)
    raised_N = snapshot.raised.at(rows_N).astype(np.uint8, copy=False)
    wanted_N = np.maximum(raised_N, np.uint8(record.annotations_per_sample))
    for start in range(0, len(rows_N), DECIDED_AT_ONCE):
        checkpoint()
        stop = min(start + DECIDED_AT_ONCE, len(rows_N))
        first, last = np.searchsorted(stands.chains_A, (start, stop)).tolist()
        yield derive(task, record.policy, stands.take(np.arange(first, last)).since(start), wanted_N[start:stop])


def _logged(catalog: Catalog, snapshot: Snapshot, rows_N: RowArray, *, classes: bool) -> Iterator[standings.Told]:
    """All that was said of rows, from one pass over the log."""
    chain_of_row = np.full(snapshot.row_count, -1, np.int64)
    chain_of_row[rows_N] = np.arange(len(rows_N))
    for block, known in said_blocks(catalog, snapshot):
        known = known[chain_of_row[block.rows_N[known]] >= 0]
        if len(known):
            yield standings.of_block(block, known, chain_of_row[block.rows_N[known]], classes=classes)


def said_blocks(catalog: Catalog, snapshot: Snapshot) -> Iterator[tuple[EventBlock, RowArray]]:
    """The blocks of a pool's log in order, each with the places in it of what was said up to the snapshot."""
    number, end = 0, snapshot.pool.next_event
    while number < end:
        checkpoint()
        with catalog.reading() as tx:
            blocks = tx.event_blocks(snapshot.pool.uid, from_number=number, limit=BLOCKS_AT_ONCE)
        if not blocks:
            return
        for block in blocks:
            # What came since the snapshot speaks of rows that it does not know.
            known_N = (block.numbers_N < end) & (block.rows_N < snapshot.row_count)
            yield block, np.flatnonzero(known_N & (block.kinds_N != EventKind.RESOLVE))
            number = block.first_number + len(block)


def _together(parts: list[Derived]) -> Derived:
    labels = standings.joined([part.labels for part in parts])
    return Derived(
        labels,
        np.concatenate([part.agreements_N for part in parts if part.agreements_N is not None]),
        np.concatenate([part.confidences_N for part in parts if part.confidences_N is not None]),
    )


def _taken(derived: Derived, places: RowArray) -> Derived:
    assert derived.agreements_N is not None
    assert derived.confidences_N is not None
    return Derived(standings.take(derived.labels, places), derived.agreements_N[places], derived.confidences_N[places])


def append_resolved(change: Change, found: Rederived, create_time: float) -> int:
    """Appends what labels are from now on, in the snapshot to come and in the log, where it differs from what is known
    of them or where several answers are weighed anew; returns how many labels are others.

    Args:
        change: its snapshot to come is of the record to come already; its transaction has not begun.
        found: of rows whose last event is that of the snapshot.
        create_time: seconds since the Unix epoch.
    """
    after = change.after
    other_N = differ(after, found)
    several_N = after.answered.at(found.rows_N).astype(np.uint8, copy=False) > 1
    told = np.flatnonzero(other_N | several_N)
    for start in range(0, len(told), BLOCK_EVENTS):
        checkpoint()
        places = told[start : start + BLOCK_EVENTS]
        rows_N, derived = found.rows_N[places], _taken(found.derived, places)
        change.append(
            EventBlock(
                change.next_event,
                NOBODY,
                create_time,
                "",
                Origin.WORKER,
                rows_N=rows_N,
                kinds_N=np.full(len(rows_N), EventKind.RESOLVE, np.uint8),
                values=None,
                labels_after=derived.labels,
                answered_after_N=after.answered.at(rows_N).astype(np.uint8, copy=False),
                previous_N=found.last_events_N[places],
                agreements_after_N=derived.agreements_N,
                confidences_after_N=derived.confidences_N,
            )
        )
    return int(other_N.sum())


def differ(snapshot: Snapshot, found: Rederived) -> MaskArray:
    """Which of the labels are other ones than those that the snapshot has."""
    codes_N = snapshot.labels.at(found.rows_N).astype(np.int32, copy=False)
    labels: Values = found.derived.labels
    if not isinstance(labels, Blobs):
        other_N: MaskArray = codes_N != labels
        return other_N
    assert snapshot.values is not None
    known = snapshot.values.at(codes_N)
    places = np.arange(len(codes_N))
    pairs = zip(known.at(places), labels.at(places), strict=True)
    return np.fromiter((old != new for old, new in pairs), np.bool_, len(codes_N))


def brought_up_to(found: Rederived, rows_N: RowArray, last_events_N: NumberArray) -> tuple[RowArray, RowArray]:
    """Of rows that are to be derived, with their last events now: the places in `found` of those that were derived from
    all that was said, and the rows of the others."""
    places = np.minimum(np.searchsorted(found.rows_N, rows_N), max(0, len(found.rows_N) - 1))
    if not len(found.rows_N):
        return np.empty(0, np.int64), rows_N
    right_N = (found.rows_N[places] == rows_N) & (found.last_events_N[places] == last_events_N)
    return places[right_N], rows_N[~right_N]


def joined(a: Rederived, b: Rederived) -> Rederived:
    """Both, of different rows, in one."""
    rows_N = np.concatenate([a.rows_N, b.rows_N])
    order = np.argsort(rows_N)
    last_events_N = np.concatenate([a.last_events_N, b.last_events_N])
    return Rederived(rows_N[order], last_events_N[order], _taken(_together([a.derived, b.derived]), order))


def part(found: Rederived, places: RowArray) -> Rederived:
    """Some of it."""
    return Rederived(found.rows_N[places], found.last_events_N[places], _taken(found.derived, places))


def nothing(snapshot: Snapshot) -> Rederived:
    """Of no rows."""
    none = np.empty(0, np.int64)
    labels: Values = np.empty(0, np.int32) if snapshot.values is None else Blobs.of([])
    return Rederived(none, none, Derived(labels, np.empty(0, np.float32), np.empty(0, np.float32)))
