"""Strategies, scores and picks."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.client.filters import AttributeScalar
from assay.client.plans import Plan
from assay.client.results.models import NumberPrediction, Prediction
from assay.client.results.pools import Sample


@dataclass(frozen=True, slots=True)
class Provenance:
    """What scores or picks were computed from. Same provenance and seed: same picks."""

    backbone: str | None
    head: str | None
    prediction_source: str
    embedding_space: str
    epoch: int
    plan_digest: str
    seed: int
    candidates: int
    named_source: str | None = None


@dataclass(frozen=True, slots=True)
class ScorePart:
    """What one score of a plan gave a pick; higher = more informative."""

    strategy: str
    score: float


@dataclass(frozen=True, slots=True)
class Pick:
    """A picked sample and why it was picked.

    Attributes:
        rank: from 1.
        score: higher = more informative.
        parts: what each score of the plan gave, in the plan's order.
        predictions: classes, the most probable first; in a pool of sets of classes, each for itself.
        exploring: whether it was drawn at random by the plan's exploration.
        numbers: what is predicted in a regression, by target in their order.
    """

    sample: Sample
    rank: int
    score: float
    parts: tuple[ScorePart, ...]
    predictions: tuple[Prediction, ...]
    exploring: bool = False
    numbers: tuple[NumberPrediction, ...] = ()

    @property
    def id(self) -> str:
        """The sample's id."""
        return self.sample.id


@dataclass(frozen=True, slots=True)
class QuotaReport:
    """What became of a quota: how many picks come from its group, and how many candidates that has after the filter."""

    value: AttributeScalar
    picked: int
    available: int
    minimum: int
    maximum: int | None
    target: float | None


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a plan would cost."""

    candidates: int
    bytes_read: int
    gflop: float
    duration: timedelta


@dataclass(frozen=True, slots=True)
class MineResult:
    """Picks, best first, the plan as it ran, and what became of its quotas; `estimate` is set instead of picks by a dry
    run."""

    picks: tuple[Pick, ...]
    plan: Plan
    provenance: Provenance
    estimate: CostEstimate | None
    timings: Mapping[str, float]
    quotas: tuple[QuotaReport, ...] = ()

    @property
    def ids(self) -> list[str]:
        """Ids of the picks, best first."""
        return [pick.id for pick in self.picks]


@dataclass(frozen=True, slots=True, eq=False)
class ScoreResult:
    """One score per sample, ordered by row; higher = more informative."""

    ids: list[str]
    scores_N: NDArray[np.float32]
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy.

    Attributes:
        kind: "scorer" or "selector".
        params_schema: JSON Schema of its parameters.
        needs: arrays that it cannot do without.
        optional_needs: arrays that it uses where there are any.
        deterministic: whether its picks are the same for every seed.
        needs_utility: whether its plan needs scores.
        tasks: in whose pools it can be used: "classification", "multilabel", ...
    """

    name: str
    kind: str
    summary: str
    params_schema: Mapping[str, Any]
    needs: tuple[str, ...]
    optional_needs: tuple[str, ...] = ()
    deterministic: bool = True
    needs_utility: bool = False
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preset:
    """A named plan; `is_default` if it is what `mine` takes where no plan is named."""

    name: str
    summary: str
    plan: Plan
    is_default: bool = False
