"""Plans: presets stand for what they say, and a digest names what was run."""

from dataclasses import replace

import pytest

import assay.strategies
from assay.server.core.errors import AssayError
from assay.server.core.mining.messages import PresetView
from assay.server.core.mining.plan.binding import bind, expand
from assay.server.core.mining.plan.presets import COMPOSITIONS, listed
from assay.server.core.mining.plan.terms import (
    Combination,
    Plan,
    Quotas,
    QuotaTerm,
    ScoreTerm,
    SelectTerm,
    Shortlist,
    Stochastic,
)
from assay.server.core.mining.supply import served
from assay.server.core.records.filters import AllOf, AnyOf, Compare, Filter, HasId, Not, OneOf
from assay.server.core.records.tasks import TaskKind
from assay.strategies import Need

SMALL = Compare("n", "<", 5)


def digest(plan: Plan, extra: Filter | None = None) -> str:
    return bind(plan, extra, assay.strategies).digest


@pytest.mark.parametrize("preset", listed(assay.strategies), ids=lambda preset: preset.name)
def test_a_preset_is_the_plan_that_it_shows(preset: PresetView) -> None:
    given = {"filter": SMALL, "exploration": 0.25, "query": ("a",), "near_duplicate_radius": 0.5}
    expanded = expand(Plan(preset=preset.name, **given), assay.strategies)
    assert expanded == replace(preset.plan, preset=preset.name, **given)
    assert expand(preset.plan, assay.strategies) == preset.plan
    assert bind(Plan(preset=preset.name, query=("a",)), None, assay.strategies).plan.preset == preset.name


def test_an_expanded_plan_has_its_defaults_filled_in() -> None:
    bound = bind(Plan(preset="margin_k_center"), SMALL, assay.strategies)
    assert bound.plan == Plan(
        preset="margin_k_center",
        filter=SMALL,
        scores=(ScoreTerm("margin", {}, 1.0),),
        shortlist=Shortlist(per_pick=50),
        select=SelectTerm("k_center", {"metric": "l2", "start": "mean"}),
    )
    assert bound.needs >= {Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS}
    assert bind(Plan(scores=(ScoreTerm("margin"),)), None, assay.strategies).plan.select == SelectTerm("top", {})
    with pytest.raises(AssayError, match="above 0, or leave out the term"):
        bind(Plan(scores=(ScoreTerm("margin", strength=0),)), None, assay.strategies)


def test_the_digest_is_the_same_for_the_same_plan_and_no_other() -> None:
    plans = [
        Plan(preset="margin"),
        Plan(preset="entropy"),
        Plan(preset="margin", exploration=0.1),
        Plan(preset="margin", filter=SMALL),
        Plan(preset="margin", filter=Not(SMALL)),
        Plan(preset="margin", filter=AllOf((SMALL, HasId(("a",))))),
        Plan(preset="margin", filter=AnyOf((SMALL, HasId(("a",))))),
        Plan(preset="margin", filter=OneOf("n", (1,))),
        Plan(preset="margin", filter=OneOf("n", (True,))),
        Plan(preset="margin_k_center", shortlist=Shortlist(size=50)),
        Plan(preset="margin_k_center"),
        Plan(select=SelectTerm("k_center", {"start": "first"})),
        Plan(scores=(ScoreTerm("margin", strength=2.0),)),
        Plan(scores=(ScoreTerm("margin"), ScoreTerm("entropy"))),
        Plan(scores=(ScoreTerm("margin"), ScoreTerm("entropy")), combination=Combination.RANK_SUM),
        Plan(preset="margin", stochastic=Stochastic()),
        Plan(preset="margin", stochastic=Stochastic("softmax")),
        Plan(preset="margin", near_duplicate_radius=0.5),
        Plan(preset="margin", query=("a",)),
        Plan(preset="margin", quotas=Quotas((QuotaTerm("a", 1),))),
        Plan(preset="margin", quotas=Quotas((QuotaTerm("a", 1),), "n")),
        Plan(preset="margin", quotas=Quotas((QuotaTerm(1, 1),), "n")),
        Plan(preset="margin", quotas=Quotas((QuotaTerm(True, 1),), "n")),
        Plan(preset="margin_k_center", shortlist=Shortlist(neighbors=50)),
    ]
    digests = [digest(plan) for plan in plans]
    assert len(set(digests)) == len(plans)
    assert digests == [digest(plan) for plan in plans]


def test_the_digest_does_not_ask_where_the_filter_was_given_nor_whether_defaults_were_spelled_out() -> None:
    assert digest(Plan(preset="margin", filter=SMALL)) == digest(Plan(preset="margin"), SMALL)
    assert digest(Plan(select=SelectTerm("k_center"))) == digest(
        Plan(select=SelectTerm("k_center", {"start": "mean", "metric": "l2"}))
    )


def test_a_second_filter_must_hold_too() -> None:
    other = HasId(("a",))
    assert bind(Plan(preset="random", filter=SMALL), other, assay.strategies).plan.filter == AllOf((SMALL, other))


def test_every_strategy_that_the_server_can_run_is_a_preset() -> None:
    presets = {preset.name: preset for preset in listed(assay.strategies)}
    for name, kind in assay.strategies.registry.kinds().items():
        strategy = assay.strategies.get(name)
        assert (name in presets) == (strategy.needs <= served(TaskKind.CLASSIFICATION))
        if name not in presets:
            continue
        assert presets[name].summary == strategy.summary
        bound = bind(Plan(preset=name, query=("a",)), None, assay.strategies)
        used = {term.scorer.name for term in bound.scores} | {bound.selector.name}
        assert name in used
        assert (bound.selector.name == "top") == (kind == "scorer" or name == "top")
    assert presets.keys() >= COMPOSITIONS.keys()
    assert list(presets) == sorted(presets)


def test_a_strategy_that_the_server_cannot_run_is_refused_for_what_it_needs() -> None:
    """Not for its name: the plan binds, and the selection says which array is missing."""
    assert "ragged" not in {preset.name for preset in listed(assay.strategies)}
    assert Need.PART_PROBS in bind(Plan(preset="ragged"), None, assay.strategies).needs


def test_an_unknown_preset_is_told_what_is_like_it() -> None:
    with pytest.raises(AssayError, match=r"did you mean .*margin"):
        bind(Plan(preset="margn"), None, assay.strategies)
    with pytest.raises(AssayError, match="ListStrategies"):
        bind(Plan(preset="?" * 10_000), None, assay.strategies)


def test_a_plan_is_quick_if_it_only_ranks_predictions() -> None:
    def quick(**plan: object) -> bool:
        return bind(Plan(**plan), None, assay.strategies).quick  # type: ignore[arg-type]

    quotas = Quotas((QuotaTerm("ant", 1),))
    assert quick(preset="margin")
    assert quick(preset="power_margin", quotas=quotas)
    assert quick(preset="random")
    assert not quick(preset="k_center")
    assert not quick(preset="seals_margin")
    assert not quick(preset="margin", near_duplicate_radius=0.1)
