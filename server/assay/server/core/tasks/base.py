"""The protocol that every task fulfils, and the values that pass through it.

A value is immutable, hashable and plain: an int, a sorted tuple of ints, a tuple of floats, a tuple of Box or Span, or
canonical JSON text. Values name classes by id and keep what was said: where a class was merged into another since,
`Task.resolve` follows.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import Reason, SampleError
from assay.server.core.records.arrays import Scalar
from assay.server.core.records.tasks import TaskRecord
from assay.server.core.tasks.given import FORMS, Given
from assay.strategies.interrupt import checkpoint

# What a value is depends on the task; only its own module looks inside.
Value = Any
# Values of many samples: int32 class ids for classification, -1 for none; else a sequence of values, None for none.
Column = Sequence[Any] | npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with a class.

    Attributes:
        class_id: what it shows.
        x, y: its upper left corner; w, h: its size, all as shares of the image's width and height.
        score: how sure who drew it was, in [0, 1]; None where nobody said.
        attributes: further facts by name, ascending.
    """

    class_id: int
    x: float
    y: float
    w: float
    h: float
    score: float | None = None
    attributes: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of text with a class: characters start to end - 1, counted in Unicode code points."""

    class_id: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Consensus:
    """What several values of one sample say together.

    Attributes:
        value: what most of the weight stands behind; None where they are undecided.
        confidence: share of the weight that stands behind it, or behind what came nearest where value is None. Of a
            value of many parts (labels, objects), the mean over what anybody said of the weight on the winning side.
        agreement: mean agreement of the values with each other, in [0, 1]; 1 for a single one.
    """

    value: Value | None
    confidence: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Ballot:
    """What a column of values says of one question that has fixed answers, for models of annotators.

    Attributes:
        answers: int64 ids of the answers: class ids, -1 for "none of it".
        codes_N: int64, for each value the place of its answer among them.
    """

    answers: npt.NDArray[np.int64]
    codes_N: npt.NDArray[np.int64]


class PredictionForm(StrEnum):
    """What a model says of a sample."""

    PROBABILITIES = "probabilities"  # float32 [N, C], rows sum to 1
    LABEL_PROBABILITIES = "label_probabilities"  # float32 [N, C], each column for itself
    NUMBERS = "numbers"  # float32 [N, T]
    OBJECTS = "objects"  # any number of objects a sample, each with float32 [C] probabilities


@dataclass(frozen=True, slots=True)
class PredictionShape:
    """The form of a task's predictions, and how many columns they have: all classes ever, or the targets."""

    form: PredictionForm
    columns: int


@dataclass(frozen=True, slots=True)
class Score:
    """A measure over held-out samples with its 95 % interval (percentile bootstrap over the samples)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassScores:
    """What a model is worth for one class, or one target of a regression.

    Attributes:
        name: of the class or the target.
        samples: how many held-out samples, or objects, have the class; of a target, all.
        scores: measure by name; None where it is undefined, such as the precision of a class that is never predicted.
    """

    name: str
    samples: int
    scores: Mapping[str, Score | None]


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """What a model is worth on held-out samples.

    Attributes:
        samples: how many were held out.
        scores: measure by name; every one is None where nothing is held out.
        classes: the same per class that occurs or was predicted, by id, or per target.
        confusion_CC: int64 counts [said class id, predicted class id], for classification; else None.
    """

    samples: int
    scores: Mapping[str, Score | None]
    classes: tuple[ClassScores, ...] = ()
    confusion_CC: npt.NDArray[np.int64] | None = None


class Refused(Exception):
    """A value that a task refuses, before its place in the request is known."""

    def __init__(self, reason: Reason, problem: str, **facts: object) -> None:
        super().__init__(problem)
        self.reason = reason
        self.problem = problem
        self.facts = facts

    def at(self, row: int) -> SampleError:
        """The error that the caller is told: of the sample at this place of the request."""
        return SampleError(self.reason, row, self.problem, "", **self.facts)


class Task(Protocol):
    """The task of a pool: made of its record by `registry.task_of`, immutable, safe to share between threads."""

    @property
    def record(self) -> TaskRecord: ...

    # --- one value

    def check(self, given: Given, row: int = 0, text_length: int | None = None, retired: bool = False) -> Value:
        """The value that a caller means.

        Args:
            given: as the caller gave it.
            row: place of the sample in its request, for the error.
            text_length: characters of the sample's text where known; spans must lie within.
            retired: classes that are retired are taken too: what comes in was said before.

        Raises:
            SampleError: WRONG_TASK, UNKNOWN_CLASS, CLASS_RETIRED, NOT_FINITE, TOO_LARGE or INVALID_VALUE.
        """

    def encode(self, value: Value) -> bytes:
        """The value as canonical bytes: equal values, and only they, give equal bytes."""

    def decode(self, data: bytes) -> Value:
        """The value that `encode` gave. Raises ValueError for other bytes."""

    def resolve(self, value: Value) -> Value:
        """The value with every merged class replaced by what it is counted as."""

    def equal(self, a: Value, b: Value) -> bool:
        """Whether exactly the same was said."""

    def agreement(self, a: Value, b: Value) -> float:
        """How far two resolved values mean the same, in [0, 1]; symmetric, and 1 for equal ones."""

    # --- several of one sample

    def consensus(self, values: Sequence[Value], weights: Sequence[float] | None = None) -> Consensus:
        """What they say together, after merges.

        Args:
            values: one or more.
            weights: how much each counts, finite and >= 0, not all 0; None counts all alike.

        Raises:
            ValueError: no values, or no weights that count.
        """

    # --- a column of them

    def check_all(
        self, given: Sequence[Given], text_lengths: Sequence[int | None] | None = None, retired: bool = False
    ) -> Column:
        """The values of a request: an int32 array [N] for classification, else a list. Raises as `check` does, for the
        first that is wrong."""

    @property
    def choices(self) -> int:
        """Between how many answers one vote decides: the classes in use where an answer is one class, else 2, since a
        label, a box or a number is right or not."""

    def ballots(self, values: Column) -> Iterator[Ballot] | None:
        """The questions with fixed answers that the values answer, after merges: which class; or for each class that
        anybody named, whether it applies. None for tasks without such."""

    def elected(self, answers: Iterable[npt.NDArray[np.int64]], count: int) -> Column:
        """So many values with these answers, an array [N] of answer ids for each ballot, in their order: `ballots`
        backwards. Raises NotImplementedError for tasks without ballots."""

    def agreements(self, values: Column, labels: Column) -> npt.NDArray[np.float64]:
        """float64 [N]: agreement of each value with the label beside it; NaN where there is no label (-1 or None)."""

    def confusions(self, values: Column, labels: Column) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
        """Where an answer is one class: the class ids of the labels and of the values, after merges; else None."""

    def targets(self, values: Column) -> npt.NDArray[Any] | None:
        """What a head is trained on, after merges: int64 [N] class ids, bool [N, C], or float64 [N, T]; None for tasks
        without a head."""

    @property
    def prediction_shape(self) -> PredictionShape | None:
        """What a model's predictions look like; None where nothing is predicted."""

    @property
    def merges(self) -> npt.NDArray[np.int32] | None:
        """int32 [C]: the class that each class is counted as; None where no class was merged, or there are none."""

    def metrics(self, values: Column, predictions: Any, seed: int = 0) -> TaskMetrics:
        """What a model is worth on held-out samples.

        Args:
            values: what people said, one per sample.
            predictions: an array of `prediction_shape` for as many samples; for objects, one value of the task each.
            seed: of the bootstrap.
        """

    # --- in and out

    def given(self, values: Sequence[Value | None]) -> list[Given]:
        """The values as a caller would give them; None for None."""

    @property
    def export_columns(self) -> tuple[str, ...]:
        """Names of the columns of an export; they are the arms of the wire's `Value`."""

    def export(self, values: Sequence[Value | None]) -> dict[str, list[Any]]:
        """Plain columns (text, numbers, lists and dicts of them), one entry per value; None for None."""

    def read_export(self, columns: Mapping[str, Sequence[Any]]) -> list[Given]:
        """What `export` wrote, to be checked as any input is; None for None. Raises SampleError(INVALID_VALUE) for
        what it cannot have written."""


class CommonTask(ABC):
    """What is alike in every task. A task of one's own inherits it and fills in the rest of the protocol."""

    def __init__(self, record: TaskRecord) -> None:
        self._record = record

    @property
    def record(self) -> TaskRecord:
        return self._record

    @abstractmethod
    def value_of(self, given: Given, text_length: int | None, retired: bool) -> Value:
        """The value that a caller means. Raises Refused."""

    @abstractmethod
    def encode(self, value: Value) -> bytes: ...

    @abstractmethod
    def cell(self, value: Value) -> Any:
        """A value as one cell of an export."""

    @abstractmethod
    def given_of(self, cell: Any) -> Given:
        """What `cell` made, as input. Raises KeyError, TypeError or ValueError for what it cannot have made."""

    @property
    @abstractmethod
    def export_columns(self) -> tuple[str, ...]: ...

    def check(self, given: Given, row: int = 0, text_length: int | None = None, retired: bool = False) -> Value:
        try:
            return self.value_of(given, text_length, retired)
        except Refused as refused:
            raise refused.at(row) from None

    def check_all(
        self, given: Sequence[Given], text_lengths: Sequence[int | None] | None = None, retired: bool = False
    ) -> Column:
        lengths = text_lengths if text_lengths is not None else [None] * len(given)
        pairs = zip(given, lengths, strict=True)
        return [self.check(each, row, length, retired) for row, (each, length) in enumerate(pairs)]

    def resolve(self, value: Value) -> Value:
        return value

    def equal(self, a: Value, b: Value) -> bool:
        return self.encode(a) == self.encode(b)

    @property
    def choices(self) -> int:
        return 2

    def ballots(self, values: Column) -> Iterator[Ballot] | None:
        return None

    def elected(self, answers: Iterable[npt.NDArray[np.int64]], count: int) -> Column:
        raise NotImplementedError("a task without ballots")

    @abstractmethod
    def agreement(self, a: Value, b: Value) -> float: ...

    def agreements(self, values: Column, labels: Column) -> npt.NDArray[np.float64]:
        agreements_N = np.full(len(labels), np.nan)
        for place, (value, label) in enumerate(zip(values, labels, strict=True)):
            checkpoint()
            if label is not None:
                agreements_N[place] = self.agreement(value, label)
        return agreements_N

    def confusions(self, values: Column, labels: Column) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
        return None

    def targets(self, values: Column) -> npt.NDArray[Any] | None:
        return None

    @property
    def prediction_shape(self) -> PredictionShape | None:
        return None

    @property
    def merges(self) -> npt.NDArray[np.int32] | None:
        return None

    def given(self, values: Sequence[Value | None]) -> list[Given]:
        return [None if value is None else self.given_of(self.cell(value)) for value in values]

    def export(self, values: Sequence[Value | None]) -> dict[str, list[Any]]:
        (column,) = self.export_columns
        return {column: [None if value is None else self.cell(value) for value in values]}

    def read_export(self, columns: Mapping[str, Sequence[Any]]) -> list[Given]:
        (column,) = self.export_columns
        return [self._given_at(cell, row, column) for row, cell in enumerate(columns[column])]

    def _given_at(self, cell: Any, row: int, column: str) -> Given:
        try:
            return None if cell is None else self.given_of(cell)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SampleError(
                Reason.INVALID_VALUE,
                row,
                f"its {column!r} is not as an export writes it ({type(error).__name__}: {str(error)[:100]}).",
                "",
                column=column,
            ) from None


def wrong_task(given: Given, wanted: type, example: str) -> Refused:
    """The refusal of a value of another task."""
    got = FORMS.get(type(given), "something else")
    return Refused(
        Reason.WRONG_TASK,
        f"its value is {got}, and the pool's task takes {FORMS[wanted]}. Give {example}.",
        got=got,
        wanted=FORMS[wanted],
    )
