"""Heads of pools with several labels a sample, or numbers: trained, measured, and serving."""

import numpy as np
import pytest

from assay.server.core.errors import Reason
from assay.server.core.models.messages import PredictSpec, TrainSpec
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.metrics import HeadMetrics
from assay.server.core.records.samples import AttributeColumn
from assay.server.core.records.tasks import TaskKind
from tests.core.kit import POOL, House, model_id_of, names, refused, train, vectors
from tests.core.mining import mine
from tests.core.of_tasks import fill_pool, info_of, open_pool, truth

COUNT, LABELED = 240, 160
APART = ["test"] * 40 + ["validation"] * 20 + ["train"] * 180


def value(metrics: HeadMetrics, name: str) -> float:
    score = metrics.scores[name]
    assert score is not None
    assert score.low is not None
    assert score.high is not None
    assert score.low <= score.value <= score.high
    return score.value


def test_several_labels_are_learned_each_for_itself(house: House) -> None:
    core = open_pool(house, TaskKind.MULTILABEL)
    embeddings = fill_pool(
        core, TaskKind.MULTILABEL, COUNT, LABELED, attributes={"split": AttributeColumn("string", APART)}
    )
    info = info_of(core, train(core, members=2))
    assert (info.kind, info.classes, info.labels) == (TaskKind.MULTILABEL, (0, 1), 100)  # "cow" is in no set
    assert info.metrics.samples == 100
    assert set(info.metrics.scores) == {"micro_f1", "macro_f1", "subset_accuracy", "hamming_loss", "log_loss"}
    assert {split: metrics.samples for split, metrics in info.split_metrics.items()} == {"test": 40, "validation": 20}
    assert value(info.split_metrics["test"], "micro_f1") > 0.7
    assert set(info.metrics.classes[0].scores) == {"precision", "recall", "f1", "log_loss"}
    result = core.models.predict(POOL, PredictSpec(ids=tuple(names(0, 40))))
    assert result.probs_NC is not None
    assert result.thresholds_C is not None
    assert result.values_NT is None
    # What is measured is what serves.
    said = [tuple(np.flatnonzero(probs_C >= result.thresholds_C).tolist()) for probs_C in result.probs_NC]
    right = np.mean([a == b for a, b in zip(said, truth(TaskKind.MULTILABEL, embeddings), strict=False)])
    assert value(info.split_metrics["test"], "subset_accuracy") == pytest.approx(right)
    (pick,) = mine(core, 1, "multilabel_max_entropy", predictions=3).picks
    assert [name for name, _ in pick.predictions][-1] == "cow"
    assert [probability for _, probability in pick.predictions] == sorted(
        (probability for _, probability in pick.predictions), reverse=True
    )


def test_numbers_are_learned_in_their_own_units(house: House) -> None:
    core = open_pool(house, TaskKind.REGRESSION)
    embeddings = fill_pool(
        core, TaskKind.REGRESSION, COUNT, LABELED, attributes={"split": AttributeColumn("string", APART)}
    )
    info = info_of(core, train(core, members=5))
    assert (info.kind, info.classes, info.labels, info.metrics.samples) == (TaskKind.REGRESSION, (), 100, 100)
    assert set(info.metrics.scores) == {"mae", "rmse", "r2"}
    assert [each.id for each in info.metrics.classes] == [0, 1]
    assert value(info.split_metrics["test"], "r2") > 0.8
    assert info.deviations[1] == pytest.approx(embeddings[60:160, 1].std() * 1000, rel=1e-3)
    result = core.models.predict(POOL, PredictSpec(embeddings_ND=vectors(COUNT)[60:]))
    assert result.probs_NC is None
    assert result.target_names == ("age", "price")
    assert result.values_NT is not None
    assert result.deviations_NT is not None
    # One strength for both numbers, one of which is noisy.
    np.testing.assert_allclose(result.values_NT[:, 1], 1000 * embeddings[60:, 1], rtol=0.03, atol=5)
    assert (result.deviations_NT > 0).all()
    assert np.median(result.deviations_NT[:, 0]) < 0.2
    (pick,) = mine(core, 1, "member_std", predictions=10).picks
    row = pick.sample.row - 60
    shown = [(each.target, each.value, each.deviation) for each in pick.numbers]
    assert [name for name, _, _ in shown] == ["age", "price"]
    np.testing.assert_allclose([number for _, number, _ in shown], result.values_NT[row], rtol=1e-4)
    np.testing.assert_allclose([spread for _, _, spread in shown], result.deviations_NT[row], rtol=1e-3)


def test_a_number_of_a_large_unit_does_not_decide_alone(house: House) -> None:
    core = open_pool(house, TaskKind.REGRESSION)
    fill_pool(core, TaskKind.REGRESSION, COUNT, LABELED)
    info = info_of(core, train(core, members=5))
    picks = mine(core, 20, "member_std", predictions=2).picks
    for pick in picks:
        parts = [(each.deviation or 0) / scale for each, scale in zip(pick.numbers, info.deviations, strict=True)]
        assert pick.score == pytest.approx(np.sqrt(np.mean(np.square(parts))), rel=1e-3)


def test_without_a_committee_a_number_has_no_spread(house: House) -> None:
    core = open_pool(house, TaskKind.REGRESSION)
    fill_pool(core, TaskKind.REGRESSION, 30, 20)
    train(core)
    result = core.models.predict(POOL, PredictSpec(ids=("s25",)))
    assert result.deviations_NT is None
    (pick,) = mine(core, 1, predictions=1, preset="gsx").picks
    assert [(each.target, each.deviation) for each in pick.numbers] == [("age", None)]


@pytest.mark.parametrize("kind", [TaskKind.MULTILABEL, TaskKind.REGRESSION])
def test_a_head_goes_on_serving_after_a_restart(house: House, kind: TaskKind) -> None:
    core = open_pool(house, kind)
    fill_pool(core, kind, 60, 40)
    model_id = train(core, members=3)
    ask = PredictSpec(ids=tuple(names(0, 60)))
    before, info = core.models.predict(POOL, ask), info_of(core, model_id)
    opened = house.open()
    after = opened.models.predict(POOL, ask)
    assert info_of(opened, model_id) == info
    for name in ("probs_NC", "values_NT", "deviations_NT", "thresholds_C"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_what_no_head_learns_is_refused_at_once(house: House) -> None:
    core = open_pool(house, TaskKind.FREEFORM)
    fill_pool(core, TaskKind.FREEFORM, 10, 0)
    error = refused(Reason.INVALID_ARGUMENT, lambda: core.models.train(POOL, TrainSpec(), NO_KEY, model_id_of))
    assert "freeform" in error.message


def test_too_little_to_learn_is_said(house: House) -> None:
    core = open_pool(house, TaskKind.REGRESSION)
    fill_pool(core, TaskKind.REGRESSION, 10, 1)
    operation = core.models.train(POOL, TrainSpec(), NO_KEY, model_id_of)
    ended = core.operations.wait(operation.record.operation_id, 60)
    assert ended.record.error_reason == Reason.TOO_FEW_LABELS
