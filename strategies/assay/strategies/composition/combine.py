"""Several scores into one utility. Higher stays more informative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from assay.strategies.errors import StrategyError

Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]


def product(scores: Sequence[Scores], strengths: Sequence[float]) -> Scores:
    """Product of each score to the power of its strength, float32 of shape (N,).

    Scores are measures that are never negative; what rounding left below 0 counts as 0. A strength of 0 makes its
    score count for nothing. Raises StrategyError INVALID_COMBINATION for no scores, or strengths that are not one
    finite number of at least 0 each.
    """
    _check(scores, strengths)
    if len(scores) == 1 and strengths[0] == 1.0:
        return scores[0]
    utility_N = np.ones(scores[0].shape, np.float32)
    for scores_N, strength in zip(scores, strengths, strict=True):
        utility_N *= np.maximum(scores_N, 0) ** np.float32(strength)
    return utility_N


def rank_sum(scores: Sequence[Scores], weights: Sequence[float], mask_N: Mask | None = None) -> Scores:
    """Weighted mean of the ranks that each score gives, float32 of shape (N,) from 0 (lowest) to 1 (highest).

    Indifferent to the scale of a score; equal scores share their mean rank (the Borda count, with ties).
    mask_N: only these are ranked, against one another; the others get 0.
    Raises StrategyError INVALID_COMBINATION as `product`, and where all weights are 0.
    """
    _check(scores, weights)
    if not sum(weights) > 0:
        raise StrategyError("INVALID_COMBINATION", "all weights are 0: give at least one score a weight above 0")
    rows = slice(None) if mask_N is None else np.flatnonzero(mask_N)
    utility_N = np.zeros(scores[0].shape, np.float32)
    total_M = np.zeros(len(utility_N[rows]))
    for scores_N, weight in zip(scores, weights, strict=True):
        total_M += weight / sum(weights) * normalised_ranks(scores_N[rows])
    utility_N[rows] = total_M
    return utility_N


def normalised_ranks(scores_M: Scores) -> NDArray[np.float64]:
    """Rank of each score from 0 (lowest) to 1 (highest); equal scores share their mean rank. One alone has 1."""
    size = len(scores_M)
    if size < 2:
        return np.ones(size)
    _, inverse_M, counts_V = np.unique(scores_M, return_inverse=True, return_counts=True)
    below_V = np.cumsum(counts_V) - counts_V
    ranks_M: NDArray[np.float64] = (below_V + (counts_V - 1) / 2)[inverse_M] / (size - 1)
    return ranks_M


def _check(scores: Sequence[Scores], strengths: Sequence[float]) -> None:
    if not scores or len(scores) != len(strengths):
        raise StrategyError("INVALID_COMBINATION", f"{len(scores)} scores do not go with {len(strengths)} strengths")
    if any(not (np.isfinite(strength) and strength >= 0) for strength in strengths):
        raise StrategyError("INVALID_COMBINATION", "a strength is a finite number of at least 0")
    if any(scores_N.shape != scores[0].shape for scores_N in scores):
        raise StrategyError("INVALID_COMBINATION", "the scores are not all of the same samples")
    if any(np.isnan(scores_N).any() for scores_N in scores):
        raise StrategyError("NOT_FINITE", "a score is NaN")
