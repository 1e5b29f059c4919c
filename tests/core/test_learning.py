"""What heads learn from: labels that are not set apart; and what they are measured by: those that are."""

import numpy as np

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.models.messages import PredictSpec, TrainSpec
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.models import HeadInfo
from assay.server.core.records.samples import AttributeColumn
from tests.core.kit import POOL, add, annotate, fill, label_by_sign, model_id_of, names, refused, train, vectors


def info_of(core: Assay, model_id: str) -> HeadInfo:
    info = core.models.get(POOL, model_id).record.info
    assert isinstance(info, HeadInfo)
    return info


def value(info: HeadInfo, split: str, measure: str = "accuracy") -> float:
    found = info.split_metrics[split].value(measure)
    assert found is not None
    return found


def test_a_head_is_measured_on_samples_set_apart_and_never_learns_from_them(core: Assay) -> None:
    """Those of the test split are all labeled with the opposite: a head that had seen them would know."""
    embeddings = vectors(120)
    splits = ["test"] * 40 + ["validation"] * 20 + ["train"] * 60
    add(core, names(0, 120), embeddings, attributes={"split": AttributeColumn("string", splits)})
    wrong = {f"s{i}": "bee" if embeddings[i, 0] > 0 else "ant" for i in range(40)}
    right = {f"s{i}": "ant" if embeddings[i, 0] > 0 else "bee" for i in range(40, 110)}
    annotate(core, wrong | right)
    info = info_of(core, train(core))
    assert (info.labels, info.metrics.samples) == (50, 50)
    assert set(info.split_metrics) == {"test", "validation"}
    assert {split: metrics.samples for split, metrics in info.split_metrics.items()} == {"test": 40, "validation": 20}
    assert value(info, "test") < 0.2
    assert value(info, "validation") > 0.8
    assert [each.id for each in info.split_metrics["test"].classes] == [0, 1]
    probs_NC = core.models.predict(POOL, PredictSpec(ids=tuple(names(0, 40)))).probs_NC
    assert probs_NC is not None
    said = [("ant", "bee", "cow")[c] for c in probs_NC.argmax(axis=1)]
    assert value(info, "test") == np.mean([wrong[f"s{i}"] == each for i, each in enumerate(said)])


def test_cross_validated_measures_have_intervals(core: Assay) -> None:
    label_by_sign(core, fill(core, 60), 50)
    info = info_of(core, train(core, seed=3))
    assert info.split_metrics == {}
    accuracy = info.metrics.scores["accuracy"]
    assert accuracy is not None
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert 0.5 < accuracy.low <= accuracy.value <= accuracy.high <= 1.0
    assert set(info.metrics.scores) == {"accuracy", "log_loss", "macro_f1", "calibration_error"}
    assert [each.id for each in info.metrics.classes] == [0, 1]
    assert sum(each.samples for each in info.metrics.classes) == 50
    assert info.classes == (0, 1)


def test_nothing_is_held_out_of_two_labels(core: Assay) -> None:
    add(core, names(0, 2))
    annotate(core, {"s0": "ant", "s1": "bee"})
    info = info_of(core, train(core))
    assert (info.metrics.samples, info.metrics.value("accuracy"), info.split_metrics) == (0, None, {})


def test_labels_that_are_all_set_apart_train_nothing(core: Assay) -> None:
    splits = AttributeColumn("string", ["test"] * 10 + ["train"] * 10)
    embeddings = vectors(20)
    add(core, names(0, 20), embeddings, attributes={"split": splits})
    label_by_sign(core, embeddings, 10)
    refused(Reason.TOO_FEW_CLASSES, lambda: core.models.train(POOL, TrainSpec(), NO_KEY, model_id_of))
