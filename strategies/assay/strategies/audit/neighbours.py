"""What the nearest samples say: about a label, and about how alone a sample is."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.strategies.audit.inputs import Metric, checked_count, checked_labels, checked_points, distances
from assay.strategies.kernels.search import nearest

_WEIGHTS_K = np.array([0.6, 0.3, 0.1], np.float32)


def knn_disagreement(
    embeddings_ND: ArrayLike, labels_N: ArrayLike, k: int = 10, *, metric: Metric = "l2"
) -> NDArray[np.float32]:
    """The share of each sample's k nearest other samples that have another label, float32 of shape (N,).

    1 = all neighbours contradict the label, 0 = all agree. Where there are fewer than k others, the share of those;
    a sample without any is 0. Of equally near ones the lower indices count.
    Operations O(N^2 D) in matrix products, memory O(N k) beside the embeddings (cosine: and a copy of them).
    Raises StrategyError INVALID_ARRAY, CLASS_OUT_OF_RANGE, NOT_FINITE or INVALID_PARAMETER.
    """
    points = checked_points(embeddings_ND, metric)
    labels = checked_labels(labels_N, len(points))
    k = min(checked_count(k, "k"), len(points) - 1)
    if k == 0:
        return np.zeros(1, np.float32)
    _, indices_NK = nearest(points, points, k, exclude_self=True)
    share_N: NDArray[np.float32] = (labels[indices_NK] != labels[:, None]).mean(axis=1, dtype=np.float32)
    return share_N


def uniqueness(embeddings_ND: ArrayLike, *, metric: Metric = "cosine") -> NDArray[np.float32]:
    """How far each sample is from its three nearest others, float32 of shape (N,) within [0, 1]; 1 = most alone.

    0.6, 0.3 and 0.1 times the distances, nearest first, added and divided by the largest such sum. metric: cosine
    (1 - cosine similarity, as fiftyone's default index measures) or l2 (as its first versions did).
    With three samples or fewer all are 1. Where all samples coincide all are 0 (fiftyone: NaN, 0 / 0).
    Operations O(N^2 D) in matrix products, memory O(N) beside the embeddings (cosine: and a copy of them).
    Definition: fiftyone's compute_uniqueness. Raises StrategyError INVALID_ARRAY, NOT_FINITE or INVALID_PARAMETER.
    """
    points = checked_points(embeddings_ND, metric)
    if len(points) <= len(_WEIGHTS_K):
        return np.ones(len(points), np.float32)
    squared_NK, _ = nearest(points, points, len(_WEIGHTS_K), exclude_self=True)
    alone_N: NDArray[np.float32] = distances(squared_NK, metric) @ _WEIGHTS_K
    alone_N /= max(alone_N.max(), np.finfo(np.float32).tiny)
    return alone_N
