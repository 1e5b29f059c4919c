"""Which strategies are entered for each kind of predictions, each as its page recommends it."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from assay.strategies.serving import PredictionKind, utility_of
from benchmarks.learning.simulate import Entry

BASELINE = "random"

# Without a model: those that did best for classes, and k_center.
_COVERING = [
    Entry(name, name) for name in ("random", "k_center", "kmeans", "typiclust", "facility_location", "max_herding")
]
_OF_CLASSES = [
    Entry(name, name)
    for name in (
        "kmeans_pp",
        "prob_cover",
        "graph_cut",
        "log_det",
        "margin",
        "entropy",
        "least_confidence",
        "expected_gradient_length",
        "badge",
        "cluster_margin",
        "clue",
        "drop_query",
        "contrastive",
        "discriminative",
        "galaxy",
        "tcm",
    )
]


def _ranking(kind: PredictionKind) -> list[Entry]:
    """Selectors that rank by the scorer recommended for the predictions."""
    return [Entry(name, name, utility_of(kind)) for name in ("fass", "weighted_kmeans", "u_herding")]


def _usual_number(given_LC: NDArray[Any]) -> Mapping[str, Any]:
    """How many labels a labeled sample has on average."""
    return {"cardinality": float(given_LC.sum(axis=1).mean())}


ENTRIES: Mapping[PredictionKind, list[Entry]] = {
    PredictionKind.CLASSES: [
        *_COVERING,
        *_OF_CLASSES,
        *_ranking(PredictionKind.CLASSES),
        Entry("information_density", "information_density", "margin"),
    ],
    PredictionKind.LABELS: [
        *_COVERING,
        Entry("multilabel_mean_entropy", "multilabel_mean_entropy"),
        Entry("multilabel_max_entropy", "multilabel_max_entropy"),
        Entry("label_cardinality", "label_cardinality", of_targets=_usual_number),
        *_ranking(PredictionKind.LABELS),
    ],
    PredictionKind.VALUES: [
        *_COVERING,
        Entry("gsx", "gsx"),
        Entry("member_std", "member_std"),
        *_ranking(PredictionKind.VALUES),
    ],
}
