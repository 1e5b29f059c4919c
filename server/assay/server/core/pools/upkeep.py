"""Work that nobody waits for: reading files against their checksums, merging, building indexes, expiring leases,
forgetting."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.low_priority import LowPriorityExecutor
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.merging import Merger
from assay.server.core.pools.pool import Pool
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.verification import Verification
from assay.server.core.ports.machine import Clock
from assay.server.core.ports.search import IndexBuilder
from assay.server.core.ports.segments import SegmentStore
from assay.server.core.records.arrays import FloatArray, RowArray
from assay.server.core.records.pools import State
from assay.server.core.stop import Stop
from assay.strategies import Interrupted

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
FAILED_SECONDS = 30.0
# An index is extended once this share of its size waits outside it; until then those rows are searched exactly.
STALE_SHARE = 0.2
# While batches keep coming, merging waits for so many files, and an index for so long.
MANY_FILES = 256
PATIENCE_SECONDS = 60.0


class Upkeep:
    """Looks after all pools: a thread for each kind of work, low priority for what is heavy in it."""

    def __init__(
        self,
        pools: PoolDirectory,
        segments: SegmentStore,
        indexes: IndexBuilder,
        merger: Merger,
        low_priority: LowPriorityExecutor,
        quiet_seconds: float,
        expire: Callable[[Pool], bool],
        settle: Callable[[], None],
        verification: Verification,
        forget: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._pools = pools
        self._segments = segments
        self._indexes = indexes
        self._merger = merger
        self._low_priority = low_priority
        self._quiet_seconds = quiet_seconds
        self._expire = expire
        self._settle = settle
        self._in_doubt = False
        self._verification = verification
        self._forget = forget
        self._forget_at = 0.0
        self._clock = clock
        self._verify_at = 0.0
        self._stop, self._stopping = Stop(), threading.Event()
        self._retry_at: dict[tuple[str, int], float] = {}
        self._tried_to_load: set[tuple[int, str]] = set()
        self._due_since: dict[int, float] = {}
        self._threads = [
            threading.Thread(target=self._loop, args=(work,), name=name, daemon=True)
            for name, work in (
                ("leases", self.expire),
                ("merging", self.tidy),
                ("indexing", self.index),
                ("mending", self.mend),
                ("forgetting", self.forget),
            )
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stops the threads and waits for the block of work that each is in."""
        self._stop.request(Reason.SHUTTING_DOWN)
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._low_priority.close()

    def _loop(self, work: Callable[[], bool]) -> None:
        with suppress(AssayError), self._stop.scope():
            while not self._stop.requested():
                self._stopping.wait(0.0 if work() else IDLE_SECONDS)

    def mend(self) -> bool:
        """Brings what is in memory and what is on disk into line with the catalog again, after an unknown outcome.
        While the catalog is away this is tried again and again."""
        try:
            for pool in self._pools.all():
                self._pools.mend(pool.snapshot.pool.pool_id)
            self._settle()
            self._in_doubt = False
        except Exception as error:
            if not self._in_doubt:
                log.warning("what became of a change is not known yet: %s", error)
            self._in_doubt = True
        return False

    def forget(self) -> bool:
        """Forgets a little of what is old; returns whether there may be more."""
        if time.monotonic() < self._forget_at:
            return False
        try:
            return self._forget()
        except Exception as error:
            log.warning("what is old could not be forgotten: %s", error)
            self._forget_at = time.monotonic() + FAILED_SECONDS
            return False

    def expire(self) -> bool:
        """Ends the leases whose time ran out; returns whether there were any."""
        self._clock.keep()
        return self._each("expire", self._expire)

    def tidy(self) -> bool:
        """Verifies a file that was not read at start, or merges one run of files; returns whether there was one."""
        if self._verify():
            return True
        return self._each("merge", self._merge)

    def index(self) -> bool:
        """Builds or extends one approximate index; returns whether there was one to build."""
        return self._each("index", self._index)

    def _each(self, what: str, work: Callable[[Pool], bool]) -> bool:
        """Does a piece of work for each pool; returns whether there was any. What fails in one pool, over a full
        disk for one, is tried again later and leaves the other pools alone."""
        busy = False
        for pool in self._pools.all():
            key = (what, pool.snapshot.pool.uid)
            if pool.closed or self._stop.requested() or time.monotonic() < self._retry_at.get(key, 0.0):
                continue
            try:
                busy |= work(pool)
            except Interrupted:
                raise
            except Exception:
                if not pool.closed:
                    log.exception("background work failed: %s in pool %s", what, pool.snapshot.pool.pool_id)
                    self._retry_at[key] = time.monotonic() + FAILED_SECONDS
        return busy

    def _ingesting(self, pool: Pool) -> bool:
        """Whether more batches are to be expected: this work then leaves the disk and the processor to them."""
        return time.monotonic() - pool.last_ingest < self._quiet_seconds

    def _merge(self, pool: Pool) -> bool:
        snapshot = pool.snapshot
        predictions = sum(len(source.files) for source in snapshot.sources.values())
        if self._ingesting(pool) and len(snapshot.samples) + len(snapshot.overlays) + predictions < MANY_FILES:
            return False
        return self._merger.merge_once(pool)

    def _verify(self) -> bool:
        """Verifies one file; one that could not be read makes a pause, in which merging goes on."""
        if time.monotonic() < self._verify_at:
            return False
        try:
            if self._verification.step():
                return True
        except Interrupted:
            raise
        except Exception:
            log.exception("background work failed: verify")
        if self._verification:
            self._verify_at = time.monotonic() + FAILED_SECONDS
        return False

    def _index(self, pool: Pool) -> bool:
        snapshot = pool.snapshot
        if snapshot.index_lost:
            pool.withdraw_lost_index()
            return True
        if not self._index_due(snapshot):
            return False
        record = snapshot.pool
        if snapshot.index is None and (record.uid, record.space) not in self._tried_to_load:
            self._tried_to_load.add((record.uid, record.space))
            stored = self._indexes.load(record.uid, record.space, record.metric, record.dimension)
            if stored is not None:
                pool.publish_index(record.space, stored)
            return True
        due_since = self._due_since.setdefault(record.uid, time.monotonic())
        if self._ingesting(pool) and time.monotonic() - due_since < PATIENCE_SECONDS:
            return False
        del self._due_since[record.uid]
        pool.index_building = True
        try:
            index = self._low_priority.run(
                lambda: self._indexes.build(
                    record.uid,
                    record.space,
                    record.metric,
                    record.dimension,
                    lambda: _live_blocks(snapshot),
                    record.epoch,
                    snapshot.index,
                    lambda: self._stop.requested() or pool.closed or pool.snapshot.pool.space != record.space,
                )
            )
        finally:
            pool.index_building = False
        if index is not None:
            pool.publish_index(record.space, index)
        if pool.closed:
            self._indexes.forget(record.uid)
        return index is not None

    def _index_due(self, snapshot: Snapshot) -> bool:
        count = snapshot.live_count
        if not snapshot.vectors or not self._indexes.worthwhile(count):
            return False
        indexed = len(snapshot.index.indexed_rows) if snapshot.index else 0
        return count - indexed > STALE_SHARE * indexed


def _live_blocks(snapshot: Snapshot) -> Iterator[tuple[RowArray, FloatArray]]:
    for segment in snapshot.vectors:
        states = snapshot.states.at(segment.rows_N)
        if np.isin(states, (State.ABSENT, State.DELETED, State.DAMAGED)).any():
            live = np.flatnonzero(~np.isin(states, (State.ABSENT, State.DELETED, State.DAMAGED)))
            yield segment.rows_N[live], segment.embeddings_ND[live]
        else:
            yield segment.rows_N, segment.embeddings_ND
