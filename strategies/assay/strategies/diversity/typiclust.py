"""typiclust: the most typical sample of each cluster that has the fewest labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.clustering import kmeans
from assay.strategies.kernels.points import Metric, Points, labeled_embeddings
from assay.strategies.kernels.search import nearest
from assay.strategies.kernels.tensors import alone
from assay.strategies.needs import Need

_EPSILON = 1e-5
# Neighbours that are kept per one that counts: lists are made anew only when so many of them have been picked.
_SPARE = 2
# Members of a cluster, at most, whose distances are worked out all at once.
_SMALL = 1024

Picks = tuple[NDArray[np.int64], NDArray[np.float32]]


@dataclass(frozen=True)
class TypiClustParams:
    metric: Metric = field(
        default="cosine",
        metadata={"doc": "Embeddings scaled to length 1 (cosine, as published) or as they are (l2)."},
    )
    max_clusters: int = field(
        default=500, metadata={"doc": "Clusters at most, however many picks and labels there are.", "minimum": 1}
    )
    neighbors: int = field(
        default=20, metadata={"doc": "Nearest neighbours in the cluster that typicality averages over.", "minimum": 1}
    )
    min_size: int = field(
        default=5, metadata={"doc": "Clusters of at most this many samples come after all others.", "minimum": 0}
    )


@dataclass(frozen=True)
class TypiClust:
    """One typical sample from each cluster, clusters without labels first: made for a budget of few labels.

    All samples, labeled ones too, fall into as many clusters as there are labels and picks together. Clusters with
    the fewest labels come first, of those the largest. From each comes the sample whose neighbours in the cluster,
    labeled and picked ones aside, are nearest. When all clusters have given one, they go round again.

    Formula:
        typicality(i) = 1 / (mean of |h_i - h_j|^2 over the K nearest j in the cluster + 1e-5), with
        K = min(20, unlabeled left in the cluster // 2); min(L + k, 500) clusters by k-means.
    Cost:
        k-means of N + L samples: O((N + L) D min(L + k, 500)) per iteration; typicality O(m^2 D) for a visited cluster
        of m, in matrix products, and only for those visited; memory O(N + m K), a copy of the embeddings.
    Use when:
        few labels are there (up to some tens per class) and embeddings come from self-supervision.
    Avoid when:
        there are many labels: uncertainty does better then (tcm switches over).
    Paper:
        Hacohen, Dekel and Weinshall, Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets,
        ICML 2022.
    Reference:
        the authors' code, given one clustering: K, squared distances, the limit of 500 and the order of clusters are
        its own. It takes MiniBatchKMeans above 50 clusters, we k-means always. A cluster with nobody left, where it
        fails, is passed over; a sample alone has typicality 0, there NaN; clusters of at most 5 samples come last
        instead of never. scikit-activeml's port takes unsquared distances to 5 neighbours (its default), sets no limit
        to the number of clusters, and picks from none that holds a label.
    """

    name: ClassVar[str] = "typiclust"
    summary: ClassVar[str] = "The most typical sample of each cluster with the fewest labels: for small budgets."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    params: ClassVar[type[TypiClustParams]] = TypiClustParams
    deterministic: ClassVar[bool] = False
    needs_utility: ClassVar[bool] = False

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: TypiClustParams,
    ) -> Selection:
        """Scores of the picks: typicality, within their clusters and at the time.

        Raises NeedMissing, or StrategyError INVALID_ARRAY or NOT_FINITE.
        """
        size = checked_size(size, candidates)
        labeled_LD = labeled_embeddings(candidates)
        if size == 0:
            return Selection.empty()
        points = Points(candidates.unchecked(Need.EMBEDDINGS), params.metric)
        points_ND = points.every_row().numpy()
        all_MD = np.concatenate([points_ND, points.centres(labeled_LD).numpy()]) if len(labeled_LD) else points_ND
        clusters = min(len(labeled_LD) + size, params.max_clusters)
        clustering = kmeans(all_MD, clusters, int(rng.integers(2**63)))
        own_N, labeled_L = np.split(clustering.assignment_N, [len(points_ND)])
        indices, scores = alone(lambda: typical_picks(points_ND, own_N, labeled_L, size, params))
        return Selection(indices, scores, {"labeled": len(labeled_LD), "clusters": len(clustering)})


def typical_picks(
    points_ND: NDArray[np.float32],
    clusters_N: NDArray[np.int64],
    labeled_clusters_L: NDArray[np.int64],
    size: int,
    params: TypiClustParams,
) -> Picks:
    """What comes after the clustering: picks in order, and their typicality. `size` is at most N."""
    picks: list[tuple[int, float]] = []
    order = np.argsort(clusters_N, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(clusters_N))[:-1])
    for group in _visits(clusters_N, labeled_clusters_L, params.min_size):
        # Only clusters that get a turn are looked at: `_rounds` makes each when its first turn comes.
        waiting = (_Cluster(points_ND, members[cluster], params.neighbors) for cluster in group.tolist())
        for pick in _rounds(waiting):
            picks.append(pick)
            if len(picks) == size:
                break
        if len(picks) == size:
            break
    return np.array([index for index, _ in picks], np.int64), np.array([score for _, score in picks], np.float32)


def _visits(
    clusters_N: NDArray[np.int64], labeled_clusters_L: NDArray[np.int64], min_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Clusters with candidates in the order of their turns: the large ones, and the small ones."""
    width = int(max(clusters_N.max(), labeled_clusters_L.max(initial=0))) + 1
    own_K = np.bincount(clusters_N, minlength=width)
    labeled_K = np.bincount(labeled_clusters_L, minlength=width)
    sizes_K = own_K + labeled_K
    order = np.lexsort((-sizes_K, labeled_K))
    order = order[own_K[order] > 0]
    large = sizes_K[order] > min_size
    return order[large], order[~large]


def _rounds(clusters: Iterable[_Cluster]) -> Iterable[tuple[int, float]]:
    """One pick of each cluster in turn, round after round, until nobody is left."""
    while True:
        left = []
        for cluster in clusters:
            yield cluster.pick()
            if cluster.left:
                left.append(cluster)
        if not left:
            return
        clusters = left


class _Cluster:
    """The unlabeled members of a cluster that are not picked yet, and their nearest neighbours among each other."""

    def __init__(self, points_ND: NDArray[np.float32], members_M: NDArray[np.int64], neighbours: int) -> None:
        self._points_ND = points_ND
        self._members_M = members_M
        self._free_M = np.ones(len(members_M), np.bool_)
        self._neighbours = neighbours
        self._search()

    @property
    def left(self) -> int:
        return int(np.count_nonzero(self._free_M))

    def pick(self) -> tuple[int, float]:
        """The most typical member, ties by index, and its typicality."""
        checkpoint()
        typicality_M = self._typicality()
        place = int(typicality_M.argmax())
        self._free_M[place] = False
        return int(self._members_M[place]), float(typicality_M[place])

    def _typicality(self) -> NDArray[np.float64]:
        """Of every member; -1 for those picked."""
        count = min(self._neighbours, self.left // 2)
        if count == 0:
            return np.where(self._free_M, 0.0, -1.0)
        if count > self._shortest():
            self._search()
        counted_MQ = self._free_MQ()
        counted_MQ &= counted_MQ.cumsum(axis=1) <= count
        means_M = np.where(counted_MQ, self._squared_MQ, 0).sum(axis=1, dtype=np.float64) / count
        return np.where(self._free_M, 1 / (means_M + _EPSILON), -1.0)

    def _shortest(self) -> int:
        """How many neighbours that are left every member that is left has in its list."""
        return int(np.count_nonzero(self._free_MQ(), axis=1)[self._free_M].min())

    def _free_MQ(self) -> NDArray[np.bool_]:
        free_MQ: NDArray[np.bool_] = self._free_M[self._places_MQ]
        return free_MQ

    def _search(self) -> None:
        """Lists of neighbours of those that are left, nearest first; the others are forgotten."""
        self._members_M = self._members_M[self._free_M]
        self._free_M = np.ones(len(self._members_M), np.bool_)
        rows_MD = self._points_ND[self._members_M]
        length = min(_SPARE * self._neighbours, len(rows_MD) - 1)
        self._squared_MQ, self._places_MQ = _nearest_others(rows_MD, length)


def _nearest_others(rows_MD: NDArray[np.float32], length: int) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Squared distances and places of the nearest other rows of each row, nearest first."""
    if len(rows_MD) > _SMALL:
        return nearest(rows_MD, rows_MD, length, exclude_self=True)
    # What a search by blocks must prepare costs more than one small product, in float64 as differences may drown.
    points_MD = torch.from_numpy(rows_MD).double()
    points_MD -= points_MD.mean(0)
    norms_M = torch.linalg.vecdot(points_MD, points_MD)
    squared_MM = torch.addmm(norms_M.unsqueeze(1) + norms_M, points_MD, points_MD.t(), alpha=-2).clamp_min_(0)
    found = squared_MM.fill_diagonal_(torch.inf).topk(length, largest=False)
    return found.values.numpy(), found.indices.numpy()


typiclust = TypiClust()
