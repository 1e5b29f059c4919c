"""The open pools by id."""

import threading

from assay.server.core.errors import AssayError, Reason
from assay.server.core.pools.pool import Pool, pool_not_found
from assay.server.core.records.requests import RequestKey


class PoolDirectory:
    """Pools that are open, by pool id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[str, Pool] = {}

    def get(self, pool_id: str) -> Pool:
        """An open pool. Raises AssayError(POOL_NOT_FOUND)."""
        pool = self.find(pool_id)
        if pool is None:
            raise pool_not_found(pool_id)
        return pool

    def begin(self, pool_id: str, key: RequestKey) -> Pool:
        """An open pool to change for a request: whatever a mutation does comes after this. Raises
        AssayError(POOL_NOT_FOUND), and RequestReplayed if the request was answered before."""
        pool = self.get(pool_id)
        pool.check_replay(key)
        return pool

    def find(self, pool_id: str) -> Pool | None:
        """An open pool, None if there is none."""
        with self._lock:
            pool = self._pools.get(pool_id)
        return None if pool is None or pool.closed else pool

    def mend(self, pool_id: str) -> None:
        """Reads a pool anew if its snapshot is stale. Raises what the catalog raises."""
        pool = self.find(pool_id)
        if pool is not None:
            try:
                pool.mend()
            except AssayError as error:
                if error.reason is not Reason.POOL_NOT_FOUND:
                    raise

    def all(self) -> list[Pool]:
        """Open pools by id."""
        with self._lock:
            return [pool for _, pool in sorted(self._pools.items()) if not pool.closed]

    def put(self, pool: Pool) -> None:
        """Adds an open pool."""
        with self._lock:
            self._pools[pool.snapshot.pool.pool_id] = pool

    def remove(self, pool: Pool) -> None:
        """Takes a pool out; another one of its id, made meanwhile, stays."""
        with self._lock:
            pool_id = pool.snapshot.pool.pool_id
            if self._pools.get(pool_id) is pool:
                del self._pools[pool_id]
