"""The published algorithms as one writes them with numpy, scipy, scikit-learn or torch: what ours replace."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.strategies.data import Array, Data, blocks, softmax
from benchmarks.strategies.ours import Call
from benchmarks.strategies.peers import DENSITY_NEIGHBOURS

DistancesTo = Callable[[int], Array]


def numpy_margin(data: Data) -> Call:
    """Margins alone, from logits: softmax and np.partition."""
    return lambda: _margins(softmax(data["logits"]))


def numpy_margin_of_probs(data: Data) -> Call:
    """Margins alone, by np.partition, from probabilities that are ready."""
    probs_NC = softmax(data["logits"])
    return lambda: _margins(probs_NC)


def torch_margin(data: Data) -> Call:
    """Margins alone, by torch.topk, from probabilities that are ready."""
    import torch

    probs_NC = torch.from_numpy(softmax(data["logits"]))

    def call() -> Array:
        top_N2 = torch.topk(probs_NC, 2).values
        return (1 - (top_N2[:, 0] - top_N2[:, 1])).numpy()

    return call


def numpy_four(data: Data) -> Call:
    """All four scores from logits in numpy; gives the margins."""

    def call() -> Array:
        probs_NC = softmax(data["logits"])
        top_N2 = np.partition(probs_NC, -2, axis=1)[:, -2:]
        _least = 1 - top_N2[:, 1]
        _ratio = top_N2[:, 0] / top_N2[:, 1]
        _entropy = -(probs_NC * np.log(np.maximum(probs_NC, 1e-30))).sum(1)
        return 1 - (top_N2[:, 1] - top_N2[:, 0])

    return call


def scipy_entropy(data: Data) -> Call:
    """Entropy alone, by scipy, from probabilities that are ready; gives the entropies."""
    from scipy.stats import entropy

    probs_NC = softmax(data["logits"])
    return lambda: entropy(probs_NC, axis=1)


def torch_top_k(data: Data) -> Call:
    """torch.topk."""
    import torch

    scores_N = torch.from_numpy(data["scores"])
    return lambda: torch.topk(scores_N, data.size.picks).indices.numpy()


def numpy_top_k(data: Data) -> Call:
    """np.argpartition, and sorting what it gives."""
    scores_N, picks = data["scores"], data.size.picks

    def call() -> Array:
        best_K = np.argpartition(scores_N, len(scores_N) - picks)[-picks:]
        return best_K[np.argsort(-scores_N[best_K])]

    return call


def numpy_k_center(data: Data) -> Call:
    """One matrix-vector product per pick; the first pick is row 0."""

    def call() -> Array:
        distances = _euclidean(data["embeddings"])
        picks = [0]
        nearest_N = distances(0)
        while len(picks) < data.size.picks:
            picks.append(int(nearest_N.argmax()))
            np.minimum(nearest_N, distances(picks[-1]), out=nearest_N)
        return np.array(picks)

    return call


def numpy_kmeans_pp(data: Data) -> Call:
    """D^2 sampling with one matrix-vector product per pick."""
    return lambda: _d2_sampling(_euclidean(data["embeddings"]), data, first=0)


def numpy_badge(data: Data) -> Call:
    """The published algorithm by the factors of its gradients, as its authors' code does it; starts at the longest."""

    def call() -> Array:
        residuals_NC = data["probs"].copy()
        residuals_NC[np.arange(data.size.rows), residuals_NC.argmax(1)] -= 1
        points_ND = data["embeddings"]
        norms_N = (residuals_NC**2).sum(1) * (points_ND**2).sum(1)

        def distances(pick: int) -> Array:
            products_N = (residuals_NC @ residuals_NC[pick]) * (points_ND @ points_ND[pick])
            return np.maximum(norms_N + norms_N[pick] - 2 * products_N, 0)

        return _d2_sampling(distances, data, first=int(norms_N.argmax()))

    return call


def numpy_prob_cover(data: Data) -> Call:
    """The graph in blocks; every pick counts the edges that are left and drops those into what it covers."""

    def call() -> Array:
        sources_E, targets_E = _edges(data["embeddings"], float(data["radius"]))
        picks: list[int] = []
        for _ in range(data.size.picks):
            degrees_N = np.bincount(sources_E, minlength=data.size.rows)
            degrees_N[picks] = -1
            picks.append(int(degrees_N.argmax()))
            covered_N = np.zeros(data.size.rows, bool)
            covered_N[targets_E[sources_E == picks[-1]]] = True
            left_E = ~covered_N[targets_E]
            sources_E, targets_E = sources_E[left_E], targets_E[left_E]
        return np.array(picks)

    return call


def sklearn_cluster_margin(data: Data) -> Call:
    """k-means by scikit-learn in place of the agglomerative clustering, which needs all pairs."""
    from sklearn.cluster import KMeans

    def call() -> Array:
        clusters_N = KMeans(data.size.picks, random_state=0).fit_predict(data["embeddings"])
        return _round_robin(data, clusters_N)

    return call


def sklearn_cluster_margin_hac(data: Data) -> Call:
    """As published: average-linkage agglomerative clustering, here by scikit-learn."""
    from sklearn.cluster import AgglomerativeClustering

    def call() -> Array:
        clustering = AgglomerativeClustering(data.size.picks, linkage="average")
        return _round_robin(data, clustering.fit_predict(data["embeddings"]))

    return call


def sklearn_information_density(data: Data) -> Call:
    """Density by scikit-learn's exact nearest neighbours, times the entropy; the highest."""
    from sklearn.neighbors import NearestNeighbors

    def call() -> Array:
        neighbours = NearestNeighbors(n_neighbors=DENSITY_NEIGHBOURS, algorithm="brute").fit(data["embeddings"])
        distances_NK, _ = neighbours.kneighbors()
        entropy_N = -(data["probs"] * np.log(np.maximum(data["probs"], 1e-30))).sum(1)
        return np.argsort(-entropy_N / (1 + distances_NK.mean(1)))[: data.size.picks]

    return call


def _margins(probs_NC: Array) -> Array:
    top_N2 = np.partition(probs_NC, -2, axis=1)[:, -2:]
    return 1 - (top_N2[:, 1] - top_N2[:, 0])


def _euclidean(points_ND: Array) -> DistancesTo:
    norms_N = (points_ND**2).sum(1)
    return lambda pick: np.maximum(norms_N + norms_N[pick] - 2 * (points_ND @ points_ND[pick]), 0)


def _d2_sampling(distances: DistancesTo, data: Data, first: int) -> Array:
    rng = np.random.default_rng(0)
    picks = [first]
    nearest_N = distances(first)
    while len(picks) < data.size.picks:
        cumulated_N = np.cumsum(nearest_N, dtype=np.float64)
        picks.append(int(np.searchsorted(cumulated_N, rng.random() * cumulated_N[-1], side="right")))
        np.minimum(nearest_N, distances(picks[-1]), out=nearest_N)
        nearest_N[picks[-1]] = 0
    return np.array(picks)


def _edges(points_ND: Array, radius: float) -> tuple[Array, Array]:
    norms_N = (points_ND**2).sum(1)
    sources, targets = [], []
    for block in blocks(len(points_ND), 1 << 10):
        squared_BN = norms_N[block, None] + norms_N - 2 * points_ND[block] @ points_ND.T
        rows, columns = np.nonzero(squared_BN < radius**2)
        sources.append((rows + block.start).astype(np.int32))
        targets.append(columns.astype(np.int32))
    return np.concatenate(sources), np.concatenate(targets)


def _round_robin(data: Data, clusters_N: Array) -> Array:
    """From the lowest margins, ten times as many as wanted: one of each cluster in turn, small clusters first."""
    top_N2 = np.partition(data["probs"], -2, axis=1)[:, -2:]
    lowest_M = np.argsort(top_N2[:, 1] - top_N2[:, 0])[: 10 * data.size.picks]
    sizes = np.bincount(clusters_N[lowest_M])
    members = [list(lowest_M[clusters_N[lowest_M] == cluster]) for cluster in np.argsort(sizes) if sizes[cluster]]
    picks: list[int] = []
    while len(picks) < min(data.size.picks, len(lowest_M)):
        picks.extend(left.pop(0) for left in members if left)
    return np.array(picks[: data.size.picks])
