"""Exact nearest neighbours and range search over embeddings. The only place of the library that imports faiss."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from assay.strategies.candidates import all_finite
from assay.strategies.errors import StrategyError

# Below this number of queries faiss takes its slow path (not BLAS) in flat search.
faiss.cvar.distance_compute_blas_threshold = 20


def nearest(
    queries_QD: NDArray[np.float32], base_ND: NDArray[np.float32], k: int, *, exclude_self: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k nearest rows of `base_ND` to each query by squared L2: (squared_QK, indices_QK), nearest first.

    exclude_self: the queries are the base rows themselves, and none is its own neighbour.
    Where there are fewer than k, the rest is infinity and -1. Raises StrategyError NOT_FINITE.
    """
    _require_finite(queries_QD)
    _require_finite(base_ND)
    found = min(k + exclude_self, len(base_ND))
    squared_QK = np.full((len(queries_QD), k), np.inf, np.float32)
    indices_QK = np.full((len(queries_QD), k), -1, np.int64)
    if found == 0 or len(queries_QD) == 0:
        return squared_QK, indices_QK
    squared, indices = faiss.knn(np.ascontiguousarray(queries_QD), np.ascontiguousarray(base_ND), found)
    if exclude_self:
        squared, indices = _without_self(squared, indices)
    squared_QK[:, : squared.shape[1]] = np.maximum(squared, 0)
    indices_QK[:, : indices.shape[1]] = indices
    return squared_QK, indices_QK


def _without_self(
    squared_QK: NDArray[np.float32], indices_QK: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Drops each query from its own list; where copies have pushed it off the list, the last one."""
    own_QK = indices_QK == np.arange(len(indices_QK))[:, None]
    own_QK[~own_QK.any(axis=1), -1] = True
    shape = (len(indices_QK), indices_QK.shape[1] - 1)
    return squared_QK[~own_QK].reshape(shape), indices_QK[~own_QK].reshape(shape)


def within(
    queries_QD: NDArray[np.float32], base_ND: NDArray[np.float32], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The rows of `base_ND` closer than `radius` (L2) to each query, in CSR form: (offsets_O, indices_M, squared_M).

    Query q has the neighbours indices_M[offsets_O[q] : offsets_O[q + 1]], by ascending index; a base row that is a
    query is its own neighbour where the radius is above 0. Raises StrategyError NOT_FINITE.
    """
    _require_finite(queries_QD)
    _require_finite(base_ND)
    base_norms_N = np.square(base_ND, dtype=np.float64).sum(axis=1)
    counts: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
    indices: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    squared: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
    step = max(1, (1 << 23) // max(len(base_ND), 1))
    for start in range(0, len(queries_QD), step):
        block_BD = queries_QD[start : start + step]
        norms_B = np.square(block_BD, dtype=np.float64).sum(axis=1)
        rough_BN = norms_B[:, None] + base_norms_N - 2 * (block_BD @ base_ND.T)
        slack_BN = 2.0**-23 * (8 + block_BD.shape[1]) * (norms_B[:, None] + base_norms_N)
        rows_M, columns_M = np.nonzero(rough_BN <= radius * radius + slack_BN)
        squared_M = _squared(block_BD, rows_M, base_ND, columns_M)
        kept_M = squared_M < radius * radius
        counts.append(np.bincount(rows_M[kept_M], minlength=len(block_BD)))
        indices.append(columns_M[kept_M])
        squared.append(squared_M[kept_M])
    return np.cumsum(np.concatenate(counts)), np.concatenate(indices), np.concatenate(squared)


def _squared(
    queries_QD: NDArray[np.float32],
    rows_M: NDArray[np.int64],
    base_ND: NDArray[np.float32],
    columns_M: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Squared distances of pairs as sums of squared differences: the same for equal rows wherever they are."""
    squared_M = np.empty(len(rows_M), np.float32)
    step = max(1, (1 << 18) // max(base_ND.shape[1], 1))
    for start in range(0, len(rows_M), step):
        pairs = slice(start, start + step)
        differences_PD = queries_QD[rows_M[pairs]] - base_ND[columns_M[pairs]]
        np.einsum("pd,pd->p", differences_PD, differences_PD, out=squared_M[pairs])
    return squared_M


def _require_finite(rows_MD: NDArray[np.float32]) -> None:
    if not all_finite(rows_MD):
        raise StrategyError("NOT_FINITE", "an embedding holds NaN or infinity")
