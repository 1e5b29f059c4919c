"""Model versions and their activations."""

import math
from dataclasses import replace

import pytest

from assay.server.adapters.sql import SqlCatalog
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.models import HeadInfo, ModelKind
from assay.server.core.records.pools import PoolRecord
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


def test_numbers_outside_json_survive(catalog: SqlCatalog, pool: PoolRecord) -> None:
    metrics = replace(HEAD.metrics, accuracy=math.nan, log_loss=math.inf, calibration_error=-math.inf)
    with catalog.transaction() as tx:
        tx.add_model(pool.uid, replace(model("a"), info=replace(HEAD, metrics=metrics, l2=1e-300)))
    with catalog.reading() as tx:
        info = tx.models(pool.uid)[0].info
    assert isinstance(info, HeadInfo)
    assert info.metrics.accuracy is not None
    assert math.isnan(info.metrics.accuracy)
    assert (info.metrics.log_loss, info.metrics.calibration_error, info.l2) == (math.inf, -math.inf, 1e-300)


def test_metrics_that_there_are_none_of_stay_none(catalog: SqlCatalog, pool: PoolRecord) -> None:
    metrics = replace(HEAD.metrics, accuracy=None, log_loss=None, calibration_error=None, samples=0)
    with catalog.transaction() as tx:
        tx.add_model(pool.uid, replace(model("a"), info=replace(HEAD, metrics=metrics)))
    with catalog.reading() as tx:
        info = tx.models(pool.uid)[0].info
    assert isinstance(info, HeadInfo)
    assert info.metrics == metrics


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
