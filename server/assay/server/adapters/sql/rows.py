"""States of rows: deleted, set aside."""

from collections.abc import Sequence
from functools import cache

from sqlalchemy import BigInteger, Executable, Integer, Table, Text, bindparam, delete, select, true

from assay.server.adapters.sql.dialects import Dialect, Upsert
from assay.server.adapters.sql.schema import deleted_rows, excluded_rows, raised_rows
from assay.server.adapters.sql.session import Session
from assay.server.core.records.annotations import NumberArray
from assay.server.core.records.arrays import RowArray

ROW_KEY = ["pool_uid", "row"]

_POOL = bindparam("pool_uid", type_=BigInteger)


def _rows_of(table: Table, *others: str) -> Executable:
    columns = (table.c[name] for name in ("row", *others))
    return select(*columns).where(table.c.pool_uid == _POOL).order_by(table.c.row)


_DELETED_ROWS = _rows_of(deleted_rows)
_EXCLUDED_ROWS = _rows_of(excluded_rows)
_RAISED_ROWS = _rows_of(raised_rows, "wanted")


class RowPart(Session):
    """The part of a transaction that keeps states of rows."""

    def delete_rows(self, pool_uid: int, rows: RowArray) -> None:
        """Marks rows as deleted, and drops what else is kept of their state."""
        params = {"pool_uid": pool_uid, **self._dialect.rows(rows.tolist())}
        for statement in (_mark_deleted, _delete_exclusions, _delete_raises):
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

    def raise_rows(self, pool_uid: int, rows: RowArray, wanted: int) -> None:
        """Wants so many answers of rows; more than were wanted stay wanted."""
        params = {"pool_uid": pool_uid, "wanted": int(wanted), **self._dialect.rows(rows.tolist())}
        self._run(_raise_rows(self._dialect), params)

    def raised_rows(self, pool_uid: int) -> tuple[RowArray, NumberArray]:
        """Rows of which more answers are wanted, ascending, and how many of each."""
        rows, wanted = self._int_columns(_RAISED_ROWS, {"pool_uid": pool_uid}, 2)
        return rows, wanted


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
def _delete_exclusions(dialect: Dialect) -> Executable:
    return _delete_given(excluded_rows, dialect)


@cache
def _delete_raises(dialect: Dialect) -> Executable:
    return _delete_given(raised_rows, dialect)


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
def _raise_rows(dialect: Dialect) -> Executable:
    given = dialect.given_rows.subquery()
    source = select(_POOL, given.c.row, bindparam("wanted", type_=Integer)).where(true())
    statement = dialect.insert(raised_rows).from_select([*ROW_KEY, "wanted"], source)
    new = statement.excluded.wanted
    more = raised_rows.c.wanted < new
    return statement.on_conflict_do_update(index_elements=ROW_KEY, set_={"wanted": new}, where=more)
