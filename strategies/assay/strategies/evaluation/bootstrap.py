"""Confidence intervals by resampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from assay.strategies.errors import InvalidParams, StrategyError
from assay.strategies.evaluation.inputs import Floats, checked_confidence, checked_values
from assay.strategies.interrupt import checkpoint

# Resampled values held at once: 8 MB.
_BLOCK_VALUES = 1 << 20

# Takes values and an axis, as np.mean and np.median do.
Statistic = Callable[..., Any]


@dataclass(frozen=True)
class Interval:
    """low <= high: the confidence interval of a statistic whose value on the sample itself is `estimate`."""

    low: float
    high: float
    estimate: float


def bootstrap_interval(
    values_N: ArrayLike,
    *,
    seed: int,
    statistic: Statistic = np.mean,
    confidence: float = 0.95,
    resamples: int = 9999,
    method: Literal["bca", "percentile"] = "bca",
) -> Interval:
    """The interval that holds a statistic of the population with about this confidence.

    values_N: independent measurements (a seed, split or data set each); for a difference of two strategies, their
    paired differences. statistic: any function of (values, axis) without state, such as np.mean or np.median.
    method: percentile takes the quantiles of the resampled statistic as they are; bca corrects their bias and skew
    (Efron, "Better bootstrap confidence intervals", JASA 1987), and is the percentile one where neither can be
    estimated: the resampled statistic is constant or wholly on one side of the estimate.
    Few values make any bootstrap interval too narrow. Same seed, same interval.
    Operations O(resamples N + N^2), memory O(resamples) and a block. Reference: scipy.stats.bootstrap, equal for
    the same seed. Raises StrategyError INVALID_ARRAY (fewer than 2 values), NOT_FINITE or INVALID_PARAMETER.
    """
    values = checked_values(values_N, "values", 1)
    if len(values) < 2:
        raise StrategyError("INVALID_ARRAY", "one value says nothing of its spread; give 2 or more")
    if resamples < 1:
        raise InvalidParams("resamples", f"must be a whole number from 1, not {resamples!r}")
    if method not in ("bca", "percentile"):
        raise InvalidParams("method", f"must be 'bca' or 'percentile', not {method!r}")
    tail = (1 - checked_confidence(confidence)) / 2
    estimate = float(statistic(values, axis=-1))
    resampled_R = _resampled(values, statistic, np.random.default_rng(seed), resamples)
    levels = (tail, 1 - tail)
    if method == "bca":
        levels = _corrected(levels, values, statistic, estimate, resampled_R)
    low, high = np.quantile(resampled_R, levels)
    return Interval(float(low), float(high), estimate)


def _resampled(values_N: Floats, statistic: Statistic, rng: np.random.Generator, resamples: int) -> Floats:
    results_R = np.empty(resamples)
    size = len(values_N)
    step = max(1, _BLOCK_VALUES // size)
    for start in range(0, resamples, step):
        checkpoint()
        rows = min(step, resamples - start)
        results_R[start : start + rows] = statistic(values_N[rng.integers(0, size, (rows, size))], axis=-1)
    return results_R


def _corrected(
    levels: tuple[float, float], values_N: Floats, statistic: Statistic, estimate: float, resampled_R: Floats
) -> tuple[float, float]:
    """The levels whose quantiles make up for bias (z0) and skew (acceleration)."""
    below = float((resampled_R < estimate).mean() + (resampled_R <= estimate).mean()) / 2
    influence_N = _influence(values_N, statistic)
    spread = float(influence_N @ influence_N)
    if not 0 < below < 1 or spread == 0:
        return levels
    normal = NormalDist()
    z0 = normal.inv_cdf(below)
    acceleration = float((influence_N**3).sum()) / (6 * spread**1.5)

    def corrected(level: float) -> float:
        z = z0 + normal.inv_cdf(level)
        return normal.cdf(z0 + z / (1 - acceleration * z))

    return corrected(levels[0]), corrected(levels[1])


def _influence(values_N: Floats, statistic: Statistic) -> Floats:
    """How far leaving out each value pulls the statistic down."""
    size = len(values_N)
    without_N = np.empty(size)
    step = max(1, _BLOCK_VALUES // size)
    for start in range(0, size, step):
        checkpoint()
        left_out_B = np.arange(start, min(start + step, size))
        others_BM = np.arange(size - 1) + (np.arange(size - 1) >= left_out_B[:, None])
        without_N[left_out_B] = statistic(values_N[others_BM], axis=-1)
    influence_N: Floats = without_N.mean() - without_N
    return influence_N
