"""Uncertainty for regression: the scatter of a committee's values, and greedy sampling of the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.base import NoParams, Selection
from assay.strategies.candidates import Candidates
from assay.strategies.diversity.k_center import KCenterParams, k_center
from assay.strategies.errors import StrategyError
from assay.strategies.kernels.tensors import borrow, spread
from assay.strategies.needs import Need

# Values in a block, in float64.
_BLOCK_VALUES = 1 << 17


@dataclass(frozen=True)
class MemberStd:
    """How far the members' predicted values scatter around their mean, in the unit of the target.

    With several targets, the root of the mean variance over them. One in a large unit then decides alone: predict all
    in like units, such as standard deviations of the labeled values.

    Formula: sqrt(1/T sum_t 1/K sum_k (y_kt - mean_k y_kt)^2)
    Cost: O(K N T) time, one pass, in float64; memory O(block x K) beside the values. Streams, shards and merges.
    Use when: an ensemble, or passes with dropout, predict a number, or several in like units.
    Avoid when: members predict their own variance too: this sees only the part that they disagree about. Linear members
        on bootstrap samples disagree most about outliers: on real data that was no better than random sampling.
    Paper: Burbidge, Rowland and King, Active Learning for Regression Based on Query by Committee, IDEAL 2007;
        RayChaudhuri and Hamey, Minimisation of Data Collection by Active Learning, ICNN 1995.
    Reference: modAL `max_std_sampling` over a committee of regressors (numpy.std, divided by K), the same values for
        one target. scikit-activeml `QueryByCommittee` scores a committee of regressors by variance: the same order.
    """

    name: ClassVar[str] = "member_std"
    summary: ClassVar[str] = "The standard deviation of the members' predicted values, at least 0."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.MEMBER_VALUES})
    params: ClassVar[type[NoParams]] = NoParams

    def score(self, block: Candidates, params: NoParams) -> NDArray[np.float32]:
        """float32 scores in the unit of the values, higher = more disagreement.

        Raises NeedMissing; StrategyError NOT_FINITE, or INVALID_ARRAY without members or targets.
        """
        values_KNT = block.member_values_KNT
        members, _, targets = values_KNT.shape
        if members == 0 or targets == 0:
            raise StrategyError("INVALID_ARRAY", "there are no members or no targets: give at least one of each")
        return _deviations(values_KNT)


@dataclass(frozen=True)
class GSx:
    """Greedy sampling of the inputs: the first sample is the one nearest to the mean, every further one is the one
    farthest from all that is labeled or picked.

    It looks at no prediction, so it serves where there is no model yet. It is `k_center` in the Euclidean metric,
    started at the mean; what is labeled already takes the place of the first pick.

    Formula: argmin_i |h_i - mean h| first, then argmax_i min_{j in labeled or picked} |h_i - h_j|
    Cost: O(N D (L + k)) in matrix products; memory O(N) beside the embeddings. Exact: the picks of the plain loop.
    Use when: a regression starts from nothing, and its inputs (or embeddings) are scaled to like units.
    Avoid when: inputs hold outliers, which it seeks, or dimensions in units that cannot be compared: scale them first.
    Paper: Wu, Lin and Huang, Active Learning for Regression Using Greedy Sampling, Information Sciences 2019; after
        Yu and Kim, Passive Sampling for Regression, ICDM 2010.
    Reference: scikit-activeml `GreedySamplingX`, the same picks once something is labeled. With nothing labeled it
        starts where the sum of the distances to all is least (all pairs); here, as in the paper, nearest to the mean,
        which is that of the candidates. It breaks ties at random; here they go to the lower row.
    """

    name: ClassVar[str] = "gsx"
    summary: ClassVar[str] = "Nearest to the mean first, then always the farthest from all labeled or picked."
    needs: ClassVar[frozenset[Need]] = k_center.needs
    params: ClassVar[type[NoParams]] = NoParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: NoParams,
    ) -> Selection:
        """Scores of the picks: distance to the nearest labeled or earlier pick at the time, as in `k_center`.

        Raises NeedMissing, or StrategyError INVALID_ARRAY, INVALID_SIZE or NOT_FINITE.
        """
        return k_center.select(candidates, size, rng, None, KCenterParams(metric="l2", start="mean"))


member_std = MemberStd()
gsx = GSx()


def _deviations(values_KNT: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over members, float32 of shape (N,). In float64: squares of float32 values may not fit float32."""
    members, size, targets = values_KNT.shape
    scores_N = np.empty(size, np.float32)

    def block(start: int, stop: int) -> None:
        values_KBT = borrow(values_KNT[:, start:stop]).double()
        variances_BT = values_KBT.sub_(values_KBT.mean(0)).square_().mean(0)
        torch.from_numpy(scores_N[start:stop]).copy_(variances_BT.mean(1).sqrt_())

    if size:
        spread(block, size, max(1, _BLOCK_VALUES // (members * targets)))
    return scores_N
