"""What the two databases say differently: upserts, and arrays as parameters.

A statement over many rows takes them as one array parameter and stays one statement: several times faster than one
execution a row, on both databases.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    Select,
    Table,
    Text,
    TextClause,
    any_,
    bindparam,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

Upsert = sqlite.Insert | postgresql.Insert


class Dialect(ABC):
    """One database's way. `given_rows` and `given_labels` read the parameters "rows" and "labels"."""

    given_rows: Select[int]
    given_labels: FromClause  # columns row and class_index
    last_pool_uid: TextClause  # the last uid that was given to a pool, or none

    @abstractmethod
    def insert(self, table: Table) -> Upsert:
        """INSERT that knows ON CONFLICT."""

    @abstractmethod
    def among(self, column: Column[Any]) -> ColumnElement[bool]:
        """Whether a column is one of the parameter "rows"."""

    @abstractmethod
    def rows(self, rows: Sequence[int]) -> dict[str, Any]:
        """Parameter for given_rows."""

    @abstractmethod
    def labels(self, rows: Sequence[int], classes: Sequence[int]) -> dict[str, Any]:
        """Parameters for given_labels."""


class SqliteDialect(Dialect):
    """Arrays travel as JSON."""

    last_pool_uid = text("SELECT seq FROM sqlite_sequence WHERE name = 'pools'")

    def __init__(self) -> None:
        rows = func.json_each(bindparam("rows", type_=Text())).table_valued("value", name="given_rows")
        pairs = func.json_each(bindparam("labels", type_=Text())).table_valued("value", name="pairs")
        self.given_rows = select(rows.c.value.label("row"))
        self.given_labels = select(
            func.json_extract(pairs.c.value, "$[0]").label("row"),
            func.json_extract(pairs.c.value, "$[1]").label("class_index"),
        ).subquery("given_labels")

    def insert(self, table: Table) -> Upsert:
        return sqlite.insert(table)

    def among(self, column: Column[Any]) -> ColumnElement[bool]:
        return column.in_(self.given_rows)

    def rows(self, rows: Sequence[int]) -> dict[str, Any]:
        return {"rows": json.dumps(rows)}

    def labels(self, rows: Sequence[int], classes: Sequence[int]) -> dict[str, Any]:
        return {"labels": json.dumps(list(zip(rows, classes, strict=True)))}


class PostgresDialect(Dialect):
    """Arrays travel as arrays."""

    last_pool_uid = text("SELECT pg_sequence_last_value(pg_get_serial_sequence('pools', 'uid')::regclass)")

    def __init__(self) -> None:
        many = ARRAY(BigInteger)
        rows = func.unnest(bindparam("rows", type_=many)).table_valued("row", name="given_rows")
        labels = func.unnest(bindparam("rows", type_=many), bindparam("classes", type_=many))
        self.given_rows = select(rows.render_derived().c.row)
        self.given_labels = labels.table_valued("row", "class_index", name="given_labels").render_derived()

    def insert(self, table: Table) -> Upsert:
        return postgresql.insert(table)

    def among(self, column: Column[Any]) -> ColumnElement[bool]:
        # Hashed, whatever the planner thinks of the table. Of a subquery it makes a nested loop, quadratic in the rows.
        return column == any_(bindparam("rows", type_=ARRAY(BigInteger)))

    def rows(self, rows: Sequence[int]) -> dict[str, Any]:
        return {"rows": rows}

    def labels(self, rows: Sequence[int], classes: Sequence[int]) -> dict[str, Any]:
        return {"rows": rows, "classes": classes}


SQLITE: Dialect = SqliteDialect()
POSTGRES: Dialect = PostgresDialect()
