"""Limited-memory BFGS for a smooth convex function.

Neither torch's nor scipy's: the first step of torch.optim.LBFGS imports torch's compiler, which takes seconds and tens
of megabytes, and scipy's L-BFGS-B (1.17) holds the interpreter's lock through each of its steps: at 10,000 classes and
129 features they took 0.2 s of processor time each, in which another thread that wakes every millisecond never ran.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

Objective = Callable[[torch.Tensor], tuple[float, torch.Tensor]]

_HISTORY = 10
_SUFFICIENT = 1e-4  # share of the predicted decrease that a step must bring
_FLAT = 0.9  # share of the slope that may be left after a step
_LONGEST_STRETCH = 10.0  # times the step before
_TRIALS = 30  # points that one search along a line looks at
NOISE = 1e-13  # relative rounding error of a value in float64


def minimise(
    objective: Objective,
    start: torch.Tensor,
    *,
    tolerance: float,
    steps: int,
    check: Callable[[], None],
    noise: float = NOISE,
) -> torch.Tensor:
    """Minimum of a convex function, found from a start near enough to scale that a unit step is sensible.

    Args:
        objective: value and gradient at a float64 vector.
        start: where to begin, float64 [P].
        tolerance: done when no entry of the gradient is larger, or when rounding hides any decrease.
        steps: most iterations.
        check: called again and again between evaluations; raises to stop.
        noise: relative rounding error of a value.

    Source: Nocedal and Wright, Numerical Optimization, 2nd edition, algorithms 7.4 and 7.5.
    """
    here = _Point(start, *objective(start))
    pairs: deque[tuple[torch.Tensor, torch.Tensor]] = deque(maxlen=_HISTORY)
    for _ in range(steps):
        if float(here.gradient.abs().max()) <= tolerance:
            break
        moved = _search(objective, here, _direction(here.gradient, pairs, check), noise)
        if moved is None:
            break
        _remember(pairs, moved.place - here.place, moved.gradient - here.gradient)
        here = moved
    return here.place


@dataclass(frozen=True)
class _Point:
    """A place with the value and the gradient there."""

    place: torch.Tensor
    value: float
    gradient: torch.Tensor


def _direction(
    gradient: torch.Tensor, pairs: deque[tuple[torch.Tensor, torch.Tensor]], check: Callable[[], None]
) -> torch.Tensor:
    """Minus the inverse Hessian estimate times the gradient (two-loop recursion)."""
    direction = -gradient
    weights: list[float] = []
    for step, change in reversed(pairs):
        check()
        weight = float(step.dot(direction) / step.dot(change))
        direction.add_(change, alpha=-weight)
        weights.append(weight)
    if pairs:
        step, change = pairs[-1]
        direction *= step.dot(change) / change.dot(change)
    for (step, change), weight in zip(pairs, reversed(weights), strict=True):
        check()
        direction.add_(step, alpha=weight - float(change.dot(direction) / step.dot(change)))
    return direction


def _search(objective: Objective, here: _Point, direction: torch.Tensor, noise: float) -> _Point | None:
    """A point along the direction that meets the Wolfe conditions; None if rounding hides any decrease.

    The slope of a convex function only grows along a line, so the point lies between one whose slope is too steep and
    one that is too far. Near the minimum, where values differ by rounding alone, the slope decides: a value as large
    as before, within rounding, will do where the slope has not turned by more than a quadratic's would.
    Source: Hager and Zhang 2005, A new conjugate gradient method with guaranteed descent and an efficient line search.
    """
    slope = float(here.gradient.dot(direction))
    if not slope < 0:
        return None
    near, near_slope, length = 0.0, slope, 1.0
    far = far_slope = float("inf")
    for _ in range(_TRIALS):
        place = here.place + length * direction
        there = _Point(place, *objective(place))
        next_slope = float(there.gradient.dot(direction))
        enough = there.value <= here.value + _SUFFICIENT * length * slope
        level = there.value <= here.value + noise * abs(here.value) and next_slope <= (2 * _SUFFICIENT - 1) * slope
        if not (enough or level):
            far, far_slope = length, next_slope
        elif next_slope < _FLAT * slope:
            near, near_slope = length, next_slope
        else:
            return there
        length = _between(near, near_slope, far, far_slope)
    return None


def _between(near: float, near_slope: float, far: float, far_slope: float) -> float:
    """Where to look next: where the slope would be zero if it grew evenly, but well inside, or farther on."""
    if far == float("inf"):
        return _LONGEST_STRETCH * near
    share = near_slope / (near_slope - far_slope) if far_slope > 0 else 0.5
    return near + min(max(share, 0.1), 0.9) * (far - near)


def _remember(pairs: deque[tuple[torch.Tensor, torch.Tensor]], step: torch.Tensor, change: torch.Tensor) -> None:
    """Keeps a pair that tells of positive curvature beyond rounding."""
    if float(step.dot(change)) > 1e-10 * float(change.dot(change)):
        pairs.append((step, change))
