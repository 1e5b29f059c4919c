"""Presets: every strategy by its name as a plan, and compositions of several."""

import difflib
from collections.abc import Iterator
from typing import Protocol

from assay.server.core.errors import AssayError, Reason
from assay.server.core.mining.messages import PresetView
from assay.server.core.mining.plan.terms import Plan, ScoreTerm, SelectTerm, Shortlist, ShortlistOrder, Stochastic
from assay.server.core.mining.supply import PREDICTED, served
from assay.server.core.records.tasks import TaskKind
from assay.strategies import Strategy, StrategyError, kind
from assay.strategies.serving import utility_of

TOP = "top"
# What a selector that ranks by the doubt about one class is given where its paper has another than the usual one.
UTILITIES = {"information_density": "entropy"}

COMPOSITIONS = {
    preset.name: preset
    for preset in (
        PresetView(
            "margin_k_center",
            "The most uncertain fifty per pick, then spread out among them.",
            Plan(scores=(ScoreTerm("margin"),), shortlist=Shortlist(per_pick=50), select=SelectTerm("k_center")),
        ),
        PresetView(
            "power_margin",
            "A draw in which the uncertain have better chances: no batch of one kind, at the cost of a ranking.",
            Plan(scores=(ScoreTerm("margin"),), stochastic=Stochastic("power"), select=SelectTerm(TOP)),
        ),
        PresetView(
            "power_bald",
            "A draw in which samples that divide the committee have better chances.",
            Plan(scores=(ScoreTerm("bald"),), stochastic=Stochastic("power"), select=SelectTerm(TOP)),
        ),
        PresetView(
            "seals_margin",
            "The most uncertain among the hundred nearest of each labeled sample: cost does not grow with the pool.",
            Plan(scores=(ScoreTerm("margin"),), shortlist=Shortlist(neighbors=100), select=SelectTerm(TOP)),
        ),
        PresetView(
            "cover",
            "Samples that stand for the rest (max_herding among 4,096 drawn at random): for any task, without a model.",
            Plan(shortlist=Shortlist(size=4096, order=ShortlistOrder.RANDOM), select=SelectTerm("max_herding")),
        ),
        PresetView(
            "spread",
            "Samples far from all labeled ones (gsx among 16,384 drawn at random): for any task, without a model.",
            Plan(shortlist=Shortlist(size=16_384, order=ShortlistOrder.RANDOM), select=SelectTerm("gsx")),
        ),
    )
}


class Registry(Protocol):
    """Where strategies are found; `assay.strategies` itself is one."""

    def names(self) -> tuple[str, ...]:
        """Names of all strategies."""

    def get(self, name: str) -> Strategy:
        """A strategy. Raises assay.strategies.StrategyError."""


def find(name: str, registry: Registry, task: TaskKind = TaskKind.CLASSIFICATION) -> PresetView:
    """A preset, as it is in pools of a task. Raises AssayError(INVALID_PLAN) for a name that is none, StrategyError for
    a broken strategy."""
    if name in COMPOSITIONS:
        return COMPOSITIONS[name]
    names = registry.names()
    if name not in names:
        near = difflib.get_close_matches(name, [*names, *COMPOSITIONS], n=3)
        advice = f"did you mean {', '.join(near)}?" if near else "ListStrategies lists them."
        raise AssayError(Reason.INVALID_PLAN, f"There is no preset {name[:100]!r}; {advice}")
    return _of_strategy(registry.get(name), task)


def serves(strategy: Strategy, task: TaskKind, registry: Registry) -> bool:
    """Whether a strategy can be used in pools of a task: this server can give what it needs, and there is a utility
    where it cannot do without. Raises StrategyError where that one is broken."""
    if not strategy.needs <= served(task):
        return False
    if not getattr(strategy, "needs_utility", False):
        return True
    utility = utility_of(PREDICTED[task])
    return utility is not None and registry.get(utility).needs <= served(task)


def listed(registry: Registry, task: TaskKind = TaskKind.CLASSIFICATION) -> list[PresetView]:
    """By name, the presets whose strategies load and serve a task on this server."""
    found = {view.name: view for name in registry.names() for view in _usable(name, registry, task)}
    found |= {name: view for name, view in COMPOSITIONS.items() if _strategies(view.plan) <= found.keys()}
    return [found[name] for name in sorted(found)]


def _usable(name: str, registry: Registry, task: TaskKind) -> Iterator[PresetView]:
    try:
        strategy = registry.get(name)
    except StrategyError:
        return  # A broken package says why when it is asked for by name.
    if serves(strategy, task, registry):
        yield _of_strategy(strategy, task)


def _strategies(plan: Plan) -> set[str]:
    return {term.strategy for term in plan.scores} | ({plan.select.strategy} if plan.select else set())


def _of_strategy(strategy: Strategy, task: TaskKind) -> PresetView:
    name = strategy.name
    if kind(strategy) == "scorer":
        return PresetView(name, strategy.summary, Plan(scores=(ScoreTerm(name),), select=SelectTerm(TOP)))
    utility = utility_of(PREDICTED[task]) if getattr(strategy, "needs_utility", False) else None
    if utility and task is TaskKind.CLASSIFICATION:
        utility = UTILITIES.get(name, utility)
    scores = (ScoreTerm(utility),) if utility else ()
    return PresetView(name, strategy.summary, Plan(scores=scores, select=SelectTerm(name)))
