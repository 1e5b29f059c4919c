"""Weights of annotators, and what a number of weighted opinions comes to."""

import math
from collections.abc import Callable, Hashable, Sequence
from itertools import combinations
from typing import TypeVar

from assay.strategies.interrupt import checkpoint

# Sums of weights that differ by less count as equal.
_ROUNDING = 1e-9

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)


def checked_weights(count: int, weights: Sequence[float] | None) -> list[float]:
    """One weight for each value, 1 where none are given. Raises ValueError if there is no value or none that counts."""
    if not count:
        raise ValueError("no values: nobody has said anything")
    if weights is None:
        return [1.0] * count
    if len(weights) != count:
        raise ValueError(f"{len(weights)} weights for {count} values")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ValueError("weights must be finite and not negative, and one must be above 0")
    return [float(weight) for weight in weights]


def plurality(values: Sequence[H], weights: Sequence[float]) -> tuple[H | None, float]:
    """The value with the most weight, None if two have as much, and the share of the weight behind the strongest."""
    parts: dict[H, list[float]] = {}
    for value, weight in zip(values, weights, strict=True):
        parts.setdefault(value, []).append(weight)
    sums = {value: math.fsum(each) for value, each in parts.items()}
    winner = max(sums, key=sums.__getitem__)
    share = sums[winner] / math.fsum(weights)
    tied = any(math.isclose(sums[each], sums[winner], rel_tol=_ROUNDING) for each in sums if each != winner)
    return (None if tied else winner), min(share, 1.0)


def side(weight: float, total: float) -> tuple[bool | None, float]:
    """Whether more than half of the weight is for something, None if exactly half is, and the share that won."""
    share = min(weight / total, 1.0)
    if math.isclose(share, 0.5, rel_tol=_ROUNDING):
        return None, 0.5
    return share > 0.5, max(share, 1 - share)


def pairwise(values: Sequence[T], agreement: Callable[[T, T], float]) -> float:
    """Mean agreement over all pairs of values; 1 for a single value."""
    total, pairs = 0.0, 0
    for a, b in combinations(values, 2):
        checkpoint()
        total += agreement(a, b)
        pairs += 1
    return min(total / pairs, 1.0) if pairs else 1.0


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value with half of the weight on either side; half-way between two if half ends exactly between them."""
    low, high = _median_ends(values, weights)
    return low if low == high else low / 2 + high / 2


def lower_median(values: Sequence[int], weights: Sequence[float]) -> int:
    """The least value that at least half of the weight does not exceed."""
    return int(_median_ends(values, weights)[0])


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """The mean, which is the value itself where all are equal."""
    base = values[0]
    shift = math.fsum(weight * (value - base) for value, weight in zip(values, weights, strict=True))
    return base + shift / math.fsum(weights)


def _median_ends(values: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    ranked = sorted((value, weight) for value, weight in zip(values, weights, strict=True) if weight > 0)
    half = math.fsum(weights) / 2
    passed = 0.0
    for place, (value, weight) in enumerate(ranked):
        passed += weight
        if math.isclose(passed, half, rel_tol=_ROUNDING) and place + 1 < len(ranked):
            return value, ranked[place + 1][0]
        if passed >= half:
            return value, value
    return ranked[-1][0], ranked[-1][0]
