"""How each library is called. Whatever is only a conversion of the data is left out of the timed call.

A library is imported inside its functions: each lives in an environment of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.strategies.data import Array, Data, softmax
from benchmarks.strategies.ours import Call

FACILITY_NEIGHBOURS = 64
DENSITY_NEIGHBOURS = 20
CONTRASTIVE_NEIGHBOURS = 10
TYPICLUST_NEIGHBOURS = 20
DROPOUTS = 3


def mundig_k_center(data: Data) -> Call:
    """lightly-mundig's diversity strategy; its first pick is row 0."""
    from lightly_mundig import Selection

    def call() -> Array:
        selection = Selection()
        selection.add_diversifying_strategy(data["embeddings"], 1.0)
        return np.array(selection.run_selection([], data.size.rows, data.size.picks))

    return call


def skactiveml_core_set(data: Data) -> Call:
    """scikit-activeml's CoreSet."""
    from skactiveml.pool import CoreSet

    return _query(CoreSet(random_state=0), data)


def skactiveml_badge(data: Data) -> Call:
    """scikit-activeml's Badge."""
    from skactiveml.pool import Badge

    return _query(Badge(random_state=0), data, clf=_head(data), fit_clf=False)


def skactiveml_typiclust(data: Data) -> Call:
    """scikit-activeml's TypiClust."""
    from skactiveml.pool import TypiClust

    return _query(TypiClust(k=TYPICLUST_NEIGHBOURS, random_state=0), data)


def skactiveml_prob_cover(data: Data) -> Call:
    """scikit-activeml's ProbCover with a given radius."""
    from skactiveml.pool import ProbCover

    # A new one each time: an old one would keep its distances.
    return lambda: _query(ProbCover(deltas=[float(data["radius"])], random_state=0), data)()


def skactiveml_clue(data: Data) -> Call:
    """scikit-activeml's Clue."""
    from skactiveml.pool import Clue

    return _query(Clue(random_state=0), data, estimator=_head(data), fit_estimator=False)


def skactiveml_drop_query(data: Data) -> Call:
    """scikit-activeml's DropQuery."""
    from skactiveml.pool import DropQuery

    strategy = DropQuery(n_dropout_samples=DROPOUTS, random_state=0)
    return _query(strategy, data, clf=_head(data), fit_clf=False)


def skactiveml_contrastive(data: Data) -> Call:
    """scikit-activeml's ContrastiveAL; the labeled samples come first in its data."""
    from skactiveml.pool import ContrastiveAL

    labeled = len(data["labeled_embeddings"])
    points_ND = np.concatenate([data["labeled_embeddings"], data["embeddings"]])
    classes_N = np.full(len(points_ND), np.nan)
    classes_N[:labeled] = data["labeled_classes"]
    strategy = ContrastiveAL(nearest_neighbors_dict={"n_neighbors": CONTRASTIVE_NEIGHBOURS}, random_state=0)
    head = _head(data)
    picks = data.size.picks
    return lambda: strategy.query(points_ND, classes_N, head, fit_clf=False, batch_size=picks) - labeled


def small_text_greedy_coreset(data: Data) -> Call:
    """small-text's greedy_coreset; row 0 counts as labeled, for it cannot start from nothing."""
    from small_text.query_strategies.coresets import greedy_coreset

    unlabeled_N, labeled_L = np.arange(data.size.rows), np.zeros(1, np.int64)

    def call() -> Array:
        return greedy_coreset(data["embeddings"], unlabeled_N, labeled_L, data.size.picks, distance_metric="euclidean")

    return call


def small_text_contrastive(data: Data) -> Call:
    """small-text's ContrastiveActiveLearning (which looks for neighbours among all samples)."""
    from small_text.query_strategies.strategies import ContrastiveActiveLearning

    strategy = ContrastiveActiveLearning(k=CONTRASTIVE_NEIGHBOURS, pbar=None)
    points_ND = np.concatenate([data["embeddings"], data["labeled_embeddings"]])
    probs_NC = np.concatenate([data["probs"], data["labeled_probs"]])
    indices_N = np.arange(len(points_ND))
    unlabeled_N, labeled_L = indices_N[: data.size.rows], indices_N[data.size.rows :]

    def call() -> Array:
        return strategy.sample(
            None, indices_N, unlabeled_N, labeled_L, None, data.size.picks, points_ND, embeddings_proba=probs_NC
        )

    return call


def baal_bald(data: Data) -> Call:
    """baal's scores, without its sorting; it wants (N, C, K)."""
    from baal.active.heuristics import BALD

    probs_NCK = np.ascontiguousarray(data["member_probs"].transpose(1, 2, 0))
    return lambda: BALD().compute_score(probs_NCK)


def apricot_dense(data: Data) -> Call:
    """apricot over all pairs; on unit vectors its squared distances rank as cosine similarity does."""
    from apricot import FacilityLocationSelection

    def call() -> Array:
        return (
            FacilityLocationSelection(data.size.picks, metric="euclidean", optimizer="lazy")
            .fit(data["embeddings"])
            .ranking
        )

    return call


def apricot_sparse(data: Data) -> Call:
    """apricot over a neighbour graph by scikit-learn. The graph is built here, as apricot does it, because apricot's
    own call refuses the index type that scikit-learn now gives."""
    from apricot import FacilityLocationSelection
    from sklearn.neighbors import kneighbors_graph

    def call() -> Array:
        graph = kneighbors_graph(data["embeddings"], FACILITY_NEIGHBOURS, mode="distance", include_self=True)
        graph.data = graph.data.max() - graph.data
        graph.indices, graph.indptr = graph.indices.astype(np.int32), graph.indptr.astype(np.int32)
        return FacilityLocationSelection(data.size.picks, metric="precomputed", optimizer="lazy").fit(graph).ranking

    return call


def submodlib_dense(data: Data) -> Call:
    """submodlib over all pairs, the kernel made by its C++ side, which is the faster of its ways."""
    return _submodlib(data, mode="dense", create_dense_cpp_kernel_in_python=False)


def submodlib_sparse(data: Data) -> Call:
    """submodlib over a neighbour graph of its own making."""
    return _submodlib(data, mode="sparse", num_neighbors=FACILITY_NEIGHBOURS)


def modal_information_density(data: Data) -> Call:
    """modAL's density over all pairs, times the entropy; the highest."""
    from modAL.density import information_density

    def call() -> Array:
        scores_N = information_density(data["embeddings"]) * _entropy(data["probs"])
        return np.argsort(-scores_N)[: data.size.picks]

    return call


def sklearn_kmeans_plusplus(data: Data) -> Call:
    """scikit-learn's k-means++ with one trial per pick, which is the same law as ours."""
    from sklearn.cluster import kmeans_plusplus

    def call() -> Array:
        return kmeans_plusplus(data["embeddings"], data.size.picks, n_local_trials=1, random_state=0)[1]

    return call


def _submodlib(data: Data, **options: Any) -> Call:
    from submodlib import FacilityLocationFunction

    def call() -> Array:
        function = FacilityLocationFunction(
            n=data.size.rows, data=data["embeddings"], separate_rep=False, metric="cosine", **options
        )
        picks = function.maximize(budget=data.size.picks, optimizer="LazyGreedy", show_progress=False)
        return np.array([index for index, _gain in picks])

    return call


def _query(strategy: Any, data: Data, **options: Any) -> Call:
    """The call of a scikit-activeml strategy where nothing is labeled."""
    unknown_N = np.full(data.size.rows, np.nan)

    def call() -> Array:
        return np.asarray(strategy.query(data["embeddings"], unknown_N, batch_size=data.size.picks, **options))

    return call


def _head(data: Data) -> Any:
    """The linear head as a classifier of scikit-activeml, so that it has the same probabilities."""
    from skactiveml.base import SkactivemlClassifier

    weights_DC, bias_C = data["head_weights"].T, data["head_bias"]

    class Head(SkactivemlClassifier):
        def fit(self, X: Array, y: Array, sample_weight: Array | None = None) -> Head:
            return self

        def predict_proba(self, X: Array) -> Array:
            return softmax(X @ weights_DC + bias_C)

        def predict(self, X: Array) -> Array:
            return (X @ weights_DC + bias_C).argmax(1)

    return Head(classes=np.arange(data.size.classes))


def _entropy(probs_NC: Array) -> Array:
    return -(probs_NC * np.log(np.maximum(probs_NC, 1e-30))).sum(1)
