"""Forgets in time what nobody asks for any more: answers, changes, ended leases and operations, old heads and their
activations."""

import time
from collections.abc import Callable

from assay.server.core.limits import Limits
from assay.server.core.models.retention import prune
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.ports.catalog import Catalog, CatalogTx
from assay.server.core.ports.machine import Clock

# Rows that one step drops of a kind, and pages that it gives back: writers wait for it.
STEP_ROWS = 500
STEP_PAGES = 256
# Until the next look, once nothing is left to forget.
REST_S = 60.0


class Retention:
    """Forgets in small steps.

    Args:
        catalog: what it forgets from.
        pools: the open pools.
        clock: the time.
        limits: how long and how many are kept.
    """

    def __init__(self, catalog: Catalog, pools: PoolDirectory, clock: Clock, limits: Limits) -> None:
        self._catalog = catalog
        self._pools = pools
        self._clock = clock
        self._limits = limits
        self._rest_until = 0.0

    def step(self) -> bool:
        """One small piece of work; returns whether there may be more right away. Raises what the catalog raises."""
        if time.monotonic() < self._rest_until:
            return False
        if self.forget():
            return True
        self._rest_until = time.monotonic() + REST_S
        return False

    def forget(self) -> bool:
        """One small piece of work, whenever the last one was; returns whether there was any."""
        return (
            self._changed(self._forget_requests)
            or self._changed(self._forget_ended)
            or self._changed(self._forget_changes)
            or any(prune(self._catalog, pool, self._limits) for pool in self._pools.all() if not pool.closed)
            or self._catalog.shrink(STEP_PAGES)
        )

    def _changed(self, work: Callable[[CatalogTx], object]) -> bool:
        with self._catalog.transaction() as tx:
            return bool(work(tx))

    def _forget_requests(self, tx: CatalogTx) -> int:
        before = self._clock.steady() - self._limits.keep_requests_s
        return tx.forget_requests(before, self._limits.keep_requests, STEP_ROWS)

    def _forget_changes(self, tx: CatalogTx) -> int:
        before = self._clock.now() - self._limits.keep_changes_s
        return tx.forget_changes(before, self._limits.keep_changes, STEP_ROWS)

    def _forget_ended(self, tx: CatalogTx) -> int:
        now = self._clock.now()
        leases = tx.forget_leases(now - self._limits.keep_leases_s, STEP_ROWS)
        return leases + tx.forget_operations(now - self._limits.keep_operations_s, STEP_ROWS)
