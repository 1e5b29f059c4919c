"""Wilcoxon's signed-rank test of paired measurements, and Holm's correction for many of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.strategies.errors import StrategyError
from assay.strategies.evaluation.inputs import Floats, checked_values

# Up to here the exact distribution is counted out; above, the normal one is close.
_EXACT = 50


@dataclass(frozen=True)
class SignedRank:
    """statistic: the smaller sum of ranks. p: two-sided. pairs: how many differ. exact: or by the normal law."""

    statistic: float
    p: float
    pairs: int
    exact: bool


@dataclass(frozen=True)
class Comparison:
    """Every pair of strategies. p_SS: two-sided p of each pair; adjusted_SS: after Holm; both symmetric, 1 on the
    diagonal. means_S: mean of each strategy."""

    p_SS: Floats
    adjusted_SS: Floats
    means_S: Floats


def wilcoxon(first_N: ArrayLike, second_N: ArrayLike) -> SignedRank:
    """Is the first measurement of a pair higher than the second more often than chance would have it?

    Pairs without a difference are left out (Wilcoxon's own way); equal differences share their mean rank. Up to 50
    pairs p is exact, ties and all: of all 2^n signs of the ranks, the share that is as extreme. Above, normal with
    the variance corrected for ties and no correction for continuity. No pair differs: p = 1.
    Operations O(n^3) up to 50 pairs, else O(n log n). Reference: scipy.stats.wilcoxon, which is exact only where
    nothing ties. Raises StrategyError INVALID_ARRAY or NOT_FINITE.
    """
    first, second = checked_values(first_N, "measurements", 1), checked_values(second_N, "measurements", 1)
    if len(first) != len(second):
        raise StrategyError("INVALID_ARRAY", f"measurements must be paired; got {len(first)} and {len(second)}")
    differences_N = first - second
    differences_M = differences_N[differences_N != 0]
    size = len(differences_M)
    if not size:
        return SignedRank(0.0, 1.0, 0, True)
    twice_M = _twice_ranks(np.abs(differences_M))
    positive, total = int(twice_M[differences_M > 0].sum()), int(twice_M.sum())
    smaller = min(positive, total - positive)
    exact = size <= _EXACT
    p = _exact_p(twice_M, smaller) if exact else _normal_p(twice_M, smaller)
    return SignedRank(smaller / 2, min(p, 1.0), size, exact)


def holm(p_M: ArrayLike) -> Floats:
    """P values adjusted so that calling those below alpha significant errs anywhere with chance at most alpha.

    The i-th smallest of M times M - i (from 0), never below a smaller one's, at most 1 (Holm 1979).
    Raises StrategyError INVALID_ARRAY, NOT_FINITE or PROBABILITIES_INVALID.
    """
    p = checked_values(p_M, "p values", 1)
    if p.min() < 0 or p.max() > 1:
        raise StrategyError("PROBABILITIES_INVALID", "p values must lie in [0, 1]")
    order_M = np.argsort(p, kind="stable")
    adjusted_M = np.empty_like(p)
    adjusted_M[order_M] = np.maximum.accumulate(p[order_M] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted_M


def wilcoxon_holm(scores_SN: ArrayLike) -> Comparison:
    """Compare every two strategies over N paired results (a data set, split or seed each), corrected by Holm.

    Few pairs cannot be significant: with n, the smallest p is 2^(1 - n), before the correction.
    Benavoli, Corani, Mangili, "Should we really use post-hoc tests based on mean-ranks?", JMLR 2016.
    Raises StrategyError INVALID_ARRAY or NOT_FINITE.
    """
    scores = checked_values(scores_SN, "scores", 2)
    if len(scores) < 2:
        raise StrategyError("INVALID_ARRAY", "a comparison needs two strategies or more")
    pairs = list(combinations(range(len(scores)), 2))
    p_M = np.array([wilcoxon(scores[i], scores[j]).p for i, j in pairs])
    shape = len(scores)
    return Comparison(_symmetric(p_M, shape), _symmetric(holm(p_M), shape), scores.mean(axis=1))


def _symmetric(values_M: Floats, size: int) -> Floats:
    matrix_SS = np.eye(size)
    rows, columns = np.triu_indices(size, 1)
    matrix_SS[rows, columns] = matrix_SS[columns, rows] = values_M
    return matrix_SS


def _twice_ranks(sizes_M: Floats) -> NDArray[np.int64]:
    """Ranks from 1, equal values sharing the mean of theirs, times 2 to be whole."""
    _, group_M, count_G = np.unique(sizes_M, return_inverse=True, return_counts=True)
    last_G = np.cumsum(count_G)
    twice_G: NDArray[np.int64] = 2 * last_G - count_G + 1
    return twice_G[group_M]


def _exact_p(twice_M: NDArray[np.int64], smaller: int) -> float:
    """Adds the ranks one by one to the distribution of their positive sum; exact in float64 up to 2^50 ways."""
    ways = np.zeros(int(twice_M.sum()) + 1)
    ways[0] = 1
    for rank in twice_M.tolist():
        ways[rank:] += ways[:-rank].copy()
    return 2 * float(ways[: smaller + 1].sum()) / 2.0 ** len(twice_M)


def _normal_p(twice_M: NDArray[np.int64], smaller: int) -> float:
    """The variance of the sum, sum of rank^2 / 4, has the correction for ties in it."""
    ranks_M = twice_M / 2
    deviation = math.sqrt(float(ranks_M @ ranks_M) / 4)
    return math.erfc((ranks_M.sum() / 2 - smaller / 2) / deviation / math.sqrt(2))
