"""The best k of each query so far: by key, ties by row."""

import numpy as np
import numpy.typing as npt

from assay.server.core.records.arrays import FloatArray, RowArray

NO_ROW = np.iinfo(np.int64).max  # sorts behind every row

Positions = npt.NDArray[np.int64]


class Nearest:
    """Running top k of Q queries. Candidates are gathered and merged once there are as many as are kept, so that the
    cost of sorting stays in proportion to the number of candidates.

    Args:
        queries: number of queries.
        k: how many to keep of each.
    """

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self._keys_QK = np.full((queries, k), -np.inf, np.float32)
        self._rows_QK = np.full((queries, k), NO_ROW, np.int64)
        self._waiting: list[tuple[Positions, FloatArray, RowArray]] = []
        self._waiting_count = 0

    @property
    def floors_Q(self) -> FloatArray:
        """Key that a candidate must reach to matter; -inf while fewer than k are known."""
        full = self._rows_QK[:, -1] != NO_ROW
        return np.where(full, self._keys_QK[:, -1], np.float32(-np.inf))

    def add(self, queries_M: Positions, keys_M: FloatArray, rows_M: RowArray) -> None:
        """Takes candidates: the query's position, key and row of each."""
        self._waiting.append((queries_M, keys_M, rows_M))
        self._waiting_count += len(rows_M)
        if self._waiting_count >= self._rows_QK.size:
            self._merge()

    def result(self) -> tuple[FloatArray, RowArray]:
        """Keys and rows, best first; -inf and -1 fill up."""
        self._merge()
        return self._keys_QK, np.where(self._rows_QK == NO_ROW, -1, self._rows_QK)

    def _merge(self) -> None:
        if not self._waiting_count:
            return
        queries, keys, rows = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._waiting_count = [], 0
        touched = np.unique(queries)
        queries = np.concatenate([np.repeat(touched, self._k), queries])
        keys = np.concatenate([self._keys_QK[touched].ravel(), keys])
        rows = np.concatenate([self._rows_QK[touched].ravel(), rows])
        order = np.lexsort((rows, -keys, queries))
        starts = np.searchsorted(queries[order], touched)
        best = order[starts[:, None] + np.arange(self._k)]
        self._keys_QK[touched] = keys[best]
        self._rows_QK[touched] = rows[best]
