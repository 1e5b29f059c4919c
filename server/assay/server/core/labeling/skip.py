"""Samples that a worker does not want to say anything of: it is not offered them again, others are."""

from collections.abc import Sequence

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling import annotating, history, offers
from assay.server.core.labeling.leases import check_in_lease, held_by, shrink
from assay.server.core.labeling.messages import SkipResult, SkipSpec
from assay.server.core.pools.ingest import sample_leased
from assay.server.core.pools.pool import Change, rows_array
from assay.server.core.ports.machine import Clock
from assay.server.core.records.arrays import MaskArray, RowArray


class Skip:
    """One request's skips within one change.

    Args:
        change: the change that stores them.
        spec: what is skipped; checked already.
        ids: the ids of the samples, prepared.
        clock: when it is.
        read: reads what was said before.
    """

    def __init__(self, change: Change, spec: SkipSpec, ids: Sequence[str], clock: Clock, read: history.Read) -> None:
        self._change = change
        self._spec = spec
        self._clock = clock
        self._read = read
        self._rows = np.sort(change.before.require(ids))
        self._dropped: RowArray = np.empty(0, np.int64)

    def apply(self) -> SkipResult:
        """Checks what is skipped and puts it into the snapshot to come.

        Raises:
            AssayError: SAMPLE_NOT_FOUND; ANNOTATION_EXISTS for a sample that the worker has answered; SAMPLE_LEASED for
                one that it holds under a lease that is not named; LEASE_NOT_FOUND, LEASE_EXPIRED, LEASE_FOREIGN,
                LEASE_DONE.
        """
        known = self._change.before.workers.of(self._spec.worker)
        self._check_unanswered(known.answered.holds(self._rows))
        fresh = ~known.declined.holds(self._rows)
        fresh |= self._leave_lease(fresh) if self._spec.lease else self._check_not_held()
        rows, spec = self._rows[fresh], self._spec
        if len(rows):
            skip = annotating.skip(spec.worker, self._clock.now(), rows, spec.lease, spec.reason)
            annotating.append(self._change, self._read, skip)
        left = self._change.after.leases.get(spec.lease)
        return SkipResult(
            skipped=len(rows),
            unchanged=len(self._rows) - len(rows),
            lease_remaining=len(left.rows) if left else 0,
            epoch=self._change.epoch,
            last_event=self._change.next_event - 1,
        )

    def store(self) -> None:
        """Writes to the catalog what was applied."""
        if len(self._dropped):
            uid = self._change.before.pool.uid
            self._change.tx.drop_lease_rows(uid, self._spec.lease, self._dropped, self._spec.reason)

    def _check_unanswered(self, answered: MaskArray) -> None:
        if answered.any():
            sample_id = self._change.before.ids(self._rows[answered][:1])[0]
            raise AssayError(
                Reason.ANNOTATION_EXISTS,
                f"Worker {self._spec.worker!r} has annotated {int(answered.sum())} of the samples, the first is "
                f"{sample_id!r}. Withdraw that first, or leave them out.",
                id=sample_id,
                worker=self._spec.worker,
            )

    def _leave_lease(self, fresh: MaskArray) -> MaskArray:
        """Takes the samples out of the lease that is named; which of them those are. Samples that were skipped before
        need not be in it any more."""
        spec, before = self._spec, self._change.before
        if not fresh.any() and spec.lease not in before.leases:
            return fresh
        lease = held_by(self._change, self._clock.steady(), spec.lease, spec.fencing_token, spec.worker)
        holds: MaskArray = np.isin(self._rows, rows_array(lease.rows))
        check_in_lease(before, lease, self._rows[holds | fresh])
        self._dropped = self._rows[holds]
        # What is said of them next settles them.
        self._change.hold(self._dropped, -1, settle=False)
        shrink(self._change, lease, self._dropped)
        return holds

    def _check_not_held(self) -> MaskArray:
        before = self._change.before
        held = np.isin(self._rows, offers.in_own_hands(before, self._spec.worker))
        if held.any():
            raise sample_leased(before.ids(self._rows[held][:1])[0], int(held.sum()))
        return held
