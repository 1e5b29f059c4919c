"""Stores what a worker says of samples, all or none."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.labeling import annotating, history
from assay.server.core.labeling.annotating import Statement
from assay.server.core.labeling.leases import check_in_lease, held_by, shrink
from assay.server.core.labeling.messages import AnnotateResult, AnnotateSpec, Details
from assay.server.core.labeling.offers import in_own_hands
from assay.server.core.labeling.state import check_included
from assay.server.core.pools.ingest import sample_leased
from assay.server.core.pools.labels import text_lengths
from assay.server.core.pools.pool import Change, rows_array
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.values import checked, shown
from assay.server.core.ports.machine import Clock
from assay.server.core.records.annotations import NO_EVENT, Blobs, EventKind, Values, alike
from assay.server.core.records.arrays import MaskArray, RowArray
from assay.server.core.records.leases import LeaseRecord
from assay.server.core.records.pools import State

Places = npt.NDArray[np.int64]
# The events of external ids, by id.
Known = Callable[[Sequence[str]], dict[str, int]]


def values_of(snapshot: Snapshot, spec: AnnotateSpec, rows: RowArray) -> Values:
    """What is said, as the log keeps it. Raises SampleError as Task.check_all."""
    try:
        return checked(snapshot.task, spec.values, text_lengths(snapshot, rows))
    except SampleError as error:
        raise error.among(spec.sample_ids) from None


class Annotation:
    """One request's annotations within one change.

    Args:
        change: the change that stores them.
        spec: what is said; ids and details are checked already.
        ids: the ids of the samples, prepared.
        values: what is said, as the log keeps it.
        clock: when it is.
        read: reads what was said before.
        known: finds events by their external ids.
    """

    def __init__(
        self,
        change: Change,
        spec: AnnotateSpec,
        ids: Sequence[str],
        values: Values,
        clock: Clock,
        read: history.Read,
        known: Known,
    ) -> None:
        self._change = change
        self._spec = spec
        self._values = values
        self._clock = clock
        self._read = read
        self._known = known
        self._rows = change.before.require(ids)
        self._dropped: list[tuple[str, RowArray]] = []
        self._freed: list[str] = []

    def apply(self) -> AnnotateResult:
        """Checks what is said and puts it into the snapshot to come.

        Raises:
            AssayError: SAMPLE_NOT_FOUND, SAMPLE_EXCLUDED; ANNOTATION_EXISTS for another value without `correct`;
                EXTERNAL_ID_EXISTS; LEASE_NOT_FOUND, LEASE_EXPIRED, LEASE_FOREIGN, LEASE_DONE; SAMPLE_LEASED for what
                comes from elsewhere.
            Diverged: the log is not as the snapshot has it.
        """
        rows = self._rows
        check_included(self._change.before, rows)
        own = self._own(rows)
        said = history.own_answers(self._read, self._last_events(rows, own), self._spec.worker, like=self._values)
        sent_before = self._sent_before(rows)
        same = own & alike(said.values, self._values)
        self._check_first(own & ~same & ~sent_before, said.values)
        unchanged = same | sent_before
        lease = self._lease_of(rows[~unchanged], own[~unchanged])
        fresh = np.flatnonzero(~unchanged)
        fresh = fresh[np.argsort(rows[fresh], kind="stable")]
        if lease is not None:
            self._take_from(lease, rows[fresh], own[fresh])
        if self._spec.on_behalf_of:
            self._end_own_leases(rows)
        if len(fresh):
            annotating.append(self._change, self._read, self._statement(fresh, own[fresh], said.numbers_N[fresh]))
        return self._result(len(fresh))

    def store(self) -> None:
        """Writes to the catalog what was applied."""
        uid = self._change.before.pool.uid
        for lease_id, rows in self._dropped:
            self._change.tx.drop_lease_rows(uid, lease_id, rows, "")
        if self._freed:
            self._change.tx.free_external_ids(uid, self._freed)

    def _result(self, stored: int) -> AnnotateResult:
        change = self._change
        left = change.after.leases.get(self._spec.lease)
        states = change.after.states.at(self._rows)
        return AnnotateResult(
            stored=stored,
            unchanged=len(self._rows) - stored,
            lease_remaining=len(left.rows) if left else 0,
            labeled=int((states == State.LABELED).sum()),
            disputed=int((states == State.DISPUTED).sum()),
            epoch=change.epoch,
            last_event=change.next_event - 1,
        )

    def _statement(self, fresh: Places, own: MaskArray, said: npt.NDArray[np.int64]) -> Statement:
        spec, details = self._spec, self._spec.details.take(fresh)
        return Statement(
            spec.worker,
            self._clock.now(),
            self._rows[fresh],
            np.where(own, np.uint8(EventKind.CORRECT), np.uint8(EventKind.ANNOTATE)),
            Blobs.of(self._values.at(fresh)) if isinstance(self._values, Blobs) else self._values[fresh],
            spec.lease,
            spec.origin,
            supersedes_N=said if own.any() else None,
            durations_N=details.durations_N,
            confidences_N=details.confidences_N,
            comments=None if details.comments is None else Blobs.of_texts(details.comments),
            external_ids=None if details.external_ids is None else Blobs.of_texts(details.external_ids),
            times_N=details.times_N,
        )

    def _own(self, rows: RowArray) -> MaskArray:
        """Which of the rows the worker has answered."""
        return self._change.before.workers.of(self._spec.worker).answered.holds(rows)

    def _last_events(self, rows: RowArray, which: MaskArray) -> RowArray:
        """The last event of some of the rows, -1 for the others."""
        return np.where(which, self._change.before.last_events.at(rows).astype(np.int64, copy=False), NO_EVENT)

    def _check_first(self, differs: MaskArray, said: Values) -> None:
        """Raises AssayError(ANNOTATION_EXISTS) if the worker said something else before, unless it is to correct."""
        if self._spec.correct or not differs.any():
            return
        place = np.flatnonzero(differs)[:1]
        sample_id, task = self._spec.sample_ids[int(place[0])], self._change.before.task
        before, now = (
            str(shown(task, Blobs.of(values.at(place)) if isinstance(values, Blobs) else values[place])[0])[:100]
            for values in (said, self._values)
        )
        raise AssayError(
            Reason.ANNOTATION_EXISTS,
            f"Row {int(place[0])} (id {sample_id!r}): worker {self._spec.worker!r} said {before!r} of it before, not "
            f"{now!r} ({int(differs.sum())} such samples). Annotate with correct to say something else, or withdraw "
            "the annotation.",
            id=sample_id,
            row=int(place[0]),
        )

    def _sent_before(self, rows: RowArray) -> MaskArray:
        """Which annotations are there already under the caller's own ids. Ids of those whose samples were deleted or
        replaced since are free.

        Raises:
            AssayError: EXTERNAL_ID_EXISTS for an id that stands for something else.
        """
        sent = np.zeros(len(rows), np.bool_)
        ids = self._spec.details.external_ids
        events = self._known([each for each in ids if each]) if ids is not None else {}
        if ids is None or not events:
            return sent
        numbers = np.array([events.get(each, NO_EVENT) for each in ids], np.int64)
        there = np.flatnonzero(numbers != NO_EVENT)
        found = history.events_at(self._read, numbers[there], like=self._values)
        gone = np.isin(self._change.before.states.at(found.rows_N), (State.DELETED, State.ABSENT))
        if gone.any():
            self._freed = [ids[place] for place in there[gone].tolist()]
            there = there[~gone]
            found = history.events_at(self._read, numbers[there], like=self._values)
        given = Blobs.of(self._values.at(there)) if isinstance(self._values, Blobs) else self._values[there]
        right = (found.rows_N == rows[there]) & alike(found.values, given)
        right &= np.array([worker == self._spec.worker for worker in found.workers], np.bool_)
        if not right.all():
            place = int(there[np.flatnonzero(~right)[0]])
            sample_id = self._spec.sample_ids[place]
            raise AssayError(
                Reason.EXTERNAL_ID_EXISTS,
                f"Row {place} (id {sample_id!r}): its external id {ids[place]!r} is that of another annotation, of "
                "another value, sample or worker. Give a correction an id of its own.",
                id=sample_id,
                row=place,
                external_id=ids[place],
            )
        sent[there] = True
        return sent

    def _lease_of(self, rows: RowArray, own: MaskArray) -> LeaseRecord | None:
        """The lease that annotations come under, None for those from elsewhere and where nothing is changed, so that a
        repeated one under a lease that is done by now succeeds."""
        before, spec = self._change.before, self._spec
        if spec.on_behalf_of:
            return None
        if not spec.lease:
            # Who corrects what it said takes nobody's place.
            leased = (before.states.at(rows) == State.LEASED) & ~own
            if (before.held.at(rows) != 0).any():
                # In its own hands, whatever the state.
                leased |= np.isin(rows, in_own_hands(before, spec.worker))
            if leased.any():
                raise sample_leased(before.ids(rows[leased][:1])[0], int(leased.sum()))
            return None
        if not len(rows):
            return None
        return held_by(self._change, self._clock.steady(), spec.lease, spec.fencing_token, spec.worker)

    def _take_from(self, lease: LeaseRecord, rows: RowArray, own: MaskArray) -> None:
        # What the worker has answered need not be in the lease any more: it is being corrected.
        holds = np.isin(rows, rows_array(lease.rows))
        check_in_lease(self._change.before, lease, rows[holds | ~own])
        # What is said of them next settles them.
        self._drop(lease, rows[holds], settle=False)

    def _end_own_leases(self, rows: RowArray) -> None:
        """Takes the rows out of leases of the worker: they need not be waited for any more."""
        for lease in list(self._change.before.leases.values()):
            if lease.worker != self._spec.worker:
                continue
            holds = rows[np.isin(rows, rows_array(lease.rows))]
            if len(holds):
                self._drop(lease, holds, settle=True)

    def _drop(self, lease: LeaseRecord, rows: RowArray, *, settle: bool) -> None:
        self._change.hold(rows, -1, settle=settle)
        shrink(self._change, lease, rows)
        self._dropped.append((lease.lease_id, rows))


def check_details(details: Details, sample_ids: Sequence[str]) -> None:
    """Raises SampleError(DUPLICATE_ID) for an external id that is there twice."""
    if details.external_ids is None:
        return
    seen: set[str] = set()
    for row, external_id in enumerate(details.external_ids):
        if external_id in seen:
            raise SampleError(
                Reason.DUPLICATE_ID,
                row,
                f"its external id {external_id!r} occurs twice in one request.",
                sample_ids[row],
            )
        if external_id:
            seen.add(external_id)
