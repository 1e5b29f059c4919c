"""An open pool: the current snapshot, and the one way to change it."""

import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.core.answers import Answer, replay, replay_within
from assay.server.core.bells import Bells
from assay.server.core.errors import AssayError, OutcomeUnknown, Reason
from assay.server.core.pools.derived import Derived
from assay.server.core.pools.leftovers import Leftovers
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.states import states_after
from assay.server.core.pools.values import codes_of
from assay.server.core.ports.catalog import Catalog, CatalogTx
from assay.server.core.ports.machine import Clock
from assay.server.core.ports.search import SearchIndex
from assay.server.core.ports.segments import SegmentStore
from assay.server.core.records.annotations import NO_CLASS, EventBlock, PackedBlock
from assay.server.core.records.arrays import MaskArray, RowArray
from assay.server.core.records.changes import (
    MOST_LISTED,
    AnnotationsChanged,
    ModelAction,
    ModelChanged,
    Part,
    PoolChanged,
    SamplesAction,
    SamplesChanged,
    listed,
)
from assay.server.core.records.models import ModelKind
from assay.server.core.records.pools import LIVE_STATES, PoolRecord, State
from assay.server.core.records.requests import RequestKey
from assay.server.core.tasks.registry import task_of
from assay.server.core.turns import Turn

log = logging.getLogger(__name__)

# By state, for arrays of them.
_IS_LIVE: MaskArray = np.isin(np.arange(len(State)), LIVE_STATES)

# What followers of the pool are told of rows that are put into a state by hand.
_TOLD_OF: dict[State, SamplesAction] = {
    State.DELETED: SamplesAction.DELETED,
    State.DAMAGED: SamplesAction.DAMAGED,
    State.EXCLUDED: SamplesAction.EXCLUDED,
    State.UNLABELED: SamplesAction.INCLUDED,
}
# What they are told of the pool's record.
_TOLD_FIELDS = ("task", "annotations_per_sample", "policy", "metadata")

NO_KEY = RequestKey("", "", "", lambda _: b"")


class Change:
    """One change of a pool: what is written through `tx` and what the other methods say takes effect together.

    The catalog's transaction begins with the first use of `tx`, and holds up the writers of all other pools until the
    change ends: what takes long, and the answer, comes before.

    Attributes:
        before: the snapshot that it starts from.
        epoch: epoch that it leads to.
        appended: blocks that it adds to the log.
    """

    def __init__(
        self,
        begin: Callable[[], CatalogTx],
        pack: Callable[[EventBlock], PackedBlock],
        before: Snapshot,
        key: RequestKey,
    ) -> None:
        self._begin = begin
        self._pack = pack
        self._blocks: list[PackedBlock] = []
        self.appended: list[EventBlock] = []
        self._answer = Answer(key)
        self._tx: CatalogTx | None = None
        self._agreed = False
        self.before = before
        self.epoch = before.pool.epoch + 1
        self._after = before
        # What was found by an index that is lost cannot be found again: from this epoch on there is none, even if its
        # files come back from a backup.
        self._pool_changes: dict[str, Any] = {"search_index": ""} if before.index_lost else {}
        self._parts: list[Part] = []

    @property
    def tx(self) -> CatalogTx:
        """The catalog's transaction. Raises Diverged if the catalog does not know the pool as `before` has it."""
        if self._tx is None:
            self._tx = self._begin()
            self._agreed = self._tx.advance_pool(self.before.pool.uid, self.before.pool.epoch)
        if not self._agreed:
            raise Diverged
        return self._tx

    def replace(self, **fields: Any) -> None:
        """Sets fields of the snapshot."""
        self._after = dataclasses.replace(self._after, **fields)

    def replace_pool(self, **fields: Any) -> None:
        """Sets fields of the pool's record."""
        self._pool_changes |= fields

    def mark(self, rows: RowArray, state: State) -> None:
        """Puts rows into a state that is not for `settle` to find: DELETED, DAMAGED."""
        if len(rows):
            # Of what is gone nobody can ask for ids later.
            gone = state is State.DELETED
            ids = tuple(filter(None, self.before.ids(rows[:MOST_LISTED]))) if gone else ()
            self.tell(SamplesChanged(_TOLD_OF[state], len(rows), () if gone else listed(rows), ids))
        self.replace(states=self._after.states.with_values(rows, state))

    def grow(self, first: int, length: int) -> None:
        """Makes room for rows below length; those from first on are there, unlabeled."""
        after = self._after
        some = range(first, min(length, first + MOST_LISTED))
        self.tell(SamplesChanged(SamplesAction.ADDED, length - first, tuple(some)))
        self.replace(
            states=after.states.extended(length).with_values(np.arange(first, length), State.UNLABELED),
            labels=after.labels.extended(length),
            answered=after.answered.extended(length),
            held=after.held.extended(length),
            raised=after.raised.extended(length),
            last_events=after.last_events.extended(length),
        )

    @property
    def next_event(self) -> int:
        """Number of the next event."""
        return int(self._pool_changes.get("next_event", self.before.pool.next_event))

    def append(self, block: EventBlock) -> None:
        """Adds events to the pool's log. They take effect in the snapshot to come at once, and are written when the
        change is finished; call it before `tx` is used, for a block takes a moment to pack."""
        rows_N, after = block.rows_N, self._after
        self._blocks.append(self._pack(block))
        self.tell(_annotations_part(block))
        self.appended.append(block)
        self.replace(
            labels=after.labels.with_values(rows_N, codes_of(block.labels, after.values)),
            answered=after.answered.with_values(rows_N, block.answered_after_N),
            last_events=after.last_events.with_values(rows_N, block.numbers_N),
            suspects=None if after.suspects is None else after.suspects.after(rows_N, block.kinds_N),
            workers=after.workers.after(block.worker, rows_N, block.kinds_N),
        )
        self.replace_pool(next_event=block.first_number + len(block))
        self.settle(rows_N)

    def tell(self, part: Part) -> None:
        """Tells those who follow the pool what this change does, besides what its other methods tell by themselves."""
        self._parts.append(part)

    def delete(self, rows: RowArray) -> None:
        """Takes rows away, with their labels and with what more is wanted of them."""
        self.mark(rows, State.DELETED)
        self.replace(labels=self._after.labels.with_values(rows, NO_CLASS))
        raised = rows[self._after.raised.at(rows) != 0]
        if len(raised):
            self.replace(raised=self._after.raised.with_values(raised, 0))

    def exclude(self, rows: RowArray) -> None:
        """Sets rows aside that are served."""
        self.mark(self._served(rows), State.EXCLUDED)

    def include(self, rows: RowArray) -> None:
        """Takes rows back that were set aside."""
        self.mark(rows, State.UNLABELED)
        self.settle(rows)

    def hold(self, rows: RowArray, leases: int | npt.NDArray[np.int64], *, settle: bool = True) -> None:
        """Notes that so many live leases more hold distinct rows; less, if negative. Who appends events on the same
        rows next leaves it to them to settle."""
        # In order, each column below finds the rows' chunks without sorting them again.
        order = np.argsort(rows)
        rows, leases = rows[order], leases if isinstance(leases, int) else leases[order]
        held = self._after.held
        self.replace(held=held.with_values(rows, held.at(rows).astype(np.int64) + leases))
        if settle:
            self.settle(rows)

    def want(self, rows: RowArray, wanted: int) -> None:
        """Wants at least so many answers of rows, whatever the pool wants of others."""
        more = rows[self._after.wanted(rows) < wanted]
        if len(more):
            self.replace(raised=self._after.raised.with_values(more, wanted))
            self.settle(more)

    def settle(self, rows: RowArray) -> None:
        """Puts rows into the state that follows from what is known of them. Those that are not served stay so."""
        after = self._after
        states = after.states.at(rows).astype(np.uint8, copy=False)
        served = _IS_LIVE[states]
        if not served.all():
            rows, states = rows[served], states[served]
        self.replace(
            states=after.states.with_values(
                rows,
                states_after(
                    excluded_N=states == State.EXCLUDED,
                    wanted_N=after.wanted(rows),
                    answered_N=after.answered.at(rows).astype(np.uint8, copy=False),
                    leases_N=after.held.at(rows).astype(np.uint8, copy=False),
                    resolved_N=after.labels.at(rows).astype(np.int32, copy=False) >= 0,
                ),
            )
        )

    def _served(self, rows: RowArray) -> RowArray:
        served: MaskArray = _IS_LIVE[self._after.states.at(rows).astype(np.uint8, copy=False)]
        return rows[served]

    @property
    def after(self) -> Snapshot:
        """The snapshot as changed so far."""
        return self._after

    def answer(self, result: object) -> None:
        """Makes the reply, which is remembered with the request's id. Raises AssayError(TOO_LARGE) if it could not be
        sent: then nothing is changed."""
        self._answer.give(result)

    def finish(self, steady: float, now: float) -> Snapshot:
        """Writes what every change writes, and returns the snapshot to publish. steady, now: the time on both
        clocks."""
        for block in self._blocks:
            self.tx.append_events(self.before.pool.uid, block)
        self.tx.update_pool(self.before.pool.uid, **self._pool_changes)
        parts = (*self._parts, *_record_parts(self.before.pool, self._pool_changes))
        if parts:
            self.tx.append_change(self.before.pool.uid, parts, now)
        self._answer.remember(self.tx, self.before.pool.uid, steady)
        record = dataclasses.replace(self._after.pool, epoch=self.epoch, **self._pool_changes)
        task = self._after.task if record.task is self._after.pool.task else task_of(record.task)
        return dataclasses.replace(self._after, pool=record, task=task)


def _annotations_part(block: EventBlock) -> AnnotationsChanged:
    kinds, counts = np.unique(block.kinds_N, return_counts=True)
    by_kind = {str(kind): count for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)}
    return AnnotationsChanged(
        block.worker, block.lease_id, int(block.first_number), len(block), by_kind, listed(block.rows_N)
    )


def _record_parts(before: PoolRecord, changes: dict[str, Any]) -> list[Part]:
    """What is told of a pool's record by what changes in it."""
    parts: list[Part] = []
    for kind, old in ((ModelKind.BACKBONE, before.backbone), (ModelKind.HEAD, before.head)):
        new = changes.get(kind.value, old)
        if new and new != old:
            parts.append(ModelChanged(ModelAction.ACTIVATED, new, kind))
        elif new != old:
            parts.append(ModelChanged(ModelAction.DEACTIVATED, old, kind))
    told = tuple(name for name in _TOLD_FIELDS if name in changes and changes[name] != getattr(before, name))
    return [*parts, PoolChanged(told)] if told else parts


class Diverged(Exception):
    """The catalog does not know the pool as its snapshot has it."""


class Pool:
    """An open pool.

    Readers take `snapshot` and never wait. Writers go through `change`, one at a time. Work that writes files first
    (ingest) holds `ingest_lock` around it, so that ids are checked and rows given out once; labels and leases do not
    wait for it. Locks are taken in the order selection, ingest, change, the catalog's.

    Where the outcome of a change is unknown, or the catalog turns out to know the pool otherwise, the snapshot is
    stale: readers are served from it, and nothing is built on it before it is read anew from the catalog.

    Args:
        bells: rung when the pool was changed, or is gone.
        reload: the snapshot as the catalog has it; None if the pool is no longer there.
        derived: makes the derived state.
    """

    def __init__(
        self,
        catalog: Catalog,
        segments: SegmentStore,
        leftovers: Leftovers,
        clock: Clock,
        bells: Bells,
        snapshot: Snapshot,
        derived: Callable[[], Derived],
        reload: Callable[[Snapshot], Snapshot | None],
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._bells = bells
        self._reload = reload
        self._derived = derived
        self.leftovers = leftovers
        self.stale = False
        # Ids that are looked up within a change are prepared before it: others wait for the change.
        self.prepare_ids = segments.prepare_ids
        self._snapshot = snapshot
        self._lock = threading.RLock()
        self.ingest_lock = Turn()
        self.selection_lock = Turn()
        self.derived = derived()
        self.closed = False
        self.index_building = False
        self.last_ingest = -math.inf

    @property
    def snapshot(self) -> Snapshot:
        """The pool now."""
        return self._snapshot

    def check_replay(self, key: RequestKey) -> None:
        """Raises RequestReplayed if the request was answered before; called ahead of costly work."""
        # An answer that is given again must hold: the snapshot has to know what it speaks of.
        self.mend()
        replay(self._catalog, self._snapshot.pool.uid, key)

    def remember(self, key: RequestKey, result: object) -> None:
        """Remembers the answer to a request that changes nothing. Raises RequestReplayed if it was answered meanwhile,
        AssayError(TOO_LARGE) for a reply that could not be sent."""
        answer, uid = Answer(key), self._snapshot.pool.uid
        answer.give(result)
        if key.request_id:
            with self._catalog.transaction() as tx:
                replay_within(tx, uid, key)
                answer.remember(tx, uid, self._clock.steady())

    @contextmanager
    def change(self, key: RequestKey = NO_KEY) -> Iterator[Change]:
        """A change: durable and visible once the context ends without an exception, undone otherwise.

        Raises:
            RequestReplayed: the request was answered before.
            OutcomeUnknown: the change may have been stored; its files must stay.
            AssayError: POOL_NOT_FOUND if the pool was deleted meanwhile; CONFLICT if the snapshot turned out stale;
                what the catalog raises.
        """
        with self._lock:
            mended = self._mend()
            replay(self._catalog, self._snapshot.pool.uid, key)
            if mended:
                raise self._overtaken()
            with self._mending_after_trouble(), ExitStack() as transaction:
                change = Change(
                    lambda: transaction.enter_context(self._catalog.transaction()),
                    self._catalog.pack,
                    self._snapshot,
                    key,
                )
                yield change
                after = change.finish(self._clock.steady(), self._clock.now())
            self._snapshot = after
        self._ring()

    @contextmanager
    def _mending_after_trouble(self) -> Iterator[None]:
        """Marks the snapshot as stale after an unknown outcome, and mends one that the catalog contradicts."""
        try:
            yield
        except OutcomeUnknown:
            self.stale = True
            raise
        except Diverged:
            log.error("pool %s is not as the catalog has it: read anew", self._snapshot.pool.pool_id)
            self.stale = True
            # Its rows may be other samples than those that were computed with.
            self.derived = self._derived()
            self._mend()
            raise self._overtaken() from None

    def mend(self) -> None:
        """Reads a stale snapshot anew from the catalog. Raises AssayError(POOL_NOT_FOUND) if the pool is no longer
        there, and OutcomeUnknown while the catalog cannot be asked."""
        if self.stale:
            with self._lock:
                self._mend()

    def _mend(self) -> bool:
        """As mend, under the lock; returns whether the snapshot is another one now."""
        self.check_open()
        if not self.stale:
            return False
        known = self._snapshot
        try:
            found = self._reload(known)
        except AssayError as error:
            # Who sends a request again must not be told that it failed.
            raise OutcomeUnknown from error
        self.stale = False
        if found is None:
            self.closed = True
            self._ring()
            raise pool_not_found(known.pool.pool_id)
        if found is known:
            return False
        log.warning("pool %s was read anew from the catalog", known.pool.pool_id)
        self._snapshot = found
        self._ring()
        return True

    def _overtaken(self) -> AssayError:
        return AssayError(
            Reason.CONFLICT,
            f"Pool {self._snapshot.pool.pool_id!r} was read anew from the catalog meanwhile. Try again.",
        )

    def note_ingest(self) -> None:
        """Remembers that a batch came just now."""
        self.last_ingest = time.monotonic()

    def publish_index(self, space: str, index: SearchIndex) -> None:
        """Puts an index of a space in service, unless another space became active meanwhile. It is a change like any
        other: what an approximate search finds, and what is picked by it, belongs to an epoch."""
        with self._lock:
            if self._snapshot.pool.space != space or self._snapshot.index is index:
                return
            with self.change() as change:
                change.replace(index=index)
                change.replace_pool(search_index=index.version)

    def withdraw_lost_index(self) -> None:
        """Leads a pool whose index is not there any more into an epoch without one. Until that can be stored, as on a
        full disk, searches are exact; every other change withdraws the index, too. Raises as change."""
        with self._lock:
            if self._snapshot.index_lost:
                with self.change():
                    pass

    @contextmanager
    def closing(self) -> Iterator[int]:
        """Keeps writers out while the pool, of this epoch, is deleted, and for good if that succeeds. Raises as change,
        but for a pool that was deleted already: see check_open."""
        with self.ingest_lock, self._lock:
            if not self.closed:
                self._mend()
            with self._mending_after_trouble():
                yield self._snapshot.pool.epoch
            self.closed = True
        self._ring()

    def _ring(self) -> None:
        self._bells.ring(self._snapshot.pool.uid)

    def check_open(self) -> None:
        """Raises AssayError(POOL_NOT_FOUND) if the pool was deleted."""
        if self.closed:
            raise pool_not_found(self._snapshot.pool.pool_id)


def pool_not_found(pool_id: str) -> AssayError:
    """The error for a pool that is not there."""
    return AssayError(
        Reason.POOL_NOT_FOUND, f"There is no pool {pool_id!r}. Create it first, or list the pools.", pool=pool_id
    )


def rows_array(rows: list[int] | tuple[int, ...]) -> RowArray:
    """Rows as an array."""
    return np.array(rows, np.int64)
