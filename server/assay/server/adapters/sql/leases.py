"""Leases and the rows they hold. That no worker has a row twice is the primary key of `lease_rows`."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Executable,
    Integer,
    Text,
    bindparam,
    delete,
    exists,
    insert,
    literal_column,
    select,
    tuple_,
    update,
)

from assay.server.adapters.sql.dialects import Dialect
from assay.server.adapters.sql.schema import lease_releases, lease_rows, leases
from assay.server.adapters.sql.session import Session
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.leases import LeaseRecord

_POOL = bindparam("of_pool", type_=BigInteger)
_LEASE = bindparam("of_lease", type_=Text)
_THIS = (leases.c.pool_uid == _POOL) & (leases.c.lease_id == _LEASE)
_ITS_ROWS = (lease_rows.c.pool_uid == _POOL) & (lease_rows.c.lease_id == _LEASE)
# Spelled out, not a parameter: the partial index is used only for the same words.
_LIVE = leases.c.state == literal_column("'live'")

_FIELDS = select(
    leases.c.lease_id,
    leases.c.worker,
    leases.c.fencing_token,
    leases.c.create_time,
    leases.c.expire_time,
    leases.c.state,
)
_LEASE_OF_ID = _FIELDS.where(_THIS)
_LIVE_LEASES = _FIELDS.where(leases.c.pool_uid == _POOL, _LIVE).order_by(leases.c.fencing_token)
_ROWS_OF_LEASE = select(lease_rows.c.row).where(_ITS_ROWS).order_by(lease_rows.c.row)
_ROWS_OF_POOL = (
    select(lease_rows.c.lease_id, lease_rows.c.row).where(lease_rows.c.pool_uid == _POOL).order_by(lease_rows.c.row)
)
_ADD_LEASE = insert(leases)
_RENEW = update(leases).where(_THIS, _LIVE).values(expire_time=bindparam("until"))
_EXPIRE = update(leases).where(_THIS, _LIVE).values(state="expired")
_FREE_ALL = delete(lease_rows).where(_ITS_ROWS)
_DONE_IF_EMPTY = update(leases).where(_THIS, _LIVE, ~exists().where(_ITS_ROWS)).values(state="done")


_ENDED_LONG_AGO = (
    select(leases.c.pool_uid, leases.c.lease_id)
    # Spelled out, as above.
    .where(leases.c.state != literal_column("'live'"), leases.c.create_time < bindparam("before"))
    .order_by(leases.c.create_time, leases.c.pool_uid, leases.c.lease_id)
    .limit(bindparam("limit", type_=Integer))
)
_FORGET_RELEASES = delete(lease_releases).where(
    tuple_(lease_releases.c.pool_uid, lease_releases.c.lease_id).in_(_ENDED_LONG_AGO)
)
_FORGET_LEASES = delete(leases).where(tuple_(leases.c.pool_uid, leases.c.lease_id).in_(_ENDED_LONG_AGO))


class LeasePart(Session):
    """The part of a transaction that keeps leases."""

    def add_lease(self, pool_uid: int, lease: LeaseRecord) -> None:
        """Stores a live lease on its rows; the transaction is lost if another live lease of its worker holds one."""
        try:
            self._run(_ADD_LEASE, _lease_values(pool_uid, lease))
            given = {**self._given(pool_uid, lease.lease_id, lease.rows), "by": lease.worker}
            self._run(_add_rows(self._dialect), given)
        except AssayError as error:
            if error.reason is not Reason.CONFLICT:
                raise
            raise AssayError(
                Reason.CONFLICT,
                "A sample of the lease was leased to the same worker meanwhile. Choose again.",
                worker=lease.worker,
            ) from error

    def lease(self, pool_uid: int, lease_id: str) -> LeaseRecord | None:
        """A lease with the rows it still holds."""
        params = {"of_pool": pool_uid, "of_lease": lease_id}
        found = self._tuples(_LEASE_OF_ID, params)
        if not found:
            return None
        return _record(found[0], [row for (row,) in self._tuples(_ROWS_OF_LEASE, params)])

    def live_leases(self, pool_uid: int) -> list[LeaseRecord]:
        """All live leases, ordered by fencing token."""
        params = {"of_pool": pool_uid}
        rows: defaultdict[str, list[int]] = defaultdict(list)
        for lease_id, row in self._tuples(_ROWS_OF_POOL, params):
            rows[lease_id].append(row)
        return [_record(fields, rows[fields[0]]) for fields in self._tuples(_LIVE_LEASES, params)]

    def renew_lease(self, pool_uid: int, lease_id: str, expire_time: float) -> None:
        """Moves the end of a live lease."""
        self._run(_RENEW, {"of_pool": pool_uid, "of_lease": lease_id, "until": expire_time})

    def drop_lease_rows(self, pool_uid: int, lease_id: str, rows: RowArray, reason: str) -> None:
        """Takes rows out of a lease, which is "done" when it holds none."""
        given = self._given(pool_uid, lease_id, rows.tolist())
        if reason:
            self._run(_keep_reason(self._dialect), {**given, "why": reason})
        self._run(_free_rows(self._dialect), given)
        self._run(_DONE_IF_EMPTY, {"of_pool": pool_uid, "of_lease": lease_id})

    def expire_lease(self, pool_uid: int, lease_id: str) -> None:
        """Ends a lease as "expired"; its rows are free."""
        params = {"of_pool": pool_uid, "of_lease": lease_id}
        self._run(_EXPIRE, params)
        self._run(_FREE_ALL, params)

    def forget_leases(self, before: float, limit: int) -> int:
        """Drops leases that were made before a time and have ended, with the reasons why rows left them."""
        params = {"before": before, "limit": limit}
        self._run(_FORGET_RELEASES, params)
        return self._run(_FORGET_LEASES, params).rowcount

    def _given(self, pool_uid: int, lease_id: str, rows: Sequence[int]) -> dict[str, Any]:
        return {"of_pool": pool_uid, "of_lease": lease_id, **self._dialect.rows(rows)}


def _record(fields: Sequence[Any], rows: Sequence[int]) -> LeaseRecord:
    return LeaseRecord(*(*fields, tuple(rows)))


@cache
def _add_rows(dialect: Dialect) -> Executable:
    source = select(_POOL, dialect.given_rows.subquery().c.row, bindparam("by", type_=Text), _LEASE)
    return insert(lease_rows).from_select(["pool_uid", "row", "worker", "lease_id"], source)


@cache
def _free_rows(dialect: Dialect) -> Executable:
    return delete(lease_rows).where(_ITS_ROWS, dialect.among(lease_rows.c.row))


@cache
def _keep_reason(dialect: Dialect) -> Executable:
    """The reason is kept for those of the given rows that the lease still holds."""
    held = select(lease_rows.c.pool_uid, lease_rows.c.lease_id, lease_rows.c.row, bindparam("why", type_=Text)).where(
        _ITS_ROWS, dialect.among(lease_rows.c.row)
    )
    return insert(lease_releases).from_select(["pool_uid", "lease_id", "row", "reason"], held)


def _lease_values(pool_uid: int, lease: LeaseRecord) -> dict[str, object]:
    return {
        "pool_uid": pool_uid,
        "lease_id": lease.lease_id,
        "worker": lease.worker,
        "fencing_token": int(lease.fencing_token),
        "create_time": lease.create_time,
        "expire_time": lease.expire_time,
        "state": "live",
    }
