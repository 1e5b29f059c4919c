"""Plans: presets, expansion, checking, digest."""

import hashlib
import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, cast

from assay.server.core.errors import AssayError, Reason
from assay.server.core.messages import Plan, PresetView, ScoreTerm, SelectTerm, Shortlist
from assay.server.core.types import AllOf, Filter
from assay.strategies import Need, Scorer, Selector, Strategy, kind, params

MAX_SCORES = 8
OF_PREDICTIONS = frozenset({Need.LOGITS, Need.PROBS})
TOP = "top"

PRESETS = {
    preset.name: preset
    for preset in (
        PresetView("random", "A uniform random sample: the baseline.", Plan(select=SelectTerm("random"))),
        PresetView(
            "least_confidence",
            "Samples whose most likely class is least likely.",
            Plan(scores=(ScoreTerm("least_confidence"),), select=SelectTerm(TOP)),
        ),
        PresetView(
            "margin",
            "Samples whose two most likely classes are closest: the baseline to beat.",
            Plan(scores=(ScoreTerm("margin"),), select=SelectTerm(TOP)),
        ),
        PresetView(
            "entropy",
            "Samples whose class distribution is widest.",
            Plan(scores=(ScoreTerm("entropy"),), select=SelectTerm(TOP)),
        ),
        PresetView(
            "k_center",
            "Samples farthest from all that is labeled or picked (core-set).",
            Plan(select=SelectTerm("k_center")),
        ),
        PresetView(
            "margin_k_center",
            "The most uncertain fifty per pick, then spread out among them.",
            Plan(scores=(ScoreTerm("margin"),), shortlist=Shortlist(per_pick=50), select=SelectTerm("k_center")),
        ),
    )
}


class Registry(Protocol):
    """Where strategies are found; `assay.strategies` itself is one."""

    def names(self) -> tuple[str, ...]:
        """Names of all strategies."""

    def get(self, name: str) -> Strategy:
        """A strategy. Raises assay.strategies.StrategyError."""


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
    """

    plan: Plan
    digest: str
    scores: tuple[BoundScore, ...]
    selector: Selector
    selector_params: Any
    needs: frozenset[Need]

    @property
    def quick(self) -> bool:
        """Whether it only ranks what is kept of the model's predictions: milliseconds, whatever the pool."""
        return self.needs <= OF_PREDICTIONS


def bind(plan: Plan, extra_filter: Filter | None, registry: Registry) -> BoundPlan:
    """Expands, checks and binds a plan. Raises AssayError(INVALID_PLAN) and StrategyError (unknown strategy, bad
    parameter)."""
    if plan == Plan(preset=plan.preset) and extra_filter is None:
        return _bind_preset(plan.preset, cast(Hashable, registry))
    return _bind(plan, extra_filter, registry)


@lru_cache(maxsize=64)
def _bind_preset(preset: str, registry: Hashable) -> BoundPlan:
    return _bind(Plan(preset=preset), None, cast(Registry, registry))


def _bind(plan: Plan, extra_filter: Filter | None, registry: Registry) -> BoundPlan:
    expanded = expand(plan)
    _check(expanded)
    scores = tuple(_bind_score(term, registry) for term in expanded.scores)
    select = expanded.select or SelectTerm(TOP)
    selector = registry.get(select.strategy)
    if kind(selector) != "selector":
        raise _invalid(f"{select.strategy!r} is a scorer; name it under scores, and a selector under select.")
    selector_params = params.parse(selector.params, select.params)
    if getattr(selector, "needs_utility", False) and not scores:
        raise _invalid(f"The selector {select.strategy!r} ranks by a utility; name at least one scorer under scores.")
    if expanded.shortlist is not None and not scores:
        raise _invalid("A shortlist keeps the candidates of highest utility; name at least one scorer under scores.")
    full = replace(
        expanded,
        filter=_both(expanded.filter, extra_filter),
        scores=tuple(ScoreTerm(bound.scorer.name, bound.params_json, bound.strength) for bound in scores),
        select=SelectTerm(select.strategy, asdict(selector_params)),
    )
    needs = frozenset(selector.needs).union(*(bound.scorer.needs for bound in scores))
    return BoundPlan(full, _digest(full), scores, selector, selector_params, needs)  # type: ignore[arg-type]


def expand(plan: Plan) -> Plan:
    """The plan that a preset stands for; a plan without a preset as it is."""
    if not plan.preset:
        return plan
    if plan.scores or plan.select is not None:
        raise _invalid(f"The preset {plan.preset!r} brings its own scores and select; leave them out.")
    if plan.preset not in PRESETS:
        raise _invalid(f"There is no preset {plan.preset!r}; there are {', '.join(sorted(PRESETS))}.")
    preset = PRESETS[plan.preset].plan
    return replace(
        preset,
        preset=plan.preset,
        filter=plan.filter,
        shortlist=plan.shortlist or preset.shortlist,
        exploration=plan.exploration,
    )


def _bind_score(term: ScoreTerm, registry: Registry) -> BoundScore:
    scorer = registry.get(term.strategy)
    if kind(scorer) != "scorer":
        raise _invalid(f"{term.strategy!r} is a selector; name it under select.")
    parsed = params.parse(scorer.params, term.params)
    return BoundScore(scorer, parsed, asdict(parsed), term.strength or 1.0)  # type: ignore[arg-type]


def _check(plan: Plan) -> None:
    if not (math.isfinite(plan.exploration) and 0 <= plan.exploration <= 1):
        raise _invalid("exploration is a share: give a number from 0 to 1.")
    if len(plan.scores) > MAX_SCORES:
        raise _invalid(f"A plan has at most {MAX_SCORES} scores, not {len(plan.scores)}.")
    if any(not (math.isfinite(term.strength) and term.strength >= 0) for term in plan.scores):
        raise _invalid("strength is an exponent: give a finite number above 0 (0 means 1).")
    if not plan.scores and plan.select is None:
        raise _invalid("The plan is empty: name a preset, scores or a selector.")
    if plan.shortlist is not None and not _one_is_positive(plan.shortlist.size, plan.shortlist.per_pick):
        raise _invalid("A shortlist has a size or a number per pick of 1 or more.")


def _one_is_positive(one: int, other: int) -> bool:
    return min(one, other) == 0 < max(one, other)


def _both(one: Filter | None, other: Filter | None) -> Filter | None:
    given = tuple(condition for condition in (one, other) if condition is not None)
    return AllOf(given) if len(given) == 2 else next(iter(given), None)


def _digest(plan: Plan) -> str:
    # The filter by its types too: "all of" and "any of" have the same fields.
    body = json.dumps({**asdict(replace(plan, filter=None)), "filter": repr(plan.filter)}, sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()


def _invalid(message: str) -> AssayError:
    return AssayError(Reason.INVALID_PLAN, message)
