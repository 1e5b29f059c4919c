"""Verdicts of reviewers: a value that settles a sample whatever the policy says, until it is taken back."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.labeling import annotating, history
from assay.server.core.labeling import standing as standings
from assay.server.core.labeling.annotating import Statement
from assay.server.core.labeling.messages import ReviewAction, ReviewResult, ReviewSpec
from assay.server.core.labeling.standing import Told
from assay.server.core.labeling.state import check_included
from assay.server.core.labeling.withdraw import withdraw_all
from assay.server.core.pools.labels import text_lengths
from assay.server.core.pools.pool import Change
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.values import checked
from assay.server.core.records.annotations import NO_EVENT, Blobs, EventKind, Values, alike, none_of
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.pools import State

Places = npt.NDArray[np.int64]


def values_of(snapshot: Snapshot, spec: ReviewSpec, rows: RowArray) -> Values:
    """The values that a reviewer states, as the log keeps them; none where it states none. Raises SampleError as
    Task.check_all."""
    stated = _places(spec, ReviewAction.VALUE)
    try:
        values = checked(
            snapshot.task, [spec.values[place] for place in stated.tolist()], text_lengths(snapshot, rows[stated])
        )
    except SampleError as error:
        raise error.moved(int(stated[error.row])).among(spec.sample_ids) from None
    return _spread(values, stated, len(rows))


def _places(spec: ReviewSpec, action: ReviewAction) -> Places:
    return np.array([place for place, each in enumerate(spec.actions) if each is action], np.int64)


def _spread(values: Values, places: Places, length: int) -> Values:
    """A longer column that has values at some places, and none elsewhere."""
    if isinstance(values, Blobs):
        column: list[bytes | None] = [None] * length
        for place, value in zip(places.tolist(), values.at(np.arange(len(values))), strict=True):
            column[place] = value
        return Blobs.of(column)
    classes = np.full(length, -1, np.int32)
    classes[places] = values
    return classes


def _merged(first: Values, second: Values) -> Values:
    """Of two columns of which each place has a value in one at most: both."""
    if isinstance(first, Blobs) and isinstance(second, Blobs):
        pairs = zip(first.at(np.arange(len(first))), second.at(np.arange(len(second))), strict=True)
        return Blobs.of([b if a is None else a for a, b in pairs])
    assert not isinstance(first, Blobs)
    assert not isinstance(second, Blobs)
    return np.where(first >= 0, first, second).astype(np.int32)


class Review:
    """One request's verdicts within one change.

    Args:
        change: the change that stores them.
        spec: what is decided; ids are checked already.
        ids: the ids of the samples, prepared.
        values: what `values_of` makes of it.
        now: seconds since the Unix epoch.
        read: reads what was said before.
    """

    def __init__(
        self, change: Change, spec: ReviewSpec, ids: Sequence[str], values: Values, now: float, read: history.Read
    ) -> None:
        self._change = change
        self._spec = spec
        self._now = now
        self._read = read
        self._rows = change.before.require(ids)
        self._values = values

    def apply(self) -> ReviewResult:
        """Checks what is decided and puts it into the snapshot to come, all or none.

        Raises:
            AssayError: SAMPLE_NOT_FOUND, SAMPLE_EXCLUDED; ANNOTATION_NOT_FOUND for an annotation to accept that does
                not stand or is of another sample, and where there is no verdict of the reviewer's to take back.
            Diverged: the log is not as the snapshot has it.
        """
        change, rows = self._change, self._rows
        check_included(change.before, rows)
        last_events = change.before.last_events.at(rows).astype(np.int64, copy=False)
        told = standings.told(self._read, last_events, classes=change.before.values is None)
        stands = standings.standing(told)
        accepted = self._accepted(stands)
        own = self._own_verdicts(stands)
        said = _merged(self._values, accepted)
        decides = np.array([each is not ReviewAction.REJECT for each in self._spec.actions], np.bool_)
        same = decides & (own >= 0) & alike(self._said_before(stands, own), said)
        same &= np.array([each is not ReviewAction.RETRACT for each in self._spec.actions], np.bool_)
        fresh = np.flatnonzero(decides & ~same)
        fresh = fresh[np.argsort(rows[fresh], kind="stable")]
        action = change.next_event
        if len(fresh):
            annotating.append(change, self._read, self._statement(fresh, own[fresh], said))
        rejected = np.sort(rows[~decides])
        reopened = self._reject(rejected, action) if len(rejected) else 0
        labeled = int((change.after.states.at(rows) == State.LABELED).sum())
        decided = len(fresh) + reopened
        return ReviewResult(decided, len(rows) - decided, labeled, change.epoch, change.next_event - 1)

    def _statement(self, places: Places, own: Places, said: Values) -> Statement:
        spec = self._spec
        retracts = np.array([spec.actions[place] is ReviewAction.RETRACT for place in places.tolist()], np.bool_)
        comments = [spec.comments[place] for place in places.tolist()] if spec.comments is not None else None
        return Statement(
            spec.worker,
            self._now,
            self._rows[places],
            np.where(retracts, np.uint8(EventKind.RETRACT), np.uint8(EventKind.VERDICT)),
            standings.take(said, places),
            supersedes_N=own,
            comments=None if comments is None else Blobs.of_texts(comments),
        )

    def _reject(self, rows: RowArray, action: int) -> int:
        comments = set(self._spec.comments or ())
        reason = comments.pop() if len(comments) == 1 else ""
        return int(withdraw_all(self._change, self._read, rows, self._spec.worker, reason, self._now, action).sum())

    def _accepted(self, stands: Told) -> Values:
        """What the annotations say that are accepted; none elsewhere."""
        places = _places(self._spec, ReviewAction.ACCEPT)
        values = none_of(self._values)
        if not len(places):
            return values
        numbers = np.array([self._spec.accepts[place] for place in places.tolist()], np.int64)
        order = np.argsort(stands.numbers_A)
        at = (
            order[np.minimum(np.searchsorted(stands.numbers_A, numbers, sorter=order), len(stands) - 1)]
            if len(stands)
            else np.full(len(places), -1)
        )
        found = at >= 0
        found[found] = (stands.numbers_A[at[found]] == numbers[found]) & (stands.chains_A[at[found]] == places[found])
        if not found.all():
            place = int(places[np.flatnonzero(~found)[0]])
            sample_id = self._spec.sample_ids[place]
            raise SampleError(
                Reason.ANNOTATION_NOT_FOUND,
                place,
                f"annotation {self._spec.accepts[place]} is none that stands of this sample: it was corrected or taken "
                "back, or is of another one. List the annotations of the sample, or state a value.",
                sample_id,
            )
        return _spread(standings.take(stands.values, at), places, len(self._rows))

    def _own_verdicts(self, stands: Told) -> Places:
        """The reviewer's standing verdict of each sample, -1 for none."""
        own = np.full(len(self._rows), NO_EVENT, np.int64)
        if self._spec.worker in stands.names:
            mine = stands.workers_A == stands.names.index(self._spec.worker)
            mine &= stands.kinds_A == EventKind.VERDICT
            own[stands.chains_A[mine]] = stands.numbers_A[mine]
        retracts = _places(self._spec, ReviewAction.RETRACT)
        missing = retracts[own[retracts] == NO_EVENT]
        if len(missing):
            place = int(missing[0])
            raise SampleError(
                Reason.ANNOTATION_NOT_FOUND,
                place,
                f"there is no verdict of {self._spec.worker!r} to take back. List the annotations of the sample, or "
                "leave it out.",
                self._spec.sample_ids[place],
            )
        return own

    def _said_before(self, stands: Told, own: Places) -> Values:
        """What the reviewer's own verdicts say."""
        mine = np.flatnonzero(np.isin(stands.numbers_A, own[own >= 0]))
        return _spread(standings.take(stands.values, mine), stands.chains_A[mine], len(self._rows))


def check_actions(spec: ReviewSpec) -> None:
    """Raises AssayError(INVALID_ARGUMENT) for a review that decides nothing."""
    if not spec.actions:
        raise AssayError(Reason.INVALID_ARGUMENT, "No reviews were given; give at least one.", field="reviews")
