"""Annotations that are taken back: by an event, never by deletion."""

from collections.abc import Sequence

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling import annotating, history
from assay.server.core.labeling import standing as standings
from assay.server.core.labeling.annotating import Statement
from assay.server.core.labeling.messages import WithdrawResult, WithdrawSpec
from assay.server.core.pools.pool import Change
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.records.annotations import NO_EVENT, EventKind
from assay.server.core.records.arrays import MaskArray, RowArray
from assay.server.core.records.pools import State


def withdraw(change: Change, read: history.Read, spec: WithdrawSpec, ids: Sequence[str], now: float) -> WithdrawResult:
    """Takes back what one annotator says of samples, all or none, in the snapshot to come. It is stated as that
    annotator, whoever does it.

    Raises:
        AssayError: SAMPLE_NOT_FOUND; ANNOTATION_NOT_FOUND where the annotator has no standing annotation.
        Diverged: the log is not as the snapshot has it.
    """
    before = change.before
    rows = np.sort(before.require(ids))
    annotator = spec.annotator or spec.worker
    stands = before.workers.of(annotator).answered.holds(rows)
    if not stands.all():
        raise _not_found(before, rows[~stands], annotator)
    last_events = before.last_events.at(rows).astype(np.int64, copy=False)
    said = history.own_answers(read, last_events, annotator, like=before.label_values(rows[:0]))
    annotating.append(
        change,
        read,
        Statement(
            annotator,
            now,
            rows,
            np.full(len(rows), EventKind.WITHDRAW, np.uint8),
            supersedes_N=said.numbers_N,
            comments=annotating.same(spec.reason, len(rows)),
            by=spec.worker,
        ),
    )
    labeled = int((change.after.states.at(rows) == State.LABELED).sum())
    return WithdrawResult(len(rows), labeled, change.epoch, change.next_event - 1)


def _not_found(snapshot: Snapshot, rows: RowArray, annotator: str) -> AssayError:
    sample_id = snapshot.ids(rows[:1])[0]
    others = "; others have: name them as the annotator" if snapshot.answered.at(rows[:1])[0] else ""
    return AssayError(
        Reason.ANNOTATION_NOT_FOUND,
        f"Worker {annotator!r} has no standing annotation of {len(rows)} of the samples, the first is {sample_id!r}"
        f"{others}. List the annotations of the sample, or leave it out.",
        id=sample_id,
        worker=annotator,
        count=len(rows),
    )


def withdraw_all(
    change: Change, read: history.Read, rows: RowArray, by: str, reason: str, now: float, action: int = NO_EVENT
) -> MaskArray:
    """Takes back all that stands of rows, verdicts too, in the snapshot to come: one block for each that said it.

    Args:
        rows: ascending.
        by: who does it.
        action: number of the first event of the request, if some came before; -1 for none.

    Returns:
        Of which rows something stood.

    Raises:
        Diverged: the log is not as the snapshot has it.
    """
    before = change.after
    last_events = before.last_events.at(rows).astype(np.int64, copy=False)
    told = standings.told(history.within(change, read), last_events, classes=before.values is None)
    stands = standings.standing(told)
    if action == NO_EVENT:
        action = change.next_event
    verdicts = stands.kinds_A == EventKind.VERDICT
    for verdict, kind in ((False, EventKind.WITHDRAW), (True, EventKind.RETRACT)):
        for worker, name in enumerate(stands.names):
            places = np.flatnonzero((stands.workers_A == worker) & (verdicts == verdict))
            if not len(places):
                continue
            annotating.append(
                change,
                read,
                Statement(
                    name,
                    now,
                    rows[stands.chains_A[places]],
                    np.full(len(places), kind, np.uint8),
                    supersedes_N=stands.numbers_A[places],
                    comments=annotating.same(reason, len(places)),
                    by=by,
                    action=action,
                ),
            )
    stood = np.zeros(len(rows), np.bool_)
    stood[stands.chains_A] = True
    return stood
