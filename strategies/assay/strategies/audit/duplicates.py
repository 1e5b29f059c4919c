"""Samples so near one another that labeling one labels all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from assay.strategies.audit.inputs import Metric, checked_count, checked_points, distances
from assay.strategies.errors import InvalidParams, StrategyError
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.copies import equal_groups
from assay.strategies.kernels.tensors import borrow

# Samples on each side of a tile: at most this many squared pairs are held at once.
_TILE = 2048
# Float64 values of differences held at once: 8 MB.
_BLOCK_VALUES = 1 << 20

Points = NDArray[np.float32]
Indices = NDArray[np.int64]
Pairs = tuple[Indices, Indices, NDArray[np.float32]]


@dataclass(frozen=True)
class DuplicatePairs:
    """Pairs of samples within a radius, each once, by rising first and then second index.

    first_M < second_M: indices, int64. distances_M: float32, in the metric asked for.
    """

    first_M: Indices
    second_M: Indices
    distances_M: NDArray[np.float32]


def near_duplicates(embeddings_ND: ArrayLike, radius: float, *, metric: Metric = "l2") -> Indices:
    """The group of each sample, named by the lowest index in it, int64 of shape (N,). Alone: its own index.

    Two samples are in one group if a chain of samples leads from one to the other with steps of at most `radius`
    (single linkage), so the ends of a long chain may be far apart. `groups` lists the groups of two and more.
    radius: a Euclidean distance, or 1 - cosine similarity. Exact: a matrix product, in tiles, finds who is
    near, and float64 decides.
    Operations O(N^2 D / 2) in matrix products, memory O(N) and a tile beside the embeddings (cosine: and a copy of
    them), however many pairs there are; of equal samples (l2, radius 0) O(N D + N log N). Raises StrategyError
    INVALID_ARRAY, NOT_FINITE or INVALID_PARAMETER.
    """
    points = checked_points(embeddings_ND, metric)
    if radius == 0 and metric == "l2" and (same_N := equal_groups(points)) is not None:
        return same_N
    groups_N = np.arange(len(points))
    for first_M, second_M, _ in _pairs(points, _euclidean(radius, metric)):
        _unite(groups_N, first_M, second_M)
    return groups_N


def groups(groups_N: Indices) -> list[Indices]:
    """The members of each group of two samples or more, by rising index; the groups by their lowest index."""
    order_N = np.argsort(groups_N, kind="stable")
    starts = np.flatnonzero(np.diff(groups_N[order_N], prepend=-1))
    return [members for members in np.split(order_N, starts[1:]) if len(members) > 1]


def near_duplicate_pairs(
    embeddings_ND: ArrayLike, radius: float, *, metric: Metric = "l2", most: int = 10_000_000
) -> DuplicatePairs:
    """Every pair of samples at most `radius` apart, with its distance; see `near_duplicates`.

    most: pairs that may be returned (24 bytes each). Raises StrategyError TOO_MANY_PAIRS where there are more, and
    what `near_duplicates` raises.
    """
    points = checked_points(embeddings_ND, metric)
    most = checked_count(most, "most")
    found: list[Pairs] = []
    count = 0
    for pairs in _pairs(points, _euclidean(radius, metric)):
        count += len(pairs[0])
        if count > most:
            raise StrategyError("TOO_MANY_PAIRS", f"more than {most} pairs are within {radius}; give a smaller radius")
        found.append(pairs)
    empty = np.empty(0, np.int64)
    first_M, second_M, squared_M = (
        np.concatenate(parts) for parts in zip((empty, empty, np.empty(0, np.float32)), *found, strict=True)
    )
    order_M = np.lexsort((second_M, first_M))
    return DuplicatePairs(first_M[order_M], second_M[order_M], distances(squared_M[order_M], metric))


def _euclidean(radius: float, metric: Metric) -> float:
    """The radius as a Euclidean distance between points from `checked_points`."""
    if not (np.isfinite(radius) and radius >= 0):
        raise InvalidParams("radius", f"must be a distance from 0, not {radius!r}")
    return float(radius) if metric == "l2" else float(np.sqrt(2 * radius))


def _pairs(points_ND: Points, radius: float) -> Iterator[Pairs]:
    """Pairs with first < second within the radius, tile by tile of the upper triangle."""
    norms_N = np.einsum("nd,nd->n", points_ND, points_ND)
    # A matrix product's distances err by up to this: whoever is near enough within it is measured again.
    slack = 2.0**-22 * (8 + 2.5 * math.sqrt(points_ND.shape[1])) * float(norms_N.max())
    for top in range(0, len(points_ND), _TILE):
        for left in range(top, len(points_ND), _TILE):
            checkpoint()
            rows, columns = slice(top, top + _TILE), slice(left, left + _TILE)
            squared = torch.addmm(
                borrow(norms_N[columns]), borrow(points_ND[rows]), borrow(points_ND[columns]).t(), alpha=-2
            )
            near = squared <= radius * radius + slack - borrow(norms_N[rows])[:, None]
            first_M, second_M = np.divmod(np.flatnonzero(near.numpy()), near.shape[1])
            later_M = first_M + top < second_M + left
            yield _measured(points_ND, first_M[later_M] + top, second_M[later_M] + left, radius)


def _measured(points_ND: Points, first_M: Indices, second_M: Indices, radius: float) -> Pairs:
    """Those of the pairs that float64 says are within the radius, with their squared distances."""
    squared_M = np.empty(len(first_M))
    step = max(1, _BLOCK_VALUES // points_ND.shape[1])
    for start in range(0, len(first_M), step):
        checkpoint()
        part = slice(start, start + step)
        differences_BD = points_ND[first_M[part]].astype(np.float64) - points_ND[second_M[part]]
        squared_M[part] = np.einsum("bd,bd->b", differences_BD, differences_BD)
    kept_M = squared_M <= radius * radius
    return first_M[kept_M], second_M[kept_M], squared_M[kept_M].astype(np.float32)


def _unite(roots_N: Indices, first_M: Indices, second_M: Indices) -> None:
    """Merge the groups of each pair; every sample keeps pointing straight at the lowest index of its group."""
    while len(first_M):
        ends_2M = np.stack([roots_N[first_M], roots_N[second_M]])
        low_M, high_M = ends_2M.min(axis=0), ends_2M.max(axis=0)
        apart_M = low_M < high_M
        first_M, second_M = first_M[apart_M], second_M[apart_M]
        np.minimum.at(roots_N, high_M[apart_M], low_M[apart_M])
        if len(first_M):
            _flatten(roots_N)


def _flatten(roots_N: Indices) -> None:
    while not np.array_equal(further_N := roots_N[roots_N], roots_N):
        roots_N[:] = further_N
