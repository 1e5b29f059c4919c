"""Who may be offered what: a sample is never twice with one worker, and never with who has answered or skipped it."""

import numpy as np

from assay.server.core.pools.pool import rows_array
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.records.arrays import RowArray


def withheld(snapshot: Snapshot, worker: str, *, declined_too: bool, with_answers: bool = False) -> RowArray | None:
    """Rows that a plan draws from but that are not offered to a worker, among others; None if there are none.

    Args:
        declined_too: what it gave back or skipped may be offered again.
        with_answers: the plan draws from samples that have all their answers, too.
    """
    known = snapshot.workers.of(worker)
    parts = [] if declined_too else [known.declined.array]
    if snapshot.overlaps or with_answers:
        # Elsewhere, what is answered or in hands is not open.
        parts += [known.answered.array, in_own_hands(snapshot, worker)]
    return np.concatenate(parts) if parts else None


def in_own_hands(snapshot: Snapshot, worker: str) -> RowArray:
    """Rows that a worker holds."""
    return rows_array([row for lease in snapshot.leases.values() if lease.worker == worker for row in lease.rows])
