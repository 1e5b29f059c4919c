"""Graph-cut mutual information: the candidates most similar to a set of queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import NoParams, Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import Need
from assay.strategies.targeted.queries import cosines, unit_queries


@dataclass(frozen=True)
class Gcmi:
    """The candidates most like the queries on average: pure retrieval, without regard to what else is picked.

    The mutual information of a graph cut between picks and queries is a sum over the picks, so the best set is
    simply the best k candidates. Labeled samples do not enter.

    Formula: f(S; Q) = 2 sum_{i in S} sum_{q in Q} (1 + cos(h_i, h_q)) / 2. Scores of the picks: the mean similarity to
        the queries, in [0, 1].
    Cost: O(N D): one product with the sum of the queries.
    Use when: more of a rare class is wanted, and near copies do not hurt.
    Avoid when: the queries differ: the average favours what lies between them (flqmi serves each of them).
    Paper: Kothawade, Beck, Killamsetty and Iyer, SIMILAR: Submodular Information Measures Based Active Learning in
        Realistic Scenarios, NeurIPS 2021.
    Reference: submodlib GraphCutMutualInformationFunction, which takes any similarity; the order of picks is the same,
        as shifting and scaling all similarities does not change it.
    """

    name: ClassVar[str] = "gcmi"
    summary: ClassVar[str] = "The samples most similar to a set of queries on average."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.QUERY_EMBEDDINGS})
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
        """Raises NeedMissing, or StrategyError NO_QUERIES, INVALID_ARRAY or NOT_FINITE."""
        size = checked_size(size, candidates)
        mean_1D = unit_queries(candidates).mean(0, keepdim=True)
        cosines_N = cosines(candidates.embeddings_ND, mean_1D)[0].numpy()
        # In float32 copies score alike, wherever they stand.
        scores_N = ((1 + cosines_N) / 2).astype(np.float32)
        indices = top_k(scores_N, size)
        return Selection(indices, scores_N[indices])


gcmi = Gcmi()
