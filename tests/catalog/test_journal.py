"""Operations and remembered requests."""

from dataclasses import replace

import pytest

from assay.server.adapters.sql import SqlCatalog
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.operations import OperationRecord
from assay.server.core.records.pools import PoolRecord
from assay.server.core.records.requests import NO_POOL, Remembered
from tests.catalog.records import pool_record, request_key


def operation(pool: PoolRecord, operation_id: str, create_time: float = 1.5) -> OperationRecord:
    return OperationRecord(operation_id, "train_head", pool.uid, pool.pool_id, create_time)


def test_operation_is_stored_and_ends(catalog: SqlCatalog, pool: PoolRecord) -> None:
    done = replace(operation(pool, "a"), done=True, response=bytes(range(256)))
    failed = replace(operation(pool, "b"), done=True, error_reason="CANCELLED", error_message="Cancelled: as asked.")
    with catalog.transaction() as tx:
        tx.add_operation(operation(pool, "a"))
        tx.add_operation(operation(pool, "b"))
        assert tx.operation("a") == operation(pool, "a")
        tx.end_operation(done)
        tx.end_operation(failed)
    with catalog.reading() as tx:
        assert tx.operation("a") == done
        assert tx.operation("b") == failed
        assert tx.operation("c") is None


def test_an_operation_that_went_with_its_pool_does_not_come_back(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.add_operation(operation(pool, "a"))
    with catalog.transaction() as tx:
        tx.delete_pool(pool.uid)
        tx.insert_pool(pool_record(pool.pool_id))
    with catalog.transaction() as tx:
        tx.end_operation(replace(operation(pool, "a"), done=True))
    with catalog.reading() as tx:
        assert tx.operations() == []


def test_operations_by_page(catalog: SqlCatalog, pool: PoolRecord) -> None:
    keys = [("B", 1.0), ("a", 1.0), ("b", 1.0), ("A", 1.25), ("0", 3.0)]
    ordered = [operation(pool, *key) for key in keys]
    with catalog.transaction() as tx:
        for one in reversed(ordered):
            tx.add_operation(one)
    with catalog.reading() as tx:
        assert tx.operations() == ordered
        assert tx.operations(limit=2) == ordered[:2]
        assert tx.operations(pool_id=pool.pool_id, after=(1.0, "a"), limit=2) == ordered[2:4]
        assert tx.operations(pool_id="another") == []
        assert tx.operations(after=(1.0, "a"), limit=2) == ordered[2:4]
        assert tx.operations(after=(3.0, "0")) == []


def test_delete_forgets_an_operation(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.add_operation(operation(pool, "a"))
        tx.add_operation(operation(pool, "b"))
        tx.delete_operation("a")
        tx.delete_operation("missing")
        assert tx.operations() == [operation(pool, "b")]


def test_request_is_recalled_within_its_pool_and_method(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        assert tx.recall(pool.uid, request_key("r")) is None
        tx.remember(pool.uid, request_key("r"), b"\x00first\xff", 1.0)
        tx.remember(pool.uid, request_key("r", method="other"), b"", 2.5)
        tx.remember(NO_POOL, request_key("r"), b"of no pool", 1.0)
    with catalog.reading() as tx:
        assert tx.recall(pool.uid, request_key("r")) == Remembered(b"\x00first\xff", 1.0)
        assert tx.recall(pool.uid, request_key("r", method="other")) == Remembered(b"", 2.5)
        assert tx.recall(NO_POOL, request_key("r")) == Remembered(b"of no pool", 1.0)
        assert tx.recall(pool.uid, request_key("r", method="third")) is None
        assert tx.recall(pool.uid + 1, request_key("r")) is None


def test_request_without_an_id_is_not_remembered(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.remember(pool.uid, request_key(""), b"first", 1.0)
        tx.remember(pool.uid, request_key(""), b"second", 1.0)
        assert tx.recall(pool.uid, request_key("")) is None


def test_request_id_with_another_body_is_refused(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.remember(pool.uid, request_key("r"), b"first", 1.0)
    with pytest.raises(AssayError) as refused, catalog.transaction() as tx:
        tx.recall(pool.uid, request_key("r", fingerprint="another"))
    assert refused.value.reason is Reason.REQUEST_ID_REUSED
    assert refused.value.metadata == {"request_id": "r"}


def test_first_answer_stays(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.remember(pool.uid, request_key("r"), b"first", 1.0)
    with pytest.raises(AssayError) as refused, catalog.transaction() as tx:
        tx.remember(pool.uid, request_key("r"), b"second", 2.0)
    assert refused.value.reason is Reason.CONFLICT
    with catalog.reading() as tx:
        assert tx.recall(pool.uid, request_key("r")) == Remembered(b"first", 1.0)


def test_requests_are_forgotten_by_age_by_number_and_one_by_one(catalog: SqlCatalog, pool: PoolRecord) -> None:
    def known() -> list[int]:
        with catalog.reading() as tx:
            return [at for at in range(10) if tx.recall(pool.uid, request_key(f"r{at}")) is not None]

    with catalog.transaction() as tx:
        for at in range(10):
            tx.remember(pool.uid, request_key(f"r{at}"), b"x", float(at))
    with catalog.transaction() as tx:
        assert tx.forget_requests(4.0, 100, 3) == 3
        assert tx.forget_requests(4.0, 100, 3) == 1
        assert tx.forget_requests(4.0, 100, 3) == 0
    assert known() == [4, 5, 6, 7, 8, 9]
    with catalog.transaction() as tx:
        assert tx.forget_requests(0.0, 3, 100) == 3
        tx.forget_request(pool.uid, request_key("r9"))
        tx.forget_request(pool.uid, request_key("never"))
    assert known() == [7, 8]


def test_operations_that_ended_long_ago_are_forgotten(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        for at in range(5):
            tx.add_operation(operation(pool, str(at), float(at)))
        for at in (0, 1, 3, 4):
            tx.end_operation(replace(operation(pool, str(at), float(at)), done=True))
    with catalog.transaction() as tx:
        assert tx.forget_operations(4.0, 2) == 2
        assert tx.forget_operations(4.0, 2) == 1
        assert tx.forget_operations(4.0, 2) == 0
        assert [found.operation_id for found in tx.operations()] == ["2", "4"]


def test_operations_that_have_not_ended_are_found(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        for name in ("a", "b", "c"):
            tx.add_operation(operation(pool, name))
        tx.end_operation(replace(operation(pool, "b"), done=True, response=b"x"))
    with catalog.reading() as tx:
        assert sorted(tx.running_operations(), key=lambda found: found.operation_id) == [
            operation(pool, "a"),
            operation(pool, "c"),
        ]
