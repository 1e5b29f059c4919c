"""FASS: facility location among the most uncertain candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size, checked_utility
from assay.strategies.candidates import Candidates
from assay.strategies.kernels.covering import Wishes, select_cover
from assay.strategies.kernels.similarity import Kernel
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import Need

_MEMORY = 2.0 * 2**30


@dataclass(frozen=True)
class FassParams:
    beta: float = field(
        default=10.0,
        metadata={"doc": "Picks are made among the beta * size candidates of highest utility.", "minimum": 1.0},
    )
    similarity: Kernel = field(
        default="cosine",
        metadata={"doc": "cosine: (1 + cosine) / 2; rbf: exp(-gamma squared distance)."},
    )
    gamma: float = field(
        default=0.0,
        metadata={
            "doc": "Of rbf: larger sees less far. 0: 1 / the mean squared distance between two of the shortlist.",
            "minimum": 0.0,
        },
    )


@dataclass(frozen=True)
class Fass:
    """Filtered active submodular selection: first the most uncertain, then those that represent them best.

    The picks are uncertain and unlike each other. What is labeled represents first.

    Formula: V = the ceil(beta k) candidates of highest utility, ties by index; then greedily maximise
        f(S) = sum_{j in V} max_{i in L + S} s_ij over S in V. Scores of the picks: their gain in f / |V|.
    Cost: O(N) for the shortlist, then O((beta k)^2 D) in matrix products.
    Use when: uncertainty alone picks near copies, and the pool is too large for facility_location.
    Avoid when: utility is noise (few labels): facility_location or typiclust cover the pool itself.
    Paper: Wei, Iyer and Bilmes, Submodularity in Data Subset Selection and Active Learning, ICML 2015.
    Reference: distil's FASS, which takes submodlib's facility location and leaves labeled samples out; ours lets them
        represent first. beta is the caller's in every round (distil: 5 unless told otherwise).
    """

    name: ClassVar[str] = "fass"
    summary: ClassVar[str] = "Among the samples of highest utility, those that represent these best."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    params: ClassVar[type[FassParams]] = FassParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = True
    greedy: ClassVar[bool] = False

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: FassParams,
    ) -> Selection:
        """Raises NeedMissing, or StrategyError INVALID_ARRAY, NOT_FINITE or UTILITY_MISSING."""
        size = checked_size(size, candidates)
        utility_N = checked_utility(utility, candidates)
        wanted = min(candidates.size, math.ceil(min(params.beta * size, candidates.size)))
        shortlist = np.sort(top_k(utility_N, wanted))
        wishes = Wishes(params.similarity, params.gamma, 0, _MEMORY)
        # Refuses NaN also where it is not on the shortlist.
        _ = candidates.embeddings_ND
        selection = select_cover(candidates.take(shortlist), size, None, wishes)
        return Selection(shortlist[selection.indices], selection.scores, selection.diagnostics)


fass = Fass()
