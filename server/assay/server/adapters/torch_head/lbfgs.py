"""Limited-memory BFGS for a smooth convex function.

torch.optim.LBFGS is not used: its first step imports torch's compiler, which takes seconds and tens of megabytes.
"""

from collections import deque
from collections.abc import Callable

import torch

Objective = Callable[[torch.Tensor], tuple[float, torch.Tensor]]

_HISTORY = 10
_SUFFICIENT = 1e-4  # share of the predicted decrease that a step must bring
_SMALLEST_STEP = 1e-6
_NOISE = 1e-7  # relative rounding error of a loss whose logits are float32


def minimise(objective: Objective, start: torch.Tensor, *, tolerance: float, steps: int) -> torch.Tensor:
    """Minimum of a function, found from a start near enough to scale that a unit step is sensible.

    Args:
        objective: value and gradient at a float64 vector.
        start: where to begin, float64 [P].
        tolerance: done when no entry of the gradient is larger.
        steps: most iterations.

    Source: Nocedal and Wright, Numerical Optimization, 2nd edition, algorithms 7.4 and 7.5.
    """
    point = start
    value, gradient = objective(point)
    pairs: deque[tuple[torch.Tensor, torch.Tensor]] = deque(maxlen=_HISTORY)
    for _ in range(steps):
        if float(gradient.abs().max()) <= tolerance:
            break
        moved = _search(objective, point, value, gradient, _direction(gradient, pairs))
        if moved is None:
            break
        next_point, value, next_gradient = moved
        _remember(pairs, next_point - point, next_gradient - gradient)
        point, gradient = next_point, next_gradient
    return point


def _direction(gradient: torch.Tensor, pairs: deque[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Minus the inverse Hessian estimate times the gradient (two-loop recursion)."""
    direction = -gradient
    weights: list[torch.Tensor] = []
    for step, change in reversed(pairs):
        weight = step.dot(direction) / step.dot(change)
        direction = direction - weight * change
        weights.append(weight)
    if pairs:
        step, change = pairs[-1]
        direction = direction * (step.dot(change) / change.dot(change))
    for (step, change), weight in zip(pairs, reversed(weights), strict=True):
        direction = direction + (weight - change.dot(direction) / step.dot(change)) * step
    return direction


def _search(
    objective: Objective, point: torch.Tensor, value: float, gradient: torch.Tensor, direction: torch.Tensor
) -> tuple[torch.Tensor, float, torch.Tensor] | None:
    """First point along the direction, by halving, that decreases enough; None if rounding hides any decrease."""
    slope = float(gradient.dot(direction))
    length = 1.0
    while length >= _SMALLEST_STEP:
        candidate = point + length * direction
        next_value, next_gradient = objective(candidate)
        if next_value <= value + _SUFFICIENT * length * slope + _NOISE * abs(value):
            return candidate, next_value, next_gradient
        length /= 2
    return None


def _remember(pairs: deque[tuple[torch.Tensor, torch.Tensor]], step: torch.Tensor, change: torch.Tensor) -> None:
    """Keeps a pair that tells of positive curvature beyond rounding."""
    if float(step.dot(change)) > 1e-10 * float(change.dot(change)):
        pairs.append((step, change))
