"""Plans: expansion, binding to strategies, digest."""

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, cast

from assay.server.core.mining.plan import checks as plan_checks
from assay.server.core.mining.plan import presets
from assay.server.core.mining.plan.checks import invalid
from assay.server.core.mining.plan.presets import TOP, Registry
from assay.server.core.mining.plan.terms import Combination, Plan, ScoreTerm, SelectTerm
from assay.server.core.mining.supply import OF_PREDICTIONS
from assay.server.core.pools.source_checks import OWN
from assay.server.core.records.filters import AllOf, Filter
from assay.server.core.records.tasks import TaskKind
from assay.strategies import Need, Scorer, Selector, Strategy, kind, params
from assay.strategies.base import optional_needs


@dataclass(frozen=True, slots=True)
class BoundScore:
    """A scorer with its parameters."""

    scorer: Scorer
    params: Any
    params_json: Mapping[str, Any]
    strength: float


@dataclass(frozen=True, slots=True)
class BoundPlan:
    """A plan ready to run.

    Attributes:
        plan: the expanded plan, defaults filled in.
        digest: SHA-256 of it, hexadecimal.
        needs: all arrays that its strategies ask for.
        optional: those that they use where there are any.
    """

    plan: Plan
    digest: str
    scores: tuple[BoundScore, ...]
    selector: Selector
    selector_params: Any
    needs: frozenset[Need]
    optional: frozenset[Need] = frozenset()

    @property
    def ranks_only(self) -> bool:
        """Whether the picks are simply those of highest utility."""
        return bool(self.scores) and self.selector.name == TOP

    @property
    def quick(self) -> bool:
        """Whether it only ranks what is kept of the model's predictions: milliseconds, whatever the pool."""
        shortlist = self.plan.shortlist
        reads_vectors = self.plan.near_duplicate_radius > 0 or (shortlist is not None and shortlist.neighbors > 0)
        # What others predict is kept too, but nobody has computed it before it is asked for.
        kept = self.plan.prediction_source in ("", *OWN)
        return self.needs | self.optional <= OF_PREDICTIONS and kept and not reads_vectors


def bind(
    plan: Plan, extra_filter: Filter | None, registry: Registry, task: TaskKind = TaskKind.CLASSIFICATION
) -> BoundPlan:
    """Expands, checks and binds a plan for pools of a task. Raises AssayError(INVALID_PLAN) and StrategyError (unknown
    strategy, bad parameter)."""
    if plan == Plan(preset=plan.preset) and extra_filter is None:
        return _bind_preset(plan.preset, cast(Hashable, registry), task)
    return _bind(plan, extra_filter, registry, task)


@lru_cache(maxsize=64)
def _bind_preset(preset: str, registry: Hashable, task: TaskKind) -> BoundPlan:
    return _bind(Plan(preset=preset), None, cast(Registry, registry), task)


def _bind(plan: Plan, extra_filter: Filter | None, registry: Registry, task: TaskKind) -> BoundPlan:
    expanded = expand(plan, registry, task)
    plan_checks.sound(expanded)
    scores = tuple(_bind_score(term, registry) for term in expanded.scores)
    select = expanded.select or SelectTerm(TOP)
    selector = _selector(select.strategy, registry)
    selector_params = params.parse(selector.params, select.params)
    full = replace(
        expanded,
        filter=_both(expanded.filter, extra_filter),
        scores=tuple(ScoreTerm(bound.scorer.name, bound.params_json, bound.strength) for bound in scores),
        select=SelectTerm(select.strategy, asdict(selector_params)),
    )
    _check_together(full, selector, [bound.scorer for bound in scores])
    asked: list[Strategy] = [selector, *(bound.scorer for bound in scores)]
    needs = frozenset(need for strategy in asked for need in strategy.needs)
    optional = frozenset(need for strategy in asked for need in optional_needs(strategy))
    return BoundPlan(full, _digest(full), scores, selector, selector_params, needs, optional - needs)


def _selector(name: str, registry: Registry) -> Selector:
    selector = registry.get(name)
    if kind(selector) != "selector":
        raise invalid(f"{name!r} is a scorer; name it under scores, and a selector under select.")
    assert isinstance(selector, Selector)
    return selector


def _check_together(plan: Plan, selector: Selector, scorers: Sequence[Scorer]) -> None:
    """Raises AssayError(INVALID_PLAN) for parts that do not go with the plan's strategies."""
    if getattr(selector, "needs_utility", False) and not scorers:
        raise invalid(f"The selector {selector.name!r} ranks by a utility; name at least one scorer under scores.")
    shortlist = plan.shortlist
    if plan.stochastic and selector.name != TOP and not (shortlist and shortlist.by_utility):
        raise invalid(
            f"stochastic draws from a ranking, and {selector.name!r} makes none; give the plan a shortlist by "
            "utility, or select by 'top'."
        )
    asked: list[Strategy] = [selector, *scorers]
    targeted = [strategy.name for strategy in asked if Need.QUERY_EMBEDDINGS in strategy.needs]
    if targeted and not plan.query:
        raise invalid(
            f"The strategy {targeted[0]!r} looks for more of something; name samples of that kind in the plan's query."
        )


def expand(plan: Plan, registry: Registry, task: TaskKind = TaskKind.CLASSIFICATION) -> Plan:
    """The plan that a preset stands for in pools of a task, with what is given beside it; a plan without a preset as it
    is."""
    if not plan.preset:
        return plan
    if plan.scores or plan.select is not None or plan.combination is not Combination.PRODUCT:
        raise invalid(f"The preset {plan.preset[:100]!r} brings its own scores, combination and select: give none.")
    preset = presets.find(plan.preset, registry, task).plan
    return replace(
        plan,
        scores=preset.scores,
        select=preset.select,
        combination=preset.combination,
        shortlist=plan.shortlist or preset.shortlist,
        stochastic=plan.stochastic or preset.stochastic,
    )


def _bind_score(term: ScoreTerm, registry: Registry) -> BoundScore:
    scorer = registry.get(term.strategy)
    if kind(scorer) != "scorer":
        raise invalid(f"{term.strategy!r} is a selector; name it under select.")
    assert isinstance(scorer, Scorer)
    parsed = params.parse(scorer.params, term.params)
    return BoundScore(scorer, parsed, asdict(parsed), term.strength)


def _both(one: Filter | None, other: Filter | None) -> Filter | None:
    given = tuple(condition for condition in (one, other) if condition is not None)
    return AllOf(given) if len(given) == 2 else next(iter(given), None)


def _digest(plan: Plan) -> str:
    # The filter by its types too: "all of" and "any of" have the same fields.
    body = json.dumps({**asdict(replace(plan, filter=None)), "filter": repr(plan.filter)}, sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()
