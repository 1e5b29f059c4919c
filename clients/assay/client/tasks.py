"""Tasks: what people say of the samples of a pool.

>>> client.create_pool("news", task=Classification(["sport", "science"]))
>>> client.create_pool("films", task=MultiLabel(["funny", "sad", "long"]))
>>> client.create_pool("flats", task=Regression([Target("rent", minimum=0)]))

What values of each are in Python is said at `assay.client.values`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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


def edited_message(task: Task) -> pb.Task:
    """The message of a pool's task as it is to be: its classes by their ids, names for new ones.

    Raises:
        TypeError, ValueError: see task_message, and for a task without classes.
    """
    message = task_message(task)
    arm = getattr(message, message.WhichOneof("kind") or "")
    if not hasattr(arm, "classes"):
        raise ValueError(f"of {kind_of(task)} nothing can be changed; only classes can")
    for made, given in zip(arm.classes, list(task.classes), strict=True):  # type: ignore[union-attr]
        if isinstance(given, Class):
            made.id, made.retired = given.id, given.retired
            if given.merged_into is not None:
                made.merged_into = given.merged_into
    return message


def edit_classes(
    task: Task,
    *,
    add: Iterable[str] = (),
    rename: Mapping[str, str] | None = None,
    retire: Iterable[str] = (),
    restore: Iterable[str] = (),
    merge: Mapping[str, str] | None = None,
    order: Sequence[str] | None = None,
) -> Task:
    """A pool's task with its classes edited, for `update_pool`; classes are named as they are now.

    Args:
        task: that of the pool, as `get_pool` gives it.
        add: names of new classes, last in the order.
        rename: new names by old ones; what was said stays, and has the new name.
        retire: classes that nobody is to say any more; their annotations stay.
        restore: retired or merged classes that are in use again.
        merge: by the class that goes, the class that it is counted as from now on, which may be one of `add`;
            annotations keep what was said.
        order: all classes that are in use afterwards, by their new names, as people are to see them.

    Raises:
        ValueError: a class that is not there, one that is retired already or in use already, a merge of a class into
            itself, an order that does not name each class in use once.
    """
    if not hasattr(task, "classes"):
        raise ValueError(f"a pool's task of {type(task).__name__} has no classes")
    classes: dict[str, Class | str] = {each.name: each for each in task.classes}
    added = list(add)
    # A server numbers new classes as they come.
    coming = added if order is None else [name for name in order if name in added]
    fresh = {name: len(classes) + place for place, name in enumerate(coming)}

    def known(name: str) -> Class:
        found = classes.get(name)
        if not isinstance(found, Class):
            raise ValueError(f"{name!r} is no class of the pool; its classes are: {', '.join(classes)}")
        return found

    for name in retire:
        if known(name).retired:
            raise ValueError(f"class {name!r} is retired already")
        classes[name] = replace(known(name), retired=True)
    for name in restore:
        if not known(name).retired:
            raise ValueError(f"class {name!r} is in use")
        classes[name] = replace(known(name), retired=False, merged_into=None)
    for name, into in (merge or {}).items():
        if name == into:
            raise ValueError(f"class {name!r} cannot be merged into itself")
        classes[name] = replace(known(name), retired=True, merged_into=fresh[into] if into in fresh else known(into).id)
    for name, new in (rename or {}).items():
        classes[name] = replace(known(name), name=new)
    edited: list[Class | str] = [*classes.values(), *added]
    return replace(task, classes=edited if order is None else _ordered(edited, order))  # type: ignore[arg-type]


def _ordered(classes: Sequence[Class | str], order: Sequence[str]) -> list[Class | str]:
    in_use = {_name(each): each for each in classes if isinstance(each, str) or not each.retired}
    if sorted(order) != sorted(in_use):
        raise ValueError(f"the order names each class in use once, which are: {', '.join(in_use)}")
    retired = [each for each in classes if isinstance(each, Class) and each.retired]
    return [*(in_use[name] for name in order), *retired]


def _name(each: Class | str) -> str:
    return each if isinstance(each, str) else each.name


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
