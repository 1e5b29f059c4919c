"""The changes of a pool, for whoever follows it: read from the catalog in pages, by position."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from assay.server.core.bells import Bells
from assay.server.core.errors import AssayError, Reason
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.pool import Pool
from assay.server.core.ports.catalog import Catalog, CatalogTx
from assay.server.core.records.changes import ChangeRecord, OperationChanged, Position

BEFORE_ALL = Position(0, 0)
# Changes that are read at once to find the one that made an epoch: but for the beginning of operations it is the first.
_NEAR = 16


@dataclass(frozen=True, slots=True)
class ChangesView:
    """Some changes of a pool, in order.

    Attributes:
        records: the changes.
        ids: of the samples that they list, by row, of those that are still there.
        epoch: all changes up to this epoch are among these or came before, unless there are more to read.
    """

    records: list[ChangeRecord]
    ids: Mapping[int, str]
    epoch: int


class PoolFeed:
    """The changes of one pool, in one life of it."""

    def __init__(self, pool: Pool, catalog: Catalog, bells: Bells) -> None:
        self._pool = pool
        self._catalog = catalog
        self._bells = bells
        self.pool_uid = pool.snapshot.pool.uid
        self.pool_id = pool.snapshot.pool.pool_id

    def heard(self, listener: Callable[[], None]) -> AbstractContextManager[None]:
        """Calls a listener, in whatever thread, whenever there may be something to read; it must not wait nor raise."""
        return self._bells.heard(self.pool_uid, listener)

    def now(self) -> Position:
        """Where the changes to come begin. Raises AssayError(POOL_NOT_FOUND)."""
        self._pool.check_open()
        with self._catalog.reading() as tx:
            return self._last(tx)

    def at(self, pool_uid: int, position: Position) -> Position:
        """A position that was given out for the pool of a uid. Raises AssayError(CHANGES_FORGOTTEN) if changes after it
        are no longer there, or it is of another pool or of a time that the catalog does not know."""
        self._pool.check_open()
        with self._catalog.reading() as tx:
            if pool_uid != self.pool_uid or position > self._last(tx):
                raise self._forgotten("The cursor is of another past than the one of this pool")
            self._check_kept(tx, position)
        return position

    def since(self, epoch: int) -> Position:
        """Where the changes after an epoch begin. Raises AssayError(CHANGES_FORGOTTEN) if some are no longer there, or
        the pool has not reached the epoch."""
        self._pool.check_open()
        if not 0 <= epoch <= self._pool.snapshot.pool.epoch:
            raise self._forgotten(f"The pool has no epoch {epoch}")
        with self._catalog.reading() as tx:
            known = tx.forgotten_changes(self.pool_uid)
            if known is not None and known.epoch > epoch:
                raise self._forgotten(f"Changes after epoch {epoch} are no longer kept")
            start = Position(epoch, 0) if known is None else max(known, Position(epoch, 0))
            made = [
                record.position
                for record in tx.changes(self.pool_uid, start, _NEAR)
                if record.position.epoch == epoch and not _of_operations(record)
            ]
        return made[-1] if made else start

    def after(self, position: Position, limit: int) -> ChangesView:
        """Changes after a position, at most so many. Raises AssayError(POOL_NOT_FOUND) once the pool is deleted, and
        (CHANGES_FORGOTTEN) if the reader was too slow for what is kept."""
        self._pool.check_open()
        epoch = self._pool.snapshot.pool.epoch
        with self._catalog.reading() as tx:
            self._check_kept(tx, position)
            records = tx.changes(self.pool_uid, position, limit)
        # After the changes were read: it knows their samples.
        snapshot = self._pool.snapshot
        rows = np.unique(np.array([row for record in records for row in _rows(record)], np.int64))
        rows = rows[rows < snapshot.row_count]
        named = zip(rows.tolist(), snapshot.ids(rows), strict=True)
        return ChangesView(records, {row: sample_id for row, sample_id in named if sample_id}, epoch)

    def _last(self, tx: CatalogTx) -> Position:
        return tx.last_change(self.pool_uid) or tx.forgotten_changes(self.pool_uid) or BEFORE_ALL

    def _check_kept(self, tx: CatalogTx, position: Position) -> None:
        known = tx.forgotten_changes(self.pool_uid)
        if known is not None and known > position:
            raise self._forgotten("Changes after the cursor are no longer kept")

    def _forgotten(self, problem: str) -> AssayError:
        return AssayError(
            Reason.CHANGES_FORGOTTEN,
            f"{problem}. Read pool {self.pool_id!r} anew with GetPool, and watch it since the epoch that it has there.",
            pool=self.pool_id,
            epoch=self._pool.snapshot.pool.epoch,
        )


class ChangeService:
    """The changes of each pool."""

    def __init__(self, pools: PoolDirectory, catalog: Catalog, bells: Bells) -> None:
        self._pools = pools
        self._catalog = catalog
        self._bells = bells

    def of(self, pool_id: str) -> PoolFeed:
        """The changes of a pool. Raises AssayError(POOL_NOT_FOUND)."""
        return PoolFeed(self._pools.get(pool_id), self._catalog, self._bells)


def _of_operations(record: ChangeRecord) -> bool:
    """Whether it only tells of operations, whose ends make no epoch."""
    return all(isinstance(part, OperationChanged) for part in record.parts)


def _rows(record: ChangeRecord) -> list[int]:
    return [row for part in record.parts for row in getattr(part, "rows", ())]
