"""What is asked about the samples of a pool: the kind of answer, its classes and its numbers."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class TaskKind(StrEnum):
    """What an answer is.

    classification: one class. multilabel: a set of classes, which may be empty. regression: named numbers. boxes:
    rectangles with a class. spans: stretches of a text with a class. freeform: any JSON value.
    """

    CLASSIFICATION = "classification"
    MULTILABEL = "multilabel"
    REGRESSION = "regression"
    BOXES = "boxes"
    SPANS = "spans"
    FREEFORM = "freeform"


@dataclass(frozen=True, slots=True)
class ClassRecord:
    """A class of a pool.

    Attributes:
        id: its number, from 0 in order of creation; never given to another class. It is also its place in
            `TaskRecord.classes`, and its column in probabilities.
        name: as people see it; differs from the names of all other classes, retired ones too.
        retired: nobody may say it any more. What was said stays, and so does its column.
        merged_into: id of the class that it is counted as, which may itself be merged; None unless it was merged. A
            merged class is retired.
    """

    id: int
    name: str
    retired: bool = False
    merged_into: int | None = None


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """One number of a regression task.

    Attributes:
        name: as people see it.
        minimum, maximum: the numbers that are taken, both included; None is no bound.
    """

    name: str
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What a task may be told besides its classes and numbers; each is read by the kinds that it names.

    Attributes:
        disjoint_spans: spans: two spans of one sample may not share a character.
        match_iou: boxes, spans: least intersection over union at which two annotators mean one object, in (0, 1].
        number_tolerance: regression: largest distance at which two annotators mean one number, as a share of the
            target's range, or of the larger number where the range is open; in (0, 1].
    """

    disjoint_spans: bool = False
    match_iou: float = 0.5
    number_tolerance: float = 0.1


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """The task of a pool as the catalog keeps it.

    Attributes:
        kind: what an answer is.
        classes: all classes ever, by id; empty for regression and freeform.
        order: ids of the classes that are not retired, as people see them listed.
        targets: the numbers of a regression task, in the order of the columns of its arrays; else empty.
        options: see TaskOptions.
    """

    kind: TaskKind
    classes: tuple[ClassRecord, ...] = ()
    order: tuple[int, ...] = ()
    targets: tuple[TargetRecord, ...] = ()
    options: TaskOptions = TaskOptions()

    @classmethod
    def of_classes(cls, kind: TaskKind, names: Iterable[str], options: TaskOptions | None = None) -> "TaskRecord":
        """A new task with these classes, ids in this order."""
        classes = tuple(ClassRecord(i, name) for i, name in enumerate(names))
        return cls(kind, classes, tuple(range(len(classes))), (), options or TaskOptions())

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes ever, by id."""
        return tuple(each.name for each in self.classes)

    def to_json(self) -> str:
        """The task as JSON text: equal tasks give equal texts."""
        plain = {
            "kind": self.kind.value,
            "classes": [_without_defaults(each, "id") for each in self.classes],
            "order": list(self.order),
            "targets": [_without_defaults(each) for each in self.targets],
            "options": _without_defaults(self.options),
        }
        return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "TaskRecord":
        """The task that `to_json` wrote. Raises ValueError, KeyError or TypeError for another text."""
        plain: Mapping[str, Any] = json.loads(text)
        return cls(
            TaskKind(plain["kind"]),
            tuple(ClassRecord(i, **each) for i, each in enumerate(plain["classes"])),
            tuple(plain["order"]),
            tuple(TargetRecord(**each) for each in plain["targets"]),
            TaskOptions(**plain["options"]),
        )


def _without_defaults(record: Any, *left_out: str) -> dict[str, Any]:
    values = {each.name: getattr(record, each.name) for each in fields(record) if each.name not in left_out}
    defaults = {each.name: each.default for each in fields(record)}
    return {name: value for name, value in values.items() if value != defaults[name]}
