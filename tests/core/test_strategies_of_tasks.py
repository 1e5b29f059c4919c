"""Every registered strategy is served in pools of every task, or refused by what it needs."""

from functools import partial

import pytest

import assay.strategies
from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason
from assay.server.core.mining.messages import MineSpec, ScoreSpec
from assay.server.core.mining.plan.terms import Plan, Quotas, QuotaTerm
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.base import PredictionForm
from assay.strategies.serving import PredictionKind, serves
from tests.core.kit import POOL, House, names, next_batch, refused, train
from tests.core.mining import mine, rows_of
from tests.core.of_tasks import fill_pool, open_pool
from tests.core.predictions import made, push

COUNT, LABELED = 60, 30
PREDICTED = {
    TaskKind.CLASSIFICATION: PredictionKind.CLASSES,
    TaskKind.MULTILABEL: PredictionKind.LABELS,
    TaskKind.REGRESSION: PredictionKind.VALUES,
    TaskKind.BOXES: PredictionKind.PARTS,
    TaskKind.SPANS: PredictionKind.PARTS,
    TaskKind.FREEFORM: PredictionKind.NOTHING,
}


@pytest.fixture(params=list(TaskKind))
def kind(request: pytest.FixtureRequest) -> TaskKind:
    return TaskKind(request.param)


@pytest.fixture
def ready(house: House, kind: TaskKind) -> Assay:
    """A pool of the task, with a committee where a head learns it, or objects of somebody's model."""
    core = open_pool(house, kind)
    learns = PREDICTED[kind] not in (PredictionKind.NOTHING, PredictionKind.PARTS)
    fill_pool(core, kind, COUNT, LABELED if learns else 0)
    if learns:
        train(core, members=2)
    if PREDICTED[kind] is PredictionKind.PARTS:
        push(core, names(0, COUNT), made(kind, COUNT), form=PredictionForm.OBJECTS)
    return core


def source_for(kind: TaskKind) -> str:
    """Where the predictions of a pool are."""
    return "mine" if PREDICTED[kind] is PredictionKind.PARTS else ""


def test_every_strategy_serves_or_is_refused_by_need(ready: Assay, kind: TaskKind) -> None:
    listed = {preset.name: preset for preset in ready.mining.presets(kind)}
    views = {view.name: view for view in ready.mining.strategies()}
    for name in assay.strategies.names():
        strategy = assay.strategies.get(name)
        expected = serves(strategy, PREDICTED[kind])
        assert (name in listed) == (kind in views[name].tasks) == expected, name
        ask = partial(mine, ready, 3, name, query=("s0", "s1"), prediction_source=source_for(kind))
        if expected:
            rows = rows_of(ask())
            assert len(set(rows)) == 3, name
            assert ask(validate_only=True).plan == ask().plan
            continue
        with pytest.raises(AssayError) as caught:
            ask()
        assert caught.value.reason in (Reason.NEED_MISSING, Reason.INVALID_PLAN), name
        if caught.value.reason is Reason.NEED_MISSING:
            assert any(need in caught.value.message for need in assay.strategies.Need), name
        else:
            assert getattr(strategy, "needs_utility", False), name


def test_the_default_plan_serves_every_task(ready: Assay, kind: TaskKind) -> None:
    assert len(ready.mining.mine(POOL, MineSpec(5), NO_KEY).picks) == 5
    batch = next_batch(ready, 5, predictions=3)
    expected = {TaskKind.CLASSIFICATION: "margin", TaskKind.REGRESSION: "spread"}.get(kind, "cover")
    assert batch.plan.preset == expected
    assert [preset.name for preset in ready.mining.presets(kind) if preset.is_default] == [expected]
    # What is asked beside it leaves the default as it is.
    exploring = next_batch(ready, 2, plan=Plan(exploration=1.0))
    assert (exploring.plan.preset, [pick.exploring for pick in exploring.picks]) == (expected, [True, True])
    refused(Reason.INVALID_PLAN, partial(next_batch, ready, 2, plan=Plan()))
    if PREDICTED[kind] is PredictionKind.NOTHING:
        refused(Reason.INVALID_PLAN, partial(_scores, ready))
        return
    if PREDICTED[kind] is PredictionKind.PARTS:
        assert "mine" in refused(Reason.NEED_MISSING, partial(_scores, ready)).message
        assert len(_scores(ready, Plan(prediction_source="mine"))) == COUNT - 7
        return
    assert len(_scores(ready)) == COUNT - LABELED - 7
    for pick in batch.picks:
        assert len(pick.numbers) == (2 if kind is TaskKind.REGRESSION else 0)
        assert len(pick.predictions) == (0 if kind is TaskKind.REGRESSION else 3)


def test_presets_rank_by_the_doubt_of_the_task(house: House) -> None:
    core = open_pool(house, TaskKind.MULTILABEL)
    for kind, utility in (
        (TaskKind.CLASSIFICATION, "margin"),
        (TaskKind.MULTILABEL, "multilabel_max_entropy"),
        (TaskKind.REGRESSION, "member_std"),
    ):
        preset = next(each for each in core.mining.presets(kind) if each.name == "u_herding")
        assert [term.strategy for term in preset.plan.scores] == [utility]


@pytest.mark.parametrize("kind", [TaskKind.MULTILABEL, TaskKind.REGRESSION], indirect=True)
def test_a_strategy_that_needs_a_model_says_so_without_one(house: House, kind: TaskKind) -> None:
    core = open_pool(house, kind)
    fill_pool(core, kind, COUNT, LABELED)
    name = "member_std" if kind is TaskKind.REGRESSION else "label_cardinality"
    reason = Reason.MODEL_NOT_STOCHASTIC if kind is TaskKind.REGRESSION else Reason.NEED_MISSING
    assert "head" in refused(reason, partial(mine, core, 3, name)).message
    train(core)
    if kind is TaskKind.REGRESSION:
        refused(reason, partial(mine, core, 3, name))
    else:
        mine(core, 3, name)


@pytest.mark.parametrize("kind", [TaskKind.MULTILABEL], indirect=True)
def test_quotas_by_predicted_class_are_for_one_class_a_sample(ready: Assay, kind: TaskKind) -> None:
    quotas = Quotas((QuotaTerm("ant", 1),))
    error = refused(Reason.INVALID_PLAN, partial(mine, ready, 3, "random", quotas=quotas))
    assert "attribute" in error.message


def _scores(core: Assay, plan: Plan | None = None) -> list[str]:
    return [sample_id for ids, _ in core.mining.score(POOL, ScoreSpec(plan)).chunks for sample_id in ids]
