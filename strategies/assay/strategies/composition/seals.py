"""SEALS: candidates are the neighbours of what is labeled, so that a selection does not grow with the pool.

Coleman, Chou, Katz-Samuels, Culatana, Bailis, Berg, Nowak, Sumbaly, Zaharia and Yalniz, "Similarity Search for
Efficient Active Learning and Search of Rare Concepts", AAAI 2022.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from assay.strategies.errors import StrategyError
from assay.strategies.interrupt import checkpoint, holding

Rows = NDArray[np.int64]
Search = Callable[[Rows], Rows]

# Labels that are searched for at a time.
_SEARCHED = 1000


class Frontier:
    """The neighbours of labeled samples, kept from round to round: only new labels are searched.

    Good for one state of the index: whoever adds samples to that begins a new Frontier, or new ones would be missing
    near old labels. What `candidates` gives depends on the labels alone, never on the order in which they came.
    Safe to call from many threads.
    """

    def __init__(self, neighbors: int) -> None:
        """neighbors: how many to take of each labeled sample. Raises StrategyError INVALID_SHORTLIST below 1."""
        if neighbors < 1:
            raise StrategyError("INVALID_SHORTLIST", f"seals takes at least 1 neighbour, not {neighbors}")
        self.neighbors = neighbors
        self._lock = threading.Lock()
        self._labeled_L: Rows = np.empty(0, np.int64)
        self._neighbours_LK: Rows = np.empty((0, neighbors), np.int64)
        # What those two say; None while it is not worked out.
        self._rows: Rows | None = None

    def candidates(self, labeled_rows: Rows, search: Search) -> Rows:
        """The rows near the labeled ones, ascending, labeled ones among them. Empty while nothing is labeled.

        search: from rows (M,) to the rows of their neighbours (M, neighbors), -1 where there are fewer.
        Raises StrategyError INVALID_ARRAY for an answer of another shape, Interrupted, and whatever `search` raises;
        what was found until then is not searched for again.
        """
        with holding(self._lock):
            labeled_L = np.unique(labeled_rows)
            if not np.array_equal(labeled_L, self._labeled_L):
                self._move(labeled_L, search)
            if self._rows is None:
                self._rows = _distinct(self._neighbours_LK)
            return self._rows

    def _move(self, labeled_L: Rows, search: Search) -> None:
        still_L = np.isin(self._labeled_L, labeled_L, assume_unique=True)
        self._set(self._labeled_L[still_L], self._neighbours_LK[still_L])
        new_M = np.setdiff1d(labeled_L, self._labeled_L, assume_unique=True)
        for start in range(0, len(new_M), _SEARCHED):
            checkpoint()
            rows_B = new_M[start : start + _SEARCHED]
            found_BK = self._searched(rows_B, search)
            known_L = np.concatenate([self._labeled_L, rows_B])
            order_L = np.argsort(known_L)
            self._set(known_L[order_L], np.concatenate([self._neighbours_LK, found_BK])[order_L])

    def _set(self, labeled_L: Rows, neighbours_LK: Rows) -> None:
        self._labeled_L, self._neighbours_LK, self._rows = labeled_L, neighbours_LK, None

    def _searched(self, rows_M: Rows, search: Search) -> Rows:
        found_MK = search(rows_M)
        if found_MK.shape != (len(rows_M), self.neighbors):
            wanted = (len(rows_M), self.neighbors)
            raise StrategyError("INVALID_ARRAY", f"the search answered {found_MK.shape} rows, not {wanted}")
        return found_MK


def _distinct(neighbours_LK: Rows) -> Rows:
    """All neighbours, ascending, read-only."""
    rows = np.unique(neighbours_LK)
    rows = rows[rows >= 0]
    rows.flags.writeable = False
    return rows
