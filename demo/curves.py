"""Learning curves: held-out accuracy against the number of labels, for several seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Accuracies of one strategy: one row per seed, one column per label count."""

    labels_L: NDArray[np.int64]
    accuracy_SL: NDArray[np.float64]

    @classmethod
    def of(cls, labels: Sequence[int], accuracy: Sequence[Sequence[float]]) -> "Curves":
        """From plain lists: one list of accuracies per seed.

        Raises:
            ValueError: a seed has not one accuracy per label count.
        """
        if any(len(row) != len(labels) for row in accuracy):
            raise ValueError("each seed needs one accuracy per label count")
        return cls(np.array(labels, dtype=np.int64), np.array(accuracy, dtype=np.float64))

    @property
    def mean_L(self) -> NDArray[np.float64]:
        """Mean over the seeds."""
        mean_L: NDArray[np.float64] = self.accuracy_SL.mean(axis=0)
        return mean_L

    @property
    def sd_L(self) -> NDArray[np.float64]:
        """Sample standard deviation over the seeds; 0 where there is only one."""
        if len(self.accuracy_SL) < 2:
            return np.zeros(len(self.labels_L))
        sd_L: NDArray[np.float64] = self.accuracy_SL.std(axis=0, ddof=1)
        return sd_L

    def areas_S(self) -> NDArray[np.float64]:
        """Area under each seed's curve (trapezoids) over its width: the mean accuracy on the way, from 0 to 1."""
        widths = np.diff(self.labels_L)
        heights = (self.accuracy_SL[:, :-1] + self.accuracy_SL[:, 1:]) / 2
        areas_S: NDArray[np.float64] = heights @ widths / widths.sum()
        return areas_S

    def labels_to_reach(self, accuracy: float) -> float | None:
        """Labels at which the mean curve first reaches an accuracy, between two rounds by a straight line; or None."""
        mean_L = self.mean_L
        reached = np.flatnonzero(mean_L >= accuracy)
        if not len(reached):
            return None
        at = int(reached[0])
        if at == 0:
            return float(self.labels_L[0])
        low, high = mean_L[at - 1], mean_L[at]
        before, after = self.labels_L[at - 1], self.labels_L[at]
        return float(before + (accuracy - low) / (high - low) * (after - before))
