"""What the mining service is asked and what it answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assay.server.core.mining.plan.terms import Plan, QuotaTerm
from assay.server.core.pools.messages import SampleView
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.filters import Filter
from assay.server.core.records.pools import State
from assay.server.core.records.tasks import TaskKind
from assay.server.core.stopwatch import Timings


@dataclass(frozen=True, slots=True)
class StrategyView:
    """A strategy of the registry."""

    name: str
    kind: str  # "scorer" or "selector"
    summary: str
    params_schema: Mapping[str, Any]
    needs: tuple[str, ...]
    optional_needs: tuple[str, ...] = ()
    deterministic: bool = True
    needs_utility: bool = False
    tasks: tuple[TaskKind, ...] = ()  # whose pools it serves on this server


@dataclass(frozen=True, slots=True)
class PresetView:
    """A named plan; is_default if it is taken in pools of the task by who names none."""

    name: str
    summary: str
    plan: Plan
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Provenance:
    """What picks were computed from."""

    backbone: str  # model id, "" where none
    head: str  # model id, "" where none
    source: str  # "head", "backbone", "pushed", "named" or "none"
    space: str
    epoch: int
    plan_digest: str
    seed: int
    candidates: int
    named: str = ""  # the source of the user's own, "" where none


@dataclass(frozen=True, slots=True)
class NumberView:
    """A number that is predicted, and its standard deviation: that of the members of a committee, or the one that a
    source of the user's own gave; None where nobody knows it."""

    target: str
    value: float
    deviation: float | None


@dataclass(frozen=True, slots=True)
class PickView:
    """One pick and why.

    Attributes:
        parts: what each score of the plan gave, by strategy, in the plan's order.
        predictions: (class name, probability), most likely first; with several labels a sample each for itself.
        numbers: what is predicted in a regression.
        exploring: whether it was drawn at random by the plan's exploration.
    """

    sample: SampleView
    rank: int
    score: float
    parts: tuple[tuple[str, float], ...]
    predictions: tuple[tuple[str, float], ...] = ()
    exploring: bool = False
    numbers: tuple[NumberView, ...] = ()


@dataclass(frozen=True, slots=True)
class QuotaView:
    """What became of a quota: candidates of its group, and picks."""

    quota: QuotaTerm
    available: int
    picked: int


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a plan would cost."""

    candidates: int
    bytes_read: int
    gflop: float
    seconds: float


@dataclass(frozen=True, slots=True)
class MineSpec:
    """Picks to make. plan None means the default of the pool's task, see plan/defaults.py."""

    size: int
    plan: Plan | None = None
    filter: Filter | None = None
    seed: int = 0
    validate_only: bool = False
    payload: bool = False
    predictions: int = 0


@dataclass(frozen=True, slots=True)
class MineResult:
    """Picks made; with validate_only, the estimate instead."""

    picks: tuple[PickView, ...]
    plan: Plan
    provenance: Provenance
    estimate: CostEstimate | None
    timings: Timings
    quotas: tuple[QuotaView, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """Scores to stream. states () means unlabeled."""

    plan: Plan | None = None
    filter: Filter | None = None
    states: tuple[State, ...] = ()
    chunk: int = 10_000


@dataclass(frozen=True, slots=True)
class ScoreStream:
    """Scores by row: an iterator of (ids, scores) to drain outside the event loop."""

    provenance: Provenance
    chunks: Iterator[tuple[list[str], FloatArray]]
