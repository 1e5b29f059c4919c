"""Values as callers give them, before they are checked: one form for each arm of the wire's `Value`.

The class of a classification is plain text, so that a column of them is a list of str.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from assay.server.core.records.arrays import Scalar


@dataclass(frozen=True, slots=True)
class ClassNames:
    """A set of classes by name, in any order; none of them is an answer too."""

    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers by the name of their target."""

    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BoxInput:
    """A rectangle: its upper left corner and its size, as shares of the image's width and height."""

    class_name: str
    x: float
    y: float
    w: float
    h: float
    score: float | None = None
    attributes: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Boxes:
    """The rectangles of a sample, in any order; none of them is an answer too."""

    boxes: Sequence[BoxInput] = ()


@dataclass(frozen=True, slots=True)
class SpanInput:
    """A stretch of text, from character `start` up to, but not including, `end`. Characters are Unicode code points."""

    class_name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Spans:
    """The stretches of a text, in any order; none of them is an answer too."""

    spans: Sequence[SpanInput] = ()


@dataclass(frozen=True, slots=True)
class JsonText:
    """Any JSON value as text."""

    text: str


# None: no arm is set.
Given = str | ClassNames | Numbers | Boxes | Spans | JsonText | None

# How messages call each form, and the one the task wanted.
FORMS: dict[type, str] = {
    str: "a class name",
    ClassNames: "a set of class names",
    Numbers: "named numbers",
    Boxes: "boxes",
    Spans: "spans",
    JsonText: "JSON",
    type(None): "no value",
}


def is_empty_set(given: Given) -> bool:
    """Whether an empty list was given: a caller who knows no task's own form says so that there is nothing."""
    return isinstance(given, ClassNames) and not given.names
