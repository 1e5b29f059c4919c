"""k-means++ seeding as a selector: D^2 sampling on embeddings, away from what is labeled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.kernels.d2_sampling import Batch, Space, sample
from assay.strategies.kernels.points import Metric, Points, labeled_embeddings
from assay.strategies.needs import Need


@dataclass(frozen=True)
class KMeansPPParams:
    metric: Metric = field(
        default="l2",
        metadata={"doc": "Distance between embeddings: l2, or cosine (l2 between directions)."},
    )


@dataclass(frozen=True)
class KMeansPP:
    """Draws samples far from everything labeled or drawn before, at random: spread out, but not only outliers.

    A dense region that nobody has drawn from has much of the probability, and a lone outlier only its own share, so
    picks cover the space and still follow its density. Exact copies of a labeled or drawn sample are never drawn as
    long as others remain; when only copies remain, the lowest indices fill up.

    Formula: P(next pick = i) = D_i^2 / sum_j D_j^2,  D_i = min over s in labeled and picks of |h_i - h_s|;
        the first pick is uniform where nothing is labeled; cosine: h / |h| in place of h
    Cost: expected O(N D) passes that grow in number with the logarithm of how far the potential falls, and
        O(k (L + k) D) for what is proposed, all in matrix products; never more than about twice the plain loop's
        O(N D (L + k)). Memory O(N) beside the embeddings.
    Use when: you want a diverse batch without a model, or seeds for k-means.
    Avoid when: embeddings are poor, or the batch should follow the model's doubts: badge draws by both.
    Paper: Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007.
    Reference: the plain loop, one matrix-vector product per pick; the law is the same. We condition on what is
        labeled. scikit-learn's kmeans_plusplus takes the best of several draws at each step, which is another law.
    """

    name: ClassVar[str] = "kmeans_pp"
    summary: ClassVar[str] = "Samples drawn by their squared distance to all that is labeled or drawn before."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    params: ClassVar[type[KMeansPPParams]] = KMeansPPParams
    deterministic: ClassVar[bool] = False
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: KMeansPPParams,
    ) -> Selection:
        """Scores of the picks: D^2 when each was drawn; of a first pick with nothing labeled, the largest it left.

        Raises NeedMissing, or StrategyError INVALID_ARRAY or NOT_FINITE.
        """
        size = checked_size(size, candidates)
        labeled_LD = labeled_embeddings(candidates)
        if size == 0:
            return Selection.empty()
        # Points refuse NaN and infinity in the pass that they make anyway.
        points = Points(candidates.unchecked(Need.EMBEDDINGS), params.metric)
        given = _centres(points, labeled_LD)
        first = int(rng.integers(candidates.size)) if given is None else None
        drawn = sample(Space.of(points), size, rng, first=first, given=given)
        return Selection(
            drawn.indices_K, drawn.squared_K, {"labeled": len(labeled_LD), "drawn": drawn.drawn, "passes": drawn.passes}
        )


kmeans_pp = KMeansPP()


def _centres(points: Points, labeled_LD: NDArray[np.float32]) -> Batch | None:
    """The labeled samples as centres; None where there are none."""
    if not len(labeled_LD):
        return None
    centres_LD = points.centres(labeled_LD)
    return Batch((centres_LD,), centres_LD.square().sum(1))
