"""Student's t distribution, from the regularised incomplete beta function."""

from __future__ import annotations

import math

from assay.strategies.errors import InvalidParams
from assay.strategies.evaluation.inputs import checked_confidence

# The continued fraction gains about a digit in each step or two.
_MOST_STEPS = 10_000
_PRECISION = 1e-15
_TINY = 1e-300


def incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b), the share of a beta distribution below x; a, b > 0, 0 <= x <= 1.

    Lentz's evaluation of the continued fraction (Abramowitz and Stegun 26.5.8) on the side where it converges fast.
    Raises StrategyError INVALID_PARAMETER.
    """
    if not (a > 0 and b > 0 and 0 <= x <= 1):
        raise InvalidParams("x", f"a and b must be positive and x within [0, 1]; got {a}, {b}, {x}")
    if x in (0, 1):
        return float(x)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) / (a * _fraction(a, b, x))


def _fraction(a: float, b: float, x: float) -> float:
    """1 + d1 / (1 + d2 / (1 + ...)), the denominator of the expansion."""
    value, upper, lower = 1.0, 1.0, 0.0
    for step in range(1, _MOST_STEPS):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        lower = 1 / (1 + term * lower or _TINY)
        upper = 1 + term / upper or _TINY
        value *= upper * lower
        if abs(upper * lower - 1) < _PRECISION:
            break
    return value


def two_sided_p(t: float, freedom: float) -> float:
    """The chance that Student's t is at least as far from 0 as this, with so many degrees of freedom.

    Raises StrategyError INVALID_PARAMETER.
    """
    if not freedom > 0:
        raise InvalidParams("freedom", f"there must be more than 0 degrees of freedom; got {freedom}")
    if math.isinf(t):
        return 0.0
    squared = t * t
    if squared < freedom:  # near 0 the other share would lose the digits of t
        return 1 - incomplete_beta(0.5, freedom / 2, squared / (freedom + squared))
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + squared))


def critical_t(freedom: float, confidence: float = 0.95) -> float:
    """The t that is exceeded on either side with chance 1 - confidence: 2.776 for 4 degrees of freedom and 0.95.

    Raises StrategyError INVALID_PARAMETER.
    """
    chance = 1 - checked_confidence(confidence)
    low, high = 0.0, 1.0
    while two_sided_p(high, freedom) > chance:
        low, high = high, high * 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if two_sided_p(middle, freedom) > chance else (low, middle)
    return high
