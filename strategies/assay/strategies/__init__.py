"""Which unlabeled samples are worth labeling? Scorers and selectors over plain arrays; knows no server.

from assay.strategies import score, select

margins_N = score("margin", logits=logits_NC)
picks = select("k_center", size=100, embeddings=embeddings_ND, labeled_embeddings=labeled_LD)
"""

from assay.strategies.base import NoParams, Scorer, Selection, Selector, Strategy, kind
from assay.strategies.calls import score, select
from assay.strategies.candidates import Candidates
from assay.strategies.errors import InvalidParams, NeedMissing, StrategyError, UnknownStrategy
from assay.strategies.interrupt import Interrupted, checkpoint, interruptible
from assay.strategies.needs import Need
from assay.strategies.registry import get, names

__all__ = [
    "Candidates",
    "Interrupted",
    "InvalidParams",
    "Need",
    "NeedMissing",
    "NoParams",
    "Scorer",
    "Selection",
    "Selector",
    "Strategy",
    "StrategyError",
    "UnknownStrategy",
    "checkpoint",
    "get",
    "interruptible",
    "kind",
    "names",
    "score",
    "select",
]
