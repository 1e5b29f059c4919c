"""A catalog of an older assay is brought up to date: nothing that it keeps is lost, and nothing is mixed up."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, insert, inspect, text

from assay.server.adapters.sql import SqlCatalog, open_catalog
from assay.server.adapters.sql.codec import info_to_json
from assay.server.adapters.sql.migrations import MIGRATIONS
from assay.server.adapters.sql.versions import prepare
from assay.server.core.pools.log import read_log
from assay.server.core.records.annotations import EventKind, Origin, Policy
from assay.server.core.records.models import ModelKind
from assay.server.core.records.pools import PoolRecord
from assay.server.core.records.tasks import TaskKind, TaskRecord
from tests.catalog import version_1 as v1
from tests.catalog.records import BACKBONE, HEAD, Label, direct, labels_of, request_key

POOL = {
    "metric": "cosine", "class_names": ["ham", "spam"], "keep_inputs": True, "create_time": 5.0, "epoch": 9,
    "dimension": 4, "backbone": "", "head": "", "next_fencing_token": 3, "next_row": 30,
}  # fmt: skip


def pool(connection: Connection, pool_id: str, space: str, **changes: Any) -> int:
    values = {**POOL, "pool_id": pool_id, "space": space, **changes}
    return int(connection.execute(insert(v1.pools).values(values).returning(v1.pools.c.uid)).scalar_one())


def files(connection: Connection, uid: int, *spaces: str) -> None:
    for space in spaces:
        kind = "vectors" if space else "samples"
        connection.execute(
            insert(v1.segments).values(
                pool_uid=uid, file=f"pools/{uid}/{kind}/{space}", kind=kind, space=space, first_row=0, last_row=9,
                count=10, size=100, checksum="0f" * 16,
            )
        )  # fmt: skip


def model(connection: Connection, uid: int, model_id: str, kind: ModelKind, space: str = "") -> None:
    info = info_to_json(BACKBONE if kind is ModelKind.BACKBONE else HEAD)
    if space:
        info["space"] = space
    connection.execute(
        insert(v1.models).values(
            pool_uid=uid, model_id=model_id, kind=kind.value, display_name="", create_time=6.0,
            file=f"pools/{uid}/models/{model_id}", info=info,
        )
    )  # fmt: skip


def activated(connection: Connection, uid: int, kind: ModelKind, model_id: str, space: str) -> None:
    values = {"pool_uid": uid, "kind": kind.value, "model_id": model_id, "space": space, "create_time": 7.0}
    connection.execute(insert(v1.activations).values(values))


def operation(connection: Connection, operation_id: str, pool_id: str, create_time: float) -> None:
    connection.execute(
        insert(v1.operations).values(
            operation_id=operation_id, kind="train_head", pool_id=pool_id, create_time=create_time, done=True,
            response=b"answer", error_reason="", error_message="",
        )
    )  # fmt: skip


LABELS = [
    # row, class, worker, time, lease
    (4, 1, "ann", 20.5, "l1"), (2, 0, "ann", 20.5, "l1"), (9, 1, "bob", 20.5, ""), (7, 0, "ann", 30.25, ""),
    (11, 1, "import", 10.0, ""), (12, 0, "import", 10.0, ""),
]  # fmt: skip


def said(connection: Connection, uid: int) -> None:
    """Labels of several workers and times; 4 was set aside before, and 5 still is."""
    for row, class_index, worker, time, lease in LABELS:
        values = {"row": row, "class_index": class_index, "worker": worker, "create_time": time, "lease_id": lease}
        connection.execute(insert(v1.labels).values(pool_uid=uid, **values))
    for lease_id, worker in (("l1", "ann"), ("l2", "bob")):
        values = {"lease_id": lease_id, "worker": worker, "fencing_token": 1, "create_time": 1.0, "expire_time": 9e9}
        connection.execute(insert(v1.leases).values(pool_uid=uid, state="live", **values))
    connection.execute(insert(v1.lease_rows).values(pool_uid=uid, row=20, lease_id="l2"))
    for row in (4, 5):
        connection.execute(insert(v1.excluded_rows).values(pool_uid=uid, row=row, worker="ann", reason="dark"))


def given_back(url: str) -> None:
    """What only version 2 kept: bob and cy gave row 9 back before bob labeled it, and cy row 1."""
    with direct(url) as connection:
        prepare(connection, MIGRATIONS[:1])
        for worker, row in (("bob", 9), ("cy", 9), ("cy", 1)):
            connection.execute(
                text('INSERT INTO released_rows (pool_uid, worker, "row") VALUES (1, :worker, :row)'),
                {"worker": worker, "row": row},
            )


def written_by_version_1(connection: Connection) -> None:
    """A pool that went from pushed embeddings to a backbone and back to another, one with pushed ones only, one that is
    empty."""
    v1.metadata.create_all(connection, checkfirst=False)
    connection.execute(insert(v1.schema_version).values(version=1, catalog_id="c1"))
    news = pool(connection, "news", "two", backbone="two", head="h2")
    model(connection, news, "h0", ModelKind.HEAD, "pushed")
    model(connection, news, "one", ModelKind.BACKBONE)
    model(connection, news, "two", ModelKind.BACKBONE)
    model(connection, news, "h2", ModelKind.HEAD, "two")
    model(connection, news, "orphan", ModelKind.HEAD, "deleted")
    files(connection, news, "", "pushed", "one", "two")
    activated(connection, news, ModelKind.HEAD, "h0", "pushed")
    activated(connection, news, ModelKind.BACKBONE, "two", "two")
    activated(connection, news, ModelKind.HEAD, "h2", "two")
    mail = pool(connection, "mail", "pushed")
    files(connection, mail, "", "pushed")
    model(connection, mail, "pushed", ModelKind.BACKBONE)
    pool(connection, "void", "")
    said(connection, news)
    operation(connection, "of-news", "news", 8.0)
    operation(connection, "of-a-news-before", "news", 4.0)
    operation(connection, "of-nothing", "gone", 8.0)
    connection.execute(
        insert(v1.requests).values(
            scope="AddSamples/news", request_id="r", fingerprint="body", response=b"x", create_time=8.0
        )
    )


@pytest.fixture
def upgraded(url: str) -> Iterator[SqlCatalog]:
    with direct(url) as connection:
        written_by_version_1(connection)
    given_back(url)
    catalog = open_catalog(url)
    yield catalog
    catalog.close()


def pools(catalog: SqlCatalog) -> dict[str, PoolRecord]:
    with catalog.reading() as tx:
        return {record.pool_id: record for record in tx.pools()}


def test_spaces_are_numbered_and_files_stay_where_they_are(upgraded: SqlCatalog) -> None:
    found = pools(upgraded)
    assert {name: (record.space, record.next_space) for name, record in found.items()} == {
        "news": ("space-3", 5),
        "mail": ("space-1", 2),
        "void": ("", 2),
    }
    news, mail = found["news"], found["mail"]
    assert (news.backbone, news.head, news.epoch, news.search_index) == ("two", "h2", 9, "")
    with upgraded.reading() as tx:
        assert {file.file.rpartition("/")[2]: file.space for file in tx.segments(news.uid)} == {
            "": "", "pushed": "space-1", "one": "space-2", "two": "space-3",
        }  # fmt: skip
        assert {record.model_id: record.space for record in tx.models(news.uid)} == {
            "h0": "space-1", "one": "space-2", "two": "space-3", "h2": "space-3", "orphan": "space-4",
        }  # fmt: skip
        assert [record.info for record in tx.models(news.uid)] == [HEAD, HEAD, BACKBONE, BACKBONE, HEAD]
        assert tx.activations(news.uid, ModelKind.HEAD) == [("h0", "space-1"), ("h2", "space-3")]
        assert tx.activations(news.uid, ModelKind.BACKBONE) == [("two", "space-3")]
        assert [file.space for file in tx.segments(mail.uid)] == ["", "space-1"]


def test_labels_become_annotations_of_worker_lease_and_time(upgraded: SqlCatalog) -> None:
    news = pools(upgraded)["news"]
    assert news.class_names == ("ham", "spam")
    assert news.task == TaskRecord.of_classes(TaskKind.CLASSIFICATION, ["ham", "spam"])
    assert (news.annotations_per_sample, news.policy, news.metadata) == (1, Policy.LATEST, {})
    with upgraded.reading() as tx:
        assert labels_of(tx, news.uid) == [
            # Nobody said anything of row 1 but that somebody else should.
            Label(1, -1, "cy", 5.0),
            Label(2, 0, "ann", 20.5, "l1"), Label(4, 1, "ann", 20.5, "l1"), Label(7, 0, "ann", 30.25),
            Label(9, 1, "bob", 20.5), Label(11, 1, "import", 10.0), Label(12, 0, "import", 10.0),
        ]  # fmt: skip
        blocks = tx.event_blocks(news.uid)
        assert [(block.worker, block.rows_N.tolist(), block.origin) for block in blocks] == [
            ("bob", [9], Origin.WORKER), ("cy", [1, 9], Origin.WORKER), ("import", [11, 12], Origin.IMPORT),
            ("ann", [2, 4], Origin.WORKER), ("bob", [9], Origin.WORKER), ("ann", [7], Origin.WORKER),
        ]  # fmt: skip
        numbers = [number for block in blocks for number in block.numbers_N.tolist()]
        assert numbers == list(range(9))
        assert news.next_event == 9
        kinds = [EventKind(kind).name for block in blocks for kind in block.kinds_N.tolist()]
        assert kinds == ["SKIP"] * 3 + ["ANNOTATE"] * 6
        assert blocks[1].previous_N.tolist() == [-1, 0]
        assert blocks[4].previous_N.tolist() == [2]
        found = read_log(tx.event_columns(news.uid, classes=True), news.next_row)
        assert found.workers.of("cy").declined.array.tolist() == [1, 9]
        assert found.answered_N[[1, 2, 9]].tolist() == [0, 1, 1]
        assert tx.excluded_rows(news.uid).tolist() == [5], "a label is the later word"
        assert pools(upgraded)["mail"].next_event == 0
        assert [lease.rows for lease in tx.live_leases(news.uid) if lease.worker == "bob"] == [(20,)]


def test_operations_stay_with_the_pool_that_they_were_of(upgraded: SqlCatalog) -> None:
    news = pools(upgraded)["news"]
    with upgraded.transaction() as tx:
        assert [(found.operation_id, found.pool_uid) for found in tx.operations()] == [("of-news", news.uid)]
        assert tx.recall(news.uid, request_key("r", method="AddSamples")) is None
        tx.delete_pool(news.uid)
        assert tx.operations() == []


def test_the_catalog_is_the_same_and_has_no_directory_yet(upgraded: SqlCatalog) -> None:
    assert upgraded.identity == "c1"
    with upgraded.reading() as tx:
        assert tx.directory() == ""


def tables(engine: Engine) -> dict[str, object]:
    found = inspect(engine)
    return {
        name: (
            {column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(name)},
            found.get_pk_constraint(name)["constrained_columns"],
            sorted((index["name"] or "", tuple(index["column_names"])) for index in found.get_indexes(name)),
            sorted((tuple(key["constrained_columns"]), key["referred_table"]) for key in found.get_foreign_keys(name)),
        )
        for name in found.get_table_names()
    }


def test_upgraded_tables_are_those_of_a_new_catalog(url: str, upgraded: SqlCatalog) -> None:
    made = tables(upgraded._writer)
    upgraded.close()
    with direct(url) as connection:
        for name in inspect(connection).get_table_names():
            cascade = "" if connection.dialect.name == "sqlite" else " CASCADE"
            connection.exec_driver_sql(f"DROP TABLE {name}{cascade}")
    catalog = open_catalog(url)
    assert made == tables(catalog._writer)
    catalog.close()
