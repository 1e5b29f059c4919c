"""Labeling: leased batches out."""

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from assay.server.core import checks
from assay.server.core.errors import AssayError, OutcomeUnknown, Reason
from assay.server.core.labeling import annotating, history, offers
from assay.server.core.labeling.leases import add, check_in_lease, expire_due, held, lease_not_found, shrink, view
from assay.server.core.labeling.messages import (
    Attempt,
    BatchResult,
    BatchSpec,
    LeaseView,
)
from assay.server.core.limits import MAX_IDS, MAX_REASON_BYTES, Limits
from assay.server.core.mining import description
from assay.server.core.mining.drawing import overlapping, still_drawable
from assay.server.core.mining.frontiers import Frontiers
from assay.server.core.mining.plan import binding, defaults
from assay.server.core.mining.plan import checks as plan_checks
from assay.server.core.mining.plan.binding import BoundPlan
from assay.server.core.mining.plan.objects import spelled_out
from assay.server.core.mining.plan.presets import Registry
from assay.server.core.mining.plan.terms import DrawFrom
from assay.server.core.mining.selection.run import Picks, Selection
from assay.server.core.models.chosen import ChosenHeads
from assay.server.core.models.predictions import PredictionCache
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.pool import Change, Pool, rows_array
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.catalog import Catalog
from assay.server.core.ports.machine import Clock
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.leases import LeaseRecord
from assay.server.core.records.requests import RequestKey
from assay.server.core.stopwatch import Stopwatch
from assay.strategies import StrategyError

# Attempts to reserve in turn before giving up.
RESERVE_ATTEMPTS = 8


class LabelingService:
    """Hands out samples under leases."""

    def __init__(
        self,
        pools: PoolDirectory,
        catalog: Catalog,
        clock: Clock,
        limits: Limits,
        registry: Registry,
        heads: ChosenHeads,
    ) -> None:
        self._pools = pools
        self._catalog = catalog
        self._clock = clock
        self._limits = limits
        self._registry = registry
        self._heads = heads

    def next_batch(self, pool_id: str, spec: BatchSpec, key: RequestKey) -> BatchResult:
        """Picks samples and leases them, all or none: all attempts, one after the other.

        Raises:
            AssayError: POOL_EXHAUSTED, NEED_MISSING, INVALID_PLAN, ...; CONFLICT where other workers kept taking the
            picks.
            RequestReplayed: the batch was leased before under the same key.
        """
        for attempt in Attempt:
            result = self.attempt_batch(pool_id, spec, key, attempt)
            if result is not None:
                return result
        raise AssertionError("the last attempt gives a batch or raises")

    def attempt_batch(self, pool_id: str, spec: BatchSpec, key: RequestKey, attempt: Attempt) -> BatchResult | None:
        """As next_batch, one attempt of a kind; None if the next kind is to be tried. Who schedules them has each run
        where it is in nobody's way."""
        pool = self._pools.begin(pool_id, key)
        checks.worker(spec.worker)
        checks.size(spec.size, self._limits.max_batch_picks)
        checks.ttl(spec.ttl)
        expire_due(pool, self._clock.steady())
        try:
            return self._lease_batch(pool, spec, key, attempt)
        except OutcomeUnknown:
            raise
        except (AssayError, StrategyError):
            # The same request may have been answered while this one was choosing, and the pool be what that made it.
            pool.check_replay(key)
            raise

    def _lease_batch(self, pool: Pool, spec: BatchSpec, key: RequestKey, attempt: Attempt) -> BatchResult | None:
        watch = Stopwatch()
        with watch.stage("snapshot"):
            source = spec.plan.prediction_source if spec.plan else ""
            snapshot = self._heads.seen_by(pool.snapshot, source)
            default = defaults.to_label(snapshot, pool.derived.get(PredictionCache).of(snapshot, name=source))
            task = snapshot.pool.task
            default = defaults.of_source(spec.plan, default, task.kind)
            plan = spelled_out(defaults.completed(spec.plan, default), task)
            bound = binding.bind(plan, spec.filter, self._registry, task.kind)
        if attempt is Attempt.QUICK and not bound.quick:
            return None
        if attempt is Attempt.BESIDE:
            return self._attempt(pool, spec, bound, key, watch)
        with watch.stage("queue"):
            pool.selection_lock.acquire()
        try:
            for _ in range(RESERVE_ATTEMPTS):
                result = self._attempt(pool, spec, bound, key, watch)
                if result is not None:
                    return result
        finally:
            pool.selection_lock.release()
        raise AssayError(Reason.CONFLICT, "Other workers kept taking the samples that were picked. Try again.")

    def _attempt(
        self, pool: Pool, spec: BatchSpec, bound: BoundPlan, key: RequestKey, watch: Stopwatch
    ) -> BatchResult | None:
        """One selection and reservation; None where somebody else was faster."""
        snapshot = self._heads.seen_by(pool.snapshot, bound.plan.prediction_source)
        plan_checks.fits(bound.plan, snapshot)
        predictions, frontiers = pool.derived.get(PredictionCache), pool.derived.get(Frontiers)
        withheld = _withheld(snapshot, spec, bound)
        selection = Selection(snapshot, bound, spec.seed, predictions, frontiers, self._limits, watch, withheld)
        chosen = selection.run(spec.size, allow_fewer=True)
        with watch.stage("describe"):
            views = description.describe(
                snapshot,
                chosen,
                predictions,
                source=bound.plan.prediction_source,
                payload=spec.payload,
                predictions=spec.predictions,
            )
        try:
            with ExitStack() as changing:
                with watch.stage("reserve"):
                    change = changing.enter_context(pool.change(key))
                    raised = overlapping(change.before, bound.plan, np.sort(chosen.rows))
                    lease = self._reserve(change, spec, bound, chosen, raised)
                by_row = {pick.sample.row: pick.sample.record.id for pick in views}
                ids = tuple(by_row[row] for row in lease.rows)
                held = LeaseView(lease, ids, self._clock.shown(lease.expire_time))
                result = BatchResult(held, views, bound.plan, chosen.provenance, watch.timings, chosen.quotas)
                change.answer(result)
                if len(raised):
                    change.tx.raise_rows(snapshot.pool.uid, raised, bound.plan.overlap_annotations)
                change.tx.add_lease(snapshot.pool.uid, lease)
        except _Taken:
            return None
        return result

    def _reserve(
        self, change: Change, spec: BatchSpec, bound: BoundPlan, chosen: Picks, raised: RowArray
    ) -> LeaseRecord:
        """Leases picks in the snapshot to come; of those that are raised more answers are wanted than of others. Raises
        _Taken where somebody else was faster."""
        before = change.before
        if not still_drawable(before, bound.plan.draw_from, chosen.rows).all():
            raise _Taken
        if before.overlaps or bound.plan.draw_from is not DrawFrom.UNLABELED:
            # The same worker may ask twice at a time.
            withheld = _withheld(before, spec, bound)
            if withheld is not None and np.isin(chosen.rows, withheld).any():
                raise _Taken
        now, rows = self._clock.steady(), np.sort(chosen.rows)
        token = before.pool.next_fencing_token
        lease = LeaseRecord(
            # Says nothing of the token, which is for the holder alone: who may read may see the ids of leases.
            lease_id=f"l-{secrets.token_hex(10)}",
            worker=spec.worker,
            fencing_token=token,
            create_time=self._clock.now(),
            expire_time=now + spec.ttl,
            state="live",
            rows=tuple(rows.tolist()),
        )
        change.want(raised, bound.plan.overlap_annotations)
        change.hold(rows, 1)
        add(change, lease, now)
        change.replace_pool(next_fencing_token=token + 1)
        return lease

    def lease(self, pool_id: str, lease_id: str) -> LeaseView:
        """A lease, live or ended. Raises AssayError(LEASE_NOT_FOUND)."""
        pool = self._pools.get(pool_id)
        expire_due(pool, self._clock.steady())
        with self._catalog.reading() as tx:
            record = tx.lease(pool.snapshot.pool.uid, lease_id)
        if record is None:
            raise lease_not_found(lease_id)
        return view(pool.snapshot, record, self._clock)

    def leases(self, pool_id: str, worker: str, after_token: int, limit: int) -> list[LeaseView]:
        """Live leases by fencing token."""
        pool = self._pools.get(pool_id)
        expire_due(pool, self._clock.steady())
        snapshot = pool.snapshot
        live = sorted(
            (
                lease
                for lease in snapshot.leases.values()
                if lease.fencing_token > after_token and worker in ("", lease.worker)
            ),
            key=lambda lease: lease.fencing_token,
        )
        return [view(snapshot, lease, self._clock) for lease in live[:limit]]

    def renew(self, pool_id: str, lease_id: str, fencing_token: int, ttl: float, key: RequestKey) -> LeaseView:
        """Moves the end of a live lease to ttl seconds from now. Raises AssayError(LEASE_NOT_FOUND | LEASE_FOREIGN |
        LEASE_EXPIRED | LEASE_DONE)."""
        pool = self._pools.begin(pool_id, key)
        checks.ttl(ttl)
        with pool.change(key) as change:
            now = self._clock.steady()
            lease = replace(self._held(change, lease_id, fencing_token), expire_time=now + ttl)
            add(change, lease, now)
            result = view(change.before, lease, self._clock)
            change.answer(result)
            change.tx.renew_lease(change.before.pool.uid, lease_id, lease.expire_time)
        return result

    def release(
        self,
        pool_id: str,
        lease_id: str,
        fencing_token: int,
        sample_ids: Sequence[str],
        reason: str,
        exclude: bool,
        key: RequestKey,
        *,
        offer_again: bool = False,
    ) -> LeaseView:
        """Gives samples of a lease back (all, if none is named), or sets them aside. What a worker gave back is not
        offered to it again, unless it asks for that, or says here that it may be. Raises as renew, and
        AssayError(SAMPLE_NOT_FOUND | LEASE_FOREIGN) for samples that it does not hold."""
        pool = self._pools.begin(pool_id, key)
        checks.text(reason, "reason", MAX_REASON_BYTES)
        if sample_ids:
            checks.ids(sample_ids, MAX_IDS)
            sample_ids = pool.prepare_ids(sample_ids)
        with pool.change(key) as change:
            lease = self._held(change, lease_id, fencing_token)
            uid = change.before.pool.uid
            rows = change.before.require(sample_ids) if sample_ids else rows_array(lease.rows)
            check_in_lease(change.before, lease, rows)
            skipped = not (exclude or offer_again)
            change.hold(rows, -1, settle=not skipped)
            if exclude:
                change.exclude(rows)
            elif skipped:
                skip = annotating.skip(lease.worker, self._clock.now(), np.sort(rows), lease_id, reason)
                annotating.append(change, history.reader(self._catalog, pool), skip)
            result = view(change.before, shrink(change, lease, rows), self._clock)
            change.answer(result)
            change.tx.drop_lease_rows(uid, lease_id, rows, reason)
            if exclude:
                change.tx.exclude_rows(uid, rows, lease.worker, reason)
        return result

    def _held(self, change: Change, lease_id: str, fencing_token: int) -> LeaseRecord:
        return held(change, self._clock.steady(), lease_id, fencing_token)


class _Taken(Exception):
    """Somebody else reserved one of the picks first."""


def _withheld(snapshot: Snapshot, spec: BatchSpec, bound: BoundPlan) -> RowArray | None:
    """Rows that are not offered to the worker who asks."""
    answered = bound.plan.draw_from is not DrawFrom.UNLABELED
    return offers.withheld(snapshot, spec.worker, declined_too=spec.released, with_answers=answered)
