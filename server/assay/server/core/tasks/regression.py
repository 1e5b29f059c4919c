"""Named numbers per sample. A value is a tuple of floats in the order of the task's targets."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.server.core.errors import Reason
from assay.server.core.records.tasks import TargetRecord
from assay.server.core.tasks.base import (
    ClassScores,
    Column,
    CommonTask,
    Consensus,
    PredictionForm,
    PredictionShape,
    Refused,
    TaskMetrics,
    Value,
    wrong_task,
)
from assay.server.core.tasks.given import Given, Numbers
from assay.server.core.tasks.resampling import Floats, ratio, score, summed
from assay.server.core.tasks.voting import checked_weights, pairwise, side, weighted_median

_SCORES = ("mae", "rmse", "r2")
# Variances below this share of the mean square are none: numbers that are all the same leave that much by rounding.
_ROUNDING = 1e-12


class Regression(CommonTask):
    """The task of named numbers per sample."""

    def value_of(self, given: Given, text_length: int | None, retired: bool) -> Value:
        if not isinstance(given, Numbers):
            names = ", ".join(each.name for each in self.record.targets[:5])
            raise wrong_task(given, Numbers, f"a number for each of: {names}")
        known = {each.name for each in self.record.targets}
        for name in given.values:
            if name not in known:
                raise Refused(
                    Reason.INVALID_VALUE,
                    f"{name[:100]!r} is no number of the pool; it asks for: {', '.join(sorted(known)[:20])}.",
                    target=name,
                )
        return tuple(_number(given, target) for target in self.record.targets)

    def encode(self, value: Value) -> bytes:
        return np.asarray(value, "<f8").tobytes()

    def decode(self, data: bytes) -> Value:
        numbers = np.frombuffer(data, "<f8")
        if len(numbers) != len(self.record.targets) or not np.isfinite(numbers).all():
            raise ValueError("not a number for each target of the task")
        return tuple(numbers.tolist())

    def agreement(self, a: Value, b: Value) -> float:
        """1 minus the distance as a share of the target's range, or, where the range is open, of the larger of both
        numbers, and at least 0; the mean over the targets."""
        shares = [_distance(x, y, target) for x, y, target in zip(a, b, self.record.targets, strict=True)]
        return 1.0 - math.fsum(shares) / len(shares)

    def consensus(self, values: Sequence[Value], weights: Sequence[float] | None = None) -> Consensus:
        """The weighted median of each number.

        confidence is the share of the weight that is within the task's tolerance of all medians; there is a value if
        it is more than half.
        """
        counts = checked_weights(len(values), weights)
        median = tuple(weighted_median(numbers, counts) for numbers in zip(*values, strict=True))
        near = math.fsum(weight for value, weight in zip(values, counts, strict=True) if self._near(value, median))
        share = near / math.fsum(counts)
        decided, _ = side(share, 1.0)
        return Consensus(median if decided else None, share, pairwise(values, self.agreement))

    def targets(self, values: Column) -> Floats:
        """float64 [N, T]."""
        return np.asarray(values, np.float64).reshape(len(values), len(self.record.targets))

    @property
    def prediction_shape(self) -> PredictionShape:
        return PredictionShape(PredictionForm.NUMBERS, len(self.record.targets))

    def metrics(self, values: Column, predictions: Any, seed: int = 0) -> TaskMetrics:
        """mae, rmse and r2 (1 - squared errors over squared distances from the mean; None where all values are equal),
        per target and as means over the targets. Definitions and values are those of scikit-learn."""
        if not len(values):
            return TaskMetrics(0, dict.fromkeys(_SCORES))
        said_NT = self.targets(values)
        # A common shift changes no measure, and keeps the sums of squares from losing digits.
        shifted_NT = said_NT - said_NT.mean(axis=0)
        errors_NT = np.asarray(predictions, np.float64).reshape(said_NT.shape) - said_NT
        stats = np.stack([np.abs(errors_NT), errors_NT**2, shifted_NT, shifted_NT**2], axis=1)
        means = summed(stats.reshape(len(values), -1), seed).reshape(-1, 4, said_NT.shape[1])
        absolute_RT, squared_RT, mean_RT, square_RT = (means[:, i] for i in range(4))
        variance_RT = np.where(np.ptp(said_NT, axis=0) > 0, square_RT - mean_RT**2, 0.0)
        # What is left of a draw of one value over and over is rounding.
        variance_RT[variance_RT <= _ROUNDING * square_RT] = 0.0
        measures = {
            "mae": absolute_RT,
            "rmse": np.sqrt(squared_RT),
            "r2": 1 - ratio(squared_RT, variance_RT),
        }
        per_target = tuple(
            ClassScores(target.name, len(values), {name: score(each[:, t]) for name, each in measures.items()})
            for t, target in enumerate(self.record.targets)
        )
        return TaskMetrics(len(values), {name: score(each.mean(axis=1)) for name, each in measures.items()}, per_target)

    @property
    def export_columns(self) -> tuple[str, ...]:
        return ("numbers",)

    def cell(self, value: Value) -> dict[str, float]:
        return {target.name: number for target, number in zip(self.record.targets, value, strict=True)}

    def given_of(self, cell: Any) -> Given:
        return Numbers(dict(cell.items()))

    def _near(self, value: Value, median: Value) -> bool:
        tolerance = self.record.options.number_tolerance
        triples = zip(value, median, self.record.targets, strict=True)
        return all(_distance(x, y, target) <= tolerance for x, y, target in triples)


def _number(given: Numbers, target: TargetRecord) -> float:
    number = given.values.get(target.name)
    if number is None:
        raise Refused(
            Reason.INVALID_VALUE, f"its number {target.name!r} is missing. Give all of them.", target=target.name
        )
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise Refused(Reason.INVALID_VALUE, f"its {target.name!r} is no number: {number!r:.100}.", target=target.name)
    if not abs(number) <= _LARGEST:
        raise Refused(
            Reason.NOT_FINITE, f"its {target.name!r} is {number!r:.40}. Give a finite number.", target=target.name
        )
    low = -math.inf if target.minimum is None else target.minimum
    high = math.inf if target.maximum is None else target.maximum
    if not low <= number <= high:
        raise Refused(
            Reason.INVALID_VALUE,
            f"its {target.name!r} is {number}, outside the range {low} to {high} of the task.",
            target=target.name,
        )
    return float(number) + 0.0  # without the sign of -0.0


# Whole numbers beyond it have no float.
_LARGEST = math.ldexp(1 - 2**-53, 1024)


def _distance(x: float, y: float, target: TargetRecord) -> float:
    """How far two numbers are apart, as a share, at most 1."""
    if target.minimum is not None and target.maximum is not None:
        scale = target.maximum - target.minimum
    else:
        scale = max(abs(x), abs(y))
    return min(1.0, abs(x - y) / scale) if x != y else 0.0
