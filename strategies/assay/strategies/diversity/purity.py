"""The radius within which samples mostly share a k-means cluster: the published way to set that of ProbCover."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.search import measured, nearest
from assay.strategies.kernels.tensors import borrow

_STEPS = 25
_BLOCK = 1024
# Covers exact copies, and hardly anything else.
_SMALLEST = 1e-15


def pure_radius(points_ND: NDArray[np.float32], clusters: int, purity: float) -> float:
    """The largest radius with which the balls of at least `purity` of all points hold points of one cluster only.

    A ball is pure as long as the radius is at most the distance to the nearest point of another cluster, so this is
    a quantile of those distances. Above 0 always; where all points are in one cluster, all are within it. It does not
    depend on the order of the points.
    """
    points_ND = points_ND[_by_content(points_ND)]
    squared_N = _to_other_clusters(points_ND, _k_means(points_ND, clusters))
    impure = min(math.floor((1 - purity) * len(squared_N) + 1e-9), len(squared_N) - 1)
    squared = float(np.partition(squared_N, impure)[impure]) if len(squared_N) else 0.0
    if math.isinf(squared):
        squared = 8 * float(np.einsum("nd,nd->n", points_ND, points_ND, dtype=np.float64).max())
    return max(math.sqrt(squared), _SMALLEST)


def _by_content(points_ND: NDArray[np.float32]) -> NDArray[np.int64]:
    """An order that depends on what the rows hold, not on where they are."""
    rows_N = np.ascontiguousarray(points_ND + np.float32(0)).view(np.dtype((np.void, 4 * points_ND.shape[1])))
    return np.argsort(rows_N.ravel(), kind="stable")


def _k_means(points_ND: NDArray[np.float32], clusters: int) -> NDArray[np.int64]:
    """The cluster of each point by Lloyd's steps, from random points as the first centres."""
    first = np.random.default_rng(0).permutation(len(points_ND))[:clusters]
    centres_CD = points_ND[np.sort(first)]
    labels_N = np.full(len(points_ND), -1)
    for _ in range(_STEPS):
        _, nearest_N1 = nearest(points_ND, centres_CD, 1)
        if np.array_equal(labels_N, nearest_N1[:, 0]):
            break
        labels_N = nearest_N1[:, 0]
        centres_CD = _means(points_ND, labels_N, centres_CD)
    return labels_N


def _means(
    points_ND: NDArray[np.float32], labels_N: NDArray[np.int64], centres_CD: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The mean of each cluster; an empty one keeps its centre."""
    sums = torch.zeros(centres_CD.shape, dtype=torch.float64)
    sums.index_add_(0, torch.from_numpy(labels_N), borrow(points_ND).double())
    counts_C = np.bincount(labels_N, minlength=len(centres_CD))
    means_CD = sums.numpy() / np.maximum(counts_C, 1)[:, None]
    return np.where(counts_C[:, None] > 0, means_CD, centres_CD).astype(np.float32)


def _to_other_clusters(points_ND: NDArray[np.float32], labels_N: NDArray[np.int64]) -> NDArray[np.float32]:
    """The squared distance of each point to the nearest one of another cluster; infinity if there is none."""
    squared_N = np.empty(len(points_ND), np.float32)
    points, labels = borrow(points_ND), torch.from_numpy(labels_N)
    norms_N: torch.Tensor = torch.linalg.vecdot(points, points)
    for start in range(0, len(points_ND), _BLOCK):
        checkpoint()
        rows = slice(start, min(start + _BLOCK, len(points_ND)))
        rough_BN = torch.addmm(norms_N, points[rows], points.t(), alpha=-2)
        rough_BN.masked_fill_(labels[rows, None] == labels, torch.inf)
        smallest_B, places_B = rough_BN.min(1)
        squared_N[rows] = measured(points_ND, np.arange(rows.start, rows.stop), points_ND, places_B.numpy())
        squared_N[rows][torch.isinf(smallest_B).numpy()] = np.inf
    return squared_N
