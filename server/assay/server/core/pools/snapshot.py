"""A pool at one moment: immutable, so that a reader is never blocked by, nor sees half of, a change."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import AssayError, Reason
from assay.server.core.pools.columns import RowColumn
from assay.server.core.pools.messages import DamagedFile, SampleView
from assay.server.core.pools.row_sets import Workers
from assay.server.core.pools.sources import Source
from assay.server.core.pools.splits import SET_APART, SPLIT, Splits
from assay.server.core.pools.suspects import Suspects
from assay.server.core.pools.values import ValueTable, shown
from assay.server.core.ports.models import Backbone
from assay.server.core.ports.search import SearchIndex
from assay.server.core.ports.segments import Overlay, SampleSegment, VectorSegment
from assay.server.core.records.annotations import NO_CLASS, NO_EVENT, ClassArray, Values
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.filters import Filter
from assay.server.core.records.leases import LeaseRecord
from assay.server.core.records.models import HeadWeights, ModelRecord
from assay.server.core.records.pools import LIVE_STATES, PoolRecord, State
from assay.server.core.tasks.base import Task
from assay.server.core.tasks.given import Given
from assay.strategies import checkpoint

# float32 values that are gathered between two looks at the stop.
GATHERED_VALUES = 1 << 22


@dataclass(frozen=True, slots=True)
class ActiveBackbone:
    """The backbone that embeds fresh inputs."""

    record: ModelRecord
    runtime: Backbone


@dataclass(frozen=True, slots=True)
class ActiveHead:
    """The head that gives the pool its probabilities."""

    record: ModelRecord
    weights: HeadWeights


@dataclass(frozen=True)
class Snapshot:
    """One epoch of a pool.

    Attributes:
        pool: its record.
        task: what its record's task is.
        attributes: kinds of its attributes by name.
        samples: open samples files, by first row.
        vectors: open vectors files of the active space, by first row.
        overlays: open overlays of samples, by epoch; those that are in the files already may be among them.
        states: State of each row.
        labels: the label of each row, -1 without one: a class id, or else the code of a value.
        values: values by code; None in a classification, where a code is a class id.
        answered: workers with a standing annotation of each row.
        held: live leases that hold each row.
        raised: answers that are wanted of a row, where they are more than the pool wants; else 0.
        last_events: the last annotation event of each row, -1 without one.
        leases: live leases by id.
        earliest_expiry: no lease ends before it.
        workers: what each worker annotated or declined.
        backbone, head: the current model.
        sources: named sources of predictions.
        damaged: files that cannot be served.
        suspects: what the last audit found, None before the first.
        splits: which samples are set apart; derived, and shared by all snapshots of the pool.
    """

    pool: PoolRecord
    task: Task
    attributes: Mapping[str, str]
    samples: tuple[SampleSegment, ...]
    vectors: tuple[VectorSegment, ...]
    states: RowColumn
    labels: RowColumn
    values: ValueTable | None
    answered: RowColumn
    held: RowColumn
    raised: RowColumn
    last_events: RowColumn
    leases: Mapping[str, LeaseRecord]
    earliest_expiry: float = -math.inf
    workers: Workers = field(default_factory=Workers)
    backbone: ActiveBackbone | None = None
    head: ActiveHead | None = None
    index: SearchIndex | None = None
    damaged: tuple[DamagedFile, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    suspects: Suspects | None = None
    splits: Splits = field(default_factory=Splits, compare=False, repr=False)

    @property
    def row_count(self) -> int:
        """Rows given out so far: every row is below it."""
        return self.states.length

    @cached_property
    def counts(self) -> dict[State, int]:
        """Number of rows in each state."""
        tally = np.bincount(self.states.array.astype(np.uint8, copy=False), minlength=len(State))
        return {state: int(tally[state]) for state in State}

    @property
    def live_count(self) -> int:
        """Number of samples that the pool serves."""
        return sum(self.counts[state] for state in LIVE_STATES)

    @property
    def index_lost(self) -> bool:
        """Whether the approximate index that was in service is not there any more, and the catalog still names it."""
        return self.index is None and bool(self.pool.search_index)

    @property
    def file_names(self) -> set[str]:
        """Files that it serves."""
        files = [s.file for s in self.samples] + [v.file for v in self.vectors] + [o.file for o in self.overlays]
        files += [each.file for source in self.sources.values() for each in source.files if each.opened is not None]
        return {file.file for file in files}

    def mask(self, states: Sequence[State], condition: Filter | None = None) -> MaskArray:
        """Rows in one of the states that match a filter. Shape [row_count]."""
        column = self.states.array
        # As bytes: an enum member would widen the whole column to its own type.
        mask: MaskArray = column == np.uint8(states[0])
        for state in states[1:]:
            mask |= column == np.uint8(state)
        return mask if condition is None else mask & self.matches(condition)

    def matches(self, condition: Filter) -> MaskArray:
        """Rows that match a filter, whatever their state. Shape [row_count]."""
        mask = np.zeros(self.row_count, np.bool_)
        for segment in self.samples:
            mask[segment.rows_N] = segment.matches(condition)
        return mask

    def in_hands(self, rows: RowArray) -> MaskArray:
        """Which of the rows some worker holds, of those that are served."""
        held: MaskArray = (self.held.at(rows) != 0) & np.isin(self.states.at(rows), LIVE_STATES)
        return held

    def wanted(self, rows: RowArray) -> npt.NDArray[np.uint8]:
        """Answers that are wanted of rows."""
        wanted = np.full(len(rows), self.pool.annotations_per_sample, np.uint8)
        if self.raised.touched:
            wanted = np.maximum(wanted, self.raised.at(rows).astype(np.uint8, copy=False))
        return wanted

    @property
    def overlaps(self) -> bool:
        """Whether a sample may be with several workers."""
        return self.pool.annotations_per_sample > 1 or self.raised.touched

    @property
    def engaged_rows(self) -> RowArray:
        """Rows that somebody holds or has answered, ascending: their states hang on how many answers are wanted."""
        return np.flatnonzero((self.held.array != 0) | (self.answered.array != 0))

    def answered_more_than(self, count: int) -> RowArray:
        """Rows of samples that are there, damaged ones too, with more answers than so many, and than a plan wanted of
        them; ascending."""
        answered_N = self.answered.array.astype(np.uint8, copy=False)
        rows = np.flatnonzero((answered_N > count) & (answered_N > self.raised.array.astype(np.uint8, copy=False)))
        return rows[~np.isin(self.states.at(rows), (State.DELETED, State.ABSENT))]

    @cached_property
    def labeled_rows(self) -> RowArray:
        """Rows with a label, ascending."""
        return np.flatnonzero(self.states.array == State.LABELED)

    def split_rows(self, split: str) -> RowArray:
        """Rows of a split that is set apart, "test" or "validation", ascending: heads are measured by them, never
        trained on them, and no plan picks them."""
        if self.attributes.get(SPLIT) != "string":
            return np.empty(0, np.int64)
        return np.sort(self.splits.rows(self.samples, split))

    @cached_property
    def set_apart(self) -> RowArray:
        """Rows of all splits that are set apart."""
        return np.concatenate([self.split_rows(split) for split in SET_APART])

    @property
    def measuring_rows(self) -> RowArray:
        """Rows with a label that are set apart: heads are measured by them."""
        rows: RowArray = self.set_apart[self.states.at(self.set_apart) == State.LABELED]
        return rows

    @cached_property
    def learned_rows(self) -> RowArray:
        """Rows with a label that heads are trained on: those that are not set apart; ascending."""
        if len(self.set_apart) == 0:
            return self.labeled_rows
        learned_N: MaskArray = self.states.array == np.uint8(State.LABELED)
        learned_N[self.set_apart] = False
        return np.flatnonzero(learned_N)

    def answered_after(
        self, after_row: int, limit: int, states: Sequence[State], class_id: int = NO_CLASS, worker: str = ""
    ) -> RowArray:
        """The first rows in some states, of those with a label or an annotation, after a row, ascending; those of a
        class, and those that a worker annotated, if they are given. A row in a damaged file has its label still."""
        found: list[RowArray] = []
        count, start = 0, after_row + 1
        while start < self.row_count and count < limit:
            now = self.states.rest_of_chunk(start)
            has = np.isin(now, states) & (self.last_events.rest_of_chunk(start) != NO_EVENT)
            if self.damaged and State.LABELED in states:
                labels = self.labels.rest_of_chunk(start).astype(np.int32, copy=False)
                has |= (now == np.uint8(State.DAMAGED)) & (labels >= 0)
            if class_id != NO_CLASS:
                has &= self.labels.rest_of_chunk(start) == class_id
            rows = start + np.flatnonzero(has)
            if worker:
                rows = rows[self.workers.of(worker).answered.holds(rows)]
            found.append(rows)
            count += len(rows)
            start += len(now)
        return np.concatenate(found)[:limit] if found else np.empty(0, np.int64)

    @cached_property
    def conditioned_rows(self) -> RowArray:
        """Rows that a selection takes for known: those that a head learns from, then those in somebody's hands, each
        ascending. What is set apart teaches nothing, so what is near to it is still worth a label."""
        return np.concatenate([self.learned_rows, np.flatnonzero(self.states.array == State.LEASED)])

    @cached_property
    def _first_vector_rows(self) -> npt.NDArray[np.int64]:
        return np.array([segment.file.first_row for segment in self.vectors], np.int64)

    @cached_property
    def _first_sample_rows(self) -> npt.NDArray[np.int64]:
        return np.array([segment.file.first_row for segment in self.samples], np.int64)

    def gather(self, rows: RowArray) -> FloatArray:
        """Embeddings of rows, in their order. Shape [len(rows), dimension]."""
        out = np.empty((len(rows), self.pool.dimension), np.float32)
        step = max(1, GATHERED_VALUES // max(self.pool.dimension, 1))
        for number, positions, places in _locate(self._first_vector_rows, self.vectors, rows):
            for start in range(0, len(positions), step):
                checkpoint()
                part = slice(start, start + step)
                out[positions[part]] = self.vectors[number].embeddings_ND[places[part]]
        return out

    def find(self, ids: Sequence[str]) -> RowArray:
        """Row of each id among the samples that the pool has, -1 for the others."""
        found = np.full(len(ids), -1, np.int64)
        for segment in self.samples:
            positions, rows = segment.find_all(ids)
            alive = np.isin(self.states.at(rows), (State.ABSENT, State.DELETED), invert=True)
            found[positions[alive]] = rows[alive]
        return found

    def require(self, ids: Sequence[str]) -> RowArray:
        """Row of each id. Raises AssayError(SAMPLE_NOT_FOUND), or SEGMENT_DAMAGED where a sample is in a damaged file
        or may have been."""
        rows = self.find(ids)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            raise self._not_found(ids[int(missing[0])], len(missing))
        damaged = np.flatnonzero(self.states.at(rows) == State.DAMAGED)
        if len(damaged):
            raise self._lost(ids[int(damaged[0])])
        return rows

    def _not_found(self, sample_id: str, count: int) -> AssayError:
        if any("/samples/" in damage.file for damage in self.damaged):
            return self._lost(sample_id)
        return AssayError(
            Reason.SAMPLE_NOT_FOUND,
            f"Pool {self.pool.pool_id!r} has no sample {sample_id!r} ({count} of the ids are unknown). "
            "List the samples, or add them first.",
            id=sample_id,
            missing=count,
        )

    def _lost(self, sample_id: str) -> AssayError:
        files = ", ".join(damage.file for damage in self.damaged)
        return AssayError(
            Reason.SEGMENT_DAMAGED,
            f"Sample {sample_id!r} cannot be read: damaged files of this pool are {files}. "
            "Restore them from a backup and restart, or add the samples again with on_conflict REPLACE.",
            id=sample_id,
            files=files,
        )

    def describe(self, rows: RowArray, *, payload: bool, attributes: bool = True) -> list[SampleView]:
        """What is known of rows, in their order, less those whose samples are in a damaged file."""
        views: list[SampleView | None] = [None] * len(rows)
        states, labels = self.states.at(rows), self._shown_labels(rows)
        for number, positions, places in _locate(self._first_sample_rows, self.samples, rows):
            records = self.samples[number].describe(places, payload=payload, attributes=attributes)
            for position, record in zip(positions.tolist(), records, strict=True):
                views[position] = SampleView(
                    row=int(rows[position]),
                    record=record,
                    state=State(int(states[position])),
                    label=labels[position],
                )
        return [view for view in views if view is not None]

    def label_values(self, rows: RowArray) -> Values:
        """The labels of rows, as the log keeps them."""
        codes_N: ClassArray = self.labels.at(rows).astype(np.int32, copy=False)
        return codes_N if self.values is None else self.values.at(codes_N)

    def _shown_labels(self, rows: RowArray) -> list[Given]:
        return shown(self.task, self.label_values(rows))

    def ids(self, rows: RowArray) -> list[str]:
        """Ids of rows, in their order."""
        ids = [""] * len(rows)
        for number, positions, places in _locate(self._first_sample_rows, self.samples, rows):
            for position, sample_id in zip(positions.tolist(), self.samples[number].ids(places), strict=True):
                ids[position] = sample_id
        return ids


def _locate(
    first_rows: npt.NDArray[np.int64], segments: Sequence[SampleSegment | VectorSegment], rows: RowArray
) -> Iterator[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """(segment number, positions in rows, places in the segment) for every segment that holds some of the rows; rows
    that none holds are left out."""
    numbers = np.searchsorted(first_rows, rows, side="right") - 1
    for number in np.unique(numbers[numbers >= 0]).tolist():
        positions = np.flatnonzero(numbers == number)
        held = segments[number].rows_N
        places = np.minimum(np.searchsorted(held, rows[positions]), len(held) - 1)
        found = held[places] == rows[positions]
        yield number, positions[found], places[found]
