"""Which strategies serve which kind of predictions: told by the arrays that they need, so anybody's are told too.

from assay.strategies import get
from assay.strategies.serving import PredictionKind, missing, serves

serves(get("k_center"), PredictionKind.VALUES)   # True: it needs embeddings only
missing(get("margin"), PredictionKind.VALUES)    # {Need.PROBS}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from assay.strategies.base import Strategy
from assay.strategies.needs import Need


class PredictionKind(StrEnum):
    """What a model says of a sample. A task has one: classification classes, multi-label labels, regression values,
    boxes and spans parts; of free-form answers nothing is predicted.

    CLASSES: one distribution over C classes.
    LABELS: C independent probabilities.
    VALUES: T numbers.
    PARTS: any number of parts (boxes of an image, spans of a text), each with a distribution over C classes.
    NOTHING: no model, or one whose answers have no numbers.
    """

    CLASSES = "classes"
    LABELS = "labels"
    VALUES = "values"
    PARTS = "parts"
    NOTHING = "nothing"


# Arrays that say nothing of predictions: there for every kind.
_ALWAYS = frozenset(
    {
        Need.EMBEDDINGS,
        Need.LABELED_EMBEDDINGS,
        Need.QUERY_EMBEDDINGS,
        Need.KNN_GRAPH,
        Need.CLUSTERS,
    }
)
# What predictions of a kind, and labels of its task, can give besides. HEAD_WEIGHTS are those of a head for classes:
# the logits of other heads mean something else.
_GIVES = MappingProxyType(
    {
        PredictionKind.CLASSES: frozenset(
            {
                Need.LOGITS,
                Need.PROBS,
                Need.MEMBER_PROBS,
                Need.LABELED_PROBS,
                Need.LABELED_CLASSES,
                Need.HEAD_WEIGHTS,
                Need.HEAD_BIAS,
                Need.WORTH,
            }
        ),
        PredictionKind.LABELS: frozenset({Need.LABEL_PROBS, Need.WORTH}),
        PredictionKind.VALUES: frozenset({Need.MEMBER_VALUES, Need.WORTH}),
        PredictionKind.PARTS: frozenset({Need.PART_PROBS, Need.PART_OFFSETS, Need.WORTH}),
        PredictionKind.NOTHING: frozenset(),
    }
)


@dataclass(frozen=True)
class Recommendation:
    """A selector to begin with, and the scorer that ranks where a selector asks for one; None where nothing can."""

    scorer: str | None
    selector: str


# docs/strategy-learning.md has the figures behind them, docs/which-strategy.md says where there are none.
RECOMMENDED = MappingProxyType(
    {
        PredictionKind.CLASSES: Recommendation("margin", "u_herding"),
        PredictionKind.LABELS: Recommendation("multilabel_max_entropy", "max_herding"),
        PredictionKind.VALUES: Recommendation("member_std", "gsx"),
        PredictionKind.PARTS: Recommendation("ragged", "top"),
        PredictionKind.NOTHING: Recommendation(None, "max_herding"),
    }
)


def available(kind: PredictionKind) -> frozenset[Need]:
    """The arrays that a caller with predictions of a kind can have, embeddings and a trained model provided."""
    return _ALWAYS | _GIVES[kind]


def missing(strategy: Strategy, kind: PredictionKind) -> frozenset[Need]:
    """The arrays that a strategy needs and predictions of a kind cannot give."""
    return strategy.needs - available(kind)


def utility_of(kind: PredictionKind) -> str | None:
    """The scorer that selectors rank by where nobody names one; None for predictions that nothing can be told by."""
    return RECOMMENDED[kind].scorer


def serves(strategy: Strategy, kind: PredictionKind) -> bool:
    """Whether a strategy can be used with predictions of a kind: nothing that it needs is missing, and there is a
    utility where it cannot do without."""
    unranked = bool(getattr(strategy, "needs_utility", False)) and utility_of(kind) is None
    return not missing(strategy, kind) and not unranked


def kinds_served(strategy: Strategy) -> tuple[PredictionKind, ...]:
    """The kinds of predictions that a strategy serves, in the order of the enum."""
    return tuple(kind for kind in PredictionKind if serves(strategy, kind))


def serving(strategies: Iterable[Strategy], kind: PredictionKind) -> list[Strategy]:
    """Those of the strategies that serve a kind, in their order."""
    return [strategy for strategy in strategies if serves(strategy, kind)]
