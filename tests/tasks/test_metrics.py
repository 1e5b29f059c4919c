"""Metrics are those of scikit-learn and COCO, and their intervals hold what they say."""

import numpy as np
import pytest
from sklearn import metrics as sk

from assay.server.core.records.tasks import TargetRecord, TaskKind, TaskRecord
from assay.server.core.tasks.base import Box, Span
from assay.server.core.tasks.registry import task_of
from assay.server.core.tasks.resampling import Grouping, grouped, score, summed

NAMES = tuple("abcdef")


def _value(score):
    return score.value


def test_classification_is_measured_as_scikit_learn_does():
    rng = np.random.default_rng(3)
    task = task_of(TaskRecord.of_classes(TaskKind.CLASSIFICATION, NAMES))
    said = rng.integers(0, 4, 500)  # nobody said e, and f is predicted at most
    probs = rng.dirichlet(np.ones(6), 500)
    probs[np.arange(500), said] += 0.4
    probs[:, 4] = 0
    probs /= probs.sum(axis=1, keepdims=True)
    predicted = probs.argmax(axis=1)
    metrics = task.metrics(said.astype(np.int32), probs)
    assert metrics.samples == 500
    assert metrics.scores["accuracy"].value == sk.accuracy_score(said, predicted)
    assert metrics.scores["macro_f1"].value == pytest.approx(sk.f1_score(said, predicted, average="macro"))
    assert metrics.scores["log_loss"].value == pytest.approx(sk.log_loss(said, probs, labels=range(6)))
    assert (metrics.confusion_CC == sk.confusion_matrix(said, predicted, labels=range(6))).all()
    shown = sorted({*said, *predicted})
    precision, recall, f1, support = sk.precision_recall_fscore_support(said, predicted, labels=shown, zero_division=0)
    for place, each in enumerate(metrics.classes):
        assert (each.name, each.samples) == (NAMES[shown[place]], support[place])
        assert each.scores["precision"].value == pytest.approx(precision[place])
        assert each.scores["f1"].value == pytest.approx(f1[place])
        if support[place]:
            assert each.scores["recall"].value == pytest.approx(recall[place])
        else:
            assert each.scores["recall"] is None


def test_a_class_that_is_never_predicted_has_no_precision():
    task = task_of(TaskRecord.of_classes(TaskKind.CLASSIFICATION, "ab"))
    metrics = task.metrics([0, 1], np.array([[0.9, 0.1], [0.8, 0.2]]))
    assert metrics.classes[1].scores["precision"] is None
    assert metrics.classes[1].scores["recall"].value == 0
    assert metrics.classes[1].scores["f1"].value == 0


def test_sets_are_measured_as_scikit_learn_does():
    rng = np.random.default_rng(5)
    task = task_of(TaskRecord.of_classes(TaskKind.MULTILABEL, NAMES))
    said_NC = rng.random((300, 6)) < 0.3
    probs_NC = np.clip(said_NC * 0.4 + rng.random((300, 6)) * 0.6, 0, 1)
    predicted_NC = probs_NC >= 0.5
    values = [tuple(np.flatnonzero(row).tolist()) for row in said_NC]
    for predictions in (probs_NC, predicted_NC):
        metrics = task.metrics(values, predictions)
        assert metrics.scores["micro_f1"].value == pytest.approx(sk.f1_score(said_NC, predicted_NC, average="micro"))
        assert metrics.scores["macro_f1"].value == pytest.approx(sk.f1_score(said_NC, predicted_NC, average="macro"))
        assert metrics.scores["subset_accuracy"].value == pytest.approx(sk.accuracy_score(said_NC, predicted_NC))
        assert metrics.scores["hamming_loss"].value == pytest.approx(sk.hamming_loss(said_NC, predicted_NC))
        f1 = sk.f1_score(said_NC, predicted_NC, average=None)
        assert [each.scores["f1"].value for each in metrics.classes] == pytest.approx(f1)


def test_numbers_are_measured_as_scikit_learn_does():
    rng = np.random.default_rng(7)
    task = task_of(TaskRecord(TaskKind.REGRESSION, targets=(TargetRecord("x"), TargetRecord("y"))))
    said = rng.normal(size=(200, 2)) * [1, 50] + [1e6, 0]
    predicted = said + rng.normal(size=(200, 2))
    metrics = task.metrics([tuple(row) for row in said.tolist()], predicted)
    absolute = sk.mean_absolute_error(said, predicted, multioutput="raw_values")
    squared = np.sqrt(sk.mean_squared_error(said, predicted, multioutput="raw_values"))
    r2 = sk.r2_score(said, predicted, multioutput="raw_values")
    for place, each in enumerate(metrics.classes):
        assert each.name == "xy"[place]
        assert each.scores["mae"].value == pytest.approx(absolute[place])
        assert each.scores["rmse"].value == pytest.approx(squared[place])
        assert each.scores["r2"].value == pytest.approx(r2[place])
    assert metrics.scores["mae"].value == pytest.approx(absolute.mean())
    assert metrics.scores["r2"].value == pytest.approx(r2.mean())


def test_draws_of_one_number_over_and_over_do_not_widen_r2():
    task = task_of(TaskRecord(TaskKind.REGRESSION, targets=(TargetRecord("x"),)))
    metrics = task.metrics([(130.4,), (94.7,), (-70.4,)], np.array([[129.13], [94.08], [-70.36]]))
    assert metrics.scores["r2"].low > -1000


def test_equal_numbers_have_no_r2():
    task = task_of(TaskRecord(TaskKind.REGRESSION, targets=(TargetRecord("x"),)))
    metrics = task.metrics([(0.1,)] * 3, np.array([[0.1], [0.2], [0.3]]))
    assert metrics.scores["r2"] is None
    assert metrics.scores["mae"].value == pytest.approx(0.1)


def test_spans_are_right_where_all_of_them_is():
    task = task_of(TaskRecord.of_classes(TaskKind.SPANS, "abc"))
    said = [(Span(0, 0, 3), Span(1, 5, 9)), (), (Span(0, 1, 2),)]
    predicted = [(Span(0, 0, 3), Span(0, 5, 9)), (Span(1, 0, 1),), (Span(0, 1, 3),)]
    metrics = task.metrics(said, predicted)
    assert metrics.scores["micro_f1"].value == pytest.approx(2 / 7)
    a, b = metrics.classes
    assert (a.name, a.samples, b.name, b.samples) == ("a", 2, "b", 1)
    assert a.scores["precision"].value == pytest.approx(1 / 3)
    assert a.scores["recall"].value == pytest.approx(1 / 2)
    assert metrics.scores["macro_f1"].value == pytest.approx((2 / 5 + 0) / 2)


def _at(x, class_id=0, score=None, y=0.0):
    return Box(class_id, x, y, 0.2, 0.2, score)


def test_average_precision_by_hand():
    task = task_of(TaskRecord.of_classes(TaskKind.BOXES, "abc"))
    # Class a: four drawn. By score: right (0.9), wrong (0.8: the box is taken), right (0.7), wrong (0.6: too far off).
    said = [(_at(0.0), _at(0.5)), (_at(0.0), _at(0.5)), (_at(0.0, 1),)]
    predicted = [
        (_at(0.0, score=0.9), _at(0.01, score=0.8), _at(0.65, score=0.6)),
        (_at(0.5, score=0.7),),
        (_at(0.0, 2, score=0.9),),
    ]
    metrics = task.metrics(said, predicted)
    a, b, c = metrics.classes
    # Precision 1 up to a recall of 1/4 (26 of the 101 recalls), 2/3 up to 1/2 (25), then 0.
    expected = (26 * 1 + 25 * 2 / 3) / 101
    assert a.scores["average_precision"].value == pytest.approx(expected)
    assert (a.samples, b.samples, c.samples) == (4, 1, 0)
    assert b.scores["average_precision"].value == 0
    assert c.scores["average_precision"] is None
    assert metrics.scores["map_50"].value == pytest.approx(expected / 2)


def test_a_prediction_gets_the_box_that_it_overlaps_most_and_no_two_get_one():
    task = task_of(TaskRecord.of_classes(TaskKind.BOXES, "a"))
    said = [(_at(0.10), _at(0.14))]
    predicted = [(_at(0.135, score=0.9), _at(0.10, score=0.8))]
    assert task.metrics(said, predicted).scores["map_50"].value == 1
    assert task.metrics(said, [(_at(0.10, score=0.9), _at(0.10, score=0.8, y=0.01))]).scores["map_50"].value == 1
    # One box, three predictions of it.
    three = [tuple(_at(0.1, score=score) for score in (0.9, 0.8, 0.7))]
    assert task.metrics([(_at(0.1),)], three).scores["map_50"].value == 1
    assert task.metrics([(_at(0.1),)], [()]).scores["map_50"].value == 0
    assert task.metrics([()], three).scores["map_50"] is None


def test_intervals_hold_the_value_and_repeat():
    task = task_of(TaskRecord.of_classes(TaskKind.BOXES, "a"))
    said = [(_at(0.1),)] * 20
    predicted = [(_at(0.1, score=i / 20),) if i % 3 else (_at(0.6, score=i / 20),) for i in range(20)]
    one = task.metrics(said, predicted, seed=1).scores["map_50"]
    assert one.low < one.value < one.high
    assert one == task.metrics(said, predicted, seed=1).scores["map_50"]
    assert one != task.metrics(said, predicted, seed=2).scores["map_50"]


def test_intervals_of_a_share_are_those_of_its_spread():
    # 1,000 samples, 70 % right: the standard error is 1.45 %.
    task = task_of(TaskRecord.of_classes(TaskKind.CLASSIFICATION, "ab"))
    right = np.arange(1000) % 10 < 7
    probs = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
    accuracy = task.metrics(np.zeros(1000, np.int32), probs).scores["accuracy"]
    assert accuracy.value == 0.7
    error = 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    assert (accuracy.high - accuracy.low) / 2 == pytest.approx(error, rel=0.15)


def test_units_that_count_alike_are_drawn_as_one():
    single = Grouping(np.arange(100), np.arange(100) % 2, 2)
    together = Grouping(np.arange(2), np.arange(2), 2)
    (apart,) = grouped(np.ones(100, np.int64), [single], seed=0)
    (joined,) = grouped(np.array([50, 50]), [together], seed=0)
    assert (apart.sum(axis=1) == 100).all()
    assert apart[0].tolist() == joined[0].tolist() == [50, 50]
    assert apart[:, 0].std() == pytest.approx(joined[:, 0].std(), rel=0.1)


def test_means_of_draws_are_of_as_many_samples():
    means = summed(np.arange(50.0)[:, None], seed=0)
    assert means[0, 0] == 24.5
    assert score(means[:, 0]).low < 24.5 < score(means[:, 0]).high
