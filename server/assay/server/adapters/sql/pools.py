"""Pools, their attributes and their segment files."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Executable, Row, bindparam, delete, insert, select, union_all, update

from assay.server.adapters.sql.dialects import Dialect
from assay.server.adapters.sql.schema import attributes, models, pools, requests, segments
from assay.server.adapters.sql.session import Session
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.annotations import Policy
from assay.server.core.records.pools import Metric, PoolRecord
from assay.server.core.records.samples import SegmentFile
from assay.server.core.records.tasks import TaskRecord

NUMBERS = {"dimension", "next_fencing_token", "next_row", "next_space", "next_event", "annotations_per_sample"}
NAMES = {"space", "backbone", "head", "search_index", "policy"}
PLAIN: dict[str, Callable[[Any], object]] = {
    **dict.fromkeys(NUMBERS, int),
    **dict.fromkeys(NAMES, str),
    "task": TaskRecord.to_json,
    "metadata": dict,
}

_POOLS = select(pools).order_by(pools.c.pool_id)
_POOL = select(pools).where(pools.c.uid == bindparam("pool_uid"))
_ADVANCE = (
    update(pools)
    .where(pools.c.uid == bindparam("of_pool"), pools.c.epoch == bindparam("from_epoch"))
    .values(epoch=bindparam("to_epoch"))
)
_DELETE_REQUESTS = delete(requests).where(requests.c.pool_uid == bindparam("pool_uid"))
_DELETE_POOL = delete(pools).where(pools.c.uid == bindparam("pool_uid"))

_ATTRIBUTES = select(attributes.c.name, attributes.c.kind).where(attributes.c.pool_uid == bindparam("pool_uid"))
_ADD_ATTRIBUTES = insert(attributes)

_SEGMENT_COLUMNS = [column for column in segments.c if column.name != "pool_uid"]
_SEGMENTS = (
    select(*_SEGMENT_COLUMNS)
    .where(segments.c.pool_uid == bindparam("pool_uid"))
    .order_by(segments.c.kind, segments.c.space, segments.c.first_row, segments.c.file)
)
_ALL_FILES = union_all(select(segments.c.file), select(models.c.file))
_ADD_SEGMENTS = insert(segments)
_REMOVE_SEGMENT = delete(segments).where(
    segments.c.pool_uid == bindparam("of_pool"), segments.c.file == bindparam("of_file")
)


class PoolPart(Session):
    """The part of a transaction that keeps pools."""

    def insert_pool(self, pool: PoolRecord) -> PoolRecord:
        """Stores a pool under a new uid."""
        row = self._run(_insert_pool(self._dialect), _pool_values(pool)).first()
        if row is None:
            raise AssayError(
                Reason.POOL_EXISTS, f"There is a pool {pool.pool_id!r} already. Choose another id.", pool=pool.pool_id
            )
        return _pool_record(row)

    def pools(self) -> list[PoolRecord]:
        """All pools, ordered by pool_id."""
        return [_pool_record(row) for row in self._run(_POOLS)]

    def last_pool_uid(self) -> int:
        """The last uid that was given to a pool, whether it is still there or not; 0 before there was any."""
        return int(self._run(self._dialect.last_pool_uid).scalar() or 0)

    def pool(self, pool_uid: int) -> PoolRecord | None:
        """A pool."""
        row = self._run(_POOL, {"pool_uid": pool_uid}).first()
        return None if row is None else _pool_record(row)

    def advance_pool(self, pool_uid: int, epoch: int) -> bool:
        """Leads a pool from an epoch to the next; False, and nothing done, where it is not there or elsewhere."""
        params = {"of_pool": pool_uid, "from_epoch": int(epoch), "to_epoch": int(epoch) + 1}
        return self._run(_ADVANCE, params).rowcount == 1

    def delete_pool(self, pool_uid: int) -> None:
        """Deletes a pool; foreign keys take its tables along, and its requests go with it."""
        self._run(_DELETE_REQUESTS, {"pool_uid": pool_uid})
        self._run(_DELETE_POOL, {"pool_uid": pool_uid})

    def update_pool(self, pool_uid: int, **changes: Any) -> None:
        """Sets fields of a pool. Raises TypeError for one that never changes."""
        if not changes:
            return
        if fixed := changes.keys() - PLAIN.keys():
            raise TypeError(f"fields of a pool that cannot be set: {sorted(fixed)}")
        values = {name: PLAIN[name](value) for name, value in changes.items()}
        self._run(_update_pool(tuple(sorted(changes))), {"of_pool": pool_uid, **values})

    def attributes(self, pool_uid: int) -> dict[str, str]:
        """Attribute names and kinds."""
        return dict(self._tuples(_ATTRIBUTES, {"pool_uid": pool_uid}))

    def add_attributes(self, pool_uid: int, kinds: Mapping[str, str]) -> None:
        """Records new attributes. Raises AssayError(CONFLICT) for one that is there."""
        rows = [{"pool_uid": pool_uid, "name": name, "kind": kind} for name, kind in kinds.items()]
        if rows:
            self._run(_ADD_ATTRIBUTES, rows)

    def segments(self, pool_uid: int) -> list[SegmentFile]:
        """Segment files by kind, space, first_row."""
        return [SegmentFile(*row) for row in self._tuples(_SEGMENTS, {"pool_uid": pool_uid})]

    def all_segment_files(self) -> set[str]:
        """Files of all segments and models."""
        return {file for (file,) in self._tuples(_ALL_FILES, {}) if file}

    def add_segments(self, pool_uid: int, files: Sequence[SegmentFile]) -> None:
        """Makes segment files part of the pool."""
        if files:
            self._run(_ADD_SEGMENTS, [_segment_values(pool_uid, file) for file in files])

    def remove_segments(self, pool_uid: int, files: Iterable[str]) -> None:
        """Forgets segment files."""
        rows = [{"of_pool": pool_uid, "of_file": file} for file in files]
        if rows:
            self._run(_REMOVE_SEGMENT, rows)


@cache
def _insert_pool(dialect: Dialect) -> Executable:
    return dialect.insert(pools).on_conflict_do_nothing(index_elements=["pool_id"]).returning(*pools.c)


@cache
def _update_pool(names: tuple[str, ...]) -> Executable:
    values: dict[str, Any] = {name: bindparam(name, type_=pools.c[name].type) for name in names}
    return update(pools).where(pools.c.uid == bindparam("of_pool")).values(values)


def _pool_values(pool: PoolRecord) -> dict[str, object]:
    return {
        "pool_id": pool.pool_id,
        "metric": pool.metric.value,
        "task": pool.task.to_json(),
        "keep_inputs": pool.keep_inputs,
        "create_time": pool.create_time,
        "epoch": pool.epoch,
        "dimension": pool.dimension,
        "space": pool.space,
        "backbone": pool.backbone,
        "head": pool.head,
        "search_index": pool.search_index,
        "next_fencing_token": pool.next_fencing_token,
        "next_row": pool.next_row,
        "next_space": pool.next_space,
        "next_event": pool.next_event,
        "annotations_per_sample": pool.annotations_per_sample,
        "policy": pool.policy.value,
        "metadata": dict(pool.metadata),
    }


def _pool_record(row: Row[Any]) -> PoolRecord:
    named = {"metric": Metric(row.metric), "task": TaskRecord.from_json(row.task), "policy": Policy(row.policy)}
    return PoolRecord(**{**row._asdict(), **named})


def _segment_values(pool_uid: int, file: SegmentFile) -> dict[str, object]:
    return {
        "pool_uid": pool_uid,
        "file": file.file,
        "kind": file.kind,
        "space": file.space,
        "first_row": int(file.first_row),
        "last_row": int(file.last_row),
        "count": int(file.count),
        "size": int(file.size),
        "checksum": file.checksum,
        "epoch": int(file.epoch),
        "rows": file.rows,
    }
