"""MaxHerding and uncertainty herding: the picks that raise a kernel's generalised coverage of the pool most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size, checked_utility
from assay.strategies.candidates import Candidates
from assay.strategies.kernels.covering import Wishes, select_cover
from assay.strategies.needs import Need

GIB = 2.0**30


@dataclass(frozen=True)
class HerdingParams:
    gamma: float = field(
        default=0.0,
        metadata={
            "doc": "The kernel is exp(-gamma squared distance). 0: 1 / the mean squared distance of two candidates.",
            "minimum": 0.0,
        },
    )
    neighbors: int = field(
        default=0,
        metadata={
            "doc": "Only the kernel of each candidate with this many nearest ones counts; 0: all, exactly.",
            "minimum": 0,
        },
    )
    memory_gib: float = field(
        default=2.0,
        metadata={"doc": "Memory for the kernel, in GiB. Picks do not depend on it.", "minimum": 0.0},
    )


@dataclass(frozen=True)
class MaxHerding:
    """Covers the pool smoothly: a candidate is covered as far as a radial kernel reaches from the nearest pick.

    The generalised coverage that ProbCover has with a ball for a kernel; it needs no radius to be exact. Labeled
    samples cover first.

    Formula: x = argmax mean_j max(0, k(x_j, x) - max_{i in L + S} k(x_j, x_i)), one pick after the other, with
        k(x, y) = exp(-gamma |x - y|^2). Scores of the picks: that mean.
    Cost: as facility_location: O(N^2 D) in matrix products, and `memory_gib` for the kernel.
    Use when: few labels are affordable and nothing is known yet.
    Avoid when: a good model exists already (u_herding, badge); the scale of the embeddings means nothing.
    Paper: Bae, Noh and Sutherland, Generalized Coverage for More Robust Low-Budget Active Learning, ECCV 2024.
    Reference: the authors' code and scikit-activeml `MaxHerding`: the same greedy choice with the same kernel, on
        embeddings scaled to length 1. The authors' gamma is 1 / bandwidth^2, the bandwidth being set, and they choose
        from a random part of a large pool; scikit-activeml's is 1 / D. We take embeddings as they are, and 1 / the mean
        squared distance of two candidates unless `gamma` is given, which follows their scale. Ours decides ties in
        float64, then by index.
    """

    name: ClassVar[str] = "max_herding"
    summary: ClassVar[str] = "The samples that raise the coverage of the pool by a radial kernel most."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    params: ClassVar[type[HerdingParams]] = HerdingParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: HerdingParams,
    ) -> Selection:
        """Raises NeedMissing, or StrategyError INVALID_ARRAY or NOT_FINITE."""
        return select_cover(candidates, checked_size(size, candidates), None, _wishes(params))


@dataclass(frozen=True)
class UHerding:
    """Covers what is uncertain: as max_herding, where a candidate counts as much as its utility.

    With few labels utilities are alike and it acts as max_herding; later it follows the uncertainty. Where all
    utilities are 0 the picks are the first candidates.

    Formula: x = argmax sum_j U_j max(0, k(x_j, x) - max_{i in L + S} k(x_j, x_i)) / sum_j U_j, with
        k(x, y) = exp(-gamma |x - y|^2). Scores of the picks: that mean.
    Cost: as facility_location: O(N^2 D) in matrix products, and `memory_gib` for the kernel.
    Use when: one strategy should do from the first label to the last; probabilities are calibrated.
    Avoid when: utilities are negative (refused), or of a scale where differences mean nothing.
    Paper: Bae, Oliveira and Sutherland, Uncertainty Herding: One Active Learning Method for All Label Budgets, ICLR
        2025.
    Reference: the authors' code, which takes entropy, 1 - margin or 1 - confidence at a temperature, embeddings of
        length 1, and optionally as bandwidth the smallest distance between two labeled samples. All of these are the
        caller's here: calibrate the scores, and give `gamma` = 1 / bandwidth^2.
    """

    name: ClassVar[str] = "u_herding"
    summary: ClassVar[str] = "The samples whose surroundings hold most uncertainty that is not covered yet."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    params: ClassVar[type[HerdingParams]] = HerdingParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = True
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: HerdingParams,
    ) -> Selection:
        """Raises NeedMissing, or StrategyError INVALID_ARRAY, NOT_FINITE, UTILITY_MISSING or UTILITY_INVALID."""
        weights_N = checked_utility(utility, candidates)
        return select_cover(candidates, checked_size(size, candidates), weights_N, _wishes(params))


def _wishes(params: HerdingParams) -> Wishes:
    return Wishes("rbf", params.gamma, params.neighbors, params.memory_gib * GIB)


max_herding = MaxHerding()
u_herding = UHerding()
