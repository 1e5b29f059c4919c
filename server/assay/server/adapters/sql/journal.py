"""Long-running operations, and the answers that requests got."""

from typing import Any

from sqlalchemy import Integer, Row, bindparam, delete, func, insert, select, text, tuple_, update

from assay.server.adapters.sql.schema import operations, requests
from assay.server.adapters.sql.session import Session
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.operations import OperationRecord
from assay.server.core.records.requests import Remembered, RequestKey

_OPERATION = select(operations).where(operations.c.operation_id == bindparam("of_operation"))
_ADD_OPERATION = insert(operations)
_ENDS = ("done", "response", "error_reason", "error_message")
_END_OPERATION = (
    update(operations)
    .where(operations.c.operation_id == bindparam("of_operation"))
    .values({name: bindparam(name) for name in _ENDS})
)
_DELETE_OPERATION = delete(operations).where(operations.c.operation_id == bindparam("of_operation"))
_OPERATIONS = (
    select(operations)
    .where(
        tuple_(operations.c.create_time, operations.c.operation_id)
        > tuple_(bindparam("after_time"), bindparam("after_id"))
    )
    .order_by(operations.c.create_time, operations.c.operation_id)
    .limit(bindparam("limit", type_=Integer))
)
_OPERATIONS_OF = _OPERATIONS.where(operations.c.pool_id == bindparam("of_pool"))
_BEFORE_ALL = (-1.0, "")

_THIS_REQUEST = (
    (requests.c.pool_uid == bindparam("of_pool"))
    & (requests.c.method == bindparam("of_method"))
    & (requests.c.request_id == bindparam("of_request"))
)
_RECALL = select(requests.c.fingerprint, requests.c.response, requests.c.create_time).where(_THIS_REQUEST)
_FORGET_ONE = delete(requests).where(_THIS_REQUEST)
_REMEMBER = insert(requests)
_NEWEST = select(func.max(requests.c.number))
_OLDEST = select(requests.c.number).order_by(requests.c.number).limit(bindparam("limit", type_=Integer))
_FORGET = delete(requests).where(
    requests.c.number.in_(_OLDEST),
    (requests.c.create_time < bindparam("before")) | (requests.c.number <= bindparam("last")),
)
_ENDED_LONG_AGO = (
    select(operations.c.operation_id)
    .where(operations.c.create_time < bindparam("before"), operations.c.done)
    .order_by(operations.c.create_time)
    .limit(bindparam("limit", type_=Integer))
)
_FORGET_OPERATIONS = delete(operations).where(operations.c.operation_id.in_(_ENDED_LONG_AGO))
# Spelled out: the partial index is used only for the same words.
_RUNNING = select(operations).where(text("NOT done"))


class JournalPart(Session):
    """The part of a transaction that keeps operations and requests."""

    def add_operation(self, operation: OperationRecord) -> None:
        """Stores a new operation."""
        self._run(_ADD_OPERATION, _operation_values(operation))

    def end_operation(self, operation: OperationRecord) -> None:
        """Stores how an operation ended; does nothing if it went with its pool."""
        values = _operation_values(operation)
        self._run(_END_OPERATION, {"of_operation": operation.operation_id} | {name: values[name] for name in _ENDS})

    def operation(self, operation_id: str) -> OperationRecord | None:
        """An operation."""
        row = self._run(_OPERATION, {"of_operation": operation_id}).first()
        return None if row is None else _operation_record(row)

    def operations(
        self, *, pool_id: str = "", after: tuple[float, str] | None = None, limit: int = 1000
    ) -> list[OperationRecord]:
        """Operations by (create_time, operation_id), of one pool or of all ("")."""
        after_time, after_id = after or _BEFORE_ALL
        values: dict[str, Any] = {"limit": limit, "after_time": after_time, "after_id": after_id}
        found = self._run(_OPERATIONS_OF, values | {"of_pool": pool_id}) if pool_id else self._run(_OPERATIONS, values)
        return [_operation_record(row) for row in found]

    def delete_operation(self, operation_id: str) -> None:
        """Forgets an operation."""
        self._run(_DELETE_OPERATION, {"of_operation": operation_id})

    def recall(self, pool_uid: int, key: RequestKey) -> Remembered | None:
        """What is remembered under a key. Raises AssayError(REQUEST_ID_REUSED)."""
        if not key.request_id:
            return None
        row = self._run(_RECALL, _of_key(pool_uid, key)).first()
        if row is None:
            return None
        if row.fingerprint != key.fingerprint:
            raise AssayError(
                Reason.REQUEST_ID_REUSED,
                f"Request id {key.request_id!r} was used for another request. Choose a new one.",
                request_id=key.request_id,
            )
        return Remembered(bytes(row.response), row.create_time)

    def remember(self, pool_uid: int, key: RequestKey, response: bytes, now: float) -> None:
        """Remembers a response. Raises AssayError(CONFLICT) if there is one."""
        if key.request_id:
            self._run(_REMEMBER, _request_values(pool_uid, key, response, now))

    def forget_request(self, pool_uid: int, key: RequestKey) -> None:
        """Drops what is remembered under a key."""
        self._run(_FORGET_ONE, _of_key(pool_uid, key))

    def forget_requests(self, before: float, keep: int, limit: int) -> int:
        """Drops the oldest responses: those remembered before a time, and those beyond so many."""
        newest = self._run(_NEWEST).scalar() or 0
        return self._run(_FORGET, {"before": before, "last": newest - keep, "limit": limit}).rowcount

    def forget_operations(self, before: float, limit: int) -> int:
        """Drops operations that began before a time and have ended."""
        return self._run(_FORGET_OPERATIONS, {"before": before, "limit": limit}).rowcount

    def running_operations(self) -> list[OperationRecord]:
        """Operations that are not done."""
        return [_operation_record(row) for row in self._run(_RUNNING)]


def _operation_values(operation: OperationRecord) -> dict[str, object]:
    return {
        "operation_id": operation.operation_id,
        "pool_uid": operation.pool_uid,
        "kind": operation.kind,
        "pool_id": operation.pool_id,
        "create_time": operation.create_time,
        "done": operation.done,
        "response": operation.response,
        "error_reason": operation.error_reason,
        "error_message": operation.error_message,
    }


def _operation_record(row: Row[Any]) -> OperationRecord:
    return OperationRecord(**row._asdict())


def _of_key(pool_uid: int, key: RequestKey) -> dict[str, object]:
    return {"of_pool": pool_uid, "of_method": key.method, "of_request": key.request_id}


def _request_values(pool_uid: int, key: RequestKey, response: bytes, now: float) -> dict[str, object]:
    return {
        "pool_uid": pool_uid,
        "method": key.method,
        "request_id": key.request_id,
        "fingerprint": key.fingerprint,
        "response": response,
        "create_time": now,
    }
