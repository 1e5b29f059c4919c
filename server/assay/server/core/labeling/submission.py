"""Stores submitted labels, all or none."""

from collections.abc import Sequence

import numpy as np

from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.labeling import annotating, history
from assay.server.core.labeling.leases import check_in_lease, held, shrink
from assay.server.core.labeling.messages import SubmitResult, SubmitSpec
from assay.server.core.labeling.offers import in_own_hands
from assay.server.core.pools import checks as pool_checks
from assay.server.core.pools.ingest import sample_leased
from assay.server.core.pools.pool import Change, rows_array
from assay.server.core.ports.machine import Clock
from assay.server.core.records.annotations import NO_CLASS, ClassArray
from assay.server.core.records.arrays import MaskArray, RowArray
from assay.server.core.records.leases import LeaseRecord
from assay.server.core.records.pools import State


class Submission:
    """One request's labels within one change.

    Args:
        change: the change that stores them.
        spec: the labels; ids are checked already.
        ids: the ids of the labels, prepared.
        clock: when it is.
        read: reads what was said before.
    """

    def __init__(self, change: Change, spec: SubmitSpec, ids: Sequence[str], clock: Clock, read: history.Read) -> None:
        self._change = change
        self._spec = spec
        self._ids = ids
        self._clock = clock
        self._read = read
        self._rows: RowArray = np.empty(0, np.int64)
        self._taken: RowArray = np.empty(0, np.int64)

    def apply(self) -> SubmitResult:
        """Checks the labels and puts them into the snapshot to come.

        Raises:
            AssayError: SAMPLE_NOT_FOUND, UNKNOWN_CLASS; LABEL_EXISTS for another class without overwrite;
                LEASE_NOT_FOUND, LEASE_EXPIRED, LEASE_FOREIGN, LEASE_DONE; SAMPLE_LEASED for labels from elsewhere.
            Diverged: the log is not as the snapshot has it.
        """
        rows, classes = self._resolve()
        unchanged = self._already_so(rows, classes)
        lease = self._lease_of(rows[~unchanged], all_unchanged=bool(unchanged.all()))
        fresh = np.flatnonzero(~unchanged)
        fresh = fresh[np.argsort(rows[fresh], kind="stable")]
        self._rows, classes = rows[fresh], classes[fresh]
        if lease is not None:
            self._take_from(lease)
        if len(self._rows):
            self._annotate(classes)
        left = self._change.after.leases.get(self._spec.lease)
        return SubmitResult(
            stored=len(self._rows),
            unchanged=int(unchanged.sum()),
            lease_remaining=len(left.rows) if left else 0,
            epoch=self._change.epoch,
        )

    def store(self) -> None:
        """Writes to the catalog what was applied."""
        tx, uid = self._change.tx, self._change.before.pool.uid
        if len(self._taken):
            tx.drop_lease_rows(uid, self._spec.lease, self._taken, "")
        aside = self._rows[self._change.before.states.at(self._rows) == State.EXCLUDED]
        if len(aside):
            # A label is the later word on a sample: it is no longer set aside.
            tx.include_rows(uid, aside)

    def _annotate(self, classes: ClassArray) -> None:
        """Appends the annotations, and takes samples back that were set aside: a label is the later word on them."""
        change, rows, worker = self._change, self._rows, self._spec.worker
        change.include(rows[change.before.states.at(rows) == State.EXCLUDED])
        own = self._own(rows)
        said = history.own_answers(self._read, self._last_events(rows, own), worker)
        annotating.append(
            change,
            self._read,
            annotating.annotations(worker, self._clock.now(), rows, classes, own, said.numbers_N, self._spec.lease),
        )

    def _own(self, rows: RowArray) -> MaskArray:
        """Which of the rows the worker has answered."""
        return self._change.before.workers.of(self._spec.worker).answered.holds(rows)

    def _last_events(self, rows: RowArray, which: MaskArray) -> RowArray:
        """The last event of some of the rows, -1 for the others."""
        return np.where(which, self._change.before.last_events.at(rows).astype(np.int64, copy=False), -1)

    def _resolve(self) -> tuple[RowArray, ClassArray]:
        before = self._change.before
        names = [class_name for _, class_name in self._spec.labels]
        try:
            if "" in names:
                raise SampleError(Reason.UNKNOWN_CLASS, names.index(""), "it has no class: name one.", class_name="")
            classes = pool_checks.class_indices(names, before.pool)
        except SampleError as error:
            raise error.among(self._ids) from None
        return before.require(self._ids), classes

    def _already_so(self, rows: RowArray, classes: ClassArray) -> MaskArray:
        """What is stored already: as the label of a sample, or as the worker's answer where it has no label yet. What
        the worker's lease holds is an answer that is waited for, whatever the label. Raises AssayError(LABEL_EXISTS)
        for another class without overwrite."""
        before = self._change.before
        stored = before.labels.at(rows).astype(np.int32, copy=True)
        lease = before.leases.get(self._spec.lease)
        if lease is not None and lease.worker == self._spec.worker and before.overlaps:
            stored[np.isin(rows, rows_array(lease.rows))] = NO_CLASS
        open_own = self._own(rows) & (stored < 0)
        if open_own.any():
            said = history.own_answers(self._read, self._last_events(rows, open_own), self._spec.worker)
            stored[open_own] = said.classes_N[open_own]
        differs = (stored >= 0) & (stored != classes)
        if differs.any() and not self._spec.overwrite:
            position = int(np.flatnonzero(differs)[0])
            sample_id, class_name = self._spec.labels[position]
            raise AssayError(
                Reason.LABEL_EXISTS,
                f"Sample {sample_id!r} already has the label "
                f"{before.pool.class_names[int(stored[position])]!r}, not {class_name!r}. "
                "Submit with overwrite to replace it.",
                id=sample_id,
            )
        same: MaskArray = stored == classes
        return same

    def _lease_of(self, rows: RowArray, *, all_unchanged: bool) -> LeaseRecord | None:
        """The lease that the labels come under, None for labels from elsewhere and for labels that change nothing, so
        that a repeated submission under a lease that is done by now succeeds."""
        before = self._change.before
        if not self._spec.lease:
            leased = before.states.at(rows) == State.LEASED
            if before.overlaps:
                leased |= np.isin(rows, in_own_hands(before, self._spec.worker))
            if leased.any():
                raise sample_leased(before.ids(rows[leased][:1])[0], int(leased.sum()))
            return None
        if all_unchanged:
            return None
        lease = held(self._change, self._clock.steady(), self._spec.lease, self._spec.fencing_token)
        if lease.worker != self._spec.worker:
            raise AssayError(
                Reason.LEASE_FOREIGN,
                f"Lease {lease.lease_id!r} belongs to worker {lease.worker!r}, not {self._spec.worker!r}.",
                lease=lease.lease_id,
            )
        return lease

    def _take_from(self, lease: LeaseRecord) -> None:
        # What has a label, or the worker's answer, need not be in the lease any more: it is being replaced.
        known = (self._change.before.labels.at(self._rows) != NO_CLASS) | self._own(self._rows)
        holds = np.isin(self._rows, rows_array(lease.rows))
        check_in_lease(self._change.before, lease, self._rows[holds | ~known])
        self._taken = self._rows[holds]
        self._change.hold(self._taken, -1, settle=False)
        shrink(self._change, lease, self._taken)
