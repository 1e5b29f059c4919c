"""When has labeling done its work? Measures of change between two rounds, and a rule over their history.

The measures need no labels: they compare what successive models predict for one fixed stop set of samples.

    kappas.append(cohen_kappa(predictions_before_N, predictions_N))
    if STABLE_PREDICTIONS.met(kappas): ...

Bloodgood and Vijay-Shanker, "A method for stopping active learning based on stabilizing predictions and the need for
user-adjustable stopping", CoNLL 2009; Zhu, Wang, Hovy, "Multi-criteria-based strategy to stop active learning for data
annotation", COLING 2008; Altschuler and Bloodgood, "Stopping active learning based on predicted change of F measure for
text classification", ICSC 2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.strategies.audit.inputs import checked_classes, checked_count, checked_probs, require_same_size
from assay.strategies.errors import InvalidParams, StrategyError
from assay.strategies.kernels.fused import from_probs

Classes = NDArray[np.int64]


@dataclass(frozen=True)
class Verdict:
    """Whether to stop, and why or why not, in words."""

    stop: bool
    reason: str


@dataclass(frozen=True)
class StoppingRule:
    """Stop when each of the last `window` values of a measure is beyond a threshold; keeps no state itself.

    window: how many rounds, from 1.
    threshold: the value that still counts.
    direction: "at_least" for measures of agreement, "at_most" for measures of change or doubt.
    Raises StrategyError INVALID_PARAMETER for anything else.
    """

    window: int
    threshold: float
    direction: Literal["at_least", "at_most"] = "at_least"

    def __post_init__(self) -> None:
        checked_count(self.window, "window")
        if not math.isfinite(self.threshold):
            raise InvalidParams("threshold", f"must be a finite number, not {self.threshold!r}")
        if self.direction not in ("at_least", "at_most"):
            raise InvalidParams("direction", f"must be 'at_least' or 'at_most', not {self.direction!r}")

    def met(self, history: Sequence[float] | NDArray[np.floating]) -> bool:
        """Whether the values so far, oldest first, say stop. Raises StrategyError NOT_FINITE or INVALID_ARRAY."""
        return self.judge(history).stop

    def judge(self, history: Sequence[float] | NDArray[np.floating]) -> Verdict:
        """As `met`, with the reason."""
        values = np.asarray(history, np.float64)
        if values.ndim != 1:
            raise StrategyError("INVALID_ARRAY", f"a history is a list of numbers, one a round; got {values.shape}")
        if not np.isfinite(values).all():
            raise StrategyError("NOT_FINITE", "the history holds NaN or infinity; leave out rounds without a value")
        if len(values) < self.window:
            return Verdict(False, f"{len(values)} of {self.window} rounds so far")
        return self._judged(values[-self.window :])

    def _judged(self, latest_W: NDArray[np.float64]) -> Verdict:
        at_least = self.direction == "at_least"
        worst = latest_W.min() if at_least else latest_W.max()
        stop = bool(worst >= self.threshold if at_least else worst <= self.threshold)
        aim = f"{'at least' if at_least else 'at most'} {self.threshold:g}"
        rounds = f"last {self.window} rounds" if self.window > 1 else "last round"
        if stop:
            return Verdict(True, f"{aim} throughout the {rounds}; the worst was {worst:.4g}")
        return Verdict(False, f"{worst:.4g} within the {rounds}, where {aim} is needed")


# small-text's defaults, for every round of the window where it takes their mean.
STABLE_PREDICTIONS = StoppingRule(window=3, threshold=0.99)
# No prediction changed.
SAME_PREDICTIONS = StoppingRule(window=1, threshold=0.0, direction="at_most")
# small-text's defaults; it wants the change strictly below.
SMALL_F_CHANGE = StoppingRule(window=3, threshold=0.05, direction="at_most")


def cohen_kappa(previous_N: ArrayLike, current_N: ArrayLike) -> float:
    """Agreement of two rounds' predicted classes beyond chance, at most 1.

    (p_o - p_e) / (1 - p_e), p_o = share of equal predictions, p_e = what two independent raters with these class
    frequencies would share. 1 where both rounds predict one and the same class for all (scikit-learn: NaN, 0 / 0).
    Operations O(N log N), memory O(N). A kappa of k bounds the change of the F measure by 4 (1 - k) / k (Bloodgood and
    Grothendieck, CoNLL 2013). Where small-text's KappaAverage differs: the mean of the last kappas must reach the
    threshold, here each of them; before 1.3.3 it was another rule.
    Raises StrategyError INVALID_ARRAY or CLASS_OUT_OF_RANGE.
    """
    previous, current = _checked_rounds(previous_N, current_N)
    _, both = np.unique(np.concatenate([previous, current]), return_inverse=True)
    shares_2C = [np.bincount(side, minlength=both.max() + 1) / len(previous) for side in np.split(both, 2)]
    observed, expected = float((previous == current).mean()), float(shares_2C[0] @ shares_2C[1])
    return 1.0 if observed == 1.0 else (observed - expected) / (1.0 - expected)


def classification_change(previous_N: ArrayLike, current_N: ArrayLike) -> float:
    """The share of samples whose predicted class changed between two rounds, 0 to 1.

    Raises StrategyError INVALID_ARRAY or CLASS_OUT_OF_RANGE.
    """
    previous, current = _checked_rounds(previous_N, current_N)
    return float((previous != current).mean())


def mean_entropy(probs_NC: ArrayLike) -> float:
    """The mean entropy of the predictions divided by ln C: 0 = all sure, 1 = all uniform. One class: 0.

    Raises StrategyError INVALID_ARRAY or PROBABILITIES_INVALID.
    """
    probs = checked_probs(probs_NC)
    entropy_N = from_probs(probs, ("entropy",))["entropy"]
    return float(entropy_N.mean(dtype=np.float64)) / math.log(probs.shape[1]) if probs.shape[1] > 1 else 0.0


def delta_f(previous_N: ArrayLike, current_N: ArrayLike, *, positive: int = 1) -> float:
    """Predicted change of the F measure of one class between two rounds, 0 to 1.

    1 - 2 a / (2 a + b + c), with a = samples that both rounds predict positive, b and c = those that only one does:
    1 less the F measure of one round against the other. 0 where neither predicts the class (small-text: NaN, 0 / 0).
    For several classes take the largest, or the mean, over them.
    Raises StrategyError INVALID_ARRAY or CLASS_OUT_OF_RANGE.
    """
    previous, current = _checked_rounds(previous_N, current_N)
    before_N, now_N = previous == positive, current == positive
    both, predicted = int((before_N & now_N).sum()), int(before_N.sum()) + int(now_N.sum())
    return 1.0 - 2.0 * both / predicted if predicted else 0.0


def _checked_rounds(previous_N: ArrayLike, current_N: ArrayLike) -> tuple[Classes, Classes]:
    previous, current = checked_classes(previous_N, "predictions"), checked_classes(current_N, "predictions")
    require_same_size(len(previous), len(current), "predictions")
    return previous, current
