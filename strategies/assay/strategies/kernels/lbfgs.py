"""Limited-memory BFGS for smooth convex functions, many of one length at once.

Neither torch's nor scipy's: the first step of torch.optim.LBFGS imports torch's compiler, which takes seconds and tens
of megabytes, and scipy's L-BFGS-B (1.17) holds the interpreter's lock through each of its steps: at 10,000 classes and
129 features they took 0.2 s of processor time each, in which another thread that wakes every millisecond never ran.
And neither minimises many functions in one pass over the data that they share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Objective = Callable[[torch.Tensor], tuple[float, torch.Tensor]]

_HISTORY = 10
_SUFFICIENT = 1e-4  # share of the predicted decrease that a step must bring
_FLAT = 0.9  # share of the slope that may be left after a step
_LONGEST_STRETCH = 10.0  # times the step before
_TRIALS = 30  # points that one search along a line looks at
_TELLING = 1e-10  # curvature of a pair, in units of its change, below which it is rounding
_CROWDED = 0.75  # share of open problems at which those that are done are left out of the passes
NOISE = 1e-13  # relative rounding error of a value in float64


class Problems(Protocol):
    """B convex functions of P variables each, evaluated together."""

    def __call__(self, points_BP: torch.Tensor, /) -> tuple[torch.Tensor, torch.Tensor]:
        """Values [B] and gradients [B, P] at a point of each."""

    def narrowed(self, kept_A: torch.Tensor) -> Problems:
        """Those of them that are named by their places, ascending."""


def minimise_many(
    problems: Problems,
    start_BP: torch.Tensor,
    *,
    tolerance: float,
    passes: int,
    check: Callable[[], None],
    noise: float = NOISE,
) -> torch.Tensor:
    """Minima of convex functions [B, P], each found from a start near enough to scale that a unit step is sensible.

    Each function goes its own way, with a history and a search of its own; what they share are the evaluations. One
    that is done stays where it is.

    Args:
        problems: values and gradients, of the type of the start.
        start_BP: where to begin.
        tolerance: a function is done when no entry of its gradient is larger, or when rounding hides any decrease.
        passes: most evaluations.
        check: called again and again between evaluations; raises to stop.
        noise: relative rounding error of a value.

    Source: Nocedal and Wright, Numerical Optimization, 2nd edition, algorithms 7.4 and 7.5.
    """
    found_BP = start_BP.clone()
    open_A = torch.arange(len(start_BP))
    searches = _Searches(start_BP, *problems(start_BP), tolerance, noise, check)
    for _ in range(passes):
        going_A = torch.nonzero(~searches.done_A).flatten()
        if len(going_A) == 0:
            break
        if len(going_A) <= _CROWDED * len(open_A):
            found_BP[open_A] = searches.place_AP
            searches.narrow(going_A)
            open_A, problems = open_A[going_A], problems.narrowed(going_A)
        searches.advance(*problems(searches.trial()))
    found_BP[open_A] = searches.place_AP
    return found_BP


def minimise(
    objective: Objective,
    start: torch.Tensor,
    *,
    tolerance: float,
    passes: int,
    check: Callable[[], None],
    noise: float = NOISE,
) -> torch.Tensor:
    """Minimum of one convex function of a vector [P]; see minimise_many."""
    found_1P = minimise_many(_One(objective), start[None], tolerance=tolerance, passes=passes, check=check, noise=noise)
    return found_1P[0]


class _One:
    """One function as problems."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def __call__(self, points_BP: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value, gradient_P = self._objective(points_BP[0])
        return points_BP.new_tensor([value]), gradient_P[None]

    def narrowed(self, kept_A: torch.Tensor) -> _One:
        return self


class _Searches:
    """Where each of A functions is, and how far its search along a line has come.

    The Wolfe conditions end a search. The slope of a convex function only grows along a line, so the point lies between
    one whose slope is too steep (`near`) and one that is too far (`far`). Close to the minimum, where values differ by
    rounding alone, the slope decides: a value as large as before, within rounding, will do where the slope has not
    turned by more than a quadratic's would.
    Source: Hager and Zhang 2005, A new conjugate gradient method with guaranteed descent and an efficient line search.
    """

    def __init__(
        self,
        place_AP: torch.Tensor,
        value_A: torch.Tensor,
        gradient_AP: torch.Tensor,
        tolerance: float,
        noise: float,
        check: Callable[[], None],
    ) -> None:
        self.place_AP = place_AP.clone()
        self._value_A, self._gradient_AP = value_A, gradient_AP
        self._tolerance, self._noise, self._check = tolerance, noise, check
        self._history = _History(place_AP)
        self._direction_AP = -gradient_AP
        self._slope_A = _dot(gradient_AP, self._direction_AP)
        self._near_A = torch.zeros_like(value_A)
        self._near_slope_A = self._slope_A.clone()
        self._far_A = torch.full_like(value_A, torch.inf)
        self._far_slope_A = self._far_A.clone()
        self._length_A = torch.ones_like(value_A)
        self._tried_A = self._length_A
        self._trials_A = torch.zeros_like(value_A)
        self.done_A = self._flat()

    def trial(self) -> torch.Tensor:
        """The point of each that is to be looked at next."""
        self._check()
        return torch.addcmul(self.place_AP, self._length_A[:, None], self._direction_AP)

    def advance(self, value_A: torch.Tensor, gradient_AP: torch.Tensor) -> None:
        """Goes on from what was found at the trial points."""
        self._check()
        accepted_A = self._judge(value_A, _dot(gradient_AP, self._direction_AP)) & ~self.done_A
        if bool(accepted_A.any()):
            self._move(accepted_A, value_A, gradient_AP)
        self.done_A |= self._trials_A >= _TRIALS

    def narrow(self, kept_A: torch.Tensor) -> None:
        """Leaves out all but those that are named by their places."""
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                self._check()
                setattr(self, name, value[kept_A])
        self._history.narrow(kept_A, self._check)

    def _judge(self, value_A: torch.Tensor, slope_A: torch.Tensor) -> torch.Tensor:
        """Which of the trial points will do; for the others, how far along the line to look next."""
        enough_A = value_A <= self._value_A + _SUFFICIENT * self._length_A * self._slope_A
        level_A = value_A <= self._value_A + self._noise * self._value_A.abs()
        low_A = enough_A | (level_A & (slope_A <= (2 * _SUFFICIENT - 1) * self._slope_A))
        steep_A = low_A & (slope_A < _FLAT * self._slope_A)
        self._far_A = torch.where(low_A, self._far_A, self._length_A)
        self._far_slope_A = torch.where(low_A, self._far_slope_A, slope_A)
        self._near_A = torch.where(steep_A, self._length_A, self._near_A)
        self._near_slope_A = torch.where(steep_A, slope_A, self._near_slope_A)
        self._trials_A += 1
        accepted_A = low_A & ~steep_A
        self._tried_A = self._length_A
        self._length_A = torch.where(self.done_A, 0.0, self._between())
        return accepted_A

    def _between(self) -> torch.Tensor:
        """Where to look next: where the slope would be zero if it grew evenly, but well inside, or farther on."""
        turned_A = self._near_slope_A / (self._near_slope_A - self._far_slope_A)
        share_A = torch.where(self._far_slope_A > 0, turned_A, 0.5).clamp(0.1, 0.9)
        inside_A = self._near_A + share_A * (self._far_A - self._near_A)
        return torch.where(torch.isinf(self._far_A), _LONGEST_STRETCH * self._near_A, inside_A)

    def _move(self, accepted_A: torch.Tensor, value_A: torch.Tensor, gradient_AP: torch.Tensor) -> None:
        """Accepts the trial points of some, and turns them to where they go from there."""
        moved_A1 = accepted_A[:, None]
        step_AP = torch.where(moved_A1, self._tried_A[:, None] * self._direction_AP, 0.0)
        change_AP = torch.where(moved_A1, gradient_AP - self._gradient_AP, 0.0)
        self._check()
        self.place_AP += step_AP
        self._gradient_AP = self._gradient_AP + change_AP
        self._value_A = torch.where(accepted_A, value_A, self._value_A)
        self._history.remember(step_AP, change_AP)
        self._check()
        direction_AP = self._history.direction(self._gradient_AP, self._check)
        self._direction_AP = torch.where(moved_A1, direction_AP, self._direction_AP)
        self._begin(accepted_A)

    def _begin(self, accepted_A: torch.Tensor) -> None:
        """New searches."""
        self._check()
        slope_A = _dot(self._gradient_AP, self._direction_AP)
        self._slope_A = torch.where(accepted_A, slope_A, self._slope_A)
        self._near_A = torch.where(accepted_A, 0.0, self._near_A)
        self._near_slope_A = torch.where(accepted_A, self._slope_A, self._near_slope_A)
        self._far_A = torch.where(accepted_A, torch.inf, self._far_A)
        self._far_slope_A = torch.where(accepted_A, torch.inf, self._far_slope_A)
        self._trials_A = torch.where(accepted_A, 0.0, self._trials_A)
        self.done_A |= self._flat()
        self._length_A = torch.where(self.done_A, 0.0, torch.where(accepted_A, 1.0, self._length_A))

    def _flat(self) -> torch.Tensor:
        """Those at their minimum, as well as can be told."""
        self._check()
        return (self._gradient_AP.abs().amax(dim=1) <= self._tolerance) | ~(self._slope_A < 0)


class _History:
    """The last steps of each function and how its gradient changed over them: an estimate of its curvature.

    All remember at the same time. One that did not move then, or whose pair tells of no curvature, has an empty pair.
    """

    def __init__(self, like_AP: torch.Tensor) -> None:
        self._steps: list[torch.Tensor] = []
        self._changes: list[torch.Tensor] = []
        self._inverses: list[torch.Tensor] = []
        self._scale_A = like_AP.new_ones(len(like_AP))

    def remember(self, step_AP: torch.Tensor, change_AP: torch.Tensor) -> None:
        """Keeps a pair of each function, all zero where it did not move."""
        curvature_A, square_A = _dot(step_AP, change_AP), _dot(change_AP, change_AP)
        telling_A = curvature_A > _TELLING * square_A
        if not bool(telling_A.any()):
            return
        self._inverses.append(torch.where(telling_A, 1.0 / curvature_A, 0.0))
        self._scale_A = torch.where(telling_A, curvature_A / square_A, self._scale_A)
        self._steps.append(step_AP)
        self._changes.append(change_AP)
        if len(self._steps) > _HISTORY:
            for kept in (self._steps, self._changes, self._inverses):
                kept.pop(0)

    def direction(self, gradient_AP: torch.Tensor, check: Callable[[], None]) -> torch.Tensor:
        """Minus the inverse Hessian estimate times the gradient (two-loop recursion)."""
        direction_AP = -gradient_AP
        weights: list[torch.Tensor] = []
        pairs = list(zip(self._steps, self._changes, self._inverses, strict=True))
        for step_AP, change_AP, inverse_A in reversed(pairs):
            check()
            weight_A = inverse_A * _dot(step_AP, direction_AP)
            direction_AP.addcmul_(change_AP, weight_A[:, None], value=-1.0)
            weights.append(weight_A)
        direction_AP *= self._scale_A[:, None]
        for (step_AP, change_AP, inverse_A), weight_A in zip(pairs, reversed(weights), strict=True):
            check()
            rest_A = weight_A - inverse_A * _dot(change_AP, direction_AP)
            direction_AP.addcmul_(step_AP, rest_A[:, None])
        return direction_AP

    def narrow(self, kept_A: torch.Tensor, check: Callable[[], None]) -> None:
        """Leaves out all but some of the functions."""
        self._scale_A = self._scale_A[kept_A]
        for kept in (self._steps, self._changes, self._inverses):
            for place, values in enumerate(kept):
                check()
                kept[place] = values[kept_A]


def _dot(left_AP: torch.Tensor, right_AP: torch.Tensor) -> torch.Tensor:
    """Inner products of the rows."""
    if len(left_AP) == 1:
        return left_AP[0].dot(right_AP[0])[None]
    return (left_AP * right_AP).sum(dim=1)
