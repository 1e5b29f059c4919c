"""Exact copies among rows: all but a few can be left out of a search for neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.strategies.interrupt import checkpoint

# Rows that are compared at a time, in float32 values.
_BLOCK_VALUES = 1 << 20


def without_copies(rows_ND: NDArray[np.float32], most: int) -> NDArray[np.int64] | None:
    """Ascending indices of the rows, with no more than the first `most` of any that are equal; None if that is all.

    Rows are grouped by a hash, and groups that lose a row compared value by value. Should different rows share a
    hash, nothing is left out.
    """
    order_N = np.argsort(hashes := _hashes(rows_ND), kind="stable")
    starts_N = _group_starts(hashes[order_N])
    places_N = np.arange(len(order_N)) - starts_N
    surplus_N = places_N >= most
    if not surplus_N.any():
        return None
    crowded_N = np.isin(starts_N, starts_N[surplus_N])
    if not _equal(rows_ND, order_N[crowded_N], order_N[starts_N[crowded_N]]):
        return None
    return np.sort(order_N[~surplus_N])


def equal_groups(rows_ND: NDArray[np.float32]) -> NDArray[np.int64] | None:
    """For each row the lowest index of a row that is equal to it, int64 of shape (N,); None should different rows share
    a hash. Zeros are equal whatever their sign. O(N D + N log N)."""
    order_N = np.argsort(hashes := _hashes(rows_ND), kind="stable")
    starts_N = _group_starts(hashes[order_N])
    alike_N = starts_N != np.arange(len(order_N))
    if not _equal(rows_ND, order_N[alike_N], order_N[starts_N[alike_N]]):
        return None
    groups_N = np.empty(len(order_N), np.int64)
    groups_N[order_N] = order_N[starts_N]
    return groups_N


def _hashes(rows_ND: NDArray[np.float32]) -> NDArray[np.uint64]:
    rows_ND = np.ascontiguousarray(rows_ND)
    dim = rows_ND.shape[1]
    weights = np.random.default_rng(0).integers(0, 1 << 63, dim, np.uint64) * np.uint64(2) + np.uint64(1)
    hashes_N = np.empty(len(rows_ND), np.uint64)
    step = max(1, _BLOCK_VALUES // max(dim, 1))
    for start in range(0, len(rows_ND), step):
        checkpoint()
        # Adding 0 leaves no zero with a sign.
        words_BD = (rows_ND[start : start + step] + np.float32(0)).view(np.uint32).astype(np.uint64)
        # Signs are the top bits, and would be lost in a product with an odd number.
        words_BD ^= words_BD << np.uint64(27)
        hashes_N[start : start + step] = words_BD @ weights
    return hashes_N


def _group_starts(sorted_N: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each place of sorted values, the first place with that value."""
    new_N = np.ones(len(sorted_N), np.bool_)
    new_N[1:] = sorted_N[1:] != sorted_N[:-1]
    return np.maximum.accumulate(np.where(new_N, np.arange(len(sorted_N)), 0))


def _equal(rows_ND: NDArray[np.float32], left_M: NDArray[np.int64], right_M: NDArray[np.int64]) -> bool:
    step = max(1, _BLOCK_VALUES // max(rows_ND.shape[1], 1))
    for start in range(0, len(left_M), step):
        checkpoint()
        part = slice(start, start + step)
        if not np.array_equal(rows_ND[left_M[part]], rows_ND[right_M[part]]):
            return False
    return True
