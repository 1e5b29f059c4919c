"""Exact search: blocked matrix products over mapped segments."""

from collections.abc import Iterator, Sequence

import numpy as np

from assay.server.adapters.vector_index.measures import Bounds, Measure, Positions, measure_for, unit_vectors
from assay.server.adapters.vector_index.nearest import Nearest
from assay.server.core.ports.segments import VectorSegment
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.pools import Metric
from assay.strategies import checkpoint

# Neighbours of queries that are merged at a time: sorting them takes some hundredths of a second.
MERGED = 1 << 17

Block = tuple[FloatArray, RowArray, MaskArray | None]


class BlockedExactSearch:
    """Exact nearest neighbours over mapped segments, safe to call from several threads.

    A float32 matrix product estimates the keys of a block; those that could be among the best k, given the product's
    error bound, are computed exactly. So the result depends neither on the blocks nor on the segments, nor on the
    machine's matrix product. Memory: one block and Q k entries, whatever the pool's size.

    Args:
        block_values: float32 values of embeddings in one block, at most.
        block_rows: rows in one block, at most.
        block_queries: queries handled in one pass over the segments, at most.
    """

    def __init__(self, block_values: int = 2**22, block_rows: int = 8192, block_queries: int = 256) -> None:
        self._block_values = block_values
        self._block_rows = block_rows
        self._block_queries = block_queries

    def search(
        self,
        segments: Sequence[VectorSegment],
        metric: Metric,
        queries_QD: FloatArray,
        k: int,
        allowed: MaskArray | None,
    ) -> tuple[FloatArray, RowArray]:
        """Nearest k rows of the segments where allowed[row] (None allows all; rows beyond its length are not allowed).

        Returns:
            values [Q, k]: cosines or inner products, descending, or squared distances, ascending; -inf or inf fills up.
            rows [Q, k]: rows, ties by row; -1 fills up.
        """
        queries_QD = np.ascontiguousarray(queries_QD, dtype=np.float32)
        if metric is Metric.COSINE:
            queries_QD = unit_vectors(queries_QD)
        keys_QK = np.full((len(queries_QD), k), -np.inf, np.float32)
        rows_QK = np.full((len(queries_QD), k), -1, np.int64)
        held = min(k, sum(len(segment.rows_N) for segment in segments))
        if held:
            step = max(1, min(self._block_queries, MERGED // k))
            for start in range(0, len(queries_QD), step):
                part = slice(start, start + step)
                keys_QK[part, :held], rows_QK[part, :held] = self._search(
                    segments, metric, queries_QD[part], held, allowed
                )
        return (-keys_QK if metric is Metric.L2 else keys_QK), rows_QK

    def _search(
        self,
        segments: Sequence[VectorSegment],
        metric: Metric,
        queries_QD: FloatArray,
        k: int,
        allowed: MaskArray | None,
    ) -> tuple[FloatArray, RowArray]:
        count, dimension = queries_QD.shape
        size = max(1, min(self._block_rows, self._block_values // dimension))
        estimates = np.empty(count * size, np.float32)
        nearest = Nearest(count, k)
        # Finite but huge values overflow float32; such estimates are inf or NaN, count as candidates, and are settled
        # exactly.
        with np.errstate(over="ignore", invalid="ignore"):
            measure = measure_for(metric, queries_QD, size)
            for block in _blocks(segments, size, allowed, count):
                checkpoint()
                _search_block(measure, block, estimates[: count * len(block[1])].reshape(count, -1), k, nearest)
        return nearest.result()


def _blocks(segments: Sequence[VectorSegment], size: int, allowed: MaskArray | None, queries: int) -> Iterator[Block]:
    """Blocks of embeddings and rows with a mask of those that count, None for all. Blocks with few such rows are
    gathered; those with none are not even read."""
    # Gathering costs two passes over the memory of the kept rows; a matrix product of few queries costs about one.
    worth_gathering = 0.25 if queries < 8 else 0.75
    for segment in segments:
        embeddings_ND, rows_N = segment.embeddings_ND, segment.rows_N
        for start in range(0, len(rows_N), size):
            rows_B = rows_N[start : start + size]
            block_BD = embeddings_ND[start : start + size]
            mask_B = None if allowed is None else _mask(rows_B, allowed)
            kept = len(rows_B) if mask_B is None else int(np.count_nonzero(mask_B))
            if kept == len(rows_B):
                yield block_BD, rows_B, None
            elif kept > worth_gathering * len(rows_B):
                yield block_BD, rows_B, mask_B
            elif kept:
                yield block_BD[mask_B], rows_B[mask_B], None


def _mask(rows_B: RowArray, allowed: MaskArray) -> MaskArray:
    if rows_B[-1] - rows_B[0] == len(rows_B) - 1 and rows_B[-1] < len(allowed):
        return allowed[rows_B[0] : rows_B[-1] + 1]
    known = int(np.searchsorted(rows_B, len(allowed)))
    mask_B = np.zeros(len(rows_B), np.bool_)
    mask_B[:known] = allowed[rows_B[:known]]
    return mask_B


def _search_block(measure: Measure, block: Block, estimates_QB: FloatArray, k: int, nearest: Nearest) -> None:
    block_BD, rows_B, mask_B = block
    margins_Q = measure.estimate(block_BD, estimates_QB)
    queries_M, positions_M = _candidates(estimates_QB, mask_B, nearest.floors_Q - margins_Q, margins_Q, k)
    step = len(rows_B)
    for start in range(0, len(queries_M), step):
        checkpoint()
        queries, positions = queries_M[start : start + step], positions_M[start : start + step]
        nearest.add(queries, measure.exact(queries, block_BD[positions]), rows_B[positions])


def _candidates(
    estimates_QB: FloatArray, mask_B: MaskArray | None, floors_Q: Bounds, margins_Q: Bounds, k: int
) -> tuple[Positions, Positions]:
    """Pairs (query, position in the block) whose exact key may be among the best k."""
    queries_M, positions_M = _passing(estimates_QB, mask_B, floors_Q)
    counts_Q = np.bincount(queries_M, minlength=len(estimates_QB))
    crowded = np.flatnonzero(counts_Q > 4 * k + 64)
    if not len(crowded):
        return queries_M, positions_M
    floors_Q = floors_Q.copy()
    ends_Q = np.cumsum(counts_Q)
    for query in crowded:
        inside = positions_M[ends_Q[query] - counts_Q[query] : ends_Q[query]]
        kth = np.partition(estimates_QB[query, inside], len(inside) - k)[len(inside) - k]
        # The k-th best exact key is at least kth - margin, and an estimate is at most a margin below its exact key.
        floors_Q[query] = np.fmax(floors_Q[query], kth - 2 * margins_Q[query])
    return _passing(estimates_QB, mask_B, floors_Q)


def _passing(estimates_QB: FloatArray, mask_B: MaskArray | None, floors_Q: Bounds) -> tuple[Positions, Positions]:
    # Rounding towards -inf keeps the comparison in float32 and the bound true. NaN passes: it is settled exactly.
    floors_32 = np.nextafter(floors_Q.astype(np.float32), np.float32(-np.inf))
    passing = np.less(estimates_QB, floors_32[:, None])
    np.logical_not(passing, out=passing)
    if mask_B is not None:
        passing &= mask_B
    queries_M, positions_M = np.divmod(np.flatnonzero(passing), estimates_QB.shape[1])
    return queries_M, positions_M
