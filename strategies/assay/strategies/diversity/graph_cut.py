"""Graph cut: picks similar to the pool, and not to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.kernels.greedy_map import greedy_map, in_blocks
from assay.strategies.kernels.points import labeled_embeddings
from assay.strategies.kernels.similarity import Similarity
from assay.strategies.kernels.tensors import alone, borrow
from assay.strategies.needs import Need


@dataclass(frozen=True)
class GraphCutParams:
    representation: float = field(
        default=2.0,
        metadata={
            "doc": "Weight of being similar to the pool, against not being similar to picks and labeled samples. "
            "From 2 on every pick adds something; small values ask for diversity alone.",
            "minimum": 0.0,
        },
    )


@dataclass(frozen=True)
class GraphCut:
    """Picks that are similar to the pool as a whole, and unlike each other and what is labeled.

    Similarity to the whole pool is the same for all times, so picks begin in the middle of it; only their dislike of
    each other drives them apart. Its weight grows with the number of picks, and does not with the pool.

    Formula: f(S) = r sum_{i in V, j in S} s_ij - sum_{i, j in S} s_ij with s = (1 + cosine) / 2 and labeled samples in
        S from the start, so a candidate gains r sum_{i in V} s_ix - 2 sum_{j in L + S} s_jx - s_xx. Scores of the
        picks: that gain over N.
    Cost: O(N D) for each block of picks, as the picks enter only by their sum; O(N D k) at worst, memory O(N D).
    Use when: a cheap trade of typical against diverse is wanted, with one number to set it.
    Avoid when: the pool has several dense regions: facility_location serves each of them, this one the largest.
    Paper: Iyer and Bilmes, Submodular Optimization with Submodular Cover and Submodular Knapsack Constraints,
        NeurIPS 2013; Kothawade et al., SIMILAR, NeurIPS 2021.
    Reference: submodlib GraphCutFunction (its lambda is 1 / representation) and apricot GraphCutSelection (its alpha is
        representation). Both take an N x N matrix; ours needs none. apricot can begin with rows of the pool
        (`initial_subset`); in submodlib GraphCutConditionalGainFunction does.
    """

    name: ClassVar[str] = "graph_cut"
    summary: ClassVar[str] = "Samples similar to the pool, but not to each other or to what is labeled."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    params: ClassVar[type[GraphCutParams]] = GraphCutParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: GraphCutParams,
    ) -> Selection:
        """Raises NeedMissing, or StrategyError INVALID_ARRAY or NOT_FINITE."""
        size = checked_size(size, candidates)
        labeled_LD = labeled_embeddings(candidates)
        if size == 0:
            return Selection.empty()
        embeddings_ND = candidates.unchecked(Need.EMBEDDINGS)
        return alone(lambda: _select(embeddings_ND, labeled_LD, size, params.representation))


graph_cut = GraphCut()


def _select(
    embeddings_ND: NDArray[np.float32], labeled_LD: NDArray[np.float32], size: int, representation: float
) -> Selection:
    similarity = Similarity(embeddings_ND, "cosine")
    labeled = similarity.exact_others(borrow(labeled_LD))
    # With s = (1 + cosine) / 2 every sum of similarities is a number of samples and one inner product.
    together_N = similarity.totals(torch.ones(similarity.size)) * similarity.unit
    sum_D = labeled.sum(0)
    labeled_N = in_blocks(similarity, lambda rows_BD: len(labeled) + rows_BD @ sum_D)
    own_N = (1 + similarity.own_N) / 2
    gains_N = representation * together_N - labeled_N - own_N
    found = greedy_map(similarity, gains_N, _Dislike(), size)
    scores = (found.gains / similarity.size).astype(np.float32)
    return Selection(found.picks, scores, {"labeled": len(labeled), "passes": found.passes})


class _Dislike:
    """Twice the similarity to each pick."""

    def added(self, row_D: torch.Tensor) -> torch.Tensor:
        return row_D.clone()

    def drops(self, rows_BD: torch.Tensor, directions_MD: torch.Tensor) -> torch.Tensor:
        return (rows_BD @ directions_MD.sum(0)).add_(len(directions_MD))
