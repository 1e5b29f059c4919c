"""The one way in which anything is said of samples: what holds of them afterwards is derived, and both are appended to
the log together."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.server.core.labeling import history
from assay.server.core.labeling import standing as standings
from assay.server.core.labeling.deriving import Derived, derive, resolved, unsettled
from assay.server.core.labeling.history import Read
from assay.server.core.pools.pool import Change
from assay.server.core.records.annotations import (
    NO_CLASS,
    NO_EVENT,
    Blobs,
    ByteArray,
    EventBlock,
    EventKind,
    NumberArray,
    Origin,
    Policy,
    Values,
)
from assay.server.core.records.arrays import FloatArray, RowArray
from assay.server.core.records.tasks import TaskKind

# What a byte holds: nobody wants so many answers of one sample.
MOST_ANSWERS = 255


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """What one worker says of some samples at one time; checked already. See EventBlock for the columns."""

    worker: str
    create_time: float
    rows_N: RowArray
    kinds_N: ByteArray
    values: Values | None = None
    lease_id: str = ""
    origin: Origin = Origin.WORKER
    supersedes_N: NumberArray | None = None
    durations_N: npt.NDArray[np.int64] | None = None
    confidences_N: FloatArray | None = None
    comments: Blobs | None = None
    external_ids: Blobs | None = None
    times_N: NumberArray | None = None
    by: str = ""
    action: int = NO_EVENT
    undoes: int = NO_EVENT


def skip(worker: str, create_time: float, rows_N: RowArray, lease_id: str, reason: str) -> Statement:
    """That a worker does not want to say anything of rows."""
    kinds_N = np.full(len(rows_N), EventKind.SKIP, np.uint8)
    return Statement(worker, create_time, rows_N, kinds_N, lease_id=lease_id, comments=same(reason, len(rows_N)))


def same(text: str, count: int) -> Blobs | None:
    """A column of the same text; None for none at all."""
    return Blobs.of_texts([text] * count) if text else None


def append(change: Change, read: Read, statement: Statement) -> None:
    """Appends what somebody says, and what follows from it, to the snapshot and the log to come.

    Args:
        change: the change that it is part of; its transaction has not begun.
        read: reads the log as the catalog has it.
        statement: on distinct, ascending rows; `supersedes_N` says what a correction or a withdrawal is of.

    Raises:
        Diverged: the log is not as the snapshot has it.
    """
    rows_N, after = statement.rows_N, change.after
    answered_N = _answered(change, statement)
    derived = _derive(change, history.within(change, read), statement, answered_N)
    change.append(
        EventBlock(
            change.next_event,
            statement.worker,
            statement.create_time,
            statement.lease_id,
            statement.origin,
            rows_N=rows_N,
            kinds_N=statement.kinds_N,
            values=statement.values,
            labels_after=derived.labels,
            answered_after_N=answered_N,
            previous_N=after.last_events.at(rows_N).astype(np.int64, copy=False),
            supersedes_N=statement.supersedes_N,
            durations_N=statement.durations_N,
            confidences_N=statement.confidences_N,
            comments=statement.comments,
            external_ids=statement.external_ids,
            times_N=statement.times_N,
            agreements_after_N=derived.agreements_N,
            confidences_after_N=derived.confidences_N,
            by=statement.by if statement.by != statement.worker else "",
            action=statement.action,
            undoes=statement.undoes,
        )
    )


def _answered(change: Change, statement: Statement) -> ByteArray:
    """Workers with a standing answer of each row, afterwards."""
    rows_N, kinds_N = statement.rows_N, statement.kinds_N
    own_N = change.after.workers.of(statement.worker).answered.holds(rows_N)
    before_N = change.after.answered.at(rows_N).astype(np.int64)
    more_N = (np.isin(kinds_N, (EventKind.ANNOTATE, EventKind.CORRECT)) & ~own_N).astype(np.int64)
    fewer_N = (kinds_N == EventKind.WITHDRAW) & own_N
    answered_N: ByteArray = np.clip(before_N + more_N - fewer_N, 0, MOST_ANSWERS).astype(np.uint8)
    return answered_N


def _derive(change: Change, read: Read, statement: Statement, answered_N: ByteArray) -> Derived:
    """What the labels of the rows are, afterwards."""
    rows_N, kinds_N, after = statement.rows_N, statement.kinds_N, change.after
    if np.isin(kinds_N, history.SILENT).all():
        return Derived(after.label_values(rows_N))
    wanted_N = after.wanted(rows_N)
    # What an undo brings back is as old as it was, and need not be the newest.
    news_only = statement.undoes == NO_EVENT and np.isin(kinds_N, (EventKind.ANNOTATE, EventKind.CORRECT)).all()
    if after.pool.policy is Policy.LATEST and news_only and not after.workers.judged.holds(rows_N).any():
        # The label is what is said now: nothing of what was said before needs to be read.
        assert statement.values is not None
        return Derived(unsettled(resolved(after.task, statement.values), answered_N < wanted_N))
    classes = after.pool.task.kind is TaskKind.CLASSIFICATION
    before = standings.told(read, after.last_events.at(rows_N).astype(np.int64, copy=False), classes=classes)
    events = standings.together([before, _as_told(change, statement, classes=classes)], classes=classes)
    return derive(after.task, after.pool.policy, standings.standing(events), wanted_N)


def _as_told(change: Change, statement: Statement, *, classes: bool) -> standings.Told:
    """What is said now, as events."""
    count = len(statement.rows_N)
    places = np.arange(count)
    none = np.full(count, -1, np.int64)
    no_values: Values = np.full(count, NO_CLASS, np.int32) if classes else Blobs(none, b"")
    return standings.Told(
        places,
        change.next_event + places,
        statement.kinds_N,
        none if statement.supersedes_N is None else statement.supersedes_N,
        np.zeros(count, np.int64),
        (statement.worker,),
        no_values if statement.values is None else statement.values,
        np.full(count, statement.undoes != NO_EVENT),
    )
