"""Exact nearest neighbours and range search over embeddings. The only place of the library that imports faiss."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

# Below this number of queries faiss takes its slow path (not BLAS) in flat search.
faiss.cvar.distance_compute_blas_threshold = 20


def nearest(
    queries_QD: NDArray[np.float32], base_ND: NDArray[np.float32], k: int, *, exclude_self: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k nearest rows of `base_ND` to each query by squared L2: (squared_QK, indices_QK), nearest first.

    exclude_self: the queries are the base rows themselves, and none is its own neighbour.
    Where there are fewer than k, the rest is infinity and -1.
    """
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
