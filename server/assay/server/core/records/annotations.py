"""Annotations: what people and models said of samples, as an append-only log of events. An event is never changed:
what is said later supersedes or withdraws it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray

# Numbers of events; -1 for none.
NumberArray = npt.NDArray[np.int64]
# Class ids; -1 for none.
ClassArray = npt.NDArray[np.int32]
ByteArray = npt.NDArray[np.uint8]

NO_EVENT = -1
NO_CLASS = -1


class EventKind(IntEnum):
    """What an event says. The numbers are stored.

    ANNOTATE: a worker's value for a sample. CORRECT: another value of the same worker, in place of the one before.
    WITHDRAW: the worker's value is taken back. SKIP: the worker does not want to say; it is not asked again. VERDICT: a
    reviewer's value, which settles the sample. RESOLVE: the server derived the label anew, by another policy. RETRACT:
    a verdict is taken back. RESUME: a skip is taken back; the worker may be asked again.
    """

    ANNOTATE = 0
    CORRECT = 1
    WITHDRAW = 2
    SKIP = 3
    VERDICT = 4
    RESOLVE = 5
    RETRACT = 6
    RESUME = 7


# They say nothing of a sample, only of who wants to be asked.
SILENT = (EventKind.SKIP, EventKind.RESUME)


class Origin(StrEnum):
    """Where events come from."""

    WORKER = "worker"
    IMPORT = "import"
    MODEL = "model"


class Policy(StrEnum):
    """How a sample's label follows from its standing annotations.

    LATEST: the newest value. MAJORITY: what most said. UNANIMOUS: what all said. WEIGHTED: what most said, everybody
    counted by estimated skill. REVIEWED: what a reviewer said.
    """

    LATEST = "latest"
    MAJORITY = "majority"
    UNANIMOUS = "unanimous"
    WEIGHTED = "weighted"
    REVIEWED = "reviewed"


@dataclass(frozen=True, slots=True, eq=False)
class Blobs:
    """Byte strings, one an event, end to end: a column of any length is two objects.

    Attributes:
        lengths_N: int64 bytes of each; -1 for none at all.
        data: all bytes.
    """

    lengths_N: npt.NDArray[np.int64]
    data: bytes

    @classmethod
    def of(cls, values: Sequence[bytes | None]) -> "Blobs":
        """The column of some values."""
        lengths = np.array([-1 if value is None else len(value) for value in values], np.int64)
        return cls(lengths, b"".join(value for value in values if value))

    @classmethod
    def of_texts(cls, values: Sequence[str]) -> "Blobs":
        """The column of some texts, in UTF-8."""
        return cls.of([value.encode() for value in values])

    def __len__(self) -> int:
        return len(self.lengths_N)

    def at(self, positions: npt.NDArray[np.int64]) -> list[bytes | None]:
        """Values at some positions."""
        stops = np.cumsum(np.maximum(self.lengths_N, 0))
        return [
            None
            if self.lengths_N[place] < 0
            else self.data[int(stops[place] - self.lengths_N[place]) : int(stops[place])]
            for place in positions.tolist()
        ]

    def texts(self, positions: npt.NDArray[np.int64]) -> list[str]:
        """Values at some positions as text, "" for none."""
        return [(value or b"").decode() for value in self.at(positions)]


# Values of events: class ids in a classification pool, else canonical bytes of the pool's task.
Values = ClassArray | Blobs


def alike(a: Values, b: Values) -> MaskArray:
    """Where two columns of one pool say the same, none for none among it."""
    if isinstance(a, Blobs) and isinstance(b, Blobs):
        places = np.arange(len(a))
        pairs = zip(a.at(places), b.at(places), strict=True)
        return np.fromiter((one == other for one, other in pairs), np.bool_, len(a))
    assert not isinstance(a, Blobs)
    assert not isinstance(b, Blobs)
    same: MaskArray = a == b
    return same


def none_of(values: Values) -> Values:
    """A column as long, with nothing said in it."""
    if isinstance(values, Blobs):
        return Blobs(np.full(len(values), -1, np.int64), b"")
    return np.full(len(values), NO_CLASS, np.int32)


@dataclass(frozen=True, eq=False)
class EventBlock:
    """The events of one request: on distinct rows, of one worker, at one time.

    Arrays have one entry an event; a column that is None says nothing of any. `*_after` is what holds of the row once
    the event has happened: whoever opens a pool needs the last event of each row and nothing else.

    Attributes:
        first_number: number of the first event; they count up from there, and are never given twice in a pool.
        worker: who said it.
        create_time: seconds since the Unix epoch.
        lease_id: lease that it was said under, "" for none.
        origin: where it comes from.
        rows_N: rows, distinct and ascending.
        kinds_N: EventKind of each.
        values: what was said; class -1, or no bytes, where an event has no value.
        labels_after: the label of the row, as `values`; None where the two are the same column.
        answered_after_N: workers with a standing annotation of the row, at most 255.
        previous_N: the event of the row before this one; -1 for none.
        supersedes_N: the event that it takes the place of, or withdraws; -1 for none.
        durations_N: milliseconds that the worker took; -1 where it is not known.
        confidences_N: how sure the worker is, 0 to 1; NaN where it did not say.
        comments: texts of the worker.
        external_ids: the caller's own ids of the events, unique in the pool.
        agreements_after_N, confidences_after_N: of the label, 0 to 1; NaN where there is none.
        times_N: microseconds since the Unix epoch at which each was said, where that was not create_time; -1 where it
            was.
        by: who did it in the worker's place, such as a reviewer who takes the worker's annotation back; "" for the
            worker.
        action: number of the first event of the request that it is of; -1 for first_number: most requests are one
            block.
        undoes: the action that it undoes; -1 for none.
    """

    first_number: int
    worker: str
    create_time: float
    lease_id: str
    origin: Origin
    rows_N: RowArray
    kinds_N: ByteArray
    values: Values | None
    answered_after_N: ByteArray
    previous_N: NumberArray
    labels_after: Values | None = None
    supersedes_N: NumberArray | None = None
    durations_N: npt.NDArray[np.int64] | None = None
    confidences_N: FloatArray | None = None
    comments: Blobs | None = None
    external_ids: Blobs | None = None
    agreements_after_N: FloatArray | None = None
    confidences_after_N: FloatArray | None = None
    times_N: npt.NDArray[np.int64] | None = None
    by: str = ""
    action: int = NO_EVENT
    undoes: int = NO_EVENT

    def __len__(self) -> int:
        return len(self.rows_N)

    @property
    def actor(self) -> str:
        """Who did it."""
        return self.by or self.worker

    @property
    def action_number(self) -> int:
        """Number of the first event of its request."""
        return self.first_number if self.action == NO_EVENT else self.action

    @cached_property
    def numbers_N(self) -> NumberArray:
        """Numbers of the events."""
        return np.arange(self.first_number, self.first_number + len(self), dtype=np.int64)

    @property
    def labels(self) -> Values | None:
        """The label of each row once the event has happened."""
        return self.values if self.labels_after is None else self.labels_after

    @cached_property
    def said_times_N(self) -> NumberArray:
        """Microseconds since the Unix epoch at which each was said."""
        stored = np.int64(round(self.create_time * 1_000_000))
        return np.full(len(self), stored) if self.times_N is None else np.where(self.times_N < 0, stored, self.times_N)


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """A block as the catalog stores it. Packing takes a moment: it is done before a transaction begins, in which others
    wait.

    Attributes:
        first_number, count, worker, create_time, lease_id, origin, actor: of the block.
        columns: the rest, in the catalog's own encoding.
        external_ids: number and external id of those that have one.
    """

    first_number: int
    count: int
    worker: str
    create_time: float
    lease_id: str
    origin: Origin
    columns: bytes
    actor: str
    external_ids: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class EventColumns:
    """Consecutive events of many blocks, with what opening a pool needs of them.

    Attributes:
        numbers_N: their numbers, ascending.
        rows_N, kinds_N, answered_N: see EventBlock.
        labels: the label of each row after the event.
        workers: (worker, events) of each run of events of one worker, in order.
    """

    numbers_N: NumberArray
    rows_N: RowArray
    kinds_N: ByteArray
    labels: Values
    answered_N: ByteArray
    workers: tuple[tuple[str, int], ...]
