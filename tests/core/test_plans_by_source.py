"""Plans that name whose predictions they go by."""

from typing import Any

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.mining.messages import MineSpec, ScoreSpec
from assay.server.core.mining.plan.terms import Empty, ObjectsTerm, Plan, Quotas, QuotaTerm, Reduction, ScoreTerm
from assay.server.core.pools.messages import PoolUpdate
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.predictions import PredictionColumns
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.base import PredictionForm
from assay.server.core.tasks.editing import ClassEdit
from tests.core.kit import (
    POOL,
    House,
    fill,
    label_by_sign,
    make_pool,
    names,
    next_batch,
    pool_of,
    probabilities,
    refused,
    train,
)
from tests.core.mining import mine, rows_of
from tests.core.of_tasks import open_pool
from tests.core.predictions import made, objects, push

COUNT = 30


def margins(probs_NC: np.ndarray) -> np.ndarray:
    """How near the two likeliest classes are."""
    ordered = np.sort(probs_NC, axis=1)
    return 1 - (ordered[:, -1] - ordered[:, -2])


def scored(core: Assay, plan: Plan) -> np.ndarray:
    """Scores of all samples."""
    return np.concatenate([scores for _, scores in core.mining.score(POOL, ScoreSpec(plan)).chunks])


def test_a_plan_goes_by_the_source_that_it_names(core: Assay) -> None:
    embeddings = fill(core, COUNT)
    first, second = probabilities(COUNT, 1), probabilities(COUNT, 2)
    push(core, names(0, COUNT), PredictionColumns(first))
    push(core, names(0, COUNT), PredictionColumns(second), source="other")
    for source, probs in (("mine", first), ("other", second)):
        found = mine(core, 5, "margin", prediction_source=source, predictions=1)
        assert rows_of(found) == np.argsort(-margins(probs), kind="stable")[:5].tolist()
        assert (found.provenance.source, found.provenance.named) == ("named", source)
        best = found.picks[0]
        assert best.predictions[0][1] == pytest.approx(probs[best.sample.row].max())
    refused(Reason.NEED_MISSING, lambda: mine(core, 5, "margin"))
    label_by_sign(core, embeddings, 10)
    train(core)
    found = mine(core, 5, "margin")
    assert (found.provenance.source, found.provenance.named) == ("head", ""), "an own source is taken only where named"
    assert rows_of(mine(core, 5, "margin", prediction_source="head")) == rows_of(found)
    batch = next_batch(core, 3, plan=Plan(prediction_source="mine"))
    assert (batch.plan.preset, batch.provenance.named) == ("margin", "mine")


def test_an_update_is_seen_by_the_next_plan_and_a_merge_computes_nothing_again(house: House, core: Assay) -> None:
    fill(core, 8)
    probs = probabilities(8)
    for start in range(0, 8, 2):
        push(core, names(start, start + 2), PredictionColumns(probs[start : start + 2]))
    np.testing.assert_allclose(scored(core, Plan("margin", prediction_source="mine")), margins(probs), atol=1e-6)
    probs[3] = [1, 0, 0]
    push(core, ["s3"], PredictionColumns(probs[3:4]))
    np.testing.assert_allclose(scored(core, Plan("margin", prediction_source="mine")), margins(probs), atol=1e-6)
    while house.merger().merge_once(pool_of(core)):
        pass
    np.testing.assert_allclose(scored(core, Plan("margin", prediction_source="mine")), margins(probs), atol=1e-6)


def test_samples_without_predictions_are_refused_and_counted(core: Assay) -> None:
    fill(core, COUNT)
    push(core, names(0, 20), made(TaskKind.CLASSIFICATION, 20))
    error = refused(Reason.NEED_MISSING, lambda: mine(core, 5, "margin", prediction_source="mine"))
    assert (error.metadata["missing"], "'mine'" in error.message) == ("10", True)
    assert next_batch(core, 3, plan=Plan(prediction_source="mine")).plan.preset == "random"
    core.samples.delete(POOL, names(20, COUNT), False, NO_KEY)
    assert len(mine(core, 5, "margin", prediction_source="mine").picks) == 5
    quotas = Quotas((QuotaTerm("ant", 2, 2),))
    assert mine(core, 5, "margin", quotas=quotas, prediction_source="mine").quotas[0].picked == 2


def test_a_source_that_is_not_there_is_refused(core: Assay) -> None:
    fill(core, COUNT)
    push(core, names(0, COUNT), made(TaskKind.CLASSIFICATION, COUNT))
    error = refused(Reason.SOURCE_NOT_FOUND, lambda: mine(core, 5, "margin", prediction_source="their"))
    assert "mine" in error.message
    for own in ("head", "backbone", "pushed"):
        refused(Reason.NEED_MISSING, lambda own=own: mine(core, 5, "margin", prediction_source=own))
    assert len(mine(core, 5, "badge", prediction_source="mine").picks) == 5
    refused(Reason.MODEL_NOT_STOCHASTIC, lambda: mine(core, 5, "bald"))
    error = refused(Reason.MODEL_NOT_STOCHASTIC, lambda: mine(core, 5, "bald", prediction_source="mine"))
    assert "mine" in error.message


def test_label_probabilities_and_numbers_serve_their_strategies(house: House) -> None:
    core = open_pool(house, TaskKind.MULTILABEL)
    fill(core, COUNT)
    push(core, names(0, COUNT), made(TaskKind.MULTILABEL, COUNT), form=PredictionForm.LABEL_PROBABILITIES)
    assert mine(core, 3, "multilabel_max_entropy", prediction_source="mine").provenance.named == "mine"


def test_the_spread_of_numbers_is_their_uncertainty(house: House) -> None:
    core = open_pool(house, TaskKind.REGRESSION)
    fill(core, COUNT)
    rng = np.random.default_rng(0)
    values = np.stack([rng.standard_normal(COUNT), 1000 * rng.standard_normal(COUNT)], axis=1).astype(np.float32)
    spread = rng.random((COUNT, 2)).astype(np.float32)
    push(core, names(0, COUNT), PredictionColumns(values, spread), form=PredictionForm.NUMBERS)
    expected = np.sqrt(np.mean((spread / values.std(axis=0)) ** 2, axis=1))
    found = scored(core, Plan("member_std", prediction_source="mine"))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    picks = mine(core, 2, "member_std", prediction_source="mine", predictions=2).picks
    row = picks[0].sample.row
    assert row == int(np.argmax(expected))
    assert [number.deviation for number in picks[0].numbers] == pytest.approx(spread[row].tolist())
    push(core, ["s4"], PredictionColumns(values[4:5]), form=PredictionForm.NUMBERS)
    error = refused(Reason.NEED_MISSING, lambda: mine(core, 2, "member_std", prediction_source="mine"))
    assert error.metadata["missing"] == "1", "one that does not know how sure it is"
    push(core, names(0, COUNT), PredictionColumns(values), source="flat", form=PredictionForm.NUMBERS)
    assert (
        "spread" in refused(Reason.NEED_MISSING, lambda: mine(core, 2, "member_std", prediction_source="flat")).message
    )


@pytest.mark.parametrize("kind", [TaskKind.BOXES, TaskKind.SPANS])
def test_objects_are_scored_by_their_probabilities(house: House, kind: TaskKind) -> None:
    core = open_pool(house, kind)
    fill(core, 5)
    columns = objects([2, 0, 1, 3, 1], 4 if kind is TaskKind.BOXES else 2)
    push(core, ["s4", "s1", "s0", "s2", "s3"], columns, form=PredictionForm.OBJECTS)
    assert columns.objects is not None
    probs = np.concatenate([columns.objects.probs_PC, 1 - columns.objects.probs_PC.sum(axis=1, keepdims=True)], axis=1)
    entropies = -(probs * np.log(probs)).sum(axis=1)
    own = {4: entropies[:2], 1: entropies[:0], 0: entropies[2:3], 2: entropies[3:6], 3: entropies[6:]}
    term = ScoreTerm("ragged", {"reduce": "sum", "empty": "floor"})
    found = scored(core, Plan(scores=(term,), prediction_source="mine"))
    np.testing.assert_allclose(found, [own[row].sum() for row in range(5)], atol=1e-5)
    core.sources.delete(POOL, "mine", NO_KEY)
    refused(Reason.SOURCE_NOT_FOUND, lambda: scored(core, Plan(scores=(term,), prediction_source="mine")))
    assert "UpdatePredictions" in refused(Reason.NEED_MISSING, lambda: scored(core, Plan(scores=(term,)))).message


def test_objects_of_some_samples_only_are_refused(house: House) -> None:
    core = open_pool(house, TaskKind.BOXES)
    fill(core, 5)
    push(core, ["s0", "s1"], objects([0, 2]), form=PredictionForm.OBJECTS)
    error = refused(Reason.NEED_MISSING, lambda: mine(core, 2, "ragged", prediction_source="mine"))
    assert error.metadata["missing"] == "3"


def test_the_objects_of_a_plan_are_a_score_of_it(house: House) -> None:
    core = open_pool(house, TaskKind.BOXES)
    fill(core, 6)
    probs = [[0.5, 0.5, 0], [0.9, 0.1, 0], [0, 0.6, 0.4], [0, 0.5, 0.5]]
    columns = objects([2, 0, 1, 1])
    assert columns.objects is not None
    columns.objects.probs_PC[:] = probs
    push(core, names(0, 4), columns, form=PredictionForm.OBJECTS)
    core.samples.delete(POOL, ["s4", "s5"], False, NO_KEY)

    def of(**term: Any) -> list[float]:
        plan = Plan(objects=ObjectsTerm(measure="least_confidence", **term), prediction_source="mine")
        return [round(float(score), 4) for score in scored(core, plan)]

    assert of(empty=Empty.FLOOR) == [0.6, 0, 0.4, 0.5]
    assert of(empty=Empty.FLOOR, reduction=Reduction.MEAN) == [0.3, 0, 0.4, 0.5]
    assert of(empty=Empty.FLOOR, reduction=Reduction.TOP_M, m=1) == [0.5, 0, 0.4, 0.5]
    assert of(empty=Empty.MEAN, reduction=Reduction.MAX) == [0.5, 0.4667, 0.4, 0.5]
    # The likeliest class weighs; the lowest of equals.
    assert of(empty=Empty.FLOOR, class_weights={"bee": 2, "ant": 0}) == [0, 0, 0.8, 1]
    assert of()[1] in (0.6, 0.4, 0.5), "a miss scores as one of the others"
    plan = Plan(objects=ObjectsTerm(empty=Empty.FLOOR, class_weights={"cow": 3}), prediction_source="mine")
    found = mine(core, 2, objects=plan.objects, prediction_source="mine")
    assert [term.strategy for term in found.plan.scores] == ["ragged"]
    assert found.plan.scores[0].params["class_weights"] == (1, 1, 3, 1)
    assert found.plan.objects is None
    again = core.mining.mine(POOL, MineSpec(2, found.plan), NO_KEY)
    assert (rows_of(again), again.provenance) == (rows_of(found), found.provenance), "the plan as it ran runs again"
    assert next_batch(core, 2, plan=plan).plan.scores == found.plan.scores


def test_objects_that_make_no_sense_are_refused(house: House) -> None:
    core = open_pool(house, TaskKind.BOXES)
    fill(core, 3)
    push(core, names(0, 3), objects([1, 1, 0]), form=PredictionForm.OBJECTS)

    def ask(**plan: Any) -> object:
        return mine(core, 1, **plan)

    refused(Reason.UNKNOWN_CLASS, lambda: ask(objects=ObjectsTerm(class_weights={"cat": 2}), prediction_source="mine"))
    refused(Reason.INVALID_PLAN, lambda: ask(preset="random", objects=ObjectsTerm(), prediction_source="mine"))
    refused(Reason.NEED_MISSING, lambda: ask(objects=ObjectsTerm()))
    for term in (ObjectsTerm(measure="bald"), ObjectsTerm(m=-1), ObjectsTerm(class_weights={"ant": -1})):
        refused("INVALID_PARAMETER", lambda term=term: ask(objects=term, prediction_source="mine"))
    make_pool(core, "other")
    refused(Reason.INVALID_PLAN, lambda: core.mining.bound("other", Plan(objects=ObjectsTerm()), None))


def test_objects_of_a_merged_class_are_those_of_the_class_in_its_place(house: House) -> None:
    core = open_pool(house, TaskKind.SPANS)
    fill(core, 1)
    columns = objects([1], 2)
    assert columns.objects is not None
    columns.objects.probs_PC[:] = [[0.5, 0.5, 0]]
    push(core, ["s0"], columns, form=PredictionForm.OBJECTS)
    plan = Plan(objects=ObjectsTerm(empty=Empty.FLOOR), prediction_source="mine")
    assert scored(core, plan)[0] == pytest.approx(np.log(2))
    classes = (ClassEdit(0, "ant", merged_into=1), ClassEdit(1, "bee"), ClassEdit(2, "cow"))
    core.updates.update(POOL, PoolUpdate(kind=TaskKind.SPANS, classes=classes), NO_KEY)
    assert scored(core, plan)[0] == pytest.approx(0, abs=1e-6)


def test_a_version_of_the_head_is_a_source_while_another_is_active(core: Assay) -> None:
    embeddings = fill(core, COUNT)
    label_by_sign(core, embeddings, 10)
    first = train(core, members=3)
    picks = {name: rows_of(mine(core, 4, name)) for name in ("margin", "bald", "badge")}
    probs = mine(core, 1, "margin", predictions=3).picks[0].predictions
    second = train(core, balanced=True, l2=10.0)
    assert rows_of(mine(core, 4, "margin")) != picks["margin"]
    for name, rows in picks.items():
        found = mine(core, 4, name, prediction_source=f"models/{first}")
        assert rows_of(found) == rows
        assert (found.provenance.head, found.provenance.source) == (first, "head")
    assert mine(core, 1, "margin", predictions=3, prediction_source=f"models/{first}").picks[0].predictions == probs
    refused(Reason.MODEL_NOT_STOCHASTIC, lambda: mine(core, 4, "bald", prediction_source=f"models/{second}"))
    refused(Reason.MODEL_NOT_FOUND, lambda: mine(core, 4, "margin", prediction_source="models/none"))
    batch = next_batch(core, 2, plan=Plan(prediction_source=f"models/{first}"))
    assert (batch.plan.preset, batch.provenance.head) == ("margin", first)
    assert mine(core, 4, "margin").provenance.head == second
