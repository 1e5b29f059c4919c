"""One class per sample. A value is the id of the class."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.core.records.tasks import TaskRecord
from assay.server.core.tasks.base import (
    Ballot,
    Column,
    CommonTask,
    Consensus,
    PredictionForm,
    PredictionShape,
    TaskMetrics,
    Value,
    wrong_task,
)
from assay.server.core.tasks.classes import Classes, fold_columns
from assay.server.core.tasks.given import Given
from assay.server.core.tasks.resampling import Grouping, counted, grouped, score, summed
from assay.server.core.tasks.voting import checked_weights, plurality

_SCORES = ("accuracy", "macro_f1", "log_loss")
# Probabilities below this count as this in the log loss, which would be infinite at 0.
_LEAST_PROBABILITY = np.finfo(np.float64).eps


class Classification(CommonTask):
    """The task of one class per sample."""

    def __init__(self, record: TaskRecord) -> None:
        super().__init__(record)
        self.classes = Classes(record)

    def value_of(self, given: Given, text_length: int | None, retired: bool) -> Value:
        if not isinstance(given, str):
            raise wrong_task(given, str, "the name of one class")
        return self.classes.id_of(given, retired)

    def check_all(
        self, given: Sequence[Given], text_lengths: Sequence[int | None] | None = None, retired: bool = False
    ) -> npt.NDArray[np.int32]:
        """As the protocol says; a dictionary look-up for each name and nothing more."""
        ids = self.classes.ids if retired else self.classes.taken
        try:
            return np.fromiter(map(ids.__getitem__, given), np.int32, len(given))  # type: ignore[arg-type]
        except (KeyError, TypeError):
            return np.array([self.check(each, row, None, retired) for row, each in enumerate(given)], np.int32)

    def encode(self, value: Value) -> bytes:
        return int(value).to_bytes(4, "little", signed=True)

    def decode(self, data: bytes) -> Value:
        class_id = int.from_bytes(data, "little", signed=True)
        if len(data) != 4 or not 0 <= class_id < len(self.classes):
            raise ValueError("no class of the task")
        return class_id

    def resolve(self, value: Value) -> Value:
        return self.classes.root(value)

    def agreement(self, a: Value, b: Value) -> float:
        """1 for the same class, else 0."""
        return float(self.resolve(a) == self.resolve(b))

    def consensus(self, values: Sequence[Value], weights: Sequence[float] | None = None) -> Consensus:
        """The class with the most weight; None if two have as much."""
        resolved = [self.resolve(value) for value in values]
        winner, share = plurality(resolved, checked_weights(len(values), weights))
        return Consensus(winner, share, _agreeing_pairs(resolved))

    @property
    def choices(self) -> int:
        return max(2, len(self.record.order))

    def ballots(self, values: Column) -> Iterator[Ballot]:
        answers, codes_N = np.unique(self.targets(values), return_inverse=True)
        yield Ballot(answers, codes_N)

    def elected(self, answers: Iterable[npt.NDArray[np.int64]], count: int) -> npt.NDArray[np.int32]:
        (ids_N,) = answers
        return ids_N.astype(np.int32)

    def agreements(self, values: Column, labels: Column) -> npt.NDArray[np.float64]:
        labels_N = np.asarray(labels, np.int64)
        similar_N: npt.NDArray[np.float64] = np.where(
            labels_N < 0, np.nan, self.targets(values) == self.targets(labels)
        )
        return similar_N

    def confusions(self, values: Column, labels: Column) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return self.targets(labels), self.targets(values)

    def targets(self, values: Column) -> npt.NDArray[np.int64]:
        """int64 class ids; -1 stays."""
        roots_C = np.append(self.classes.roots_C, -1).astype(np.int64)
        targets_N: npt.NDArray[np.int64] = roots_C[np.asarray(values, np.int64)]
        return targets_N

    @property
    def merges(self) -> npt.NDArray[np.int32] | None:
        return self.classes.merges

    @property
    def prediction_shape(self) -> PredictionShape:
        return PredictionShape(PredictionForm.PROBABILITIES, len(self.classes))

    def metrics(self, values: Column, predictions: Any, seed: int = 0) -> TaskMetrics:
        """accuracy, macro_f1 (over the classes that were said or predicted) and log_loss in nats; per class precision,
        recall and F1; the confusion. Definitions and values are those of scikit-learn."""
        if not len(values):
            return TaskMetrics(0, dict.fromkeys(_SCORES))
        said_N = self.targets(values)
        probs_NC = fold_columns(self.classes.roots_C, np.asarray(predictions))
        predicted_N = probs_NC.argmax(axis=1)
        own_N = probs_NC[np.arange(len(said_N)), said_N]
        losses_N = -np.log(np.clip(own_N, _LEAST_PROBABILITY, 1))
        codes_M, counts_M = np.unique(said_N * len(self.classes) + predicted_N, return_counts=True)
        said_M, predicted_M = np.divmod(codes_M, len(self.classes))
        confusion_CC = np.zeros((len(self.classes), len(self.classes)), np.int64)
        confusion_CC[said_M, predicted_M] = counts_M
        shown, places = np.unique(np.concatenate([said_M, predicted_M]), return_inverse=True)
        said_at_M, predicted_at_M = np.split(places, 2)
        right = np.flatnonzero(said_M == predicted_M)
        right_RC, predicted_RC, said_RC = grouped(
            counts_M,
            [
                Grouping(right, said_at_M[right], len(shown)),
                Grouping(np.arange(len(codes_M)), predicted_at_M, len(shown)),
                Grouping(np.arange(len(codes_M)), said_at_M, len(shown)),
            ],
            seed,
        )
        overall, per_class = counted([self.classes.names[i] for i in shown], right_RC, predicted_RC, said_RC)
        scores = {
            "accuracy": score(right_RC.sum(axis=1) / len(said_N)),
            "macro_f1": overall["macro_f1"],
            "log_loss": score(summed(losses_N[:, None], seed)[:, 0]),
        }
        return TaskMetrics(len(said_N), scores, per_class, confusion_CC)

    @property
    def export_columns(self) -> tuple[str, ...]:
        return ("class_name",)

    def given(self, values: Sequence[Value | None]) -> list[Given]:
        names = self.classes.names
        return [None if value is None else names[value] for value in values]

    def cell(self, value: Value) -> str:
        return self.classes.names[value]

    def given_of(self, cell: Any) -> Given:
        if not isinstance(cell, str):
            raise TypeError("not a text")
        return cell


def _agreeing_pairs(values: Sequence[int]) -> float:
    """Share of the pairs that say the same."""
    pairs = math.comb(len(values), 2)
    return sum(math.comb(count, 2) for count in Counter(values).values()) / pairs if pairs else 1.0
