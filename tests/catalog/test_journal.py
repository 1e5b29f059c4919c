"""Operations and remembered requests."""

from dataclasses import replace

import pytest

from assay.server.adapters.sql import SqlCatalog
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.operations import OperationRecord
from tests.catalog.records import request_key


def operation(operation_id: str, create_time: float = 1.5) -> OperationRecord:
    return OperationRecord(operation_id, "train_head", "news", create_time)


def test_operation_is_stored_and_replaced(catalog: SqlCatalog) -> None:
    done = replace(operation("a"), done=True, response=bytes(range(256)))
    failed = replace(operation("b"), done=True, error_reason="CANCELLED", error_message="Cancelled: as asked.")
    with catalog.transaction() as tx:
        tx.put_operation(operation("a"))
        tx.put_operation(operation("b"))
        assert tx.operation("a") == operation("a")
        tx.put_operation(done)
        tx.put_operation(failed)
    with catalog.reading() as tx:
        assert tx.operation("a") == done
        assert tx.operation("b") == failed
        assert tx.operation("c") is None


def test_operations_by_page(catalog: SqlCatalog) -> None:
    ordered = [operation("B", 1.0), operation("a", 1.0), operation("b", 1.0), operation("A", 1.25), operation("0", 3.0)]
    with catalog.transaction() as tx:
        for one in reversed(ordered):
            tx.put_operation(one)
    with catalog.reading() as tx:
        assert tx.operations() == ordered
        assert tx.operations(limit=2) == ordered[:2]
        assert tx.operations(after=(1.0, "a"), limit=2) == ordered[2:4]
        assert tx.operations(after=(3.0, "0")) == []


def test_delete_forgets_an_operation(catalog: SqlCatalog) -> None:
    with catalog.transaction() as tx:
        tx.put_operation(operation("a"))
        tx.put_operation(operation("b"))
        tx.delete_operation("a")
        tx.delete_operation("missing")
        assert tx.operations() == [operation("b")]


def test_request_is_recalled_within_its_scope(catalog: SqlCatalog) -> None:
    with catalog.transaction() as tx:
        assert tx.recall(request_key("r")) is None
        tx.remember(request_key("r"), b"\x00first\xff", 1.0)
        tx.remember(request_key("r", scope="other"), b"", 1.0)
    with catalog.reading() as tx:
        assert tx.recall(request_key("r")) == b"\x00first\xff"
        assert tx.recall(request_key("r", scope="other")) == b""
        assert tx.recall(request_key("r", scope="third")) is None


def test_request_without_an_id_is_not_remembered(catalog: SqlCatalog) -> None:
    with catalog.transaction() as tx:
        tx.remember(request_key(""), b"first", 1.0)
        tx.remember(request_key(""), b"second", 1.0)
        assert tx.recall(request_key("")) is None


def test_request_id_with_another_body_is_refused(catalog: SqlCatalog) -> None:
    with catalog.transaction() as tx:
        tx.remember(request_key("r"), b"first", 1.0)
    with pytest.raises(AssayError) as refused, catalog.transaction() as tx:
        tx.recall(request_key("r", fingerprint="another"))
    assert refused.value.reason is Reason.REQUEST_ID_REUSED
    assert refused.value.metadata == {"request_id": "r"}


def test_first_answer_stays(catalog: SqlCatalog) -> None:
    with catalog.transaction() as tx:
        tx.remember(request_key("r"), b"first", 1.0)
    with pytest.raises(AssayError) as refused, catalog.transaction() as tx:
        tx.remember(request_key("r"), b"second", 2.0)
    assert refused.value.reason is Reason.CONFLICT
    with catalog.reading() as tx:
        assert tx.recall(request_key("r")) == b"first"


def test_old_requests_are_forgotten(catalog: SqlCatalog) -> None:
    with catalog.transaction() as tx:
        for at in range(4):
            tx.remember(request_key(f"r{at}"), b"x", float(at))
        tx.forget_requests(2.0)
    with catalog.reading() as tx:
        assert [tx.recall(request_key(f"r{at}")) for at in range(4)] == [None, None, b"x", b"x"]
