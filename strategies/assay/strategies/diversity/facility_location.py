"""Facility location: the picks that represent all candidates best, each by the pick most similar to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size, checked_utility
from assay.strategies.candidates import Candidates
from assay.strategies.kernels.covering import Wishes, select_cover
from assay.strategies.kernels.similarity import Kernel
from assay.strategies.needs import Need

GIB = 2.0**30


@dataclass(frozen=True)
class FacilityLocationParams:
    similarity: Kernel = field(
        default="cosine",
        metadata={"doc": "cosine: (1 + cosine) / 2; rbf: exp(-gamma squared distance)."},
    )
    gamma: float = field(
        default=0.0,
        metadata={
            "doc": "Of rbf: larger sees less far. 0: 1 / the mean squared distance between two candidates.",
            "minimum": 0.0,
        },
    )
    weights: Literal["none", "utility"] = field(
        default="none",
        metadata={"doc": "How much each candidate asks to be represented: none: all alike; utility: as that says."},
    )
    neighbors: int = field(
        default=0,
        metadata={
            "doc": "Only the similarities of each candidate to this many nearest ones count, not shifted; 0: all.",
            "minimum": 0,
        },
    )
    memory_gib: float = field(
        default=2.0,
        metadata={"doc": "Memory for similarities, in GiB. Picks do not depend on it.", "minimum": 0.0},
    )


@dataclass(frozen=True)
class FacilityLocation:
    """Picks that stand for the whole pool: every candidate is represented by the pick most similar to it.

    Labeled samples represent first, so picks go to what they leave out. Drawn to dense regions, not to outliers.
    The greedy picks reach at least 1 - 1/e of the best possible value, and each pick gains no more than the one
    before it. Picks are exactly those of the plain greedy algorithm; candidates whose gains float32 cannot tell
    apart are compared in float64, and equal ones go to the lower index.

    Formula: maximise f(S) = sum_j w_j max_{i in L + S} s_ij over the candidates j, one pick after the other, with
        s_ij = (1 + cos(h_i, h_j)) / 2 or exp(-gamma |h_i - h_j|^2). Scores of the picks: their gain in f over the
        sum of w. What is covered by nothing has similarity 0. With `neighbors`: the same over j itself and its
        nearest candidates only, all others and negative ones count as 0, and cosine is max(0, cos(h_i, h_j)): shifted,
        any neighbour would count almost as much as the nearest.
    Cost: O(N^2 D) in matrix products for all pairs. While N^2 float32 values fit in `memory_gib` they are held, and a
        pick costs N for each candidate that it represents better, N D else: these columns are then computed again. A
        candidate is represented better by few of the picks, so all picks together cost a few times N^2 D. With
        `neighbors` = K: O(N^2 D) once for the lists, memory O(N K), and a pick costs the lists of what it represents
        better.
    Use when: the batch should represent the pool, at any budget; with weights = utility, what is worth knowing of it.
    Avoid when: rare samples matter most (k_center, prob_cover); the pool is so large that N^2 D is too long even
        once: shortlist first.
    Paper: Wei, Iyer and Bilmes, Submodularity in Data Subset Selection and Active Learning, ICML 2015; Mirzasoleiman
        et al., Lazier Than Lazy Greedy, AAAI 2015, on greedy algorithms for it.
    Reference: apricot FacilityLocationSelection and submodlib FacilityLocationFunction, which hold an N x N matrix. Of
        the cosine, apricot takes the square, and submodlib counts what is negative as 0; apricot's euclidean similarity
        is the largest squared distance less the squared distance. With `neighbors` we keep for each sample those most
        similar to it, itself among them; apricot keeps for each candidate the samples nearest to it, submodlib a pair
        where either is among the nearest of the other. Its similarities are ours there, and missing pairs count as 0
        in all three. apricot can begin with rows of the pool (`initial_subset`); in
        submodlib FacilityLocationConditionalGainFunction does.
    """

    name: ClassVar[str] = "facility_location"
    summary: ClassVar[str] = "The samples that together represent the pool best, beside what is labeled."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    params: ClassVar[type[FacilityLocationParams]] = FacilityLocationParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: FacilityLocationParams,
    ) -> Selection:
        """Raises NeedMissing, or StrategyError INVALID_ARRAY, NOT_FINITE, UTILITY_MISSING or UTILITY_INVALID."""
        size = checked_size(size, candidates)
        weights_N = checked_utility(utility, candidates) if params.weights == "utility" else None
        wishes = Wishes(params.similarity, params.gamma, params.neighbors, params.memory_gib * GIB)
        return select_cover(candidates, size, weights_N, wishes)


facility_location = FacilityLocation()
