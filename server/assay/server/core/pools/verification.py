"""Reads files against their checksums that were not read when their pool was opened."""

import logging
from collections import Counter, deque
from collections.abc import Callable

from assay.server.core.errors import AssayError, Reason
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.pool import Pool
from assay.server.core.pools.quarantine import quarantine
from assay.server.core.ports.segments import SegmentStore
from assay.server.core.records.samples import SegmentFile

log = logging.getLogger(__name__)

# A file that cannot be read so often in a row is taken out of service: a mapped page of it would end the process.
ATTEMPTS = 3


class Verification:
    """Files still to be read. One that could not be read stays among them until it was, or its pool is gone.

    Args:
        run: does the reading, on another thread.
        unverified: (pool id, file) of each; whoever opens a pool adds to it.
    """

    def __init__(
        self,
        pools: PoolDirectory,
        segments: SegmentStore,
        run: Callable[[Callable[[], None]], None],
        unverified: deque[tuple[str, SegmentFile]],
    ) -> None:
        self._pools = pools
        self._segments = segments
        self._run = run
        self._left = unverified
        self._failures: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._left)

    def step(self) -> bool:
        """Verifies the next file; returns False if none is left, or the last try failed and it is time for a pause."""
        if not self._left:
            return False
        pool_id, file = self._left[0]
        pool = next((pool for pool in self._pools.all() if _serves(pool, pool_id, file)), None)
        if pool is not None and not self._verify(pool, file):
            # Behind the others: one bad sector must not keep them from being read.
            self._left.rotate(-1)
            return False
        self._left.popleft()
        del self._failures[file.file]
        return True

    def _verify(self, pool: Pool, file: SegmentFile) -> bool:
        """Whether it is settled what the file is."""
        try:
            self._run(lambda: self._segments.verify(file))
        except AssayError as error:
            self._failures[file.file] += 1
            if error.reason is not Reason.SEGMENT_DAMAGED and self._failures[file.file] < ATTEMPTS:
                log.warning("a file could not be read against its checksum, and will be again: %s", error.message)
                return False
            log.error("damaged segment: %s", error.message)
            quarantine(pool, file.file, error.message)
        return True


def _serves(pool: Pool, pool_id: str, file: SegmentFile) -> bool:
    """Whether a pool serves the file still: it may have been merged, or another model be active by now."""
    return not pool.closed and pool.snapshot.pool.pool_id == pool_id and file.file in pool.snapshot.file_names
