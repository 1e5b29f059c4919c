"""An open pool: the current snapshot, and the one way to change it."""

import dataclasses
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import AssayError, Reason, RequestReplayed
from assay.server.core.pools.derived import Derived
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.catalog import Catalog, CatalogTx
from assay.server.core.ports.machine import Clock
from assay.server.core.ports.search import SearchIndex
from assay.server.core.ports.segments import SegmentStore
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.pools import State
from assay.server.core.records.requests import RequestKey

# Bytes of a response; half of what a gRPC message may hold unless configured otherwise.
MAX_RESPONSE = 32 << 20
NO_KEY = RequestKey("", "", "", lambda _: b"")


class Change:
    """One change of a pool: what is written through `tx` and what `replace` and `mark` say takes effect together.

    Attributes:
        tx: the catalog's transaction.
        before: the snapshot that it starts from.
        epoch: epoch that it leads to.
    """

    def __init__(self, tx: CatalogTx, before: Snapshot) -> None:
        self.tx = tx
        self.before = before
        self.epoch = before.pool.epoch + 1
        self._after = before
        self._pool_changes: dict[str, Any] = {"epoch": self.epoch}
        self._answer: object = None

    def replace(self, **fields: Any) -> None:
        """Sets fields of the snapshot."""
        self._after = dataclasses.replace(self._after, **fields)

    def replace_pool(self, **fields: Any) -> None:
        """Sets fields of the pool's record."""
        self._pool_changes |= fields

    def mark(self, rows: RowArray, state: State) -> None:
        """Puts rows into a state."""
        self.replace(states=self._after.states.with_values(rows, state))

    def classify(self, rows: RowArray, classes: npt.ArrayLike) -> None:
        """Gives rows a label's class, -1 to take it away."""
        self.replace(classes=self._after.classes.with_values(rows, classes))

    def grow(self, length: int) -> None:
        """Makes room for rows below length."""
        self.replace(states=self._after.states.extended(length), classes=self._after.classes.extended(length))

    @property
    def after(self) -> Snapshot:
        """The snapshot as changed so far."""
        return self._after

    def answer(self, result: object) -> None:
        """Sets the result that the request's id is remembered with."""
        self._answer = result

    def finish(self, key: RequestKey, now: float) -> Snapshot:
        """Writes what every change writes, and returns the snapshot to publish."""
        self.tx.update_pool(self.before.pool.uid, **self._pool_changes)
        if key.request_id:
            self.tx.remember(key, response_of(key, self._answer), now)
        return dataclasses.replace(self._after, pool=dataclasses.replace(self._after.pool, **self._pool_changes))


class Pool:
    """An open pool.

    Readers take `snapshot` and never wait. Writers go through `change`, one at a time. Work that writes files first
    (ingest) holds `ingest_lock` around it, so that ids are checked and rows given out once; labels and leases do not
    wait for it. Locks are taken in the order activation or selection, ingest, change, the catalog's.
    """

    def __init__(
        self,
        catalog: Catalog,
        segments: SegmentStore,
        clock: Clock,
        snapshot: Snapshot,
        derived: Derived,
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        # Ids that are looked up within a change are prepared before it: others wait for the change.
        self.prepare_ids = segments.prepare_ids
        self._snapshot = snapshot
        self._lock = threading.RLock()
        self.ingest_lock = threading.Lock()
        self.selection_lock = threading.Lock()
        self.activation_lock = threading.Lock()
        self.derived = derived
        self.closed = False
        self.index_building = False
        self.last_ingest = -math.inf

    @property
    def snapshot(self) -> Snapshot:
        """The pool now."""
        return self._snapshot

    def check_replay(self, key: RequestKey) -> None:
        """Raises RequestReplayed if the request was answered before; called ahead of costly work."""
        if key.request_id:
            with self._catalog.reading() as tx:
                _replay(tx, key)

    @contextmanager
    def change(self, key: RequestKey = NO_KEY) -> Iterator[Change]:
        """A change: durable and visible once the context ends without an exception, undone otherwise.

        Raises:
            RequestReplayed: the request was answered before.
            AssayError: POOL_NOT_FOUND if the pool was deleted meanwhile; what the catalog raises.
        """
        with self._lock:
            if self.closed:
                raise pool_not_found(self._snapshot.pool.pool_id)
            with self._catalog.transaction() as tx:
                _replay(tx, key)
                change = Change(tx, self._snapshot)
                yield change
                after = change.finish(key, self._clock.now())
            self._snapshot = after

    def note_ingest(self) -> None:
        """Remembers that a batch came just now."""
        self.last_ingest = time.monotonic()

    def publish_index(self, space: str, index: SearchIndex) -> None:
        """Puts an index of a space in service, unless another space became active meanwhile."""
        with self._lock:
            if self._snapshot.pool.space == space:
                self._snapshot = dataclasses.replace(self._snapshot, index=index)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Keeps writers out while the pool is deleted, and for good if that succeeds."""
        with self.ingest_lock, self._lock:
            if self.closed:
                raise pool_not_found(self._snapshot.pool.pool_id)
            yield
            self.closed = True


def _replay(tx: CatalogTx, key: RequestKey) -> None:
    response = tx.recall(key)
    if response is not None:
        raise RequestReplayed(response)


def response_of(key: RequestKey, answer: object) -> bytes:
    """The response to remember. Raises AssayError(TOO_LARGE), which undoes the request, for one that no caller could
    receive and that would swell the catalog."""
    response = key.encode(answer)
    if len(response) > MAX_RESPONSE:
        raise AssayError(
            Reason.TOO_LARGE,
            f"The reply has {len(response):,} bytes; at most {MAX_RESPONSE:,} are sent and remembered. Ask for fewer "
            "samples, or leave their payloads out.",
            bytes=len(response),
        )
    return response


def pool_not_found(pool_id: str) -> AssayError:
    """The error for a pool that is not there."""
    return AssayError(
        Reason.POOL_NOT_FOUND, f"There is no pool {pool_id!r}. Create it first, or list the pools.", pool=pool_id
    )


def rows_array(rows: list[int] | tuple[int, ...]) -> RowArray:
    """Rows as an array."""
    return np.array(rows, np.int64)
