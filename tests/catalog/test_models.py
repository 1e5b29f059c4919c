"""Model versions and their activations."""

import math
from dataclasses import replace

import pytest

from assay.server.adapters.sql import SqlCatalog
from assay.server.adapters.sql.codec import info_from_json
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.metrics import NO_METRICS, Score
from assay.server.core.records.models import HeadInfo, ModelKind
from assay.server.core.records.pools import PoolRecord
from assay.server.core.records.tasks import TaskKind
from tests.catalog.records import HEAD, model, pool_record


def test_models_come_back_newest_first_in_pages(catalog: SqlCatalog, pool: PoolRecord) -> None:
    given = [model("z"), model("b", kind=ModelKind.BACKBONE), model("a")]
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        tx.add_model(other.uid, model("z"))
        for one in given:
            tx.add_model(pool.uid, one)
    with catalog.reading() as tx:
        found = tx.models(pool.uid)
        assert found == given[::-1]
        assert [record.number for record in found] == sorted({record.number for record in found}, reverse=True)
        assert tx.models(other.uid) == [model("z")]
        assert tx.models(pool.uid, limit=2) == found[:2]
        assert tx.models(pool.uid, below=found[1].number) == found[2:]
        assert tx.models(pool.uid, kind=ModelKind.HEAD) == [model("a"), model("z")]
        assert tx.models(pool.uid, kind=ModelKind.HEAD, below=found[0].number) == [model("z")]
        assert tx.models(pool.uid, kind=ModelKind.HEAD, beyond=1) == [model("z")]
        assert tx.models(pool.uid, kind=ModelKind.HEAD, beyond=2) == []
        assert sorted(tx.model_files(pool.uid)) == sorted(record.file for record in given)


def read_info(catalog: SqlCatalog, pool: PoolRecord) -> HeadInfo:
    with catalog.reading() as tx:
        info = tx.models(pool.uid)[0].info
    assert isinstance(info, HeadInfo)
    return info


def test_numbers_outside_json_survive(catalog: SqlCatalog, pool: PoolRecord) -> None:
    scores = {"accuracy": Score(math.nan, -math.inf, math.inf), "log_loss": Score(math.inf), "f1": None}
    with catalog.transaction() as tx:
        info = replace(HEAD, metrics=replace(HEAD.metrics, scores=scores), l2=1e-300)
        tx.add_model(pool.uid, replace(model("a"), info=info))
    found = read_info(catalog, pool)
    accuracy = found.metrics.scores["accuracy"]
    assert accuracy is not None
    assert math.isnan(accuracy.value)
    assert (accuracy.low, accuracy.high) == (-math.inf, math.inf)
    assert (found.metrics.value("log_loss"), found.metrics.value("f1"), found.l2) == (math.inf, None, 1e-300)


def test_metrics_that_there_are_none_of_stay_none(catalog: SqlCatalog, pool: PoolRecord) -> None:
    info = replace(HEAD, metrics=NO_METRICS, split_metrics={"test": HEAD.metrics, "validation": NO_METRICS})
    with catalog.transaction() as tx:
        tx.add_model(pool.uid, replace(model("a"), info=info))
    found = read_info(catalog, pool)
    assert found == info
    assert found.metrics.value("accuracy") is None


def test_what_0_1_0_knew_of_a_head() -> None:
    metrics = {"accuracy": 0.5, "log_loss": "inf", "calibration_error": None, "samples": 12}
    known = {"classes_seen": 3, "members": 1, "labels": 12, "l2": 0.1, "temperature": 1.5, "balanced": False, "seed": 4}
    info = info_from_json(ModelKind.HEAD, {**known, "metrics": metrics})
    assert isinstance(info, HeadInfo)
    assert (info.kind, info.classes, info.classes_seen) == (TaskKind.CLASSIFICATION, (), 3)
    assert info.metrics.scores == {"accuracy": Score(0.5), "log_loss": Score(math.inf)}
    assert info.metrics.samples == 12


def test_second_model_of_an_id_is_refused(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.add_model(pool.uid, model("a"))
    with pytest.raises(AssayError) as refused, catalog.transaction() as tx:
        tx.add_model(pool.uid, model("a", kind=ModelKind.BACKBONE))
    assert refused.value.reason is Reason.MODEL_EXISTS
    with catalog.reading() as tx:
        assert tx.models(pool.uid) == [model("a")]


def test_activations_are_a_history_by_kind(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        for model_id, space in (("b", "pushed"), ("a", "pushed"), ("", "minilm"), ("b", "minilm")):
            tx.record_activation(pool.uid, ModelKind.HEAD, model_id, space, 1.0)
        tx.record_activation(pool.uid, ModelKind.BACKBONE, "minilm", "minilm", 1.0)
        tx.record_activation(other.uid, ModelKind.HEAD, "o", "pushed", 1.0)
    with catalog.reading() as tx:
        history = [("b", "pushed"), ("a", "pushed"), ("", "minilm"), ("b", "minilm")]
        assert tx.activations(pool.uid, ModelKind.HEAD) == history
        assert tx.activations(pool.uid, ModelKind.BACKBONE) == [("minilm", "minilm")]
        assert tx.activations(other.uid, ModelKind.BACKBONE) == []


def test_delete_forgets_the_model_and_its_activations(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        for uid in (pool.uid, other.uid):
            for model_id in ("a", "b", "a"):
                tx.record_activation(uid, ModelKind.HEAD, model_id, "pushed", 1.0)
            tx.add_model(uid, model("a"))
            tx.add_model(uid, model("b"))
        tx.delete_model(pool.uid, "a")
        tx.delete_model(pool.uid, "missing")
    with catalog.reading() as tx:
        assert tx.models(pool.uid) == [model("b")]
        assert tx.activations(pool.uid, ModelKind.HEAD) == [("b", "pushed")]
        assert len(tx.models(other.uid)) == 2
        assert len(tx.activations(other.uid, ModelKind.HEAD)) == 3


def test_old_activations_are_forgotten_but_not_the_last_of_a_space(catalog: SqlCatalog, pool: PoolRecord) -> None:
    history = [("a", "space-1"), ("b", "space-1"), ("c", "space-2"), *((f"h{n}", "space-3") for n in range(10))]
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        for uid in (pool.uid, other.uid):
            for model_id, space in history:
                tx.record_activation(uid, ModelKind.HEAD, model_id, space, 1.0)
        tx.record_activation(pool.uid, ModelKind.BACKBONE, "one", "space-3", 1.0)
    with catalog.transaction() as tx:
        assert tx.forget_activations(pool.uid, ModelKind.HEAD, 3, 4) == 4
        assert tx.forget_activations(pool.uid, ModelKind.HEAD, 3, 100) == 4
        assert tx.forget_activations(pool.uid, ModelKind.HEAD, 3, 100) == 0
        assert tx.forget_activations(pool.uid, ModelKind.BACKBONE, 3, 100) == 0
    with catalog.reading() as tx:
        assert tx.activations(pool.uid, ModelKind.HEAD) == [("b", "space-1"), ("c", "space-2"), *history[-3:]]
        assert tx.activations(other.uid, ModelKind.HEAD) == history
