"""Learning curves as single numbers. A curve is a measure of quality (accuracy) at rising counts of labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from assay.strategies.errors import StrategyError
from assay.strategies.evaluation.inputs import Floats, checked_curve, checked_values


def aubc(labels_Q: ArrayLike, curve: ArrayLike) -> Floats:
    """Area under the budget curve as published: trapezoids / (last count - first count + 1).

    labels_Q: label counts at the checkpoints, rising. curve: its last axis is Q; one result for each of the others.
    Beware: the divisor counts the labels, both ends included, while trapezoids span one less, so that a constant
    curve of 1 gives q / (q + 1) over q further labels; use it to compare with published tables (Zhan, Liu, Li,
    Chan, "A comparative survey: benchmarking for pool-based active learning", IJCAI 2021), and `mean_height` else.
    Raises StrategyError INVALID_ARRAY or NOT_FINITE.
    """
    labels, values = checked_curve(labels_Q, curve)
    return np.asarray(np.trapezoid(values, labels, axis=-1) / (labels[-1] - labels[0] + 1))


def mean_height(labels_Q: ArrayLike, curve: ArrayLike) -> Floats:
    """The mean of the curve over the labels: trapezoids / (last count - first count); a constant curve gives itself.

    Takes and raises what `aubc` does. One checkpoint alone: the value there.
    """
    labels, values = checked_curve(labels_Q, curve)
    if len(labels) == 1:
        return values[..., 0]
    return np.asarray(np.trapezoid(values, labels, axis=-1) / (labels[-1] - labels[0]))


def labels_to_reach(labels_Q: ArrayLike, curve: ArrayLike, target: float) -> Floats:
    """How many labels until the curve first reaches the target, between checkpoints by a straight line.

    Infinity where it never does; the first count where it starts there. A curve may sink again: only the first time
    counts. Takes and raises what `aubc` does; NOT_FINITE for such a target.
    """
    labels, values = checked_curve(labels_Q, curve)
    aim = float(checked_values(target, "the target", 0))
    reached = values >= aim
    after = np.expand_dims(reached.argmax(axis=-1), -1)
    before = np.maximum(after - 1, 0)
    low, high = (np.take_along_axis(values, at, axis=-1) for at in (before, after))
    share = np.divide(aim - low, high - low, out=np.zeros(low.shape), where=(after > 0) & (high > low))
    counts = (labels[before] + share * (labels[after] - labels[before]))[..., 0]
    return np.asarray(np.where(reached.any(axis=-1), counts, np.inf))


def label_efficiency(labels_Q: ArrayLike, curve_Q: ArrayLike, baseline_Q: ArrayLike, target: float) -> float:
    """How many times the labels the baseline needs to reach the target: 2 = this curve needs half of them.

    Infinity where only this curve gets there, 0 where only the baseline does (or it needs no labels).
    Raises what `aubc` does, and StrategyError TARGET_NOT_REACHED where neither does, or both start there with none.
    """
    ours, theirs = (
        float(labels_to_reach(labels_Q, checked_values(curve, "a curve", 1), target)) for curve in (curve_Q, baseline_Q)
    )
    if ours == theirs and not 0 < ours < np.inf:
        raise StrategyError("TARGET_NOT_REACHED", f"no curve reaches {target} by labeling; give a target between them")
    return theirs / ours if ours else np.inf
