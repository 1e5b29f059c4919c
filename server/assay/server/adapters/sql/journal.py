"""Long-running operations, and the answers that requests got."""

from functools import cache
from typing import Any

from sqlalchemy import Executable, Integer, Row, bindparam, delete, insert, select, tuple_

from assay.server.adapters.sql.dialects import Dialect
from assay.server.adapters.sql.schema import operations, requests
from assay.server.adapters.sql.session import Session
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.operations import OperationRecord
from assay.server.core.records.requests import RequestKey

_OPERATION = select(operations).where(operations.c.operation_id == bindparam("of_operation"))
_DELETE_OPERATION = delete(operations).where(operations.c.operation_id == bindparam("of_operation"))
_OPERATIONS = (
    select(operations)
    .order_by(operations.c.create_time, operations.c.operation_id)
    .limit(bindparam("limit", type_=Integer))
)
_OPERATIONS_AFTER = _OPERATIONS.where(
    tuple_(operations.c.create_time, operations.c.operation_id) > tuple_(bindparam("after_time"), bindparam("after_id"))
)

_RECALL = select(requests.c.fingerprint, requests.c.response).where(
    requests.c.scope == bindparam("scope"), requests.c.request_id == bindparam("request_id")
)
_REMEMBER = insert(requests)
_FORGET = delete(requests).where(requests.c.create_time < bindparam("before"))


class JournalPart(Session):
    """The part of a transaction that keeps operations and requests."""

    def put_operation(self, operation: OperationRecord) -> None:
        """Stores or replaces an operation."""
        self._run(_put_operation(self._dialect), _operation_values(operation))

    def operation(self, operation_id: str) -> OperationRecord | None:
        """An operation."""
        row = self._run(_OPERATION, {"of_operation": operation_id}).first()
        return None if row is None else _operation_record(row)

    def operations(self, *, after: tuple[float, str] | None = None, limit: int = 1000) -> list[OperationRecord]:
        """Operations by (create_time, operation_id)."""
        if after is None:
            found = self._run(_OPERATIONS, {"limit": limit})
        else:
            found = self._run(_OPERATIONS_AFTER, {"limit": limit, "after_time": after[0], "after_id": after[1]})
        return [_operation_record(row) for row in found]

    def delete_operation(self, operation_id: str) -> None:
        """Forgets an operation."""
        self._run(_DELETE_OPERATION, {"of_operation": operation_id})

    def recall(self, key: RequestKey) -> bytes | None:
        """The response remembered under a key. Raises AssayError(REQUEST_ID_REUSED)."""
        if not key.request_id:
            return None
        row = self._run(_RECALL, {"scope": key.scope, "request_id": key.request_id}).first()
        if row is None:
            return None
        if row.fingerprint != key.fingerprint:
            raise AssayError(
                Reason.REQUEST_ID_REUSED,
                f"Request id {key.request_id!r} was used for another request. Choose a new one.",
                request_id=key.request_id,
            )
        return bytes(row.response)

    def remember(self, key: RequestKey, response: bytes, now: float) -> None:
        """Remembers a response. Raises AssayError(CONFLICT) if there is one."""
        if key.request_id:
            self._run(_REMEMBER, _request_values(key, response, now))

    def forget_requests(self, before: float) -> None:
        """Drops responses remembered before a time."""
        self._run(_FORGET, {"before": before})


@cache
def _put_operation(dialect: Dialect) -> Executable:
    statement = dialect.insert(operations)
    new = {column.name: statement.excluded[column.name] for column in operations.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=["operation_id"], set_=new)


def _operation_values(operation: OperationRecord) -> dict[str, object]:
    return {
        "operation_id": operation.operation_id,
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


def _request_values(key: RequestKey, response: bytes, now: float) -> dict[str, object]:
    return {
        "scope": key.scope,
        "request_id": key.request_id,
        "fingerprint": key.fingerprint,
        "response": response,
        "create_time": now,
    }
