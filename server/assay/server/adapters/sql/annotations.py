"""The log of annotation events: one row a block, only ever added."""

from collections.abc import Iterator, Sequence
from functools import cache

from sqlalchemy import BigInteger, ColumnElement, Double, Executable, Integer, Text, bindparam, delete, insert, select

from assay.server.adapters.sql import blocks
from assay.server.adapters.sql.blocks import Stored
from assay.server.adapters.sql.dialects import Dialect
from assay.server.adapters.sql.schema import annotation_blocks, external_ids
from assay.server.adapters.sql.session import Session
from assay.server.core.records.annotations import EventBlock, EventColumns, NumberArray, PackedBlock

# Blocks that are read at a time.
_PAGE = 2000

_POOL = bindparam("pool_uid", type_=BigInteger)
_HERE = annotation_blocks.c.pool_uid == _POOL
_STORED = select(
    annotation_blocks.c.first_number,
    annotation_blocks.c.count,
    annotation_blocks.c.worker,
    annotation_blocks.c.create_time,
    annotation_blocks.c.lease_id,
    annotation_blocks.c.origin,
    annotation_blocks.c.columns,
)
_FIRST = annotation_blocks.c.first_number
_IN_ORDER = (
    _STORED.where(_HERE, bindparam("start", type_=BigInteger) <= _FIRST)
    .order_by(_FIRST)
    .limit(bindparam("limit", type_=Integer))
)
# The block that an event is in begins with the last number up to its own.
_HOLDER = select(_FIRST).where(_HERE, bindparam("number", type_=BigInteger) >= _FIRST).order_by(_FIRST.desc()).limit(1)
_LAST_OF_ACTOR = (
    _STORED.where(_HERE, annotation_blocks.c.actor == bindparam("actor", type_=Text))
    .order_by(_FIRST.desc())
    .limit(bindparam("limit", type_=Integer))
)
_APPEND = insert(annotation_blocks)


class AnnotationPart(Session):
    """The part of a transaction that keeps annotation events."""

    def append_events(self, pool_uid: int, block: PackedBlock) -> None:
        """Adds a block to the log. Raises AssayError(CONFLICT) for an external id that the pool has already, or numbers
        that were given before."""
        self._run(
            _APPEND,
            {
                "pool_uid": pool_uid,
                "first_number": block.first_number,
                "count": block.count,
                "worker": block.worker,
                "create_time": block.create_time,
                "lease_id": block.lease_id,
                "origin": block.origin.value,
                "columns": block.columns,
                "actor": block.actor,
            },
        )
        if block.external_ids:
            given = self._dialect.pairs(
                [number for number, _ in block.external_ids], [i for _, i in block.external_ids]
            )
            self._run(_add_external_ids(self._dialect), {"pool_uid": pool_uid, **given})

    def event_columns(self, pool_uid: int, *, classes: bool) -> Iterator[EventColumns]:
        """All events of a pool, one whose labels are classes or not, in order and in pieces. Raises
        AssayError(STORAGE_FAILED) for a damaged block."""
        return blocks.event_columns(self._in_order(pool_uid), classes=classes)

    def _in_order(self, pool_uid: int) -> Iterator[Stored]:
        start = 0
        while page := self._stored(_IN_ORDER, {"pool_uid": pool_uid, "start": start, "limit": _PAGE}):
            yield from page
            start = page[-1][0] + 1

    def blocks_of_events(self, pool_uid: int, numbers: NumberArray) -> list[EventBlock]:
        """The blocks that hold events, by number. Raises AssayError(STORAGE_FAILED) for a damaged block."""
        if len(numbers) == 0:
            return []
        asked = {"pool_uid": pool_uid, **self._dialect.rows(numbers.tolist())}
        firsts = self._int_columns(_holders(self._dialect), asked, 1).ravel()
        given = {"pool_uid": pool_uid, **self._dialect.rows(firsts.tolist())}
        return [blocks.unpack(stored) for stored in self._stored(_blocks_at(self._dialect), given)]

    def event_blocks(
        self,
        pool_uid: int,
        *,
        from_number: int = 0,
        limit: int = 100,
        worker: str = "",
        start_time: float | None = None,
        end_time: float | None = None,
    ) -> list[EventBlock]:
        """Blocks in order, from the one that holds an event on; of one worker and within [start_time, end_time) if they
        are given. Raises AssayError(STORAGE_FAILED) for a damaged block."""
        holder = self._tuples(_HOLDER, {"pool_uid": pool_uid, "number": from_number})
        params: dict[str, object] = {"pool_uid": pool_uid, "start": holder[0][0] if holder else 0, "limit": limit}
        given = {"worker": worker or None, "start_time": start_time, "end_time": end_time}
        asked = tuple(name for name, value in given.items() if value is not None)
        stored = self._stored(_event_blocks(asked), params | {name: given[name] for name in asked})
        return [blocks.unpack(block) for block in stored if block[0] + block[1] > from_number]

    def last_blocks(self, pool_uid: int, actor: str, limit: int) -> list[EventBlock]:
        """The last blocks of an actor, the newest first. Raises AssayError(STORAGE_FAILED) for a damaged block."""
        given = {"pool_uid": pool_uid, "actor": actor, "limit": limit}
        return [blocks.unpack(stored) for stored in self._stored(_LAST_OF_ACTOR, given)]

    def free_external_ids(self, pool_uid: int, ids: Sequence[str]) -> None:
        """Lets external ids stand for other events."""
        given = self._dialect.pairs([0] * len(ids), list(ids))
        self._run(_free_external_ids(self._dialect), {"pool_uid": pool_uid, **given})

    def external_events(self, pool_uid: int, ids: Sequence[str]) -> dict[str, int]:
        """The event of each external id that the pool has."""
        given = self._dialect.pairs(range(len(ids)), ids)
        return dict(self._tuples(_external_events(self._dialect), {"pool_uid": pool_uid, **given}))

    def _stored(self, statement: Executable, params: dict[str, object]) -> list[Stored]:
        return self._tuples(statement, params)


@cache
def _holders(dialect: Dialect) -> Executable:
    given = dialect.given_rows.subquery()
    holder = select(_FIRST).where(_HERE, given.c.row >= _FIRST).order_by(_FIRST.desc()).limit(1).scalar_subquery()
    return select(holder.label("first_number")).select_from(given).distinct()


@cache
def _blocks_at(dialect: Dialect) -> Executable:
    return _STORED.where(_HERE, dialect.among(_FIRST)).order_by(_FIRST)


_CONDITIONS: dict[str, ColumnElement[bool]] = {
    "worker": annotation_blocks.c.worker == bindparam("worker", type_=Text),
    "start_time": annotation_blocks.c.create_time >= bindparam("start_time", type_=Double),
    "end_time": annotation_blocks.c.create_time < bindparam("end_time", type_=Double),
}


@cache
def _event_blocks(conditions: tuple[str, ...]) -> Executable:
    return _IN_ORDER.where(*(_CONDITIONS[name] for name in conditions))


@cache
def _add_external_ids(dialect: Dialect) -> Executable:
    given = dialect.given_pairs
    source = select(_POOL, given.c.text, given.c.number)
    return insert(external_ids).from_select(["pool_uid", "external_id", "number"], source)


@cache
def _free_external_ids(dialect: Dialect) -> Executable:
    given = select(dialect.given_pairs.c.text)
    return delete(external_ids).where(external_ids.c.pool_uid == _POOL, external_ids.c.external_id.in_(given))


@cache
def _external_events(dialect: Dialect) -> Executable:
    given = dialect.given_pairs
    found = external_ids.c.external_id == given.c.text
    return (
        select(external_ids.c.external_id, external_ids.c.number)
        .join(given, found)
        .where(external_ids.c.pool_uid == _POOL)
    )
