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
    """One database's way. `given_rows` and `given_pairs` read the parameters that `rows` and `pairs` make."""

    given_rows: Select[int]
    given_pairs: FromClause  # columns number and text
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
    def pairs(self, numbers: Sequence[int], texts: Sequence[str]) -> dict[str, Any]:
        """Parameters for given_pairs."""


class SqliteDialect(Dialect):
    """Arrays travel as JSON."""

    last_pool_uid = text("SELECT seq FROM sqlite_sequence WHERE name = 'pools'")

    def __init__(self) -> None:
        rows = func.json_each(bindparam("rows", type_=Text())).table_valued("value", name="given_rows")
        pairs = func.json_each(bindparam("pairs", type_=Text())).table_valued("value", name="pairs")
        self.given_rows = select(rows.c.value.label("row"))
        self.given_pairs = select(
            func.json_extract(pairs.c.value, "$[0]").label("number"),
            func.json_extract(pairs.c.value, "$[1]").label("text"),
        ).subquery("given_pairs")

    def insert(self, table: Table) -> Upsert:
        return sqlite.insert(table)

    def among(self, column: Column[Any]) -> ColumnElement[bool]:
        return column.in_(self.given_rows)

    def rows(self, rows: Sequence[int]) -> dict[str, Any]:
        return {"rows": json.dumps(rows)}

    def pairs(self, numbers: Sequence[int], texts: Sequence[str]) -> dict[str, Any]:
        return {"pairs": json.dumps(list(zip(numbers, texts, strict=True)))}


class PostgresDialect(Dialect):
    """Arrays travel as arrays."""

    last_pool_uid = text("SELECT pg_sequence_last_value(pg_get_serial_sequence('pools', 'uid')::regclass)")

    def __init__(self) -> None:
        many = ARRAY(BigInteger)
        rows = func.unnest(bindparam("rows", type_=many)).table_valued("row", name="given_rows")
        pairs = func.unnest(bindparam("numbers", type_=many), bindparam("texts", type_=ARRAY(Text)))
        self.given_rows = select(rows.render_derived().c.row)
        self.given_pairs = pairs.table_valued("number", "text", name="given_pairs").render_derived()

    def insert(self, table: Table) -> Upsert:
        return postgresql.insert(table)

    def among(self, column: Column[Any]) -> ColumnElement[bool]:
        # Hashed, whatever the planner thinks of the table. Of a subquery it makes a nested loop, quadratic in the rows.
        return column == any_(bindparam("rows", type_=ARRAY(BigInteger)))

    def rows(self, rows: Sequence[int]) -> dict[str, Any]:
        return {"rows": rows}

    def pairs(self, numbers: Sequence[int], texts: Sequence[str]) -> dict[str, Any]:
        return {"numbers": list(numbers), "texts": list(texts)}


SQLITE: Dialect = SqliteDialect()
POSTGRES: Dialect = PostgresDialect()
