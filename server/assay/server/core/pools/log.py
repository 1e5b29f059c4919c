"""What a pool's log of annotation events comes to: the last event of each row says what holds of it, so a log is read
as columns, and nothing is replayed."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.pools.row_sets import NO_ROWS, RowSet, WorkerRows, Workers
from assay.server.core.pools.values import ValueTable, codes_of
from assay.server.core.records.annotations import (
    NO_CLASS,
    NO_EVENT,
    SILENT,
    ByteArray,
    ClassArray,
    EventColumns,
    EventKind,
    NumberArray,
)
from assay.server.core.records.arrays import MaskArray, RowArray


@dataclass(frozen=True, slots=True)
class LogColumns:
    """What the events of a pool come to, by row: see the fields of a snapshot. `spoken`: rows of which something was
    said, skips aside, in the events from a number on."""

    labels_N: ClassArray
    answered_N: ByteArray
    last_events_N: NumberArray
    workers: Workers
    spoken: RowSet


def read_log(
    pieces: Iterable[EventColumns], row_count: int, values: ValueTable | None = None, spoken_from: int | None = None
) -> LogColumns:
    """What events come to, given in their order; `values` takes those labels that are no classes, `spoken_from` is the
    number from which on `spoken` is asked for.

    Raises AssayError(STORAGE_FAILED) for an event of a row that was never given out."""
    labels_N = np.full(row_count, NO_CLASS, np.int32)
    answered_N = np.zeros(row_count, np.uint8)
    last_events_N = np.full(row_count, NO_EVENT, np.int64)
    workers: defaultdict[str, WorkerRows] = defaultdict(WorkerRows)
    judged = spoken = NO_ROWS
    for piece in pieces:
        rows_N = piece.rows_N
        if int(rows_N.max()) >= row_count or int(rows_N.min()) < 0:
            raise AssayError(
                Reason.STORAGE_FAILED,
                f"The catalog is damaged: its annotation events speak of rows up to {int(rows_N.max())}, and rows up "
                f"to {row_count - 1} were given out. Restore the catalog from a backup.",
            )
        # Of several values for one place, numpy keeps the last.
        labels_N[rows_N] = codes_of(piece.labels, values)
        answered_N[rows_N] = piece.answered_N
        last_events_N[rows_N] = piece.numbers_N
        judged = judged.with_rows(rows_N[piece.kinds_N == EventKind.VERDICT])
        if spoken_from is not None and int(piece.numbers_N[-1]) >= spoken_from:
            says_N = (piece.numbers_N >= spoken_from) & ~np.isin(piece.kinds_N, SILENT)
            spoken = spoken.with_rows(rows_N[says_N])
        for worker, places in _by_worker(piece.workers).items():
            rows, kinds = _last_of_each(rows_N[places], piece.kinds_N[places])
            workers[worker] = workers[worker].after(rows, kinds)
    return LogColumns(labels_N, answered_N, last_events_N, Workers(dict(workers), judged), spoken)


def _by_worker(runs: Iterable[tuple[str, int]]) -> dict[str, NumberArray]:
    """Places of each worker's events among those of a piece."""
    places: defaultdict[str, list[NumberArray]] = defaultdict(list)
    start = 0
    for worker, count in runs:
        places[worker].append(np.arange(start, start + count))
        start += count
    return {worker: np.concatenate(found) for worker, found in places.items()}


def _last_of_each(rows: RowArray, kinds: ByteArray) -> tuple[RowArray, ByteArray]:
    """Each row with the last of its answers and withdrawals, and with the last of its skips and what takes them back:
    in that order they say the same as all together."""
    answers, withdrawals = np.isin(kinds, (EventKind.ANNOTATE, EventKind.CORRECT)), kinds == EventKind.WITHDRAW
    skips, resumes = kinds == EventKind.SKIP, kinds == EventKind.RESUME
    said, skipped = _last(rows, answers, withdrawals), _last(rows, skips, resumes)
    places = np.concatenate([said, skipped])
    return rows[places], kinds[places]


def _last(rows: RowArray, does: MaskArray, undoes: MaskArray) -> RowArray:
    """Places of the last events of each row, of those that do or undo something. Where nothing is undone, all of
    them: done twice is done."""
    places = np.flatnonzero(does | undoes)
    if not undoes.any():
        return places
    spoken = rows[places]
    last: RowArray = places[len(spoken) - 1 - np.unique(spoken[::-1], return_index=True)[1]]
    return last
