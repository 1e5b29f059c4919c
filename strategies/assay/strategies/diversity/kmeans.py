"""kmeans: the real sample nearest to each centroid of k clusters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.kernels.clustering import measured, representatives
from assay.strategies.kernels.points import Metric
from assay.strategies.needs import Need


@dataclass(frozen=True)
class KMeansParams:
    metric: Metric = field(
        default="l2", metadata={"doc": "What is clustered: embeddings as they are (l2) or scaled to length 1 (cosine)."}
    )


@dataclass(frozen=True)
class KMeans:
    """As many clusters as picks, and from each the sample that is most like its mean.

    Picks stand for the bulk of the data: dense regions get more of them than sparse ones, outliers none. It is not
    conditioned on what is labeled: a region that is labeled already gets its picks all the same (typiclust and
    k_center know better). Clusters come heaviest first.

    Formula:
        min over c_1..c_k of sum_i min_j |h_i - c_j|^2; picks: argmin_i |h_i - c_j| for each j, all different.
    Cost:
        O(N D k) per iteration in matrix products, at most 20 iterations; memory O(N + k D) beside the embeddings, and
        a copy of them where they are scaled or far off the origin.
    Use when:
        there is no model yet and the first batch should look like the data.
    Avoid when:
        rare classes matter, or much is labeled already.
    Paper:
        Lloyd, Least squares quantization in PCM, IEEE Transactions on Information Theory 1982; as a first batch: Hu,
        Mac Namee and Delany, Off to a good start, FLAIRS 2010.
    Reference:
        scikit-learn's KMeans with one initialisation. We draw seeds from a sample of 4 samples per cluster (4,096 at
        least) and stop where an iteration gains less than 0.1 % of the objective; and one sample never stands for
        two clusters.
    """

    name: ClassVar[str] = "kmeans"
    summary: ClassVar[str] = "The sample nearest to each centroid of k-means: stands for the bulk of the data."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS})
    params: ClassVar[type[KMeansParams]] = KMeansParams
    deterministic: ClassVar[bool] = False
    needs_utility: ClassVar[bool] = False

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: KMeansParams,
    ) -> Selection:
        """Scores of the picks: the share of the candidates in the cluster, never rising.

        Raises NeedMissing, or StrategyError INVALID_ARRAY or NOT_FINITE.
        """
        size = checked_size(size, candidates)
        if size == 0:
            return Selection.empty()
        points_ND = measured(candidates.unchecked(Need.EMBEDDINGS), params.metric)
        found = representatives(points_ND, size, int(rng.integers(2**63)))
        diagnostics = {"clusters": len(found.clustering), "objective": found.clustering.objective}
        return Selection(found.indices_K, found.shares_K, diagnostics)


kmeans = KMeans()
