"""Tasks: what people say of the samples of a pool.

>>> client.create_pool("news", task=Classification(["sport", "science"]))
>>> client.create_pool("films", task=MultiLabel(["funny", "sad", "long"]))
>>> client.create_pool("flats", task=Regression([Target("rent", minimum=0)]))

GetServerInfo lists the kinds that a server has pools for; it refuses the others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from assay.client._values import Place, kind_of, number, shown, text, texts
from assay.v1 import tasks_pb2 as pb


@dataclass(frozen=True, slots=True)
class Class:
    """A class of a task, as a server tells of it.

    Attributes:
        id: from 0 in order of creation, never reused: the column of every probability matrix.
        retired: whether it takes no labels any more.
        merged_into: id of the class that took its place; None where none did.
    """

    id: int
    name: str
    retired: bool = False
    merged_into: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A number that is asked for, from minimum to maximum where these are given."""

    name: str
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Classification:
    """One class a sample. To create a pool, `classes` are distinct names; whole numbers are taken as text, as they are
    for labels. Of a pool they are `Class`es, in the order in which people see them."""

    classes: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class MultiLabel:
    """A set of classes a sample; the empty set is an answer. For `classes` see `Classification`."""

    classes: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Regression:
    """One number a target, 1 to 64 of them. A target without bounds may be given by its name."""

    targets: Sequence[Target | str]


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes in an image. For `classes` see `Classification`."""

    classes: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Spans:
    """Spans of a text; where they are `disjoint`, no two of a sample share a character. For `classes` see
    `Classification`."""

    classes: Sequence[Any]
    disjoint: bool = False


@dataclass(frozen=True, slots=True)
class Freeform:
    """Any JSON; no head can be trained on it."""


Task: TypeAlias = Classification | MultiLabel | Regression | Boxes | Spans | Freeform


def task_message(task: Task) -> pb.Task:
    """The message of a task to create a pool with.

    Raises:
        TypeError: no task, or classes or targets that are no text.
        ValueError: a name that is missing or empty, a bound that is no finite number.
    """
    match task:
        case Classification():
            return pb.Task(classification=pb.ClassificationTask(classes=_class_messages(task.classes)))
        case MultiLabel():
            return pb.Task(multilabel=pb.MultilabelTask(classes=_class_messages(task.classes)))
        case Regression():
            return pb.Task(regression=pb.RegressionTask(targets=map(_target_message, task.targets)))
        case Boxes():
            return pb.Task(boxes=pb.BoxesTask(classes=_class_messages(task.classes)))
        case Spans():
            return pb.Task(spans=pb.SpansTask(classes=_class_messages(task.classes), disjoint=task.disjoint))
        case Freeform():
            return pb.Task(freeform=pb.FreeformTask())
        case _:
            raise TypeError(f"a task is one such as Classification(['a', 'b']), not {shown(task)}, {kind_of(task)}")


def _class_messages(classes: Any) -> list[pb.Class]:
    names = [each.name if isinstance(each, Class) else each for each in classes] if _some(classes) else classes
    return [pb.Class(name=name) for name in texts(names, Place("classes"))]


def _some(classes: Any) -> bool:
    """Whether these are classes of another pool, and not names in whatever holds them."""
    return isinstance(classes, Sequence) and any(isinstance(each, Class) for each in classes)


def _target_message(target: Target | str) -> pb.Target:
    given = target if isinstance(target, Target) else Target(target)
    return pb.Target(
        name=text(given.name, "a target's name"),
        minimum=None if given.minimum is None else number(given.minimum, f"the minimum of {given.name!r}"),
        maximum=None if given.maximum is None else number(given.maximum, f"the maximum of {given.name!r}"),
    )


def task_from_proto(message: pb.Task) -> Task | None:
    """The task of a message; None for a kind of a newer server."""
    read = _READERS.get(message.WhichOneof("kind") or "")
    return None if read is None else read(message)


def _classes(messages: Iterable[pb.Class]) -> tuple[Class, ...]:
    return tuple(
        Class(each.id, each.name, each.retired, each.merged_into if each.HasField("merged_into") else None)
        for each in messages
    )


def _targets(messages: Iterable[pb.Target]) -> tuple[Target, ...]:
    return tuple(
        Target(
            each.name,
            each.minimum if each.HasField("minimum") else None,
            each.maximum if each.HasField("maximum") else None,
        )
        for each in messages
    )


_READERS: Mapping[str, Callable[[pb.Task], Task]] = {
    "classification": lambda message: Classification(_classes(message.classification.classes)),
    "multilabel": lambda message: MultiLabel(_classes(message.multilabel.classes)),
    "regression": lambda message: Regression(_targets(message.regression.targets)),
    "boxes": lambda message: Boxes(_classes(message.boxes.classes)),
    "spans": lambda message: Spans(_classes(message.spans.classes), message.spans.disjoint),
    "freeform": lambda message: Freeform(),
}
