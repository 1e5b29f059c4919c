"""The open pools by id."""

import threading

from assay.server.core.pools.pool import Pool, pool_not_found


class PoolDirectory:
    """Pools that are open, by pool id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[str, Pool] = {}

    def get(self, pool_id: str) -> Pool:
        """An open pool. Raises AssayError(POOL_NOT_FOUND)."""
        with self._lock:
            pool = self._pools.get(pool_id)
        if pool is None:
            raise pool_not_found(pool_id)
        return pool

    def all(self) -> list[Pool]:
        """Open pools by id."""
        with self._lock:
            return [pool for _, pool in sorted(self._pools.items())]

    def put(self, pool: Pool) -> None:
        """Adds an open pool."""
        with self._lock:
            self._pools[pool.snapshot.pool.pool_id] = pool

    def remove(self, pool_id: str) -> None:
        """Takes a pool out."""
        with self._lock:
            self._pools.pop(pool_id, None)
