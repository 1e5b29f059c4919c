"""The change feed: what each transaction changed of a pool, kept for a while."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    Executable,
    Integer,
    Row,
    bindparam,
    delete,
    func,
    insert,
    select,
    tuple_,
)

from assay.server.adapters.sql.dialects import Dialect
from assay.server.adapters.sql.schema import changes, forgotten_changes, pools
from assay.server.adapters.sql.session import Session
from assay.server.core.records.changes import ChangeRecord, Part, Position, from_plain, to_plain

_POOL = bindparam("of_pool", type_=BigInteger)
# Of the epoch that the pool has by then; of a pool that is gone there is nothing to say.
_APPEND = insert(changes).from_select(
    ["pool_uid", "epoch", "create_time", "parts"],
    select(pools.c.uid, pools.c.epoch, bindparam("at_time", type_=Double), bindparam("given_parts", type_=JSON)).where(
        pools.c.uid == _POOL
    ),
)
_PLACE = tuple_(changes.c.epoch, changes.c.number)
_AFTER = (
    select(changes.c.epoch, changes.c.number, changes.c.create_time, changes.c.parts)
    .where(
        changes.c.pool_uid == _POOL,
        tuple_(bindparam("after_epoch", type_=BigInteger), bindparam("after_number", type_=BigInteger)) < _PLACE,
    )
    .order_by(changes.c.epoch, changes.c.number)
    .limit(bindparam("limit", type_=Integer))
)
_LAST = (
    select(changes.c.epoch, changes.c.number)
    .where(changes.c.pool_uid == _POOL)
    .order_by(changes.c.epoch.desc(), changes.c.number.desc())
    .limit(1)
)
_FORGOTTEN = select(forgotten_changes.c.epoch, forgotten_changes.c.number).where(forgotten_changes.c.pool_uid == _POOL)
_NEWEST = select(func.max(changes.c.number))
_OLD = (
    select(changes.c.number, changes.c.pool_uid, changes.c.epoch, changes.c.create_time)
    .order_by(changes.c.number)
    .limit(bindparam("limit", type_=Integer))
)
_FORGET = delete(changes).where(changes.c.number <= bindparam("upto", type_=BigInteger))


class ChangePart(Session):
    """The part of a transaction that keeps the change feed."""

    def append_change(self, pool_uid: int, parts: Sequence[Part], now: float) -> None:
        """Adds a change, of the epoch that the pool has in this transaction; nothing of a pool that is gone."""
        self._run(_APPEND, {"of_pool": pool_uid, "at_time": now, "given_parts": to_plain(parts)})

    def changes(self, pool_uid: int, after: Position, limit: int) -> list[ChangeRecord]:
        """Changes in order, those after a position."""
        params = {"of_pool": pool_uid, "after_epoch": after.epoch, "after_number": after.number, "limit": limit}
        return [_record(row) for row in self._run(_AFTER, params)]

    def last_change(self, pool_uid: int) -> Position | None:
        """Position of the last change; None where there is none, or none any more."""
        row = self._run(_LAST, {"of_pool": pool_uid}).first()
        return None if row is None else Position(row.epoch, row.number)

    def forgotten_changes(self, pool_uid: int) -> Position | None:
        """Position up to which the changes of a pool are forgotten; None where all are there."""
        row = self._run(_FORGOTTEN, {"of_pool": pool_uid}).first()
        return None if row is None else Position(row.epoch, row.number)

    def forget_changes(self, before: float, keep: int, limit: int) -> int:
        """Drops the oldest changes, in their order: those made before a time, and those beyond so many."""
        last = (self._run(_NEWEST).scalar() or 0) - keep
        reached, count = dict[int, Position](), 0
        upto = 0
        for row in self._run(_OLD, {"limit": limit}):
            if row.create_time >= before and row.number > last:
                break
            reached[row.pool_uid] = Position(row.epoch, row.number)
            upto, count = row.number, count + 1
        if count:
            marks = [
                {"pool_uid": uid, "epoch": position.epoch, "number": position.number}
                for uid, position in reached.items()
            ]
            self._run(_mark_forgotten(self._dialect), marks)
            self._run(_FORGET, {"upto": upto})
        return count


def _record(row: Row[Any]) -> ChangeRecord:
    return ChangeRecord(Position(row.epoch, row.number), row.create_time, from_plain(row.parts))


@cache
def _mark_forgotten(dialect: Dialect) -> Executable:
    statement = dialect.insert(forgotten_changes)
    new = {name: statement.excluded[name] for name in ("epoch", "number")}
    return statement.on_conflict_do_update(index_elements=["pool_uid"], set_=new)
