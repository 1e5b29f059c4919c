"""What a head is worth and what it predicts, on the wire and in the SDK's results."""

from dataclasses import replace

import numpy as np
import pytest

from assay.client import _replies
from assay.server.core.models.messages import ModelView, PredictResult
from assay.server.core.records.metrics import NO_METRICS, ClassScores, HeadMetrics, Score
from assay.server.core.records.models import HeadInfo, ModelKind, ModelRecord
from assay.server.core.records.tasks import ClassRecord, TargetRecord, TaskKind, TaskRecord
from assay.server.rpc.convert.models import model_message, predict_message

ANIMALS = TaskRecord.of_classes(TaskKind.CLASSIFICATION, ("ant", "bee", "cow"))
NUMBERS = TaskRecord(TaskKind.REGRESSION, targets=(TargetRecord("age"), TargetRecord("price")))
CROSS_VALIDATED = HeadMetrics(
    80,
    {"accuracy": Score(0.5, 0.4, 0.6), "calibration_error": Score(0.1), "log_loss": None},
    (ClassScores(0, 60, {"precision": None, "recall": Score(0.0, 0.0, 0.0)}), ClassScores(2, 20, {})),
    ((0, 2, 60), (2, 2, 20)),
)
HEAD = HeadInfo(
    kind=TaskKind.CLASSIFICATION,
    classes=(0, 2),
    classes_seen=2,
    members=1,
    labels=80,
    l2=1e-3,
    temperature=1.0,
    metrics=CROSS_VALIDATED,
    balanced=False,
    seed=0,
)


def told(info: HeadInfo, task: TaskRecord, *, detailed: bool = True):
    record = ModelRecord("head-1", ModelKind.HEAD, "", 1.0, "file", "space-1", info)
    return _replies.model(model_message("zoo", ModelView(record, True, task), detailed=detailed)).head


def test_measures_keep_their_names_intervals_and_classes():
    metrics = told(HEAD, ANIMALS).metrics
    assert (metrics.split, metrics.samples) == ("cross_validation", 80)
    accuracy, calibration, loss = (metrics.measures[name] for name in ("accuracy", "calibration_error", "log_loss"))
    assert (accuracy.value, accuracy.low, accuracy.high) == (0.5, 0.4, 0.6)
    assert (calibration.value, calibration.low, calibration.high) == (0.1, None, None)
    assert loss.value is None
    ant, cow = metrics.classes
    assert (ant.name, ant.class_id, ant.samples, cow.name, cow.class_id) == ("ant", 0, 60, "cow", 2)
    # What is 0 is told from what is not known.
    assert (ant.measures["recall"].value, ant.measures["precision"].value) == (0.0, None)
    assert [(cell.label, cell.predicted, cell.samples) for cell in metrics.confusion] == [
        ("ant", "cow", 60),
        ("cow", "cow", 20),
    ]
    with pytest.raises(KeyError, match="accuracy"):
        metrics.value("acuracy")


def test_a_list_of_models_is_short():
    short = told(HEAD, ANIMALS, detailed=False).metrics
    assert (short.classes, short.confusion) == ((), ())
    assert short.measures == told(HEAD, ANIMALS).metrics.measures


def test_the_quality_to_go_by_is_that_of_the_test_samples():
    test, validation = HeadMetrics(5, {"accuracy": Score(0.1)}), HeadMetrics(9, {"accuracy": Score(0.2)})
    head = told(replace(HEAD, split_metrics={"validation": validation, "test": test}), ANIMALS)
    assert [each.split for each in head.all_metrics] == ["test", "validation", "cross_validation"]
    assert (head.metrics.split, head.metrics.value("accuracy")) == ("test", 0.1)
    head = told(replace(HEAD, split_metrics={"validation": validation}), ANIMALS)
    assert (head.metrics.split, head.metrics.value("accuracy")) == ("validation", 0.2)


def test_a_head_that_was_measured_on_nothing_says_nothing():
    head = told(replace(HEAD, metrics=NO_METRICS), ANIMALS)
    assert head.all_metrics == ()
    assert (head.metrics.split, head.metrics.samples, head.metrics.value("accuracy")) == (None, 0, None)


def test_a_head_says_which_classes_it_has_not_seen():
    head = told(HEAD, ANIMALS)
    assert (head.trained_classes, head.unseen_classes) == ((0, 2), (1,))
    grown = replace(ANIMALS, classes=(*ANIMALS.classes, ClassRecord(3, "dog")), order=(3, 0, 1, 2))
    assert told(HEAD, grown).unseen_classes == (3, 1)
    # A retired class is none to be seen, and a head of 0.1.0 does not know what it was trained for.
    assert told(HEAD, replace(ANIMALS, order=(0, 2))).unseen_classes == ()
    assert told(replace(HEAD, classes=()), ANIMALS).unseen_classes == ()


def test_numbers_have_names_and_no_class_ids():
    measures = HeadMetrics(4, {"r2": None}, (ClassScores(1, 4, {"mae": Score(2.0, 1.0, 3.0)}),))
    head = told(replace(HEAD, kind=TaskKind.REGRESSION, classes=(), metrics=measures), NUMBERS)
    (price,) = head.metrics.classes
    assert (head.task, price.name, price.class_id, price.measures["mae"].high) == ("regression", "price", None, 3.0)


def predicted(**given):
    none = dict.fromkeys(("probs_NC", "embeddings_ND", "thresholds_C", "values_NT", "deviations_NT"))
    names = {"class_names": (), "target_names": ()}
    result = PredictResult(**(none | names | given), head="h", source="head", space="space-1", timings=())
    return _replies.predicted(predict_message("zoo", result))


def test_predictions_are_read_as_people_would_say_them():
    probs_NC = np.array([[0.4, 0.5, 0.1], [0.2, 0.2, 0.6]], np.float32)
    classes = {"probs_NC": probs_NC, "class_names": ("ant", "bee", "cow")}
    assert predicted(**classes).values == ["bee", "cow"]
    sets = predicted(**classes, thresholds_C=np.array([0.3, 0.5, 0.7], np.float32))
    assert sets.values == [("ant", "bee"), ()]
    values_NT = np.array([[1.5, -2.0]], np.float32)
    numbers = predicted(values_NT=values_NT, deviations_NT=values_NT, target_names=("age", "price"))
    assert numbers.values == [{"age": 1.5, "price": -2.0}]
    assert (numbers.probs_NC, numbers.thresholds_C) == (None, None)
    np.testing.assert_array_equal(numbers.deviations_NT, values_NT)
    assert predicted(values_NT=values_NT, target_names=("age", "price")).deviations_NT is None
    assert predicted(embeddings_ND=values_NT).values == []
