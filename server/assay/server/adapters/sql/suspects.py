"""What the last audit of each pool found: one row a pool, the suspects as columns behind a checksum."""

import logging
import struct
from functools import cache
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
import xxhash
from sqlalchemy import BigInteger, Executable, bindparam, select

from assay.server.adapters.sql.dialects import Dialect
from assay.server.adapters.sql.schema import suspects
from assay.server.adapters.sql.session import Session
from assay.server.core.records.suspects import Rating, SuspectRecord

log = logging.getLogger(__name__)

VERSION = 1
_HEAD = struct.Struct("<BQ")  # version, checksum of the rest
_TYPES = ("<u1", "<i8", "<f4", "<i4", "<i8", "<f4", "<f8")
_COLUMNS = ("create_time", "epoch", "next_event", "columns")
_POOL = bindparam("of_pool", type_=BigInteger)
_FIND = select(*(suspects.c[name] for name in _COLUMNS)).where(suspects.c.pool_uid == _POOL)


class SuspectPart(Session):
    """The part of a transaction that keeps what audits found."""

    def put_suspects(self, pool_uid: int, record: SuspectRecord) -> None:
        """Stores what an audit found, in place of what the one before did."""
        self._run(
            _put(self._dialect),
            {
                "pool_uid": pool_uid,
                "create_time": record.create_time,
                "epoch": record.epoch,
                "next_event": record.next_event,
                "columns": pack(record),
            },
        )

    def suspects(self, pool_uid: int) -> SuspectRecord | None:
        """What the last audit found; None where there was none, or where it cannot be read: another audit finds it
        again."""
        found = self._run(_FIND, {"of_pool": pool_uid}).first()
        if found is None:
            return None
        try:
            return unpack(found.create_time, found.epoch, found.next_event, found.columns)
        except ValueError as error:
            log.error("what the last audit of pool %d found cannot be read, %s: audit it again", pool_uid, error)
            return None


def pack(record: SuspectRecord) -> bytes:
    """Suspects as the catalog stores them."""
    rating = record.rating
    columns: tuple[npt.NDArray[Any], ...] = (
        record.kinds_M,
        record.rows_M,
        record.scores_M,
        record.suggested_M,
        rating.rows_R,
        rating.worth_R,
        np.array([rating.model_weight, rating.annotator_weight, rating.temperature]),
    )
    plain = [column.astype(kind).tobytes() for column, kind in zip(columns, _TYPES, strict=True)]
    body: bytes = msgpack.packb(plain)
    return _HEAD.pack(VERSION, xxhash.xxh3_64_intdigest(body)) + body


def unpack(create_time: float, epoch: int, next_event: int, blob: bytes) -> SuspectRecord:
    """Inverse of pack. Raises ValueError for what it did not write."""
    if len(blob) < _HEAD.size:
        raise ValueError("it is cut off")
    version, checksum = _HEAD.unpack_from(blob)
    body = memoryview(blob)[_HEAD.size :]
    if version != VERSION or xxhash.xxh3_64_intdigest(body) != checksum:
        raise ValueError("its checksum or version is another")
    columns = msgpack.unpackb(body, max_bin_len=len(blob))
    given = [np.frombuffer(column, kind) for column, kind in zip(columns, _TYPES, strict=True)]
    kinds, rows, scores, suggested, rated, worth, weights = given
    return SuspectRecord(
        create_time,
        epoch,
        next_event,
        kinds.astype(np.uint8),
        rows.astype(np.int64),
        scores.astype(np.float32),
        suggested.astype(np.int32),
        Rating(rated.astype(np.int64), worth.astype(np.float32), *weights.tolist()),
    )


@cache
def _put(dialect: Dialect) -> Executable:
    statement = dialect.insert(suspects)
    new = {name: statement.excluded[name] for name in _COLUMNS}
    return statement.on_conflict_do_update(index_elements=["pool_uid"], set_=new)
