"""Leases: who holds which rows until when."""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling.messages import LeaseView
from assay.server.core.pools.pool import Change, Pool, rows_array
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.machine import Clock
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.changes import MOST_LISTED, LeaseAction, LeaseChanged, listed
from assay.server.core.records.leases import LeaseRecord


def view(snapshot: Snapshot, lease: LeaseRecord, clock: Clock) -> LeaseView:
    """A lease with the ids of its samples."""
    return LeaseView(lease, tuple(snapshot.ids(rows_array(lease.rows))), clock.shown(lease.expire_time))


def expire_due(pool: Pool, now: float) -> int:
    """Ends the leases whose time ran out and frees their samples; returns how many ended."""
    pool.mend()
    snapshot = pool.snapshot
    if now < snapshot.earliest_expiry or not any(lease.expire_time <= now for lease in snapshot.leases.values()):
        return 0
    with pool.change() as change:
        due = [lease for lease in change.before.leases.values() if lease.expire_time <= now]
        rows, leases = np.unique(rows_array([row for lease in due for row in lease.rows]), return_counts=True)
        change.hold(rows, -leases)
        ended = {lease.lease_id for lease in due}
        left = {k: lease for k, lease in change.before.leases.items() if k not in ended}
        change.replace(leases=left, earliest_expiry=earliest_expiry(left.values()))
        for lease in due:
            change.tell(LeaseChanged(LeaseAction.EXPIRED, lease.lease_id, lease.worker, len(lease.rows), _some(lease)))
        for lease_id in ended:
            change.tx.expire_lease(change.before.pool.uid, lease_id)
    return len(due)


def add(change: Change, lease: LeaseRecord, now: float) -> None:
    """Puts a lease, new or renewed, into the snapshot to come."""
    action = LeaseAction.RENEWED if lease.lease_id in change.before.leases else LeaseAction.GRANTED
    change.tell(LeaseChanged(action, lease.lease_id, lease.worker, len(lease.rows), _some(lease)))
    leases = {**change.before.leases, lease.lease_id: lease}
    bound = change.before.earliest_expiry
    if bound <= now:
        # The lease that the bound stood for has ended early.
        bound = earliest_expiry(leases.values())
    change.replace(leases=leases, earliest_expiry=min(bound, lease.expire_time))


def _some(lease: LeaseRecord) -> tuple[int, ...]:
    return lease.rows[:MOST_LISTED]


def earliest_expiry(leases: Iterable[LeaseRecord]) -> float:
    """When the first of the leases ends; never, if there is none."""
    return min((lease.expire_time for lease in leases), default=math.inf)


def held(change: Change, now: float, lease_id: str, fencing_token: int) -> LeaseRecord:
    """A live lease that the caller holds.

    Raises:
        AssayError: LEASE_NOT_FOUND, LEASE_FOREIGN (another token), LEASE_EXPIRED, LEASE_DONE (it holds nothing any
        more).
    """
    live = change.before.leases.get(lease_id)
    lease = live or change.tx.lease(change.before.pool.uid, lease_id)
    if lease is None:
        raise lease_not_found(lease_id)
    if lease.fencing_token != fencing_token:
        raise AssayError(
            Reason.LEASE_FOREIGN,
            f"The token {fencing_token} is not that of lease {lease_id!r}: it belongs to somebody else. "
            "Use the token that NextBatch gave with the lease.",
            lease=lease_id,
        )
    if lease.state == "expired" or (lease.state == "live" and lease.expire_time <= now):
        raise AssayError(
            Reason.LEASE_EXPIRED,
            f"Lease {lease_id!r} ended, and its samples may be with somebody else. Nothing was stored: annotate "
            "without a lease to keep what is said of samples that are still free, or take a new batch.",
            lease=lease_id,
        )
    if lease.state != "live":
        raise AssayError(
            Reason.LEASE_DONE,
            f"Lease {lease_id!r} holds no samples any more: all were annotated or released.",
            lease=lease_id,
        )
    return lease


def held_by(change: Change, now: float, lease_id: str, fencing_token: int, worker: str) -> LeaseRecord:
    """A live lease that this worker holds. Raises as held, and AssayError(LEASE_FOREIGN) for another worker's."""
    lease = held(change, now, lease_id, fencing_token)
    if lease.worker != worker:
        raise AssayError(
            Reason.LEASE_FOREIGN,
            f"Lease {lease.lease_id!r} belongs to worker {lease.worker!r}, not {worker!r}.",
            lease=lease.lease_id,
        )
    return lease


def check_in_lease(snapshot: Snapshot, lease: LeaseRecord, rows: RowArray) -> None:
    """Raises AssayError(LEASE_FOREIGN) if the lease does not hold all of the rows."""
    outside = rows[~np.isin(rows, rows_array(lease.rows))]
    if len(outside):
        sample_id = snapshot.ids(outside[:1])[0]
        raise AssayError(
            Reason.LEASE_FOREIGN,
            f"Lease {lease.lease_id!r} does not hold sample {sample_id!r} ({len(outside)} such samples).",
            lease=lease.lease_id,
            id=sample_id,
        )


def shrink(change: Change, lease: LeaseRecord, rows: RowArray) -> LeaseRecord:
    """The lease without some of its rows, in the snapshot to come too."""
    gone = set(rows.tolist())
    left = tuple(row for row in lease.rows if row not in gone)
    smaller = replace(lease, rows=left, state="live" if left else "done")
    action = LeaseAction.REDUCED if left else LeaseAction.DONE
    change.tell(LeaseChanged(action, lease.lease_id, lease.worker, len(rows), listed(rows)))
    others = {k: other for k, other in change.after.leases.items() if k != lease.lease_id}
    change.replace(leases={**others, lease.lease_id: smaller} if left else others)
    return smaller


def lease_not_found(lease_id: str) -> AssayError:
    """The error for a lease that never was."""
    return AssayError(Reason.LEASE_NOT_FOUND, f"There is no lease {lease_id!r} in this pool.", lease=lease_id)
