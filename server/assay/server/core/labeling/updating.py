"""A pool as it is to be: its classes, how labels follow from what is said, how many answers are wanted, metadata."""

from dataclasses import replace

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling import history, resolving
from assay.server.core.labeling.resolving import Rederived
from assay.server.core.limits import Limits
from assay.server.core.pools import checks as pool_checks
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.messages import PoolUpdate, PoolView
from assay.server.core.pools.pool import Change, Diverged, Pool
from assay.server.core.pools.service import view
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.catalog import Catalog
from assay.server.core.ports.machine import Clock
from assay.server.core.records.pools import PoolRecord
from assay.server.core.records.requests import RequestKey
from assay.server.core.tasks.base import Task
from assay.server.core.tasks.editing import edit_classes
from assay.server.core.tasks.registry import task_of

# Updates of one pool that may overtake each other before one gives up.
ATTEMPTS = 8


class PoolUpdates:
    """Changes what pools are, and derives labels anew where they follow from it.

    What takes long, reading what was said, is done before the pool is changed, beside whoever labels; within the change
    only those samples are looked at again of which something was said meanwhile.
    """

    def __init__(self, pools: PoolDirectory, catalog: Catalog, clock: Clock, limits: Limits) -> None:
        self._pools = pools
        self._catalog = catalog
        self._clock = clock
        self._limits = limits

    def update(self, pool_id: str, update: PoolUpdate, key: RequestKey) -> PoolView:
        """Updates a pool, all of it or nothing.

        Raises:
            AssayError: INVALID_ARGUMENT, INVALID_TASK, UNKNOWN_CLASS, WRONG_TASK, TOO_LARGE, INVALID_NAME;
                POLICY_INFEASIBLE for a policy that compares annotators where a sample has one; ANNOTATIONS_EXIST where
                a sample has more answers than are wanted from now on; CONFLICT where others kept updating the pool.
            Interrupted: the work is to stop; nothing was changed.
        """
        pool = self._pools.begin(pool_id, key)
        if update.metadata is not None:
            pool_checks.metadata(update.metadata)
        pool.mend()
        for _ in range(ATTEMPTS):
            snapshot = pool.snapshot
            record = self._record(snapshot, update)
            task = snapshot.task if record.task == snapshot.pool.task else task_of(record.task)
            found = self._rederive(pool, snapshot, task, record)
            try:
                with pool.change(key) as change:
                    if _terms(change.before.pool) != _terms(snapshot.pool):
                        raise _Overtaken
                    return self._apply(pool, change, self._record(change.before, update), task, found)
            except _Overtaken:
                continue
        raise AssayError(Reason.CONFLICT, f"Others kept updating pool {pool_id!r}. Try again.")

    def _record(self, snapshot: Snapshot, update: PoolUpdate) -> PoolRecord:
        """The pool's record as it is to be."""
        pool = snapshot.pool
        wanted = pool.annotations_per_sample
        if update.annotations_per_sample is not None:
            wanted = update.annotations_per_sample
            pool_checks.annotations_per_sample(wanted)
            if wanted != pool.annotations_per_sample:
                _check_answers(snapshot, wanted)
        policy = pool.policy if update.policy is None else update.policy
        if (policy, wanted) != (pool.policy, pool.annotations_per_sample):
            pool_checks.policy(policy, wanted)
        task = pool.task
        if update.classes is not None:
            if update.kind is not task.kind:
                raise AssayError(
                    Reason.WRONG_TASK,
                    f"The task of pool {pool.pool_id!r} is {task.kind}, for the pool's life, and not {update.kind}.",
                    task=task.kind,
                )
            task = edit_classes(task, update.classes, self._limits.max_classes)
        metadata = pool.metadata if update.metadata is None else dict(update.metadata)
        return replace(pool, task=task, annotations_per_sample=wanted, policy=policy, metadata=metadata)

    def _rederive(self, pool: Pool, snapshot: Snapshot, task: Task, record: PoolRecord) -> Rederived:
        rows_N = resolving.affected(snapshot, record)
        try:
            return resolving.rederive(
                self._catalog, history.reader(self._catalog, pool), snapshot, task, record, rows_N
            )
        except Diverged:
            raise AssayError(
                Reason.CONFLICT, f"Pool {snapshot.pool.pool_id!r} was changed meanwhile. Try again."
            ) from None

    def _apply(self, pool: Pool, change: Change, record: PoolRecord, task: Task, found: Rederived) -> PoolView:
        before = change.before
        rows_N = resolving.affected(before, record)
        last_events_N = before.last_events.at(rows_N).astype(np.int64, copy=False)
        places, stale_N = resolving.brought_up_to(found, rows_N, last_events_N)
        if len(stale_N):
            read = history.reader(self._catalog, pool)
            fresh = resolving.rederive(self._catalog, read, before, task, record, stale_N)
            found = resolving.joined(resolving.part(found, places), fresh)
        else:
            found = resolving.part(found, places)
        change.replace(pool=record, task=task)
        resolving.append_resolved(change, found, self._clock.now())
        if record.annotations_per_sample != before.pool.annotations_per_sample:
            change.settle(before.engaged_rows)
        change.replace_pool(
            task=record.task,
            annotations_per_sample=record.annotations_per_sample,
            policy=record.policy,
            metadata=record.metadata,
        )
        after = replace(change.after, pool=replace(record, epoch=change.epoch))
        result = view(after, building=pool.index_building)
        change.answer(result)
        return result


class _Overtaken(Exception):
    """Another update came first: labels were derived by terms that are no longer those of the pool."""


def _terms(pool: PoolRecord) -> tuple[object, ...]:
    """What labels follow from."""
    return pool.task, pool.policy, pool.annotations_per_sample


def _check_answers(snapshot: Snapshot, wanted: int) -> None:
    """Raises AssayError(ANNOTATIONS_EXIST) where a sample has more answers than are to be wanted."""
    more = snapshot.answered_more_than(wanted)
    if len(more):
        sample_id = snapshot.ids(more[:1])[0]
        raise AssayError(
            Reason.ANNOTATIONS_EXIST,
            f"{len(more):,} samples have more than {wanted} annotations, the first is {sample_id!r} with "
            f"{int(snapshot.answered.at(more[:1])[0])}. Ask for as many at least, or withdraw some of theirs.",
            id=sample_id,
            count=len(more),
        )
