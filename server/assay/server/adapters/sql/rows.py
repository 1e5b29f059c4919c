"""States of rows: deleted, set aside, labeled."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    BigInteger,
    Double,
    Executable,
    Integer,
    Table,
    Text,
    bindparam,
    delete,
    select,
    true,
)

from assay.server.adapters.sql.dialects import Dialect, Upsert
from assay.server.adapters.sql.schema import deleted_rows, excluded_rows, labels, released_rows
from assay.server.adapters.sql.session import Session
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.labels import LabelRecord

ROW_KEY = ["pool_uid", "row"]
RELEASE_KEY = ["pool_uid", "worker", "row"]
LABEL_COLUMNS = [*ROW_KEY, "class_index", "worker", "create_time", "lease_id"]

_POOL = bindparam("pool_uid", type_=BigInteger)
_LABELS = (
    select(labels.c.row, labels.c.class_index, labels.c.worker, labels.c.create_time, labels.c.lease_id)
    .where(labels.c.pool_uid == _POOL, labels.c.row > bindparam("after_row"))
    .order_by(labels.c.row)
    .limit(bindparam("limit", type_=Integer))
)
_OF_WORKER = labels.c.worker == bindparam("worker")
_OF_CLASS = labels.c.class_index == bindparam("class_index")


def _columns_of(table: Table, *names: str) -> Executable:
    return select(*(table.c[name] for name in names)).where(table.c.pool_uid == _POOL).order_by(table.c.row)


_LABEL_COLUMNS = _columns_of(labels, "row", "class_index")
_DELETED_ROWS = _columns_of(deleted_rows, "row")
_EXCLUDED_ROWS = _columns_of(excluded_rows, "row")
_RELEASED_ROWS = _columns_of(released_rows, "worker", "row")


class RowPart(Session):
    """The part of a transaction that keeps states and labels of rows."""

    def delete_rows(self, pool_uid: int, rows: RowArray) -> None:
        """Marks rows as deleted, and drops their labels, exclusions and releases."""
        params = {"pool_uid": pool_uid, **self._dialect.rows(rows.tolist())}
        for statement in (_mark_deleted, _delete_labels, _delete_exclusions, _delete_releases):
            self._run(statement(self._dialect), params)

    def deleted_rows(self, pool_uid: int) -> RowArray:
        """Deleted rows, ascending."""
        return self._int_columns(_DELETED_ROWS, {"pool_uid": pool_uid}, 1).ravel()

    def forget_deleted_rows(self, pool_uid: int, rows: RowArray) -> None:
        """Drops tombstones."""
        self._run(_delete_tombstones(self._dialect), {"pool_uid": pool_uid, **self._dialect.rows(rows.tolist())})

    def exclude_rows(self, pool_uid: int, rows: RowArray, worker: str, reason: str) -> None:
        """Sets rows aside; the newest reason is kept."""
        params = {"pool_uid": pool_uid, "by": worker, "why": reason, **self._dialect.rows(rows.tolist())}
        self._run(_exclude(self._dialect), params)

    def excluded_rows(self, pool_uid: int) -> RowArray:
        """Rows set aside, ascending."""
        return self._int_columns(_EXCLUDED_ROWS, {"pool_uid": pool_uid}, 1).ravel()

    def include_rows(self, pool_uid: int, rows: RowArray) -> None:
        """Takes rows back that were set aside."""
        self._run(_delete_exclusions(self._dialect), {"pool_uid": pool_uid, **self._dialect.rows(rows.tolist())})

    def release_rows(self, pool_uid: int, rows: RowArray, worker: str) -> None:
        """Notes that a worker gave rows back."""
        self._run(_release(self._dialect), {"pool_uid": pool_uid, "by": worker, **self._dialect.rows(rows.tolist())})

    def released_rows(self, pool_uid: int) -> dict[str, RowArray]:
        """Rows that each worker gave back, ascending."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for worker, row in self._tuples(_RELEASED_ROWS, {"pool_uid": pool_uid}):
            found[worker].append(row)
        return {worker: np.array(rows, np.int64) for worker, rows in found.items()}

    def put_label_columns(
        self, pool_uid: int, rows: RowArray, classes: npt.NDArray[np.int32], worker: str, now: float, lease: str = ""
    ) -> None:
        """Stores labels in one statement; one that a row already has is replaced. Rows are distinct."""
        given = self._dialect.labels(rows.tolist(), classes.tolist())
        params = {"pool_uid": pool_uid, "by": worker, "at": now, "under": lease}
        self._run(_put_label_columns(self._dialect), {**params, **given})

    def label_columns(self, pool_uid: int) -> tuple[RowArray, npt.NDArray[np.int32]]:
        """Rows (ascending) and class indices of all labels."""
        rows, classes = self._int_columns(_LABEL_COLUMNS, {"pool_uid": pool_uid}, 2)
        return rows, classes.astype(np.int32)

    def labels(
        self, pool_uid: int, *, after_row: int = -1, limit: int = 1000, worker: str = "", class_index: int = -1
    ) -> list[LabelRecord]:
        """Labels by row, for pages."""
        params: dict[str, object] = {"pool_uid": pool_uid, "after_row": after_row, "limit": limit}
        if worker:
            params["worker"] = worker
        if class_index >= 0:
            params["class_index"] = class_index
        statement = _labels(of_worker=bool(worker), of_class=class_index >= 0)
        return [LabelRecord(*row) for row in self._tuples(statement, params)]


def _replacing(statement: Upsert, columns: Sequence[str]) -> Executable:
    """On a row that is there, the statement overwrites the columns."""
    new = {name: statement.excluded[name] for name in columns}
    return statement.on_conflict_do_update(index_elements=ROW_KEY, set_=new)


def _delete_given(table: Table, dialect: Dialect) -> Executable:
    return delete(table).where(table.c.pool_uid == _POOL, dialect.among(table.c.row))


@cache
def _mark_deleted(dialect: Dialect) -> Executable:
    # SQLite needs a WHERE between SELECT and ON CONFLICT, here and below.
    given = dialect.given_rows.subquery()
    source = select(_POOL, given.c.row).where(true())
    return dialect.insert(deleted_rows).from_select(ROW_KEY, source).on_conflict_do_nothing(index_elements=ROW_KEY)


@cache
def _delete_labels(dialect: Dialect) -> Executable:
    return _delete_given(labels, dialect)


@cache
def _delete_exclusions(dialect: Dialect) -> Executable:
    return _delete_given(excluded_rows, dialect)


@cache
def _delete_releases(dialect: Dialect) -> Executable:
    return _delete_given(released_rows, dialect)


@cache
def _release(dialect: Dialect) -> Executable:
    given = dialect.given_rows.subquery()
    source = select(_POOL, bindparam("by", type_=Text), given.c.row).where(true())
    statement = dialect.insert(released_rows).from_select(RELEASE_KEY, source)
    return statement.on_conflict_do_nothing(index_elements=RELEASE_KEY)


@cache
def _delete_tombstones(dialect: Dialect) -> Executable:
    return _delete_given(deleted_rows, dialect)


@cache
def _exclude(dialect: Dialect) -> Executable:
    given = dialect.given_rows.subquery()
    source = select(_POOL, given.c.row, bindparam("by", type_=Text), bindparam("why", type_=Text)).where(true())
    statement = dialect.insert(excluded_rows).from_select([*ROW_KEY, "worker", "reason"], source)
    return _replacing(statement, ["worker", "reason"])


@cache
def _put_label_columns(dialect: Dialect) -> Executable:
    given = dialect.given_labels
    worker, now, lease = bindparam("by", type_=Text), bindparam("at", type_=Double), bindparam("under", type_=Text)
    source = select(_POOL, given.c.row, given.c.class_index, worker, now, lease).where(true())
    return _replacing(dialect.insert(labels).from_select(LABEL_COLUMNS, source), LABEL_COLUMNS[2:])


@cache
def _labels(*, of_worker: bool, of_class: bool) -> Executable:
    statement = _LABELS.where(_OF_WORKER) if of_worker else _LABELS
    return statement.where(_OF_CLASS) if of_class else statement
