"""The neighbours of what is labeled, remembered from selection to selection (SEALS)."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import MAX_QUERIES
from assay.server.core.pools.messages import SearchMode
from assay.server.core.pools.search import Search
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.search import SearchIndex
from assay.server.core.records.arrays import MaskArray, RowArray
from assay.server.core.records.pools import LIVE_STATES
from assay.strategies.composition.seals import Frontier

KEPT = 2
# Neighbours of one frontier, 8 bytes each.
MAX_REMEMBERED = 1 << 26


@dataclass(frozen=True, slots=True)
class _Key:
    """What neighbours hang on besides the labels: another index or other samples begin a new frontier."""

    space: str
    neighbors: int
    rows: int
    live: int


class Frontiers:
    """The frontiers of a pool; derived, and the least recently used beyond a few are dropped."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, tuple[SearchIndex | None, Frontier]] = OrderedDict()

    def near(self, snapshot: Snapshot, neighbors: int) -> RowArray:
        """Rows among the nearest `neighbors` of a labeled sample that is not set apart, ascending; labeled ones among
        them. Only labels that
        are new since the last call are searched for. Raises AssayError(INVALID_PLAN) for more than may be held."""

        def search(rows: RowArray) -> RowArray:
            return self._neighbors(snapshot, rows, neighbors)

        remembered = len(snapshot.learned_rows) * neighbors
        if remembered > MAX_REMEMBERED:
            raise AssayError(
                Reason.INVALID_PLAN,
                f"{neighbors} neighbors of {len(snapshot.learned_rows):,} labeled samples are more than the "
                f"{MAX_REMEMBERED:,} that are remembered. Ask for fewer neighbors.",
            )
        return self._frontier(snapshot, neighbors).candidates(snapshot.learned_rows, search)

    def _frontier(self, snapshot: Snapshot, neighbors: int) -> Frontier:
        key = _Key(snapshot.pool.space, neighbors, snapshot.row_count, snapshot.live_count)
        with self._lock:
            index, frontier = self._kept.pop(key, (None, Frontier(neighbors)))
            if index is not snapshot.index:
                index, frontier = snapshot.index, Frontier(neighbors)
            self._kept[key] = (index, frontier)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return frontier

    def _neighbors(self, snapshot: Snapshot, rows: RowArray, neighbors: int) -> RowArray:
        live_N = snapshot.mask(LIVE_STATES)
        blocks = [rows[start : start + MAX_QUERIES] for start in range(0, len(rows), MAX_QUERIES)]
        return np.concatenate([self._neighbors_of(snapshot, block, neighbors, live_N) for block in blocks])

    def _neighbors_of(self, snapshot: Snapshot, rows: RowArray, neighbors: int, live_N: MaskArray) -> RowArray:
        # A sample is its own nearest neighbour, and labeled already.
        _, found_MK, _ = self._search.nearest(snapshot, snapshot.gather(rows), neighbors + 1, live_N, SearchMode.AUTO)
        others_MK = np.where(found_MK == rows[:, None], -1, found_MK)
        order_MK = np.argsort(others_MK < 0, axis=1, kind="stable")[:, :neighbors]
        padded_MK = np.full((len(rows), neighbors), -1, np.int64)
        padded_MK[:, : order_MK.shape[1]] = np.take_along_axis(others_MK, order_MK, axis=1)
        return padded_MK
