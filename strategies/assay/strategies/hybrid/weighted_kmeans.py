"""weighted_kmeans: the most useful samples, clustered by weight of their utility."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size, checked_utility
from assay.strategies.candidates import Candidates
from assay.strategies.errors import StrategyError
from assay.strategies.kernels.clustering import measured, representatives
from assay.strategies.kernels.points import Metric
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import Need


@dataclass(frozen=True)
class WeightedKMeansParams:
    beta: float = field(
        default=10.0,
        metadata={
            "doc": "So many times the picks are shortlisted by utility; 1 takes the top and clusters nothing.",
            "minimum": 1.0,
            "maximum": 1e6,
        },
    )
    metric: Metric = field(
        default="l2", metadata={"doc": "What is clustered: embeddings as they are (l2) or scaled to length 1 (cosine)."}
    )


@dataclass(frozen=True)
class WeightedKMeans:
    """A shortlist by utility, then k-means on it in which useful samples pull harder, and a real sample per cluster.

    The picks come in order of their utility. It works with any utility of the plan.

    Formula:
        S = the beta k samples of highest utility u; min over c_1..c_k of sum_{i in S} u_i min_j |h_i - c_j|^2; picks:
        argmin_{i in S} |h_i - c_j| for each j, all different.
    Cost:
        O(N) to shortlist, then O(beta k^2 D) per iteration of k-means; memory O(N + beta k D).
    Use when:
        batches are large: uncertain samples alone would be near copies of each other.
    Avoid when:
        the utility knows little; then the shortlist is a bad sample (clue keeps all samples in).
    Paper:
        Zhdanov, Diverse mini-batch Active Learning, arXiv:1901.05954, 2019.
    Reference:
        we know of no code by the author; tests hold it to a plain transcription on scikit-learn's weighted KMeans.
        Where a shortlisted utility is below 0, all are raised by the lowest: a weight cannot be negative.
    """

    name: ClassVar[str] = "weighted_kmeans"
    summary: ClassVar[str] = "k-means weighted by utility on the most useful samples: diverse and useful batches."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS})
    params: ClassVar[type[WeightedKMeansParams]] = WeightedKMeansParams
    deterministic: ClassVar[bool] = False
    needs_utility: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: WeightedKMeansParams,
    ) -> Selection:
        """Scores of the picks: their utility, never rising.

        Raises NeedMissing, or StrategyError UTILITY_MISSING, INVALID_ARRAY or NOT_FINITE.
        """
        utility_N = checked_utility(utility, candidates)
        size = checked_size(size, candidates)
        if size == 0:
            return Selection.empty()
        embeddings_ND = candidates.embeddings_ND
        shortlist = np.sort(top_k(utility_N, min(int(params.beta * size), candidates.size)))
        points_SD = measured(embeddings_ND[shortlist], params.metric)
        found = representatives(points_SD, size, int(rng.integers(2**63)), shifted(utility_N[shortlist]))
        picks = np.sort(shortlist[found.indices_K])
        picks = picks[np.argsort(-utility_N[picks], kind="stable")]
        return Selection(picks, utility_N[picks].astype(np.float32), {"shortlist": len(shortlist)})


def shifted(utility_S: NDArray[np.float32]) -> NDArray[np.float32]:
    """Utilities as weights: raised by the lowest one where that is below 0. Raises StrategyError NOT_FINITE."""
    if not bool(np.isfinite(utility_S).all()):
        raise StrategyError("NOT_FINITE", "a shortlisted utility is infinite: it is no weight")
    weights_S: NDArray[np.float32] = utility_S - utility_S.min(initial=0)
    return weights_S


weighted_kmeans = WeightedKMeans()
