"""Pools: create, get, list, delete."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from assay.server.core.answers import Answer, again, replay_within
from assay.server.core.errors import AssayError, OutcomeUnknown, Reason
from assay.server.core.limits import Limits
from assay.server.core.operations.service import OperationService
from assay.server.core.pools import checks as pool_checks
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.messages import PoolSpec, PoolView
from assay.server.core.pools.opening import Opener, empty_snapshot
from assay.server.core.pools.pool import Diverged
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.catalog import Catalog, CatalogTx
from assay.server.core.ports.machine import Clock
from assay.server.core.ports.search import IndexBuilder
from assay.server.core.ports.segments import SegmentStore
from assay.server.core.records.models import HeadInfo
from assay.server.core.records.pools import PoolRecord
from assay.server.core.records.requests import NO_POOL, RequestKey

# No caller repeats a request so long after the first try.
LATE_S = 3600.0


class PoolService:
    """Keeps the pools."""

    def __init__(
        self,
        pools: PoolDirectory,
        catalog: Catalog,
        segments: SegmentStore,
        indexes: IndexBuilder,
        opener: Opener,
        operations: OperationService,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._pools = pools
        self._catalog = catalog
        self._segments = segments
        self._indexes = indexes
        self._opener = opener
        self._operations = operations
        self._clock = clock
        self._limits = limits
        self._creating = Lock()
        self._doubtful = False
        self._reconciling = Lock()

    def create(self, spec: PoolSpec, key: RequestKey) -> PoolView:
        """Creates an empty pool. Raises AssayError(POOL_EXISTS), and what
        pool_checks.pool_spec raises."""
        self.reconcile()
        there = self._pools.find(spec.pool_id)
        if there is not None:
            there.check_replay(key)
        pool_checks.pool_spec(spec, self._limits)
        asked = PoolRecord(
            uid=0,
            pool_id=spec.pool_id,
            metric=spec.metric,
            task=spec.task,
            keep_inputs=spec.keep_inputs,
            create_time=self._clock.now(),
            dimension=spec.dimension,
            annotations_per_sample=spec.annotations_per_sample,
            policy=spec.policy,
            metadata=dict(spec.metadata),
        )
        answer = Answer(key)
        # Until it is in the directory, a repeated request must not hear of it.
        with self._creating:
            with self._doubting(), self._catalog.transaction() as tx:
                self._check_created(tx, spec.pool_id, key)
                record = tx.insert_pool(asked)
                pool = self._opener.wrap(empty_snapshot(record))
                result = view(pool.snapshot, building=False)
                answer.give(result)
                answer.remember(tx, record.uid, self._clock.steady())
            self._pools.put(pool)
        return result

    def _check_created(self, tx: CatalogTx, pool_id: str, key: RequestKey) -> None:
        """Raises RequestReplayed if the request made the pool that is there now. One that made a pool which was deleted
        since makes a new one."""
        there = self._pools.find(pool_id)
        if there is not None:
            replay_within(tx, there.snapshot.pool.uid, key)

    @contextmanager
    def _doubting(self) -> Iterator[None]:
        """After an unknown outcome the catalog may have a pool that nobody has opened."""
        try:
            yield
        except OutcomeUnknown:
            self._doubtful = True
            raise

    def reconcile(self) -> None:
        """Opens the pools of the catalog that are not open, if the making of one had an unknown outcome. Raises what
        the catalog raises."""
        if not self._doubtful:
            return
        with self._reconciling:
            if self._doubtful:
                for pool in self._opener.open_new({pool.snapshot.pool.uid for pool in self._pools.all()}):
                    self._pools.put(pool)
                self._doubtful = False

    def get(self, pool_id: str) -> PoolView:
        """A pool with its counts. Raises AssayError(POOL_NOT_FOUND)."""
        pool = self._pools.get(pool_id)
        return view(pool.snapshot, building=pool.index_building)

    def list(self, after: str, limit: int) -> list[PoolView]:
        """Pools by id, those after an id."""
        later = [pool for pool in self._pools.all() if pool.snapshot.pool.pool_id > after]
        return [view(pool.snapshot, building=pool.index_building) for pool in later[:limit]]

    def delete(self, pool_id: str, key: RequestKey) -> None:
        """Deletes a pool with all that belongs to it. Raises AssayError(POOL_NOT_FOUND), REQUEST_ID_REUSED for a late
        repetition that would meet another pool of the name."""
        key = key.by_name(pool_id)
        self.reconcile()
        self._pools.mend(pool_id)
        with self._catalog.reading() as tx:
            self._check_deleted(tx, pool_id, key)
        pool = self._pools.get(pool_id)
        uid = pool.snapshot.pool.uid
        self._operations.cancel_of(uid)
        answer = Answer(key)
        answer.give(None)
        files: list[str] = []
        with pool.leftovers.of_change(old=files), pool.closing() as epoch, self._catalog.transaction() as tx:
            # The same request may have deleted it while this one waited.
            self._check_deleted(tx, pool_id, key)
            pool.check_open()
            if not tx.advance_pool(uid, epoch):
                raise Diverged
            files += [file.file for file in tx.segments(uid)] + tx.model_files(uid)
            tx.delete_pool(uid)
            if key.request_id:
                tx.forget_request(NO_POOL, key)
            answer.remember(tx, NO_POOL, self._clock.steady())
        self._pools.remove(pool)
        # One may have been launched since.
        self._operations.cancel_of(uid)
        self._indexes.forget(uid)

    def _check_deleted(self, tx: CatalogTx, pool_id: str, key: RequestKey) -> None:
        """Raises RequestReplayed if the request deleted the last pool of the name. If there is a new one since, the
        request is a late repetition, which must not touch that pool, or after a while a job that uses one id again."""
        remembered = tx.recall(NO_POOL, key)
        if remembered is None:
            return
        if self._pools.find(pool_id) is None:
            again(remembered)
        if self._clock.steady() < remembered.create_time + LATE_S:
            raise AssayError(
                Reason.REQUEST_ID_REUSED,
                f"Request id {key.request_id!r} deleted an earlier pool {pool_id!r}. The one that has its name now was "
                "left alone: delete it with a new request id.",
                request_id=key.request_id,
            )


def view(snapshot: Snapshot, *, building: bool) -> PoolView:
    """A pool as it is now."""
    return PoolView(
        record=snapshot.pool,
        counts=snapshot.counts,
        attributes=snapshot.attributes,
        index_kind=snapshot.index.kind if snapshot.index else "exact",
        indexed=len(snapshot.index.indexed_rows) if snapshot.index else 0,
        index_building=building,
        segments=len(snapshot.samples) + len(snapshot.vectors),
        embedding_bytes=sum(segment.embeddings_ND.nbytes for segment in snapshot.vectors),
        damaged=snapshot.damaged,
        unseen=_unseen(snapshot),
    )


def _unseen(snapshot: Snapshot) -> tuple[int, ...]:
    """Classes in use that the active head was not trained for; it serves on nevertheless."""
    info = snapshot.head.record.info if snapshot.head else None
    return info.unseen(snapshot.pool.task) if isinstance(info, HeadInfo) else ()
