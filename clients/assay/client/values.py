"""Values: what people say of samples, in the natural Python type of each task.

| task | value |
|---|---|
| `Classification` | a class name: `"sport"`; a whole number stands for its text: 0 is the class "0" |
| `MultiLabel` | class names in a list, tuple or set; `[]` is the empty set |
| `Regression` | a mapping from target to number: `{"rent": 850.0}` |
| `Boxes` | a list of `Box`; `[]` where there is none |
| `Spans` | a list of `Span`; `[]` where there is none |
| `Freeform` | `Json(...)` of whatever JSON can say; a mapping that is not all numbers needs no `Json` |

What calls return is the same, lists as tuples, and JSON as it is.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
from google.protobuf import duration_pb2, timestamp_pb2

from assay.client._values import Place, check_unicode, column, json_value, kind_of, number, plain, shown, texts, whole
from assay.client.filters import AttributeScalar, attribute_scalar, attribute_value
from assay.v1 import annotations_pb2, types_pb2


@dataclass(frozen=True, slots=True)
class Box:
    """A box in an image, in parts of its width and height: 0 is the left or upper edge, 1 the right or lower one.

    Attributes:
        x, y: upper left corner.
        score: how sure whoever drew it is, 0 to 1; None where nobody says.
        attributes: what else is said of it, by name.
    """

    class_name: str
    x: float
    y: float
    width: float
    height: float
    score: float | None = None
    attributes: Mapping[str, AttributeScalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` - 1 of a text, counted in Unicode code points."""

    class_name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Json:
    """A value of a freeform task: whatever JSON can say."""

    value: Any


# What people say: see the table above.
Value: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Annotation:
    """What is said of one sample, with what is known of how.

    Attributes:
        value: in the natural type of the pool's task; see `assay.client.values`.
        external_id: your own id of it, unique in the pool; sent again with the same value, it changes nothing. Those of
            samples that were deleted or replaced are free again.
        comment: what the worker has to say beside the value.
        confidence: how sure the worker is, 0 to 1.
        duration: how long it took, in seconds or as a timedelta.
        time: when it was said, if that was not now; aware, as datetime.now(UTC) is.
    """

    sample_id: Any
    value: Value
    external_id: str | None = None
    comment: str = ""
    confidence: float | None = None
    duration: timedelta | float | None = None
    time: datetime | None = None


def annotation_messages(annotations: Any, what: str = "annotations") -> list[annotations_pb2.AnnotationInput]:
    """The messages of annotations: of values by sample id, as a mapping or a Series of pandas, or of `Annotation`s.

    Raises:
        TypeError, ValueError: an id or a value that is missing or of another type, by its position and id.
    """
    if hasattr(annotations, "items") and len(getattr(annotations, "shape", (0,))) == 1:
        pairs = list(annotations.items())
        given = [Annotation(sample_id, value) for sample_id, value in pairs]
    elif isinstance(annotations, Iterable) and not isinstance(annotations, str | bytes | Mapping):
        given = list(annotations)
    else:
        given = [annotations]
    for row, each in enumerate(given):
        if not isinstance(each, Annotation):
            raise TypeError(
                f"{what} is a mapping from sample id to value, or a list of Annotation, not {kind_of(annotations)}"
                + (f" with {kind_of(each)} at {row}" if given[0] is not annotations else "")
            )
    ids = texts([each.sample_id for each in given], Place("ids"))
    values = value_column([each.value for each in given], Place(what, ids))
    if None in values:
        raise ValueError(f"{Place(what, ids).at(values.index(None))} is missing")
    messages = [
        annotations_pb2.AnnotationInput(sample_id=sample_id, value=value_message(value))
        for sample_id, value in zip(ids, values, strict=True)
    ]
    for row, each in enumerate(given):
        _add_details(messages[row], each, Place(what, ids).at(row))
    return messages


def _add_details(message: annotations_pb2.AnnotationInput, given: Annotation, where: str) -> None:
    if given.external_id is not None:
        message.external_id = given.external_id
    if given.comment:
        message.comment = given.comment
    if given.confidence is not None:
        message.confidence = number(given.confidence, f"the confidence of {where}")
    if given.duration is not None:
        message.duration.CopyFrom(duration_message(given.duration, f"the duration of {where}"))
    if given.time is not None:
        message.time.CopyFrom(time_message(given.time, f"the time of {where}"))


def value_column(values: Any, place: Place) -> list[str | types_pb2.Value | None]:
    """A column of values: a text for a class, a message for any other kind, None where there is none.

    Raises:
        TypeError, ValueError: no column; a value that no task has.
    """
    held = column(values, place.what)
    found: list[str | types_pb2.Value | None] = [
        each if each is None or isinstance(each, str) else _value(each, place, row) for row, each in enumerate(held)
    ]
    empty = next((row for row, each in enumerate(found) if isinstance(each, str) and not each), None)
    if empty is not None:
        raise ValueError(f"{place.at(empty)} is empty text: None says that there is none")
    check_unicode([each if isinstance(each, str) else None for each in found], place)
    return found


def value_message(value: str | types_pb2.Value | None) -> types_pb2.Value:
    """The message of an entry of `value_column`; one without a kind for None."""
    if isinstance(value, str):
        return types_pb2.Value(class_name=value)
    return types_pb2.Value() if value is None else value


def value_size(value: str | types_pb2.Value | None) -> int:
    """About how many bytes an entry of `value_column` takes in a message, at most."""
    if isinstance(value, str):
        # Four bytes is the most that UTF-8 needs for a character.
        return 4 * len(value) + 8
    return 8 if value is None else value.ByteSize() + 8


def _value(value: Any, place: Place, row: int) -> str | types_pb2.Value:
    where = place.at(row)
    match value:
        case Json():
            return types_pb2.Value(json=_json(value.value, where))
        case Mapping():
            return _mapping(value, where)
        case str() | int() | float() | bytes():
            return texts([value], place.alone_at(row))[0]
        case Box() | Span():
            raise TypeError(f"{where} is {kind_of(value)}: put it into a list, with all others of the sample")
    if isinstance(value, set | frozenset | list | tuple | np.ndarray) or hasattr(value, "to_pylist"):
        return _several(list(value) if isinstance(value, set | frozenset) else column(value, where), where)
    return texts([value], place.alone_at(row))[0]


def _mapping(value: Mapping[Any, Any], where: str) -> types_pb2.Value:
    numbers = {name: plain(each) for name, each in value.items()}
    if numbers and all(isinstance(each, int | float) and not isinstance(each, bool) for each in numbers.values()):
        names = texts(list(numbers), Place(f"the targets of {where}"))
        return types_pb2.Value(
            numbers=types_pb2.Numbers(values=dict(zip(names, map(float, numbers.values()), strict=True)))
        )
    return types_pb2.Value(json=_json(value, where))


def _several(parts: Sequence[Any], where: str) -> types_pb2.Value:
    if parts and all(isinstance(each, Box) for each in parts):
        boxes = [_box(each, f"{where}[{place}]") for place, each in enumerate(parts)]
        return types_pb2.Value(boxes=types_pb2.Boxes(boxes=boxes))
    if parts and all(isinstance(each, Span) for each in parts):
        spans = [
            types_pb2.Span(
                class_name=texts([each.class_name], Place(f"{where}[{place}].class_name", alone=True))[0],
                start=whole(each.start, f"{where}[{place}].start", -_MOST, _MOST),
                end=whole(each.end, f"{where}[{place}].end", -_MOST, _MOST),
            )
            for place, each in enumerate(parts)
        ]
        return types_pb2.Value(spans=types_pb2.Spans(spans=spans))
    other = next((each for each in parts if isinstance(each, Mapping | list | tuple | Box | Span)), None)
    if other is not None:
        raise TypeError(
            f"{where} holds {shown(other)}, {kind_of(other)}: a list is one of class names, of Box or of Span. Other "
            "JSON goes into Json(...)"
        )
    return types_pb2.Value(class_names=types_pb2.ClassNames(names=texts(parts, Place(where))))


# What the wire's numbers of characters hold.
_MOST = (1 << 63) - 1


def _box(box: Box, where: str) -> types_pb2.Box:
    # What is no finite number, or outside the image, is for the server to refuse, which knows all of it.
    sides = {side: _float(getattr(box, side), f"{where}.{side}") for side in ("x", "y", "width", "height")}
    return types_pb2.Box(
        class_name=texts([box.class_name], Place(f"{where}.class_name", alone=True))[0],
        score=None if box.score is None else _float(box.score, f"{where}.score"),
        attributes={name: attribute_value(fact) for name, fact in box.attributes.items()},
        **sides,
    )


def _float(value: Any, what: str) -> float:
    given = value.item() if isinstance(value, np.generic) else value
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{what} is a number, not {shown(value)}, {kind_of(value)}")
    return float(given)


def _json(value: Any, where: str) -> str:
    try:
        written = json.dumps(json_value(value, where), ensure_ascii=False, allow_nan=False)
        written.encode()
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply: make what is deep within it text") from None
    except UnicodeEncodeError as error:
        letter = shown(error.object[error.start])
        raise ValueError(f"{where} holds {letter}, which cannot be written as UTF-8") from error
    return written


def value_from_proto(message: types_pb2.Value) -> Value:
    """A value in its natural type; None where there is none."""
    match message.WhichOneof("kind"):
        case "class_name":
            return message.class_name
        case "class_names":
            return tuple(message.class_names.names)
        case "numbers":
            return dict(message.numbers.values)
        case "boxes":
            return tuple(map(_box_from_proto, message.boxes.boxes))
        case "spans":
            return tuple(Span(each.class_name, each.start, each.end) for each in message.spans.spans)
        case "json":
            return json.loads(message.json)
        case _:
            return None


def _box_from_proto(box: types_pb2.Box) -> Box:
    facts = {name: attribute_scalar(fact) for name, fact in sorted(box.attributes.items())}
    return Box(
        box.class_name,
        box.x,
        box.y,
        box.width,
        box.height,
        box.score if box.HasField("score") else None,
        {name: fact for name, fact in facts.items() if fact is not None},
    )


def duration_message(value: timedelta | float, what: str) -> duration_pb2.Duration:
    """A duration in seconds or as a timedelta.

    Raises:
        TypeError, ValueError: no number, or longer than time can be counted.
    """
    given = plain(value)
    if isinstance(given, np.timedelta64):
        given = given.item()
    if not isinstance(given, timedelta):
        seconds = number(given, what)
        try:
            given = timedelta(seconds=seconds)
        except OverflowError:
            raise ValueError(f"{what} is {seconds:g} seconds, longer than time can be counted") from None
    duration = duration_pb2.Duration()
    duration.FromTimedelta(given)
    return duration


def time_message(value: datetime, what: str) -> timestamp_pb2.Timestamp:
    """A moment.

    Raises:
        TypeError: no datetime.
        ValueError: one without a time zone, which may be any moment of a day.
    """
    if not isinstance(value, datetime):
        raise TypeError(f"{what} is a datetime, not {shown(value)}, {kind_of(value)}")
    if value.tzinfo is None:
        raise ValueError(f"{what} has no time zone: give an aware datetime, such as datetime.now(UTC)")
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(value)
    return stamp
