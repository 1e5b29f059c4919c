"""Exact nearest neighbours and range search over embeddings, on all cores.

Tiles of queries and base rows are screened by matrix products (`screen`), which pass a few per mille of the pairs and
lose none that count. Those are measured by one expression, the float32 sum of squared differences, which gives equal
rows equal distances wherever they are and does not cancel. For the k nearest, each query's reach is the distance of
the k-th found so far, at first of the k-th in a sample, so that fewer and fewer pairs pass.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.errors import StrategyError
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.copies import without_copies
from assay.strategies.kernels.screen import TILE, Frame, Pairs, Screen, Slab, frame_of
from assay.strategies.kernels.tensors import spread

# Queries that one thread screens at a time.
_QUERIES = 1024
# float32 values of base rows that are made ready to be screened at a time: bounds memory.
_SLAB_VALUES = 1 << 28
_SAMPLE = 8192
# Pairs per query that are collected before they are measured, and float32 values measured at a time.
_COLLECTED = 8
_MEASURED_VALUES = 1 << 18

# A neighbour is one integer, the bits of its squared distance above its index: the order of both together.
_INDEX_BITS = 32
_INDEX_MASK = (1 << _INDEX_BITS) - 1
_NOBODY = np.iinfo(np.int64).max

Rows = NDArray[np.float32]
Neighbours = tuple[NDArray[np.float32], NDArray[np.int64]]


def nearest(queries_QD: Rows, base_ND: Rows, k: int, *, exclude_self: bool = False) -> Neighbours:
    """The k nearest rows of `base_ND` to each query by squared L2: (squared_QK, indices_QK), nearest first.

    exclude_self: the queries are the base rows themselves, and none is its own neighbour.
    Where there are fewer than k, the rest is infinity and -1. Of equally near ones the lower indices come first.
    O(Q N D) in matrix products; memory O(Q k) and a copy of at most 2^28 values of the base, in the type that pairs
    are screened in. Raises StrategyError NOT_FINITE, or INVALID_ARRAY for rows that are not of one length.
    """
    _check(queries_QD, base_ND)
    keys_QK = np.full((len(queries_QD), k), _NOBODY)
    # More copies of a row than can be wanted would all tie with the last neighbour, and all be measured.
    kept_M = without_copies(base_ND, k + exclude_self) if keys_QK.size and len(base_ND) else None
    some_MD = base_ND if kept_M is None else base_ND[kept_M]
    own_Q = np.full(len(queries_QD), -1) if not exclude_self else _places(kept_M, len(base_ND))
    if keys_QK.size and len(base_ND):
        _fill(keys_QK, queries_QD, some_MD, own_Q)
    return _unpacked(keys_QK, kept_M)


def within(
    queries_QD: Rows, base_ND: Rows, radius: float, *, most: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The rows of `base_ND` closer than `radius` (L2) to each query, in CSR form: (offsets_O, indices_M, squared_M).

    Query q has the neighbours indices_M[offsets_O[q] : offsets_O[q + 1]], by ascending index; a base row that is a
    query is its own neighbour where the radius is above 0.
    most: pairs that may be found (12 bytes each). O(Q N D) in matrix products, memory as for `nearest` and the pairs.
    Raises StrategyError NOT_FINITE, INVALID_ARRAY for rows that are not of one length, or TOO_MANY_PAIRS.
    """
    _check(queries_QD, base_ND)
    found = _Found(len(queries_QD), most)
    frame = frame_of(base_ND)
    for first, slab in _slabs(base_ND, frame):

        def block(start: int, stop: int, first: int = first, slab: Slab = slab) -> None:
            queries_BD = queries_QD[start:stop]
            screen = Screen(queries_BD, frame)
            screen.reach(np.full(stop - start, _above(radius * radius, base_ND.shape[1])), slab)
            for tile in range(0, slab.size, TILE):
                checkpoint()
                rows_M, columns_M = screen.hits(slab, tile)
                columns_M += first
                squared_M = measured(queries_BD, rows_M, base_ND, columns_M)
                kept_M = squared_M < radius * radius
                found.add(start, rows_M[kept_M], columns_M[kept_M], squared_M[kept_M])

        spread(block, len(queries_QD), _block_size(len(queries_QD)))
    return found.in_order()


def measured(queries_QD: Rows, rows_M: NDArray[np.int64], base_ND: Rows, columns_M: NDArray[np.int64]) -> Rows:
    """Squared distances of pairs, the float32 sum of squared differences."""
    squared_M = np.empty(len(rows_M), np.float32)
    step = max(1, _MEASURED_VALUES // max(base_ND.shape[1], 1))
    for start in range(0, len(rows_M), step):
        checkpoint()
        pairs = slice(start, start + step)
        differences_PD = queries_QD[rows_M[pairs]]
        differences_PD -= base_ND[columns_M[pairs]]
        np.einsum("pd,pd->p", differences_PD, differences_PD, out=squared_M[pairs])
    return squared_M


def _places(kept_M: NDArray[np.int64] | None, size: int) -> NDArray[np.int64]:
    """Where each of `size` rows is among those that were kept; -1 for the others."""
    if kept_M is None:
        return np.arange(size)
    places_N = np.full(size, -1)
    places_N[kept_M] = np.arange(len(kept_M))
    return places_N


def _unpacked(keys_QK: NDArray[np.int64], kept_M: NDArray[np.int64] | None) -> Neighbours:
    nobody_QK = keys_QK == _NOBODY
    squared_QK = (keys_QK >> _INDEX_BITS).astype(np.int32).view(np.float32)
    squared_QK[nobody_QK] = np.inf
    indices_QK = np.where(nobody_QK, 0, keys_QK & _INDEX_MASK)
    if kept_M is not None:
        indices_QK = kept_M[indices_QK]
    indices_QK[nobody_QK] = -1
    return squared_QK, indices_QK


def _fill(keys_QK: NDArray[np.int64], queries_QD: Rows, base_ND: Rows, own_Q: NDArray[np.int64]) -> None:
    """Search for all queries; own_Q: the base row that does not count for each, or -1."""
    frame = frame_of(base_ND)
    count = keys_QK.shape[1] + int(own_Q.max() >= 0)
    wanted = max(_SAMPLE, 8 * count)
    sample = Slab(np.ascontiguousarray(base_ND[:: max(1, len(base_ND) // wanted)]), frame)
    for first, slab in _slabs(base_ND, frame):

        def block(start: int, stop: int, first: int = first, slab: Slab = slab) -> None:
            lists = _Lists(keys_QK[start:stop], queries_QD[start:stop], base_ND, frame)
            lists.begin(sample, count, slab)
            for tile in range(0, slab.size, TILE):
                checkpoint()
                rows_M, columns_M = lists.screen.hits(slab, tile)
                columns_M += first
                others_M = columns_M != own_Q[start:stop][rows_M]
                lists.collect((rows_M[others_M], columns_M[others_M]), slab)
            lists.merge(slab)

        spread(block, len(queries_QD), _block_size(len(queries_QD)))


class _Lists:
    """The nearest neighbours so far of a block of queries: `keys_BK`, sorted, changed in place."""

    def __init__(self, keys_BK: NDArray[np.int64], queries_BD: Rows, base_ND: Rows, frame: Frame) -> None:
        self.screen = Screen(queries_BD, frame)
        self._keys_BK, self._queries_BD, self._base_ND = keys_BK, queries_BD, base_ND
        self._seeds_B = np.full(len(keys_BK), np.inf)
        self._collected: list[Pairs] = []
        self._count = 0

    def begin(self, sample: Slab, count: int, slab: Slab) -> None:
        """Look no farther than the `count`-th nearest of a sample of the base."""
        if sample.size >= count:
            self._seeds_B = self.screen.squared_within(sample, count)
        self._set_reach(slab)

    def collect(self, pairs: Pairs, slab: Slab) -> None:
        self._collected.append(pairs)
        self._count += len(pairs[0])
        if self._count >= _COLLECTED * len(self._keys_BK):
            self.merge(slab)

    def merge(self, slab: Slab) -> None:
        """Measure what was collected, and keep the nearest."""
        if not self._count:
            return
        rows_M, columns_M = (np.concatenate(parts) for parts in zip(*self._collected, strict=True))
        squared_M = measured(self._queries_BD, rows_M, self._base_ND, columns_M)
        keys_M = squared_M.view(np.int32).astype(np.int64) << _INDEX_BITS | columns_M
        k = self._keys_BK.shape[1]
        merged = np.concatenate([self._keys_BK, _by_row(rows_M, keys_M, len(self._keys_BK))], axis=1)
        merged.sort(axis=1)
        self._keys_BK[:] = merged[:, :k]
        self._collected, self._count = [], 0
        self._set_reach(slab)

    def _set_reach(self, slab: Slab) -> None:
        last_B = self._keys_BK[:, -1]
        squared_B = np.where(last_B == _NOBODY, np.inf, (last_B >> _INDEX_BITS).astype(np.int32).view(np.float32))
        reach_B = _above(squared_B.astype(np.float64), self._base_ND.shape[1])
        self.screen.reach(np.minimum(reach_B, self._seeds_B), slab)


class _Found:
    """Pairs found by several threads, each its own block of queries from one tile to the next."""

    def __init__(self, queries: int, most: int | None) -> None:
        self._counts_Q = np.zeros(queries, np.int64)
        self._most = most
        self._blocks: dict[int, list[tuple[NDArray[np.int64], NDArray[np.int64], Rows]]] = defaultdict(list)
        self._total = 0
        self._lock = threading.Lock()

    def add(self, start: int, rows_M: NDArray[np.int64], columns_M: NDArray[np.int64], squared_M: Rows) -> None:
        with self._lock:
            self._blocks[start].append((rows_M, columns_M, squared_M))
            self._total += len(rows_M)
        if self._most is not None and self._total > self._most:
            raise StrategyError(
                "TOO_MANY_PAIRS", f"more than {self._most} pairs are within the radius; give a smaller radius"
            )

    def in_order(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Rows]:
        indices_M, squared_M = np.empty(self._total, np.int64), np.empty(self._total, np.float32)
        filled = 0
        for start in sorted(self._blocks):
            checkpoint()
            rows_P, columns_P, squared_P = (np.concatenate(p) for p in zip(*self._blocks.pop(start), strict=True))
            counts = np.bincount(rows_P)
            self._counts_Q[start : start + len(counts)] = counts
            # Tiles came by rising columns, so a stable order by query has them rise for each.
            order_P = np.argsort(rows_P, kind="stable")
            place = slice(filled, filled + len(order_P))
            indices_M[place], squared_M[place] = columns_P[order_P], squared_P[order_P]
            filled = place.stop
        return np.concatenate([np.zeros(1, np.int64), self._counts_Q.cumsum()]), indices_M, squared_M


def _by_row(rows_M: NDArray[np.int64], keys_M: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Keys as one row per query, filled up with nobody."""
    order_M = np.argsort(rows_M, kind="stable")
    sorted_M = rows_M[order_M]
    counts_B = np.bincount(rows_M, minlength=rows)
    starts_B = np.cumsum(counts_B) - counts_B
    keys_BH = np.full((rows, int(counts_B.max(initial=0))), _NOBODY)
    keys_BH[sorted_M, np.arange(len(rows_M)) - starts_B[sorted_M]] = keys_M[order_M]
    return keys_BH


def _slabs(base_ND: Rows, frame: Frame) -> Iterator[tuple[int, Slab]]:
    step = max(TILE, _SLAB_VALUES // frame.width // TILE * TILE)
    for first in range(0, len(base_ND), step):
        yield first, Slab(base_ND[first : first + step], frame)


def _block_size(queries: int) -> int:
    """Queries per thread and time: no more than leave work for every thread."""
    return min(_QUERIES, -(-queries // torch.get_num_threads())) or 1


def _above(squared: NDArray[np.float64] | float, dim: int) -> NDArray[np.float64]:
    """The largest distance that may be measured as this squared one: float32 sums are off by D roundings at most."""
    return np.sqrt(np.asarray(squared) * (1 + (dim + 8) * 2.0**-22) + dim * 2.0**-148)


def _check(queries_QD: Rows, base_ND: Rows) -> None:
    if queries_QD.ndim != 2 or base_ND.ndim != 2 or queries_QD.shape[1] != base_ND.shape[1]:
        raise StrategyError(
            "INVALID_ARRAY", f"queries {queries_QD.shape} and base {base_ND.shape} must be rows of one length"
        )
