"""Which strategy beats which, over many settings: the pairwise penalty matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from assay.strategies.errors import StrategyError
from assay.strategies.evaluation.inputs import Floats, checked_values
from assay.strategies.evaluation.student import critical_t


@dataclass(frozen=True)
class PenaltyMatrix:
    """wins_SS: row i, column j = in how many settings strategy i beat strategy j, each checkpoint its share.

    settings: how many there were, the largest value possible.
    losses_S: column means; the lower, the seldomer a strategy is beaten.
    """

    wins_SS: Floats
    settings: int

    @property
    def losses_S(self) -> Floats:
        losses_S: Floats = self.wins_SS.mean(axis=0)
        return losses_S


def penalty_matrix(settings: Sequence[ArrayLike], *, confidence: float = 0.95) -> PenaltyMatrix:
    """Compare strategies pair by pair at checkpoints of learning curves, by a two-sided paired t test.

    settings: for each (data set, model, batch size) the quality as (S strategies, R repeats, Q checkpoints), higher
    = better. Repeats are paired over the strategies (same split and seed); R and Q may differ between settings.
    Strategy i beats j at a checkpoint where sqrt(R) mean / deviation of the paired differences exceeds the critical
    value for R - 1 degrees of freedom (2.776 for 5 repeats); that adds 1 / Q to wins[i, j]. Equal differences in
    all repeats, other than 0, count as beyond any threshold.
    Choose checkpoints as the paper does: label counts that double, up to where random sampling has reached 99% of
    its last accuracy. Operations O(S^2 R Q) a setting. Ash, Zhang, Krishnamurthy, Langford, Agarwal, "Deep batch
    active learning by diverse, uncertain gradient lower bounds", ICLR 2020. Where we differ: the authors' script
    looks at the first 5 repeats only; here all count.
    Raises StrategyError INVALID_ARRAY, NOT_FINITE or INVALID_PARAMETER.
    """
    if not len(settings):
        raise StrategyError("INVALID_ARRAY", "there are no settings to compare in; give one array at least")
    matrices = [_wins(checked_values(values, "a setting", 3), confidence) for values in settings]
    if len({len(wins_SS) for wins_SS in matrices}) > 1:
        raise StrategyError("INVALID_ARRAY", "all settings must have the same strategies")
    return PenaltyMatrix(np.sum(matrices, axis=0), len(matrices))


def _wins(values_SRQ: Floats, confidence: float) -> Floats:
    repeats = values_SRQ.shape[1]
    if repeats < 2:
        raise StrategyError("INVALID_ARRAY", "a paired t test needs 2 repeats or more of each strategy")
    threshold = critical_t(repeats - 1, confidence)
    return np.stack([_beaten(values_RQ - values_SRQ, threshold) for values_RQ in values_SRQ])


def _beaten(differences_SRQ: Floats, threshold: float) -> Floats:
    """The share of checkpoints at which the differences to each strategy are significantly above 0."""
    mean_SQ = differences_SRQ.mean(axis=1)
    error_SQ = differences_SRQ.std(axis=1, ddof=1) / np.sqrt(differences_SRQ.shape[1])
    share_S: Floats = (mean_SQ > threshold * error_SQ).mean(axis=1)
    return share_S
