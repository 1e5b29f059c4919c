"""What people and models say of samples: taken in, told, and the labels that follow."""

from collections.abc import Iterator, Sequence
from functools import partial

from assay.server.core import checks
from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling import annotate, events, history, lists, review, withdraw
from assay.server.core.labeling.exporting import (
    Row,
    Table,
    coco_images,
    history_columns,
    history_pages,
    label_columns,
    label_pages,
)
from assay.server.core.labeling.leases import expire_due
from assay.server.core.labeling.messages import (
    AnnotateResult,
    AnnotateSpec,
    EventPage,
    EventQuery,
    LabelView,
    ReviewResult,
    ReviewSpec,
    SkipResult,
    SkipSpec,
    StateResult,
    StateSpec,
    UndoResult,
    UndoSpec,
    WithdrawResult,
    WithdrawSpec,
)
from assay.server.core.labeling.skip import Skip
from assay.server.core.labeling.state import StateChange
from assay.server.core.labeling.undo import Undo
from assay.server.core.limits import MAX_IDS, MAX_REASON_BYTES
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.pool import Diverged, Pool
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.catalog import Catalog
from assay.server.core.ports.machine import Clock
from assay.server.core.records.pools import State
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.coco import coco_chunks


class AnnotationService:
    """Takes what is said of samples and tells of it."""

    def __init__(self, pools: PoolDirectory, catalog: Catalog, clock: Clock) -> None:
        self._pools = pools
        self._catalog = catalog
        self._clock = clock

    def annotate(self, pool_id: str, spec: AnnotateSpec, key: RequestKey) -> AnnotateResult:
        """Stores what a worker says, all or none; see annotate.Annotation.

        Raises:
            AssayError: as Annotation.apply and Task.check_all do.
        """
        pool = self._pools.begin(pool_id, key)
        checks.worker(spec.worker)
        checks.ids(spec.sample_ids, MAX_IDS)
        annotate.check_details(spec.details, spec.sample_ids)
        if spec.on_behalf_of and spec.lease:
            raise AssayError(
                Reason.INVALID_ARGUMENT,
                "What is said on behalf of a worker passes by leases: name none, or leave on_behalf_of out.",
                field="lease",
            )
        ids = pool.prepare_ids(spec.sample_ids)
        # Samples of a lease that has run out are free for annotations from elsewhere.
        expire_due(pool, self._clock.steady())
        # Checked before others have to wait for it, and again where the pool's classes were edited meanwhile.
        seen = pool.snapshot
        values = annotate.values_of(seen, spec, seen.require(ids))
        with pool.change(key) as change:
            if change.before.task is not seen.task:
                values = annotate.values_of(change.before, spec, change.before.require(ids))
            read = history.reader(self._catalog, pool)
            known = partial(self._external, pool)
            annotation = annotate.Annotation(change, spec, ids, values, self._clock, read, known)
            result = annotation.apply()
            change.answer(result)
            annotation.store()
        return result

    def skip(self, pool_id: str, spec: SkipSpec, key: RequestKey) -> SkipResult:
        """Notes samples that a worker does not want to say anything of, all or none; see skip.Skip. Raises as
        Skip.apply."""
        pool, ids = self._begin(pool_id, spec.worker, spec.sample_ids, spec.reason, key)
        with pool.change(key) as change:
            skipping = Skip(change, spec, ids, self._clock, history.reader(self._catalog, pool))
            result = skipping.apply()
            change.answer(result)
            skipping.store()
        return result

    def withdraw(self, pool_id: str, spec: WithdrawSpec, key: RequestKey) -> WithdrawResult:
        """Takes back what an annotator says of samples, all or none. Raises as withdraw.withdraw."""
        pool, ids = self._begin(pool_id, spec.worker, spec.sample_ids, spec.reason, key)
        if spec.annotator:
            checks.worker(spec.annotator)
        with pool.change(key) as change:
            result = withdraw.withdraw(change, history.reader(self._catalog, pool), spec, ids, self._clock.now())
            change.answer(result)
        return result

    def set_state(self, pool_id: str, spec: StateSpec, key: RequestKey) -> StateResult:
        """Sets samples aside, takes them back or reopens them, all or none; see StateChange. Raises as
        StateChange.apply."""
        pool, ids = self._begin(pool_id, spec.worker, spec.sample_ids, spec.reason, key)
        with pool.change(key) as change:
            moving = StateChange(change, spec, ids, self._clock.now(), history.reader(self._catalog, pool))
            result = moving.apply()
            change.answer(result)
            moving.store()
        return result

    def review(self, pool_id: str, spec: ReviewSpec, key: RequestKey) -> ReviewResult:
        """Stores what a reviewer decides, all or none; see review.Review. Raises as Review.apply and Task.check_all."""
        review.check_actions(spec)
        pool, ids = self._begin(pool_id, spec.worker, spec.sample_ids, "", key)
        seen = pool.snapshot
        values = review.values_of(seen, spec, seen.require(ids))
        with pool.change(key) as change:
            if change.before.task is not seen.task:
                values = review.values_of(change.before, spec, change.before.require(ids))
            read = history.reader(self._catalog, pool)
            result = review.Review(change, spec, ids, values, self._clock.now(), read).apply()
            change.answer(result)
        return result

    def undo(self, pool_id: str, spec: UndoSpec, key: RequestKey) -> UndoResult:
        """Undoes what a worker did last, or one action of it; see undo.Undo. Raises as Undo.apply."""
        pool = self._pools.begin(pool_id, key)
        checks.worker(spec.worker)
        with pool.change(key) as change:
            read = history.reader(self._catalog, pool)
            result = Undo(change, spec, self._catalog, self._clock.now(), read).apply()
            change.answer(result)
        return result

    def _begin(
        self, pool_id: str, worker: str, sample_ids: Sequence[str], reason: str, key: RequestKey
    ) -> tuple[Pool, Sequence[str]]:
        """The pool of a request and its ids, prepared. Leases that have run out hold nothing any more.

        Raises:
            AssayError: what is wrong with the worker, the ids or the reason.
            RequestReplayed: the request was answered before.
        """
        pool = self._pools.begin(pool_id, key)
        checks.worker(worker)
        checks.text(reason, "reason", MAX_REASON_BYTES)
        checks.ids(sample_ids, MAX_IDS)
        ids = pool.prepare_ids(sample_ids)
        expire_due(pool, self._clock.steady())
        return pool, ids

    def labels(
        self,
        pool_id: str,
        worker: str,
        class_name: str,
        after_row: int,
        limit: int,
        states: Sequence[State] = lists.LABELED,
    ) -> list[LabelView]:
        """Labels by row, of samples in some states. Raises AssayError(UNKNOWN_CLASS | WRONG_TASK)."""
        pool = self._pools.get(pool_id)
        snapshot = pool.snapshot
        class_id = lists.class_of(snapshot, class_name)
        read = history.reader(self._catalog, pool)
        views: list[LabelView] = []
        while len(views) < limit:
            rows = snapshot.answered_after(after_row, limit - len(views), states, class_id, worker)
            if len(rows) == 0:
                break
            try:
                views += lists.label_views(snapshot, read, rows)
            except Diverged:
                raise AssayError(
                    Reason.CONFLICT, f"Pool {snapshot.pool.pool_id!r} was changed meanwhile. Try again."
                ) from None
            after_row = int(rows[-1])
        return views

    def export(self, pool_id: str, *, history: bool) -> Table:
        """All labels, or all that was said, as a table of the pool as it is now; its pages are read as they are asked
        for. Raises AssayError(POOL_NOT_FOUND)."""
        pool = self._pools.get(pool_id)
        snapshot = pool.snapshot
        task = snapshot.task
        if history:
            return Table(task.record, history_columns(task), history_pages(self._catalog, snapshot))
        return Table(task.record, label_columns(task), self._label_pages(pool, snapshot))

    def export_coco(self, pool_id: str) -> Iterator[str]:
        """The labels of a pool as it is now, as a COCO document in pieces.

        Raises:
            AssayError: POOL_NOT_FOUND, WRONG_TASK; UNKNOWN_ATTRIBUTE for a sample whose size is not known.
        """
        snapshot = self._pools.get(pool_id).snapshot
        if snapshot.pool.task.kind is not TaskKind.BOXES:
            raise AssayError(
                Reason.WRONG_TASK,
                f"COCO is for boxes, and the task of pool {pool_id!r} is {snapshot.pool.task.kind.value}. Export JSON "
                "Lines or Parquet.",
                field="format",
            )
        return coco_chunks(snapshot.pool.task, lambda: coco_images(snapshot))

    def _label_pages(self, pool: Pool, snapshot: Snapshot) -> Iterator[list[Row]]:
        try:
            yield from label_pages(snapshot, history.reader(self._catalog, pool))
        except Diverged:
            raise AssayError(
                Reason.CONFLICT, f"Pool {snapshot.pool.pool_id!r} was changed meanwhile. Try again."
            ) from None

    def events(self, pool_id: str, query: EventQuery, after: int, limit: int) -> EventPage:
        """Events of the log by number, those after one; see events.page. Raises AssayError(SAMPLE_NOT_FOUND)."""
        pool = self._pools.get(pool_id)
        snapshot = pool.snapshot
        try:
            return events.page(snapshot, self._catalog, history.reader(self._catalog, pool), query, after, limit)
        except Diverged:
            raise AssayError(
                Reason.CONFLICT, f"Pool {snapshot.pool.pool_id!r} was changed meanwhile. Try again."
            ) from None

    def _external(self, pool: Pool, ids: Sequence[str]) -> dict[str, int]:
        """The events of external ids of a pool."""
        with self._catalog.reading() as tx:
            return tx.external_events(pool.snapshot.pool.uid, ids)
