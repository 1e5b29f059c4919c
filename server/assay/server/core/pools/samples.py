"""Samples: add, get, list, delete, search."""

from collections.abc import Sequence

import numpy as np

from assay.server.core import checks
from assay.server.core.limits import MAX_IDS, Limits
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.ingest import Ingest, check_not_leased
from assay.server.core.pools.messages import (
    AddResult,
    DeleteResult,
    IngestBatch,
    SampleUpdate,
    SampleView,
    SearchResult,
    SearchSpec,
    UpdateSamplesResult,
)
from assay.server.core.pools.sample_updates import SampleUpdates
from assay.server.core.pools.search import Search
from assay.server.core.ports.search import ExactSearch
from assay.server.core.records.filters import Filter
from assay.server.core.records.pools import LIVE_STATES, State
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.samples import OnConflict, SampleRecord


class SampleService:
    """The samples of each pool."""

    def __init__(
        self, pools: PoolDirectory, ingest: Ingest, updates: SampleUpdates, exact: ExactSearch, limits: Limits
    ) -> None:
        self._pools = pools
        self._ingest = ingest
        self._updates = updates
        self._search = Search(exact)
        self._limits = limits

    def add(self, pool_id: str, batch: IngestBatch, on_conflict: OnConflict, key: RequestKey) -> AddResult:
        """Stores a batch whole or not at all; see Ingest.add."""
        return self._ingest.add(self._pools.begin(pool_id, key), batch, on_conflict, key)

    def update(self, pool_id: str, update: SampleUpdate, key: RequestKey) -> UpdateSamplesResult:
        """Changes samples, all or none; see SampleUpdates.update."""
        return self._updates.update(self._pools.begin(pool_id, key), update, key)

    def get(self, pool_id: str, sample_id: str) -> SampleView:
        """A sample. Raises AssayError(SAMPLE_NOT_FOUND | SEGMENT_DAMAGED)."""
        snapshot = self._pools.get(pool_id).snapshot
        checks.ids([sample_id], 1)
        return snapshot.describe(snapshot.require([sample_id]), payload=True)[0]

    def contents(self, pool_id: str, rows: Sequence[int], *, payload: bool) -> dict[int, SampleRecord]:
        """What files hold of samples, by row, of those that were not deleted or damaged since."""
        snapshot = self._pools.get(pool_id).snapshot
        asked = np.array(rows, np.int64)
        here = asked[np.isin(snapshot.states.at(asked), LIVE_STATES)]
        return {view.row: view.record for view in snapshot.describe(here, payload=payload)}

    def list(
        self,
        pool_id: str,
        condition: Filter | None,
        states: tuple[State, ...],
        after_row: int,
        limit: int,
        payload: bool,
    ) -> tuple[list[SampleView], int]:
        """Samples by row, and the row to go on after: -1 at the end."""
        snapshot = self._pools.get(pool_id).snapshot
        checks.filter_fits(condition, snapshot.attributes)
        rows = np.flatnonzero(snapshot.mask(states or LIVE_STATES, condition))
        start = int(np.searchsorted(rows, after_row, side="right"))
        page = rows[start : start + limit]
        more = start + limit < len(rows)
        return snapshot.describe(page, payload=payload), int(page[-1]) if more else -1

    def delete(self, pool_id: str, ids: Sequence[str], allow_missing: bool, key: RequestKey) -> DeleteResult:
        """Deletes samples, all or none. Raises AssayError(SAMPLE_NOT_FOUND | SAMPLE_LEASED)."""
        pool = self._pools.begin(pool_id, key)
        checks.ids(ids, MAX_IDS)
        ids = pool.prepare_ids(ids)
        pool.mend()
        with pool.change(key) as change:
            before = change.before
            rows = before.find(ids) if allow_missing else before.require(ids)
            rows = rows[rows >= 0]
            check_not_leased(before, rows)
            change.delete(rows)
            result = DeleteResult(len(rows), change.epoch)
            change.answer(result)
            change.tx.delete_rows(before.pool.uid, rows)
        return result

    def search(self, pool_id: str, spec: SearchSpec) -> SearchResult:
        """Nearest samples; see Search.run."""
        return self._search.run(self._pools.get(pool_id).snapshot, spec, self._limits.max_reply_bytes)
