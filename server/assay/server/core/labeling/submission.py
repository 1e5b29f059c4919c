"""Stores submitted labels, all or none."""

from collections.abc import Sequence

import numpy as np

from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.labeling import events, history
from assay.server.core.labeling.leases import check_in_lease, held, shrink
from assay.server.core.labeling.messages import SubmitResult, SubmitSpec
from assay.server.core.pools import checks as pool_checks
from assay.server.core.pools.ingest import sample_leased
from assay.server.core.pools.pool import Change
from assay.server.core.ports.machine import Clock
from assay.server.core.records.annotations import NO_EVENT, ClassArray, EventKind
from assay.server.core.records.arrays import MaskArray, RowArray
from assay.server.core.records.leases import LeaseRecord
from assay.server.core.records.pools import State

# What a byte holds: nobody wants so many answers of one sample.
MOST_ANSWERS = 255


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
            LEASE_NOT_FOUND,
                LEASE_EXPIRED, LEASE_FOREIGN, LEASE_DONE; SAMPLE_LEASED for labels from elsewhere.
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
        own = change.before.workers.of(worker).answered.holds(rows)
        superseded = np.full(len(rows), NO_EVENT, np.int64)
        if own.any():
            last_events = change.before.last_events.at(rows[own]).astype(np.int64, copy=False)
            superseded[own] = history.own_answers(self._read, last_events, worker)
        answered = change.before.answered.at(rows).astype(np.int64) + ~own
        events.said(
            change,
            worker,
            self._clock.now(),
            self._spec.lease,
            rows,
            np.where(own, np.uint8(EventKind.CORRECT), np.uint8(EventKind.ANNOTATE)),
            classes,
            np.minimum(answered, MOST_ANSWERS).astype(np.uint8),
            supersedes_N=superseded if own.any() else None,
        )

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
        """Labels that are stored already. Raises AssayError(LABEL_EXISTS) for another class without overwrite."""
        stored = self._change.before.labels.at(rows).astype(np.int32, copy=False)
        differs = (stored >= 0) & (stored != classes)
        if differs.any() and not self._spec.overwrite:
            position = int(np.flatnonzero(differs)[0])
            sample_id, class_name = self._spec.labels[position]
            raise AssayError(
                Reason.LABEL_EXISTS,
                f"Sample {sample_id!r} already has the label "
                f"{self._change.before.pool.class_names[int(stored[position])]!r}, not {class_name!r}. "
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
            leased = np.flatnonzero(before.states.at(rows) == State.LEASED)
            if len(leased):
                raise sample_leased(before.ids(rows[leased[:1]])[0], len(leased))
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
        # A label that replaces one of the same request's lease is no longer in the lease: only unlabeled rows are.
        self._taken = self._rows[self._change.before.states.at(self._rows) != State.LABELED]
        check_in_lease(self._change.before, lease, self._taken)
        self._change.hold(self._taken, -1)
        shrink(self._change, lease, self._taken)
