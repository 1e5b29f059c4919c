"""The parts of a plan. All are immutable; the wire converts from and to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from assay.server.core.records.arrays import Scalar
from assay.server.core.records.filters import Filter


class Combination(StrEnum):
    """How scores become one utility."""

    PRODUCT = "product"
    RANK_SUM = "rank_sum"


class ShortlistOrder(StrEnum):
    """From which order a shortlist takes the first."""

    TOP = "top"
    RANDOM = "random"


class DrawFrom(StrEnum):
    """From which samples a plan draws: those that want answers still; the suspects of the last audit; those whose
    answers do not decide; or all of these."""

    UNLABELED = "unlabeled"
    SUSPECTS = "suspects"
    DISPUTED = "disputed"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class ScoreTerm:
    """One score of a plan; strength is its exponent in the product, or its weight in the sum of ranks."""

    strategy: str
    params: Mapping[str, Any] = field(default_factory=dict)
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Stochastic:
    """Noise on the utility; beta says how sharply chances follow it."""

    kind: Literal["power", "softmax", "softrank"] = "power"
    beta: float = 1.0


@dataclass(frozen=True, slots=True)
class Shortlist:
    """How many candidates reach the selector: exactly one of size, per_pick and neighbors is above 0. `neighbors` of
    each labeled sample make the shortlist of SEALS; `order` is that of the others."""

    size: int = 0
    per_pick: int = 0
    order: ShortlistOrder = ShortlistOrder.TOP
    neighbors: int = 0

    @property
    def by_utility(self) -> bool:
        """Whether it is cut after the scores, by them; the others are cut before."""
        return not self.neighbors and self.order is ShortlistOrder.TOP

    def keep(self, picks: int) -> int:
        """How many it keeps for so many picks, where it counts."""
        return max(picks, self.size or self.per_pick * picks)


class Reduction(StrEnum):
    """How the uncertainties of objects become one of their sample; TOP_M is the mean of the m highest."""

    SUM = "sum"
    MEAN = "mean"
    MAX = "max"
    TOP_M = "top_m"


class Empty(StrEnum):
    """What a sample scores in which no object is predicted: nothing, what the others do on average, or what one of them
    does, drawn."""

    FLOOR = "floor"
    MEAN = "mean"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class ObjectsTerm:
    """How uncertain the objects of a sample are: a score of the plan.

    Attributes:
        measure: uncertainty of an object: the scorer "entropy", "margin", "least_confidence" or "ratio".
        reduction, m: how those of its objects make that of a sample.
        class_weights: what objects of a class count, by its name; 1 where none is given.
        empty: what a sample without objects scores.
        strength: as in ScoreTerm.
    """

    measure: str = "entropy"
    reduction: Reduction = Reduction.SUM
    m: int = 5
    class_weights: Mapping[str, float] = field(default_factory=dict)
    empty: Empty = Empty.RANDOM
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class SelectTerm:
    """The selector of a plan."""

    strategy: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QuotaTerm:
    """Bounds for the samples of one group; a target is a share of the picks."""

    value: Scalar
    minimum: int = 0
    maximum: int | None = None
    target: float | None = None


@dataclass(frozen=True, slots=True)
class Quotas:
    """Bounds by the value of an attribute, or, where `attribute` is empty, by the class that the model predicts."""

    quotas: tuple[QuotaTerm, ...]
    attribute: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to mine. Before expansion `preset` may stand for the rest; after it, it is kept as a name only.

    Attributes:
        filter: which samples may be picked.
        scores, combination: what makes the utility.
        stochastic: noise on it.
        shortlist: cuts the candidates.
        select: chooses the picks.
        exploration: share of the picks drawn at random.
        quotas: bounds by group.
        near_duplicate_radius: picks are farther apart than this (L2), if it is above 0.
        query: ids of samples that targeted strategies look for more of.
        draw_from: from which samples it draws.
        overlap_share: share of the picks of which `overlap_annotations` answers are wanted, once they are leased.
        prediction_source: whose predictions it goes by: a source of the user's own by name, "models/ID" for a head that
            need not be active, or "head", "backbone" or "pushed"; "" is the best that there is.
        objects: how uncertain predicted objects are, as one score more; `objects.spelled_out` says which.
    """

    preset: str = ""
    filter: Filter | None = None
    scores: tuple[ScoreTerm, ...] = ()
    shortlist: Shortlist | None = None
    select: SelectTerm | None = None
    exploration: float = 0.0
    combination: Combination = Combination.PRODUCT
    stochastic: Stochastic | None = None
    quotas: Quotas | None = None
    near_duplicate_radius: float = 0.0
    query: tuple[str, ...] = ()
    draw_from: DrawFrom = DrawFrom.UNLABELED
    overlap_share: float = 0.0
    overlap_annotations: int = 0
    prediction_source: str = ""
    objects: ObjectsTerm | None = None
