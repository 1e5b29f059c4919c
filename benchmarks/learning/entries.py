"""Which strategies are entered for each kind of predictions, each as its page recommends it."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from assay.strategies.serving import PredictionKind, utility_of
from benchmarks.learning.simulate import Entry

BASELINE = "random"

# Without a model.
_COVERING = [
    Entry(name, name)
    for name in (
        "random",
        "k_center",
        "kmeans",
        "kmeans_pp",
        "typiclust",
        "prob_cover",
        "facility_location",
        "max_herding",
        "graph_cut",
        "log_det",
        "discriminative",
    )
]
_OF_CLASSES = [
    Entry(name, name)
    for name in (
        "margin",
        "entropy",
        "least_confidence",
        "expected_gradient_length",
        "badge",
        "cluster_margin",
        "clue",
        "drop_query",
        "contrastive",
        "galaxy",
        "tcm",
    )
]


def _ranking(kind: PredictionKind) -> list[Entry]:
    """Selectors that rank by the scorer recommended for the predictions."""
    selectors = ("fass", "weighted_kmeans", "u_herding", "information_density")
    return [Entry(name, name, utility_of(kind)) for name in selectors]


def _usual_number(given_LC: NDArray[Any]) -> Mapping[str, Any]:
    """How many labels a labeled sample has on average."""
    return {"cardinality": float(given_LC.sum(axis=1).mean())}


ENTRIES: Mapping[PredictionKind, list[Entry]] = {
    PredictionKind.CLASSES: [*_COVERING, *_OF_CLASSES, *_ranking(PredictionKind.CLASSES)],
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
