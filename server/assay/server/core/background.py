"""Work that nobody waits for: reading files against their checksums, merging, building indexes, expiring leases."""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np

from assay.server.core.directory import PoolDirectory
from assay.server.core.errors import AssayError, Reason
from assay.server.core.leases import expire_due
from assay.server.core.merging import Merger
from assay.server.core.opening import quarantine
from assay.server.core.pool import Pool
from assay.server.core.ports import Clock, IndexBuilder, SegmentStore
from assay.server.core.snapshot import Snapshot
from assay.server.core.types import FloatArray, RowArray, SegmentFile, State

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
FAILED_SECONDS = 30.0
# An index is extended once this share of its size waits outside it; until then those rows are searched exactly.
STALE_SHARE = 0.2


class Background:
    """One thread that looks after all pools."""

    def __init__(
        self,
        pools: PoolDirectory,
        segments: SegmentStore,
        indexes: IndexBuilder,
        merger: Merger,
        clock: Clock,
        unverified: list[tuple[str, SegmentFile]],
    ) -> None:
        self._pools = pools
        self._segments = segments
        self._indexes = indexes
        self._merger = merger
        self._clock = clock
        self._unverified = unverified
        self._stop = threading.Event()
        self._tried_to_load: set[tuple[int, str]] = set()
        self._threads = [
            threading.Thread(target=self._loop, args=(work, humble), name=name, daemon=True)
            for name, work, humble in (
                ("leases", self.expire, False),
                ("merging", self.tidy, True),
                ("indexing", self.index, True),
            )
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stops the threads and waits for the block of work that each is in."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _loop(self, work: Callable[[], bool], humble: bool) -> None:
        if humble:
            _yield_to_requests()
        while not self._stop.is_set():
            try:
                pause = 0.0 if work() else IDLE_SECONDS
            except Exception:
                # This thread must outlive a full disk or a pool deleted under it; what it could not do waits.
                log.exception("background work failed")
                pause = FAILED_SECONDS
            self._stop.wait(pause)

    def expire(self) -> bool:
        """Ends the leases whose time ran out; returns whether there were any."""
        return sum(expire_due(pool, self._clock.now()) for pool in self._each()) > 0

    def tidy(self) -> bool:
        """Verifies a file that was not read at start, or merges one run of files; returns whether there was one."""
        if self._unverified:
            self._verify(*self._unverified.pop())
            return True
        return sum(self._merger.merge_once(pool) for pool in self._each()) > 0

    def index(self) -> bool:
        """Builds or extends one approximate index; returns whether there was one to build."""
        return sum(self._index(pool) for pool in self._each()) > 0

    def _each(self) -> Iterator[Pool]:
        for pool in self._pools.all():
            if not (pool.closed or self._stop.is_set()):
                yield pool

    def _verify(self, pool_id: str, file: SegmentFile) -> None:
        try:
            self._segments.verify(file)
        except AssayError as error:
            if error.reason is not Reason.SEGMENT_DAMAGED:
                raise
            log.error("damaged segment: %s", error.message)
            quarantine(self._pools.get(pool_id), file.file, error.message)

    def _index(self, pool: Pool) -> bool:
        snapshot = pool.snapshot
        if not self._index_due(snapshot):
            return False
        record = snapshot.pool
        if snapshot.index is None and (record.uid, record.space) not in self._tried_to_load:
            self._tried_to_load.add((record.uid, record.space))
            stored = self._indexes.load(record.uid, record.space, record.metric, record.dimension)
            if stored is not None:
                pool.publish_index(record.space, stored)
            return True
        pool.index_building = True
        try:
            index = self._indexes.build(
                record.uid,
                record.space,
                record.metric,
                record.dimension,
                lambda: _live_blocks(snapshot),
                snapshot.live_count,
                snapshot.index,
                lambda: self._stop.is_set() or pool.closed or pool.snapshot.pool.space != record.space,
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


def _yield_to_requests() -> None:
    """Gives this thread, and those that libraries start from it, only the processor time that requests leave over."""
    # Elsewhere than on Linux the priority is the whole process's.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def _live_blocks(snapshot: Snapshot) -> Iterator[tuple[RowArray, FloatArray]]:
    for segment in snapshot.vectors:
        states = snapshot.states.at(segment.rows_N)
        if np.isin(states, (State.ABSENT, State.DELETED, State.DAMAGED)).any():
            live = np.flatnonzero(~np.isin(states, (State.ABSENT, State.DELETED, State.DAMAGED)))
            yield segment.rows_N[live], segment.embeddings_ND[live]
        else:
            yield segment.rows_N, segment.embeddings_ND
