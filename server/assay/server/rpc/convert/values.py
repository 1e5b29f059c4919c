"""Values of a task: between the messages of types.proto and the form in which callers give them to the domain."""

from collections.abc import Callable, Mapping, Sequence

from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.records.arrays import Scalar
from assay.server.core.tasks.given import Boxes, BoxInput, ClassNames, Given, JsonText, Numbers, SpanInput, Spans
from assay.server.rpc.convert.scalars import scalar_message
from assay.v1 import types_pb2


def to_values(messages: Sequence[types_pb2.Value]) -> list[Given]:
    """Values as a caller gives them; None where a message has no kind. Raises SampleError(INVALID_VALUE)."""
    found: list[Given] = []
    for row, message in enumerate(messages):
        kind = message.WhichOneof("kind")
        if kind == "class_name":
            found.append(message.class_name)
        elif kind is None:
            found.append(None)
        else:
            try:
                found.append(_READERS[kind](message))
            except AssayError as error:
                raise SampleError(error.reason, row, error.message) from None
    return found


def value_message(value: Given) -> types_pb2.Value | None:
    """A value for the wire; None leaves a field unset."""
    match value:
        case None:
            return None
        case str():
            return types_pb2.Value(class_name=value)
        case ClassNames():
            return types_pb2.Value(class_names=types_pb2.ClassNames(names=value.names))
        case Numbers():
            return types_pb2.Value(numbers=types_pb2.Numbers(values=value.values))
        case Boxes():
            return types_pb2.Value(boxes=types_pb2.Boxes(boxes=map(_box_message, value.boxes)))
        case Spans():
            spans = [types_pb2.Span(class_name=each.class_name, start=each.start, end=each.end) for each in value.spans]
            return types_pb2.Value(spans=types_pb2.Spans(spans=spans))
        case JsonText():
            return types_pb2.Value(json=value.text)


def _box_message(box: BoxInput) -> types_pb2.Box:
    attributes = {name: scalar_message(fact) for name, fact in box.attributes.items()}
    return types_pb2.Box(
        class_name=box.class_name, x=box.x, y=box.y, width=box.w, height=box.h, score=box.score, attributes=attributes
    )


def _boxes(message: types_pb2.Value) -> Given:
    return Boxes(
        [
            BoxInput(
                box.class_name,
                box.x,
                box.y,
                box.width,
                box.height,
                box.score if box.HasField("score") else None,
                {name: _fact(name, fact) for name, fact in box.attributes.items()},
            )
            for box in message.boxes.boxes
        ]
    )


def _fact(name: str, message: types_pb2.AttributeValue) -> Scalar:
    kind = message.WhichOneof("kind")
    if kind is None:
        raise AssayError(Reason.INVALID_VALUE, f"attribute {name[:100]!r} of a box is unset. Leave it out.")
    fact: Scalar = getattr(message, kind)
    return fact


_READERS: Mapping[str, Callable[[types_pb2.Value], Given]] = {
    "class_names": lambda message: ClassNames(list(message.class_names.names)),
    "numbers": lambda message: Numbers(dict(message.numbers.values)),
    "boxes": _boxes,
    "spans": lambda message: Spans([SpanInput(each.class_name, each.start, each.end) for each in message.spans.spans]),
    "json": lambda message: JsonText(message.json),
}
