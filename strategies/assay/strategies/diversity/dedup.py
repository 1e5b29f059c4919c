"""Deduplication as a selector: no two picks nearer to each other than a radius, as long as there are such picks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Selection
from assay.strategies.candidates import Candidates
from assay.strategies.diversity.k_center import KCenterParams, k_center
from assay.strategies.kernels.points import Metric
from assay.strategies.needs import Need


@dataclass(frozen=True)
class DedupParams:
    radius: float = field(
        default=0.05,
        metadata={"doc": "Samples at most so far apart, in the metric, are duplicates of each other.", "minimum": 0.0},
    )
    metric: Metric = field(
        default="cosine",
        metadata={"doc": "Distance between embeddings: cosine (1 - cosine similarity), or l2."},
    )


@dataclass(frozen=True)
class Dedup:
    """Leaves out near copies of what is labeled or picked: k_center, stopped when all else lies within `radius`.

    The first `distinct` picks (a diagnostic) are pairwise, and from everything labeled, farther apart than `radius`;
    if they are fewer than asked for, every other candidate lies within `radius` of one of them or of a labeled sample.
    The picks after those fill up, as a selector always gives what it is asked for: they go on in the order of
    k_center, so the copies that are least alike come first. Drop them to get the pool without duplicates.

    Formula: picks as k_center; distinct = number of picks whose distance to all that is labeled or was picked before
        is above radius; a first pick with nothing labeled is always distinct
    Cost: that of k_center.
    Use when: the pool holds frames of one video, retweets, or other near copies, and labeling one of each is enough.
    Avoid when: the batch is small beside the pool: any diverse selector avoids copies too, and looks at more than that.
    Paper: Gonzalez, "Clustering to Minimize the Maximum Intercluster Distance", Theoretical Computer Science 1985.
    Reference: the plain farthest-first loop with a stop. We go on after the stop to give as many picks as asked for.
    """

    name: ClassVar[str] = "dedup"
    summary: ClassVar[str] = "Samples that are no near copies of anything labeled or picked, as long as there are any."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    params: ClassVar[type[DedupParams]] = DedupParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: DedupParams,
    ) -> Selection:
        """Scores of the picks: distance to the nearest labeled or earlier pick at the time, as k_center gives it.

        Raises NeedMissing, or StrategyError INVALID_ARRAY or NOT_FINITE.
        """
        picked = k_center.select(candidates, size, rng, utility, KCenterParams(metric=params.metric))
        if not len(picked):
            return picked
        distinct = int((picked.scores > params.radius).sum())
        if not picked.diagnostics["labeled"]:
            distinct = max(distinct, 1)
        return Selection(picked.indices, picked.scores, {**picked.diagnostics, "distinct": distinct})


dedup = Dedup()
