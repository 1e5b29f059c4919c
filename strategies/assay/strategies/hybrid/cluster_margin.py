"""cluster_margin: samples of low margin, taken in turn from the clusters that hold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.kernels.clustering import kmeans, measured
from assay.strategies.kernels.fused import from_logits, from_probs
from assay.strategies.kernels.hashing import hash_keys
from assay.strategies.kernels.points import Metric
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import Need


@dataclass(frozen=True)
class ClusterMarginParams:
    factor: float = field(
        default=10.0,
        metadata={
            "doc": "So many times the picks are shortlisted, those of lowest margin.",
            "minimum": 1.0,
            "maximum": 1e6,
        },
    )
    cluster_count: int = field(
        default=0,
        metadata={"doc": "Clusters to make where none are given; 0 makes as many as picks.", "minimum": 0},
    )
    metric: Metric = field(
        default="l2", metadata={"doc": "What is clustered: embeddings as they are (l2) or scaled to length 1 (cosine)."}
    )


@dataclass(frozen=True)
class ClusterMargin:
    """A shortlist by margin, spread over clusters: each gives one in turn, those with the fewest on the list first.

    Clusters of all candidates are made once and may be kept between rounds: give them as `clusters`, and nothing is
    clustered here. Within a cluster the order is random (a seeded hash of the sample's key).

    Formula:
        S = the factor k samples of lowest p1 - p2; clusters in order of |cluster and S| ascending, ties by number;
        one sample of S from each in turn until k are picked; clusters that have no more are passed over.
    Cost:
        O(N C) for the margins, O(N) to shortlist and O(factor k log) for the turns; without given clusters k-means,
        O(N D k) per iteration in matrix products; memory O(N + k D).
    Use when:
        batches are large (thousands) and clusters can be kept.
    Avoid when:
        batches are small: margin alone does as well.
    Paper:
        Citovsky, DeSalvo, Gentile, Karydas, Rajagopalan, Rostamizadeh and Kumar, Batch Active Learning at Scale,
        NeurIPS 2021.
    Reference:
        we know of no code by the authors; tests hold it to a plain transcription of the selection, given one
        clustering. The paper clusters hierarchically (average linkage), which needs a distance for each pair of
        samples; we take k-means, whose number of `cluster_count` is a parameter instead of a distance.
    """

    name: ClassVar[str] = "cluster_margin"
    summary: ClassVar[str] = "Samples of low margin, one cluster after the other: large, diverse batches."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROBS, Need.EMBEDDINGS})
    optional: ClassVar[frozenset[Need]] = frozenset({Need.CLUSTERS})
    params: ClassVar[type[ClusterMarginParams]] = ClusterMarginParams
    deterministic: ClassVar[bool] = False
    needs_utility: ClassVar[bool] = False

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: ClusterMarginParams,
    ) -> Selection:
        """Scores of the picks: 1 - (p1 - p2).

        Raises NeedMissing, or StrategyError INVALID_ARRAY, NOT_FINITE or PROBABILITIES_INVALID.
        """
        size = checked_size(size, candidates)
        if size == 0:
            return Selection.empty()
        seeds = rng.integers(2**63, size=2).tolist()
        margins_N = margin_scores(candidates)
        clusters_N = _clusters(candidates, params.cluster_count or size, seeds[0], params.metric)
        shortlist = np.sort(top_k(margins_N, min(int(params.factor * size), candidates.size)))
        hashes_S = hash_keys(candidates.keys_N[shortlist], seeds[1])
        picks = shortlist[in_turns(clusters_N[shortlist], hashes_S)[:size]]
        return Selection(picks, margins_N[picks], {"shortlist": len(shortlist)})


def margin_scores(candidates: Candidates) -> NDArray[np.float32]:
    """1 - (p1 - p2) of each candidate, from its logits where there are some."""
    if candidates.has(Need.LOGITS):
        return from_logits(candidates.unchecked(Need.LOGITS), ["margin"])["margin"]
    return from_probs(candidates.unchecked(Need.PROBS), ["margin"])["margin"]


def in_turns(clusters_S: NDArray[np.int64], hashes_S: NDArray[np.uint64]) -> NDArray[np.int64]:
    """All samples in the order of the turns of their clusters, the smallest first: int64, shape (S,)."""
    _, clusters_S, sizes_K = np.unique(clusters_S, return_inverse=True, return_counts=True)
    places_K = np.argsort(np.argsort(sizes_K, kind="stable"))
    order = np.lexsort((hashes_S, clusters_S))
    starts_K = np.cumsum(sizes_K) - sizes_K
    rounds_S = np.arange(len(order)) - starts_K[clusters_S[order]]
    turns_S: NDArray[np.int64] = order[np.lexsort((places_K[clusters_S[order]], rounds_S))]
    return turns_S


def _clusters(candidates: Candidates, clusters: int, seed: int, metric: Metric) -> NDArray[np.int64]:
    if candidates.has(Need.CLUSTERS):
        # Broken embeddings are refused here too: whether clusters were kept must not decide on that.
        _ = candidates.embeddings_ND
        return candidates.clusters_N
    return kmeans(measured(candidates.unchecked(Need.EMBEDDINGS), metric), clusters, seed).assignment_N


cluster_margin = ClusterMargin()
