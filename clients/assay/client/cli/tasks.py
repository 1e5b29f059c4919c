"""Tasks in words of the command line."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from assay.client import Boxes, Classification, Freeform, Json, MultiLabel, Regression, Spans, Target
from assay.client._importing import boxes_of, spans_of
from assay.client.tasks import Task

AnyT = TypeVar("AnyT")

_OF_CLASSES: dict[str, Callable[[Sequence[Any]], Task]] = {
    "classification": Classification,
    "multilabel": MultiLabel,
    "boxes": Boxes,
    "spans": Spans,
}
_NAMES: dict[type, str] = {
    Classification: "classification",
    MultiLabel: "multilabel",
    Regression: "regression",
    Boxes: "boxes",
    Spans: "spans",
    Freeform: "freeform",
}
TASKS = tuple(_NAMES.values())


def task_name(task: Task | None) -> str:
    """The task as the command calls it; "" for one of a newer server."""
    return _NAMES.get(type(task), "")


def read_task(name: str, classes: Sequence[str], numbers: Sequence[str], disjoint: bool) -> Task:
    """The task that options describe.

    Raises:
        ValueError: no such task, or options that are another task's.
    """
    if name not in TASKS:
        raise ValueError(f"--task takes {', '.join(TASKS)}, not {name!r}")
    if classes and name not in _OF_CLASSES:
        raise ValueError(f"a task of {name} has no classes")
    if numbers and name != "regression":
        raise ValueError("--number is for --task regression")
    if disjoint and name != "spans":
        raise ValueError("--disjoint is for --task spans")
    if name == "regression":
        return Regression([read_target(text) for text in numbers])
    if name == "freeform":
        return Freeform()
    return Spans(classes, disjoint) if name == "spans" else _OF_CLASSES[name](classes)


def read_target(text: str) -> Target:
    """A number to ask for: NAME, or NAME=MIN..MAX with either end left open.

    Raises:
        ValueError: anything else.
    """
    name, equals, bounds = text.partition("=")
    if not equals:
        return Target(name)
    low, dots, high = bounds.partition("..")
    try:
        if dots:
            return Target(name, float(low) if low else None, float(high) if high else None)
    except ValueError:
        pass
    raise ValueError(f"--number takes NAME or NAME=MIN..MAX, such as rent=0.. or share=0..1, not {text!r}")


def target_text(target: Target) -> str:
    """A target as `read_target` reads it."""
    if target.minimum is None and target.maximum is None:
        return target.name
    low, high = ("" if bound is None else f"{bound:g}" for bound in (target.minimum, target.maximum))
    return f"{target.name}={low}..{high}"


def read_pairs(pairs: Sequence[str], form: str) -> dict[str, str]:
    """Texts by sample. An id may hold "=", a text may not.

    Raises:
        ValueError: none, two for one sample, or what is not of the form.
    """
    return _distinct([_parted(*text.rpartition("="), text, form) for text in pairs])


def check_pairs(pairs: Sequence[str]) -> None:
    """Refuse what is wrong whatever the task. Raises ValueError: no pair, or what is none."""
    if not pairs:
        raise ValueError("give ID=VALUE for each sample, or a file with --from")
    for text in pairs:
        _parted(*text.partition("="), text, "ID=VALUE", empty=True)


def read_values(task: Task | None, pairs: Sequence[str]) -> dict[str, Any]:
    """What is said of samples, by id: SAMPLE=VALUE each, with the value as the pool's task has it.

    A class; classes with commas between them, none of them for the empty set; NAME=NUMBER with commas between them, or
    the number alone where one is asked for; of boxes, spans and free-form answers JSON, as a file has it. Of a class
    the last "=" parts it from an id that may hold more of them, of others the first.

    Raises:
        ValueError, TypeError: no value, two for one sample, or what is none of the task's.
    """
    if task is None or isinstance(task, Classification):
        return read_pairs(pairs, "ID=CLASS")
    empty = isinstance(task, MultiLabel)
    parts = [_parted(*text.partition("="), text, "ID=VALUE", empty) for text in pairs]
    return _distinct([(name, _value(task, value, f"the value of {name!r}")) for name, value in parts])


def _parted(sample_id: str, equals: str, value: str, text: str, form: str, empty: bool = False) -> tuple[str, str]:
    if not (sample_id and equals and (value or empty)):
        raise ValueError(f"{text!r} is no {form}")
    return sample_id, value


def _distinct(given: list[tuple[str, AnyT]]) -> dict[str, AnyT]:
    values = dict(given)
    if len(values) < len(given):
        raise ValueError("a sample is named twice")
    return values


def _value(task: Task, text: str, where: str) -> Any:
    match task:
        case MultiLabel() if not text.startswith("["):
            return [name.strip() for name in text.split(",")] if text else []
        case Regression() if not text.startswith("{"):
            return _numbers(task, text, where)
        case Boxes():
            return boxes_of(text, where)
        case Spans():
            return spans_of(text, where)
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON: {error}") from None
    return Json(parsed) if isinstance(task, Freeform) else parsed


def _numbers(task: Regression, text: str, where: str) -> dict[str, float]:
    parts = [part.rpartition("=") for part in text.split(",")]
    if len(parts) == len(task.targets) == 1 and not parts[0][1]:
        (target,) = task.targets
        parts = [(target.name if isinstance(target, Target) else target, "=", text)]
    try:
        named = {name.strip(): float(number) for name, _, number in parts}
    except ValueError:
        named = {"": 0.0}
    if "" in named:
        raise ValueError(f"{where} is {text!r}: write NAME=NUMBER with commas between them")
    return named
