"""A set of classes per sample, which may be empty. A value is the ids in ascending order."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import Reason
from assay.server.core.records.tasks import TaskRecord
from assay.server.core.tasks.base import (
    Ballot,
    Column,
    CommonTask,
    Consensus,
    PredictionForm,
    PredictionShape,
    Refused,
    TaskMetrics,
    Value,
    wrong_task,
)
from assay.server.core.tasks.classes import Classes
from assay.server.core.tasks.given import ClassNames, Given
from assay.server.core.tasks.resampling import Grouping, counted, grouped, score
from assay.server.core.tasks.voting import checked_weights, pairwise, side

_SCORES = ("micro_f1", "macro_f1", "subset_accuracy", "hamming_loss")


class Multilabel(CommonTask):
    """The task of a set of classes per sample."""

    def __init__(self, record: TaskRecord) -> None:
        super().__init__(record)
        self.classes = Classes(record)

    def value_of(self, given: Given, text_length: int | None, retired: bool) -> Value:
        if not isinstance(given, ClassNames):
            raise wrong_task(given, ClassNames, "the names of all classes that apply; an empty set is an answer")
        ids = sorted([self.classes.id_of(name, retired) for name in given.names])
        for a, b in itertools.pairwise(ids):
            if a == b:
                raise Refused(
                    Reason.INVALID_VALUE,
                    f"class {self.classes.names[a]!r} is in its set twice. Name each class once.",
                    class_name=self.classes.names[a],
                )
        return tuple(ids)

    def encode(self, value: Value) -> bytes:
        return np.asarray(value, "<i4").tobytes()

    def decode(self, data: bytes) -> Value:
        ids = np.frombuffer(data, "<i4")  # a ValueError for a length that is no multiple of 4
        if len(ids) and not (ids[0] >= 0 and ids[-1] < len(self.classes) and (np.diff(ids) > 0).all()):
            raise ValueError("no set of classes of the task")
        return tuple(ids.tolist())

    def resolve(self, value: Value) -> Value:
        return tuple(sorted({self.classes.root(i) for i in value})) if self.classes.merged else value

    def agreement(self, a: Value, b: Value) -> float:
        """Classes in both sets over classes in either (Jaccard, 1912); 1 for two empty sets."""
        a_set, b_set = set(self.resolve(a)), set(self.resolve(b))
        return len(a_set & b_set) / len(a_set | b_set) if a_set or b_set else 1.0

    def consensus(self, values: Sequence[Value], weights: Sequence[float] | None = None) -> Consensus:
        """A vote on each class: those that more than half of the weight names. None if exactly half names one."""
        counts = checked_weights(len(values), weights)
        total = math.fsum(counts)
        resolved = [self.resolve(value) for value in values]
        named: dict[int, list[float]] = {}
        for value, weight in zip(resolved, counts, strict=True):
            for class_id in value:
                named.setdefault(class_id, []).append(weight)
        sides = {class_id: side(math.fsum(each), total) for class_id, each in named.items()}
        confidence = math.fsum(share for _, share in sides.values()) / len(sides) if sides else 1.0
        tied = any(decided is None for decided, _ in sides.values())
        value = None if tied else tuple(sorted(class_id for class_id, (decided, _) in sides.items() if decided))
        return Consensus(value, confidence, pairwise(resolved, self.agreement))

    def ballots(self, values: Column) -> Iterator[Ballot]:
        rows, ids = self._entries(values)
        if not len(ids):
            return
        order = np.argsort(ids, kind="stable")
        named, starts = np.unique(ids[order], return_index=True)
        for class_id, rows_of_class in zip(named.tolist(), np.split(rows[order], starts[1:]), strict=True):
            codes_N = np.zeros(len(values), np.int64)
            codes_N[rows_of_class] = 1
            yield Ballot(np.array([-1, class_id]), codes_N)

    def elected(self, answers: Iterable[npt.NDArray[np.int64]], count: int) -> list[Value]:
        named: list[list[int]] = [[] for _ in range(count)]
        for ids_N in answers:  # ascending by class, as `ballots` has them
            for row in np.flatnonzero(ids_N >= 0).tolist():
                named[row].append(int(ids_N[row]))
        return [tuple(ids) for ids in named]

    def targets(self, values: Column) -> npt.NDArray[np.bool_]:
        """bool [N, C], True where a class was named."""
        targets_NC = np.zeros((len(values), len(self.classes)), np.bool_)
        rows, ids = self._entries(values)
        targets_NC[rows, ids] = True
        return targets_NC

    @property
    def merges(self) -> npt.NDArray[np.int32] | None:
        return self.classes.merges

    @property
    def prediction_shape(self) -> PredictionShape:
        return PredictionShape(PredictionForm.LABEL_PROBABILITIES, len(self.classes))

    def metrics(self, values: Column, predictions: Any, seed: int = 0) -> TaskMetrics:
        """micro_f1, macro_f1 (over the classes that were named or predicted), subset_accuracy and hamming_loss (of the
        classes in use); per class precision, recall and F1. Definitions and values are those of scikit-learn.

        Args:
            predictions: bool [N, C], decided already, or probabilities, of which those from 0.5 on count as yes.
        """
        if not len(values):
            return TaskMetrics(0, dict.fromkeys(_SCORES))
        said_NC = self.targets(values)
        predicted_NC = self._decided(np.asarray(predictions))
        said, predicted = np.nonzero(said_NC), np.nonzero(predicted_NC)
        right = np.nonzero(said_NC & predicted_NC)
        shown, places = np.unique(np.concatenate([right[1], predicted[1], said[1]]), return_inverse=True)
        ends = np.cumsum([len(right[1]), len(predicted[1])])
        groupings = [
            Grouping(units, groups, len(shown))
            for (units, _), groups in zip((right, predicted, said), np.split(places, ends), strict=True)
        ]
        exact = np.flatnonzero((said_NC == predicted_NC).all(axis=1))
        groupings.append(Grouping(exact, np.zeros(len(exact), np.int64), 1))
        counts_N = np.ones(len(values), np.int64)
        right_RC, predicted_RC, said_RC, exact_R1 = grouped(counts_N, groupings, seed)
        overall, per_class = counted([self.classes.names[i] for i in shown], right_RC, predicted_RC, said_RC)
        wrong_R = (predicted_RC + said_RC - 2 * right_RC).sum(axis=1)
        scores = {
            "micro_f1": overall["micro_f1"],
            "macro_f1": overall["macro_f1"],
            "subset_accuracy": score(exact_R1[:, 0] / len(values)),
            "hamming_loss": score(wrong_R / (len(values) * max(1, len(self.record.order)))),
        }
        return TaskMetrics(len(values), scores, per_class)

    @property
    def export_columns(self) -> tuple[str, ...]:
        return ("class_names",)

    def cell(self, value: Value) -> list[str]:
        return [self.classes.names[i] for i in value]

    def given_of(self, cell: Any) -> Given:
        names = list(cell)
        if isinstance(cell, str | dict) or not all(isinstance(name, str) for name in names):
            raise TypeError("not a list of texts")
        return ClassNames(names)

    def _entries(self, values: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Row and class of each name in each set, after merges."""
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        ids = np.fromiter(itertools.chain.from_iterable(values), np.int64, int(lengths.sum()))
        return np.repeat(np.arange(len(values)), lengths), self.classes.roots_C[ids]

    def _decided(self, predictions_NC: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        yes_NC = predictions_NC if predictions_NC.dtype == np.bool_ else predictions_NC >= 0.5
        decided_NC = np.zeros_like(yes_NC)
        rows, ids = np.nonzero(yes_NC)
        decided_NC[rows, self.classes.roots_C[ids]] = True
        return decided_NC
