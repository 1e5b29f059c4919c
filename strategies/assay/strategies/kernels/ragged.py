"""Scores of parts (boxes of an image, tokens of a text) reduced to one per sample, and what one without parts scores.

Sample i has the parts offsets_O[i] to offsets_O[i + 1] - 1, which may be none.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assay.strategies.errors import StrategyError
from assay.strategies.kernels.hashing import hash_keys

Reduction = Literal["sum", "mean", "max", "top_m"]
Empty = Literal["floor", "mean", "random"]


def reduce_parts(
    scores_P: NDArray[np.float32], offsets_O: NDArray[np.int64], reduction: Reduction, m: int = 1
) -> NDArray[np.float32]:
    """float32 `scores_N`; 0 for a sample without parts.

    scores_P: finite and at least 0, one per part.
    offsets_O: N + 1 of them, from 0 to the number of parts, never descending.
    reduction: sum; mean; max; top_m = the mean of the m highest (of all, where there are fewer).
    O(P + N) time, for top_m O(P log P) where a sample has more than m parts; sums are float64.
    Raises StrategyError INVALID_ARRAY for scores or offsets that are not as above, INVALID_SIZE for m below 1.
    """
    _check(scores_P, offsets_O, m)
    if reduction == "top_m":
        scores_P, offsets_O = _highest(scores_P, offsets_O, m)
    counts_N = np.diff(offsets_O)
    present_N = counts_N > 0
    scores_N = np.zeros(len(counts_N), np.float64)
    # Samples without parts take no room, so each start is also where the one before it ends.
    starts = offsets_O[:-1][present_N]
    if reduction == "max":
        scores_N[present_N] = np.maximum.reduceat(scores_P, starts) if len(starts) else 0
    elif len(starts):
        scores_N[present_N] = np.add.reduceat(scores_P, starts, dtype=np.float64)
    if reduction in ("mean", "top_m"):
        scores_N /= np.maximum(counts_N, 1)
    return scores_N.astype(np.float32)


def fill_empty(
    scores_N: NDArray[np.float32], offsets_O: NDArray[np.int64], keys_N: NDArray[np.int64], empty: Empty
) -> NDArray[np.float32]:
    """The scores, with those of samples without parts as `empty` says: float32 of shape (N,).

    empty: floor = as they are; mean = the mean score of the samples that have parts (0 where none has); random = the
    score of one of those, drawn by a hash of the sample's key and of N (in [0, 1) where none has parts): the same for
    the same candidates, and another draw once some are gone, so that samples without parts are as large a share of each
    batch's picks as of the pool.
    O(N) time, for random O(N log N).
    """
    empty_N = np.diff(offsets_O) == 0
    if empty == "floor" or not empty_N.any():
        return scores_N
    others_M = scores_N[~empty_N]
    filled_N = scores_N.copy()
    if empty == "mean":
        filled_N[empty_N] = others_M.mean(dtype=np.float64) if len(others_M) else 0
    else:
        shares_E = (hash_keys(keys_N[empty_N], len(scores_N)) >> np.uint64(11)).astype(np.float64) / 2.0**53
        filled_N[empty_N] = _at_shares(np.sort(others_M), shares_E) if len(others_M) else shares_E
    return filled_N


def _at_shares(rising_M: NDArray[np.float32], shares_E: NDArray[np.float64]) -> NDArray[np.float32]:
    """The value below which each share of the values lies."""
    places_E = np.minimum((shares_E * len(rising_M)).astype(np.int64), len(rising_M) - 1)
    return rising_M[places_E]


def _highest(
    scores_P: NDArray[np.float32], offsets_O: NDArray[np.int64], m: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The m highest scores of each sample, highest first, and the offsets that these have."""
    counts_N = np.diff(offsets_O)
    if not len(counts_N) or counts_N.max() <= m:
        return scores_P, offsets_O
    ordered_P = _falling(scores_P, counts_N)
    ranks_P = np.arange(len(scores_P)) - np.repeat(offsets_O[:-1], counts_N)
    kept_O = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.minimum(counts_N, m))])
    return ordered_P[ranks_P < m], kept_O


def _falling(scores_P: NDArray[np.float32], counts_N: NDArray[np.int64]) -> NDArray[np.float32]:
    """The scores of each sample in falling order: one sort of integers that hold the sample above the score.

    The bits of floats from 0 on are in the order of the floats; 0 is added to make -0 into 0.
    """
    bits_P = (scores_P + np.float32(0)).view(np.uint32)
    keys_P = np.repeat(np.arange(len(counts_N), dtype=np.uint64) << np.uint64(32), counts_N)
    keys_P |= ~bits_P
    keys_P.sort()
    return (~keys_P.astype(np.uint32)).view(np.float32)


def _check(scores_P: NDArray[np.float32], offsets_O: NDArray[np.int64], m: int) -> None:
    if m < 1:
        raise StrategyError("INVALID_SIZE", f"cannot take the {m} highest parts: give at least 1")
    ascends = offsets_O.ndim == 1 and len(offsets_O) > 0 and not bool((offsets_O[1:] < offsets_O[:-1]).any())
    if not (ascends and offsets_O[0] == 0 and offsets_O[-1] == len(scores_P)):
        raise StrategyError("INVALID_ARRAY", f"offsets must ascend from 0 to the number of parts, {len(scores_P)}")
    # Written so that NaN fails.
    if len(scores_P) and not (scores_P.min() >= 0 and scores_P.max() < np.inf):
        raise StrategyError("INVALID_ARRAY", "scores of parts must be finite and at least 0")
