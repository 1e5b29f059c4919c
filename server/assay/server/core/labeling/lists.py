"""What was said of samples, and the labels that follow, page by page."""

from dataclasses import dataclass

import numpy as np

from assay.server.core.labeling import history
from assay.server.core.labeling import standing as standings
from assay.server.core.labeling.deriving import derive
from assay.server.core.labeling.messages import LabelView
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.values import shown
from assay.server.core.records.annotations import NO_CLASS, Blobs, EventBlock, EventKind, Values
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.pools import State
from assay.server.core.tasks.base import Task

VERDICT = "verdict"


def label_views(snapshot: Snapshot, read: history.Read, rows: RowArray) -> list[LabelView]:
    """The labels of rows of which something was said, less those whose samples are in a damaged file. Raises
    Diverged."""
    found = history.givers(read, snapshot.last_events.at(rows).astype(np.int64, copy=False))
    givers = [giver for giver in found if giver is not None]
    rows = rows[[giver is not None for giver in found]]
    described = {sample.row: sample for sample in snapshot.describe(rows, payload=False, attributes=False)}
    values = snapshot.label_values(rows)
    given = shown(snapshot.task, values)
    cells = cells_of(snapshot.task, values)
    classes = [NO_CLASS] * len(rows) if isinstance(values, Blobs) else values.tolist()
    answered = snapshot.answered.at(rows).tolist()
    measures = _measures(snapshot, read, rows, givers)
    return [
        LabelView(
            sample_id=sample.record.id,
            row=row,
            value=given[place],
            class_index=classes[place],
            cell=cells[place],
            state=sample.state,
            annotations=answered[place],
            agreement=float(measures.agreements_N[place]),
            confidence=float(measures.confidences_N[place]),
            decided_by=VERDICT if measures.verdicts_N[place] else snapshot.pool.policy.value,
            worker=giver.block.worker,
            create_time=giver.block.create_time,
            time=_said_at(giver.block, row),
            lease=giver.block.lease_id,
            uri=sample.record.uri,
        )
        for place, (row, giver) in enumerate(zip(rows.tolist(), givers, strict=True))
        if (sample := described.get(row)) is not None
    ]


def cells_of(task: Task, values: Values) -> list[object]:
    """Values as cells of an export, None for none."""
    said: list[object]
    column: list[object]
    if isinstance(values, Blobs):
        said = [None if each is None else task.decode(each) for each in values.at(np.arange(len(values)))]
    else:
        said = [None if each == NO_CLASS else each for each in values.tolist()]
    (column,) = task.export(said).values()
    return column


def _said_at(block: EventBlock, row: int) -> int:
    """When a block's event on a row was said."""
    return int(block.said_times_N[np.searchsorted(block.rows_N, row)])


@dataclass(frozen=True, slots=True, eq=False)
class _Measures:
    """How far annotations agree, how much stands behind the labels, and which of these are verdicts."""

    agreements_N: FloatArray
    confidences_N: FloatArray
    verdicts_N: MaskArray


def _measures(snapshot: Snapshot, read: history.Read, rows: RowArray, givers: list[history.Giver]) -> _Measures:
    agreements_N = np.array([_at(each.settled.agreements_after_N, each.position) for each in givers], np.float32)
    confidences_N = np.array([_at(each.settled.confidences_after_N, each.position) for each in givers], np.float32)
    answered_N = snapshot.answered.at(rows).astype(np.uint8, copy=False)
    unknown_N = np.isnan(agreements_N)
    alone_N = unknown_N & (answered_N == 1)
    agreements_N[alone_N] = confidences_N[alone_N] = 1
    verdicts_N = np.zeros(len(rows), np.bool_)
    # Where the newest counts, agreement is found when somebody asks for it.
    asked = np.flatnonzero((unknown_N & (answered_N > 1)) | snapshot.workers.judged.holds(rows))
    if len(asked):
        last_events = snapshot.last_events.at(rows[asked]).astype(np.int64, copy=False)
        classes = snapshot.values is None
        events = standings.standing(standings.told(read, last_events, classes=classes))
        derived = derive(snapshot.task, snapshot.pool.policy, events, snapshot.wanted(rows[asked]))
        if derived.agreements_N is not None and derived.confidences_N is not None:
            agreements_N[asked], confidences_N[asked] = derived.agreements_N, derived.confidences_N
        verdicts_N[asked[events.chains_A[events.kinds_A == EventKind.VERDICT]]] = True
    return _Measures(agreements_N, confidences_N, verdicts_N)


def _at(column: FloatArray | None, position: int) -> float:
    return float("nan") if column is None else float(column[position])


def class_of(snapshot: Snapshot, class_name: str) -> int:
    """Id of a class by its name, retired or not; -1 for "". Raises SampleError(UNKNOWN_CLASS | WRONG_TASK)."""
    return int(snapshot.task.check(class_name, retired=True)) if class_name else NO_CLASS


LABELED = (State.LABELED,)
