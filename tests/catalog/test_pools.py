"""Pools, attributes, segment files."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from assay.server.adapters.sql import SqlCatalog
from assay.server.adapters.sql.blocks import pack
from assay.server.adapters.sql.schema import metadata
from assay.server.core.errors import AssayError, Reason
from assay.server.core.ports.catalog import CatalogTx
from assay.server.core.records.annotations import Blobs, Policy
from assay.server.core.records.changes import PoolChanged
from assay.server.core.records.models import ModelKind
from assay.server.core.records.operations import OperationRecord
from assay.server.core.records.pools import Metric, PoolRecord
from assay.server.core.records.tasks import TaskKind, TaskRecord
from tests.catalog.records import (
    block,
    label,
    lease,
    model,
    pool_record,
    put_labels,
    request_key,
    rows_of,
    segment,
    suspects_of,
)


def test_pool_comes_back_as_it_was_stored(catalog: SqlCatalog) -> None:
    names = ("späm", "", "tab\tnul\0", "日本", "a'b\"c\\")
    given = pool_record(
        "p", metric=Metric.L2, task=TaskRecord.of_classes(TaskKind.CLASSIFICATION, names), keep_inputs=False, epoch=7,
        dimension=384, space="pushed",
        backbone="b", head="h", next_fencing_token=2**40, next_row=2**50, next_event=2**41,
        annotations_per_sample=3, policy=Policy.MAJORITY, metadata={"project": "日本"},
    )  # fmt: skip
    with catalog.transaction() as tx:
        stored = tx.insert_pool(given)
    with catalog.reading() as tx:
        assert tx.pools() == [stored]
    assert stored.uid > 0
    assert replace(stored, uid=0) == given


def test_pools_are_ordered_by_code_point(catalog: SqlCatalog) -> None:
    ids = ["b", "B", "a-b", "a", "ab", "é", "z", "a_b", "0"]
    with catalog.transaction() as tx:
        for pool_id in ids:
            tx.insert_pool(pool_record(pool_id))
        assert [pool.pool_id for pool in tx.pools()] == sorted(ids)


def test_second_pool_of_an_id_is_refused_and_the_transaction_goes_on(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        with pytest.raises(AssayError) as refused:
            tx.insert_pool(pool_record(pool.pool_id, metric=Metric.L2))
        tx.insert_pool(pool_record("other"))
    assert refused.value.reason is Reason.POOL_EXISTS
    with catalog.reading() as tx:
        assert [(found.pool_id, found.metric) for found in tx.pools()] == [("news", "cosine"), ("other", "cosine")]


def test_uids_are_never_given_twice(catalog: SqlCatalog, pool: PoolRecord) -> None:
    uids = {pool.uid}
    for _ in range(3):
        with catalog.transaction() as tx:
            tx.delete_pool(max(uids))
            uids.add(tx.insert_pool(pool_record("news")).uid)
    assert len(uids) == 4


def test_update_sets_the_named_fields_of_one_pool(catalog: SqlCatalog, pool: PoolRecord) -> None:
    given: dict[str, Any] = {
        "next_row": np.int64(2**40), "next_fencing_token": 9, "dimension": 8, "next_event": 5, "space": "s",
        "backbone": "b", "head": "h", "task": TaskRecord.of_classes(TaskKind.MULTILABEL, ["ä"]),
        "annotations_per_sample": 3, "policy": Policy.MAJORITY, "metadata": {"a": "b"},
    }  # fmt: skip
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        tx.update_pool(pool.uid, **dict(list(given.items())[:4]))
        tx.update_pool(pool.uid, **dict(list(given.items())[4:]))
        tx.update_pool(pool.uid)
    with catalog.reading() as tx:
        assert tx.pools() == [replace(pool, **given), other]


@pytest.mark.parametrize("field", ["uid", "pool_id", "metric", "no_such_field"])
def test_update_refuses_fields_that_never_change(catalog: SqlCatalog, pool: PoolRecord, field: str) -> None:
    with pytest.raises(TypeError, match=field), catalog.transaction() as tx:
        tx.update_pool(pool.uid, **{field: 1})


def test_attributes_grow(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        tx.add_attributes(pool.uid, {"lang": "string", "length": "int64"})
        tx.add_attributes(pool.uid, {"score": "double"})
        tx.add_attributes(pool.uid, {})
        tx.add_attributes(other.uid, {"lang": "bool"})
    with catalog.reading() as tx:
        assert tx.attributes(pool.uid) == {"lang": "string", "length": "int64", "score": "double"}
        assert tx.attributes(other.uid) == {"lang": "bool"}


def test_segments_are_ordered_and_replaced(catalog: SqlCatalog, pool: PoolRecord) -> None:
    samples = [segment(f"s{first}", first_row=first) for first in (0, 10, 200)]
    vectors = [
        segment(f"v{space}{first}", kind="vectors", space=space, first_row=first)
        for space in ("a", "b")
        for first in (0, 10)
    ]
    with catalog.transaction() as tx:
        tx.add_segments(pool.uid, [*reversed(vectors), *reversed(samples)])
        tx.add_segments(pool.uid, [])
        assert tx.segments(pool.uid) == [*samples, *vectors]
        tx.remove_segments(pool.uid, iter(["s0", "s10", "missing"]))
        tx.remove_segments(pool.uid, [])
        tx.add_segments(pool.uid, [segment("merged", last_row=19, count=20)])
    with catalog.reading() as tx:
        assert [file.file for file in tx.segments(pool.uid)] == ["merged", "s200", *(file.file for file in vectors)]


def test_all_files_are_those_of_segments_and_models_of_all_pools(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        tx.add_segments(pool.uid, [segment("1/s"), segment("1/v", kind="vectors", space="x")])
        tx.add_segments(other.uid, [segment("2/s")])
        tx.add_model(other.uid, model("head", file="2/m"))
    with catalog.reading() as tx:
        assert tx.all_segment_files() == {"1/s", "1/v", "2/s", "2/m"}


def _fill(tx: CatalogTx, pool: PoolRecord) -> None:
    tx.add_attributes(pool.uid, {"lang": "string"})
    tx.add_segments(pool.uid, [segment(f"{pool.uid}/s")])
    put_labels(tx, pool.uid, [label(1), label(2)])
    tx.delete_rows(pool.uid, np.array([3]))
    tx.exclude_rows(pool.uid, np.array([4]), "ann", "blurred")
    tx.raise_rows(pool.uid, np.array([7]), 3)
    tx.append_events(pool.uid, pack(block(2, [7], [0], external_ids=Blobs.of_texts(["theirs"]))))
    tx.add_lease(pool.uid, lease("lease", (5, 6)))
    tx.drop_lease_rows(pool.uid, "lease", np.array([6]), "skipped")
    tx.add_model(pool.uid, model("head", file=f"{pool.uid}/m"))
    tx.record_activation(pool.uid, ModelKind.HEAD, "head", "pushed", 1.0)
    tx.add_operation(OperationRecord(f"op-{pool.pool_id}", "train_head", pool.uid, pool.pool_id, 1.0))
    tx.remember(pool.uid, request_key("r"), b"answer", 1.0)
    tx.put_suspects(pool.uid, suspects_of([4, 7]))


def test_delete_takes_all_of_one_pool(catalog: SqlCatalog, pool: PoolRecord, url: str) -> None:
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        _fill(tx, pool)
        _fill(tx, other)
        for time in (1.0, 2.0):
            for one in (pool, other):
                tx.append_change(one.uid, [PoolChanged(("task",))], time)
        assert tx.forget_changes(1.5, 2, 10) == 2
    with catalog.transaction() as tx:
        tx.delete_pool(pool.uid)
    with catalog.reading() as tx:
        assert tx.pools() == [replace(other, next_event=2)]
        assert tx.all_segment_files() == {f"{other.uid}/s", f"{other.uid}/m"}
        assert [operation.operation_id for operation in tx.operations()] == ["op-other"]
    for name, table in metadata.tables.items():
        if "pool_uid" in table.c:
            assert set(rows_of(url, f"SELECT DISTINCT pool_uid FROM {name}")) == {(other.uid,)}, name
