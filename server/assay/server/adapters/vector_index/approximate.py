"""Approximate search through a FAISS index."""

import math
from typing import Any

import numpy as np

from assay.server.adapters.vector_index.library import CORES, Index, faiss, shared_threads
from assay.server.adapters.vector_index.measures import unit_vectors
from assay.server.adapters.vector_index.sidecar import Sidecar
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.pools import Metric
from assay.strategies import checkpoint

HNSW = "hnsw"
IVF = "ivf"

# Comparisons of queries with vectors in one call of FAISS, which cannot be stopped: some hundredths of a second. And
# how many neighbours of a vertex of the graph are compared, about.
COMPARED = 1 << 20
NEIGHBOURS = 32


class FaissIndex:
    """A finished, stored FAISS index, mapped from its file. It never changes, so any number of threads may search it.

    Args:
        index: FAISS index whose ids are rows.
        sidecar: what is known of its file.
        effort: neighbours kept while the graph is walked, at least; more find more, slower.
        least_share: smallest share of allowed rows that is searched at all.
    """

    def __init__(self, index: Index, sidecar: Sidecar, effort: int = 64, least_share: float = 1 / 32) -> None:
        self._index = index
        self.sidecar = sidecar
        self._effort = effort
        self._least_share = least_share
        self._rows_N = _rows(index, sidecar.kind)

    @property
    def kind(self) -> str:
        """ "hnsw" or "ivf"."""
        return self.sidecar.kind

    @property
    def version(self) -> str:
        """Checksum of its file."""
        return self.sidecar.checksum

    @property
    def indexed_rows(self) -> RowArray:
        """Rows that it holds, ascending."""
        return self._rows_N

    def search(self, queries_QD: FloatArray, k: int, allowed: MaskArray | None) -> tuple[FloatArray, RowArray]:
        """Nearest k of the indexed rows where allowed[row]; ties among those found by row.

        Vectors of a cosine pool are held in half precision: cosines are off by up to about 0.001, so re-rank by the
        exact ones. -1 at the end of a query's rows means that fewer than k were found: always so if k exceeds the
        allowed rows, possible if these lie far from the query, and for all of them if less than 1 row in 32 is allowed.
        An exact search over so few rows is cheap, and right.
        """
        queries_QD = np.ascontiguousarray(queries_QD, dtype=np.float32)
        if self.sidecar.metric is Metric.COSINE:
            queries_QD = unit_vectors(queries_QD)
        descending = self.sidecar.metric is not Metric.L2
        values_QK = np.full((len(queries_QD), k), -np.inf if descending else np.inf, np.float32)
        rows_QK = np.full((len(queries_QD), k), -1, np.int64)
        share = self._allowed_share(allowed)
        sought = min(k, len(self._rows_N))
        if len(queries_QD) and sought and share >= self._least_share:
            params = self._parameters(sought, allowed, share)
            step = max(CORES, COMPARED // self._compared(params))
            for start in range(0, len(queries_QD), step):
                checkpoint()
                part = slice(start, start + step)
                with shared_threads(len(queries_QD[part])):
                    values, rows = self._index.search(queries_QD[part], sought, params=params)
                values_QK[part, :sought], rows_QK[part, :sought] = _ordered(values, rows, descending)
        return values_QK, rows_QK

    def _compared(self, params: Any) -> int:
        """About how many vectors a query is compared with, at least 1."""
        if self.kind == HNSW:
            return int(params.efSearch) * NEIGHBOURS
        return 1 + int(params.nprobe) * len(self._rows_N) // int(self._index.nlist)

    def _allowed_share(self, allowed: MaskArray | None) -> float:
        """Share of the indexed rows that are allowed; rows between them that are not indexed are taken to be not
        allowed."""
        if allowed is None or not len(self._rows_N):
            return 1.0
        inside = np.count_nonzero(allowed[self._rows_N[0] : self._rows_N[-1] + 1])
        return min(1.0, float(inside) / len(self._rows_N))

    def _parameters(self, k: int, allowed: MaskArray | None, share: float) -> Any:
        """A mask hides what is found, not where the search goes: the fewer rows are allowed, the further it must go."""
        selector = None
        if allowed is not None:
            selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if self.kind == HNSW:
            effort = math.ceil(max(self._effort, 2 * k) / share)
            return faiss.SearchParametersHNSW(sel=selector, efSearch=effort)
        lists = self._index.nlist
        return faiss.SearchParametersIVF(sel=selector, nprobe=min(lists, math.ceil(max(16, lists / 32) / share)))


def _rows(index: Index, kind: str) -> RowArray:
    if kind == HNSW:
        found_N = faiss.vector_to_array(index.id_map)
    else:
        lists = index.invlists
        parts = [_list_rows(lists, number) for number in range(lists.nlist)]
        found_N = np.concatenate([np.empty(0, np.int64), *parts])
    rows_N: RowArray = np.sort(found_N)
    rows_N.flags.writeable = False
    return rows_N


def _list_rows(lists: Any, number: int) -> RowArray:
    size = lists.list_size(number)
    rows: RowArray = faiss.rev_swig_ptr(lists.get_ids(number), size).copy() if size else np.empty(0, np.int64)
    return rows


def _ordered(values_QK: FloatArray, rows_QK: RowArray, descending: bool) -> tuple[FloatArray, RowArray]:
    """Best first, ties by row, rows that were not found (-1) last, with an infinitely bad value."""
    missing = rows_QK < 0
    keys = np.where(missing, np.inf, -values_QK if descending else values_QK)
    order = np.lexsort((rows_QK, keys, missing), axis=1)
    values = np.where(missing, -np.inf if descending else np.inf, values_QK).astype(np.float32)
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(rows_QK, order, axis=1)
