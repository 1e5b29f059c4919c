"""What all annotators of a pool said, side by side: for reports on them, and for labels by their skills."""

from dataclasses import dataclass

import numpy as np

from assay.server.core.labeling import standing as standings
from assay.server.core.labeling.policies import Floats, Ints
from assay.server.core.labeling.resolving import said_blocks
from assay.server.core.labeling.weighing import Annotations, Weighed, at, weigh
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.catalog import Catalog
from assay.server.core.records.annotations import Blobs, EventBlock, EventKind, Values
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.pools import State
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.base import Column, Task

# Of a second, in which durations are stored.
_MS = 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """The standing answers of a pool; reviewers' verdicts are none.

    Attributes:
        rows_N: rows that have one, ascending; sample n of `given` is rows_N[n].
        workers: who answered, by the numbers of `given`.
        given: the answers.
        seconds_A: how long each took; NaN where nobody said.
    """

    rows_N: RowArray
    workers: tuple[str, ...]
    given: Annotations
    seconds_A: Floats


def survey(catalog: Catalog, snapshot: Snapshot) -> Survey:
    """What stands of all that annotators said of samples that are there, in one pass over the log. Raises Interrupted:
    the work is to stop."""
    classes = snapshot.pool.task.kind is TaskKind.CLASSIFICATION
    states, answered = snapshot.states.array, snapshot.answered.array.astype(np.uint8, copy=False)
    rows_N = np.flatnonzero((answered > 0) & ~np.isin(states, (State.DELETED, State.ABSENT)))
    chain_of_row = np.full(snapshot.row_count, -1, np.int64)
    chain_of_row[rows_N] = np.arange(len(rows_N))
    parts: list[standings.Told] = []
    durations: list[tuple[Ints, Ints]] = []
    for block, known in said_blocks(catalog, snapshot):
        known = known[(chain_of_row[block.rows_N[known]] >= 0) & (block.kinds_N[known] != EventKind.VERDICT)]
        parts.append(standings.of_block(block, known, chain_of_row[block.rows_N[known]], classes=classes))
        durations.append((block.numbers_N[known], _durations(block, known)))
    stands = standings.standing(standings.together(parts, classes=classes))
    some, samples_A = np.unique(stands.chains_A, return_inverse=True)
    given = Annotations(
        samples_A, stands.workers_A, _column(snapshot.task, stands.values), len(some), len(stands.names)
    )
    return Survey(rows_N[some], stands.names, given, _seconds(stands.numbers_A, durations))


def part_of(found: Survey, rows: RowArray) -> Annotations:
    """The answers to some rows of a survey, ascending: sample n is rows[n]. Annotators keep their numbers."""
    number_N = np.full(len(found.rows_N), -1, np.int64)
    number_N[np.searchsorted(found.rows_N, rows)] = np.arange(len(rows))
    given = found.given
    places = np.flatnonzero(number_N[given.samples_A] >= 0)
    return Annotations(
        number_N[given.samples_A[places]], given.workers_A[places], at(given.values, places), len(rows), given.workers
    )


def _durations(block: EventBlock, known: RowArray) -> Ints:
    return np.full(len(known), -1, np.int64) if block.durations_N is None else block.durations_N[known]


def _seconds(numbers_A: Ints, durations: list[tuple[Ints, Ints]]) -> Floats:
    if not durations:
        return np.full(len(numbers_A), np.nan)
    numbers, milliseconds = (np.concatenate(part) for part in zip(*durations, strict=True))
    # Numbers grow from block to block.
    taken_A = milliseconds[np.searchsorted(numbers, numbers_A)]
    return np.where(taken_A < 0, np.nan, taken_A / _MS)


def _column(task: Task, values: Values) -> Column:
    if not isinstance(values, Blobs):
        return values
    return [None if one is None else task.decode(one) for one in values.at(np.arange(len(values)))]


def labels_of(snapshot: Snapshot, rows_N: RowArray) -> Column:
    """Labels of rows, with none where there is none."""
    codes_N = snapshot.labels.at(rows_N).astype(np.int32, copy=False)
    return codes_N if snapshot.values is None else _column(snapshot.task, snapshot.values.at(codes_N))


def compared(task: Task, found: Survey) -> tuple[Ints, Weighed] | None:
    """What `weigh` makes of the samples that several annotated, and which of the survey's samples these are; None where
    there is none: nobody can be judged then. The skill of who shares no sample with anybody is NaN.

    Raises:
        AssayError: TOO_LARGE, see `crowd.dawid_skene`.
        Interrupted: the work is to stop.
    """
    given = found.given
    shared_N = np.bincount(given.samples_A, minlength=given.samples) > 1
    samples = np.flatnonzero(shared_N)
    if len(samples) == 0:
        return None
    places = np.flatnonzero(shared_N[given.samples_A])
    number_N = np.cumsum(shared_N) - 1
    workers, workers_A = np.unique(given.workers_A[places], return_inverse=True)
    some = Annotations(
        number_N[given.samples_A[places]], workers_A, at(given.values, places), len(samples), len(workers)
    )
    weighed = weigh(task, some)
    skills_W = np.full(given.workers, np.nan)
    skills_W[workers] = weighed.skills_W
    return samples, Weighed(
        weighed.values,
        weighed.settled_N,
        weighed.confidence_N,
        weighed.agreement_N,
        skills_W,
        weighed.converged,
    )
