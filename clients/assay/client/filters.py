"""Conditions on samples.

>>> (attr("lang") == "en") & (attr("score") >= 0.5)
Filter(lang = 'en' and score >= 0.5)
>>> attr("lang").isin(["en", "de"]) | ~(attr("year") < 2000)
Filter((lang in ('en', 'de') or not year < 2000))
>>> parse_filter("lang=en, score>=0.5")
Filter(lang = 'en' and score >= 0.5)

A sample that lacks an attribute does not match a comparison with it.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn, TypeAlias
from uuid import UUID

from assay.client._values import Place, column, kind_of, plain, shown, texts
from assay.v1 import types_pb2 as pb

AttributeScalar: TypeAlias = str | bool | int | float

_OPS: Final = {
    "=": pb.COMPARE_OP_EQ,
    "==": pb.COMPARE_OP_EQ,
    "!=": pb.COMPARE_OP_NE,
    "<": pb.COMPARE_OP_LT,
    "<=": pb.COMPARE_OP_LE,
    ">": pb.COMPARE_OP_GT,
    ">=": pb.COMPARE_OP_GE,
}
_SIGNS: Final = {op: sign for sign, op in reversed(_OPS.items())}

_CONDITION: Final = re.compile(
    r"""\s*(?P<name>[A-Za-z_]\w*)\s*
        (?P<op>==|!=|<=|>=|=|<|>)\s*
        (?P<value>"(?:[^"\\]|\\.)*"|.*?)\s*
        (?:,|\s+and\s+|\Z)""",
    re.VERBOSE | re.DOTALL,
)


class Filter:
    """A condition on samples; combine with ``&``, ``|`` and ``~``. Immutable."""

    __slots__ = ("_message",)

    def __init__(self, message: pb.Filter) -> None:
        self._message = message

    @classmethod
    def from_proto(cls, message: pb.Filter) -> "Filter | None":
        """The filter that a message holds; None where it matches every sample."""
        return cls(message) if message.WhichOneof("kind") else None

    def to_proto(self) -> pb.Filter:
        """The message; not to be changed."""
        return self._message

    def __and__(self, other: "Filter") -> "Filter":
        if not isinstance(other, Filter):
            return NotImplemented
        return Filter(pb.Filter(all_of=pb.Filter.Conditions(filters=self._parts("all_of") + other._parts("all_of"))))

    def __or__(self, other: "Filter") -> "Filter":
        if not isinstance(other, Filter):
            return NotImplemented
        return Filter(pb.Filter(any_of=pb.Filter.Conditions(filters=self._parts("any_of") + other._parts("any_of"))))

    def __invert__(self) -> "Filter":
        return Filter(pb.Filter(negation=self._message))

    def __bool__(self) -> NoReturn:
        raise TypeError("a filter has no truth value: combine filters with & | ~ instead of `and`, `or`, `not`")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self._message == other._message

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Filter({_text(self._message)})"

    def _parts(self, kind: str) -> list[pb.Filter]:
        """The conditions joined by `kind` at the top, so that a chain stays one level deep."""
        if self._message.WhichOneof("kind") == kind:
            return list(getattr(self._message, kind).filters)
        return [self._message]


class Attribute:
    """An attribute of samples by its name; compare it to get a filter."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return self._compare("=", value)

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return self._compare("!=", value)

    def __lt__(self, value: AttributeScalar) -> Filter:
        return self._compare("<", value)

    def __le__(self, value: AttributeScalar) -> Filter:
        return self._compare("<=", value)

    def __gt__(self, value: AttributeScalar) -> Filter:
        return self._compare(">", value)

    def __ge__(self, value: AttributeScalar) -> Filter:
        return self._compare(">=", value)

    __hash__ = None  # type: ignore[assignment]

    def isin(self, values: Iterable[AttributeScalar]) -> Filter:
        """True where the attribute is one of `values`, 1 to 10,000 of them in whatever holds them."""
        wire = [attribute_value(value) for value in column(values, "isin", ordered=False)]
        return Filter(pb.Filter(one_of=pb.Filter.Membership(attribute=self._name, values=wire)))

    def _compare(self, sign: str, value: object) -> Filter:
        compared = attribute_value(value)
        return Filter(pb.Filter(compare=pb.Filter.Comparison(attribute=self._name, op=_OPS[sign], value=compared)))


def attr(name: str) -> Attribute:
    """The attribute of this name."""
    return Attribute(name)


def ids(values: Iterable[Any]) -> Filter:
    """True for the samples with these ids, 1 to 100,000 of them; what is taken for an id is said at
    `Client.add_samples`."""
    return Filter(pb.Filter(ids=pb.Filter.Ids(ids=texts(values, Place("ids"), ordered=False))))


def parse_filter(text: str) -> Filter:
    """The filter that a line of text stands for: conditions ``name op value``, joined by commas or ``and``.

    Operators are ``= != < <= > >=``. A value is a number, ``true`` or ``false``, or else text; text in double quotes
    (JSON) stays text whatever it looks like: ``lang=en, score>=0.5, zip="01234"``.

    Raises:
        ValueError: the text cannot be read.
    """
    found: Filter | None = None
    position = 0
    while position < len(text) or found is None:
        match = _CONDITION.match(text, position)
        if match is None or not match["value"]:
            raise ValueError(f"cannot read {text[position:]!r}: write conditions such as lang=en, score>=0.5")
        condition = Attribute(match["name"])._compare(match["op"], parse_value(match["value"]))
        found = condition if found is None else found & condition
        position = match.end()
    return found


def attribute_value(value: object) -> pb.AttributeValue:
    """The message of one attribute value.

    Raises:
        TypeError: no text, number or truth value.
        ValueError: not finite.
    """
    scalar = plain(value)
    if scalar is None or (isinstance(scalar, float) and not math.isfinite(scalar)):
        raise ValueError(f"an attribute cannot be {value}")
    if isinstance(scalar, bool):
        return pb.AttributeValue(bool_value=scalar)
    if isinstance(scalar, int):
        return pb.AttributeValue(int64_value=scalar)
    if isinstance(scalar, float):
        return pb.AttributeValue(double_value=scalar)
    if isinstance(scalar, str | UUID):
        return pb.AttributeValue(string_value=str(scalar))
    raise TypeError(f"an attribute is text, a number or a truth value, not {shown(value)}, {kind_of(value)}")


def attribute_scalar(message: pb.AttributeValue) -> AttributeScalar | None:
    """The value of an attribute; None where it is unset."""
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    value: AttributeScalar = getattr(message, kind)
    return value


def parse_value(text: str) -> AttributeScalar:
    """The value that a text stands for, as in a filter. Raises ValueError for a broken JSON string."""
    if text in ("true", "false"):
        return text == "true"
    if text.startswith('"'):
        return _parse_quoted(text)
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _parse_quoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError as error:
        raise ValueError(f"cannot read {text}: text in double quotes is a JSON string") from error


def _text(message: pb.Filter) -> str:
    match message.WhichOneof("kind"):
        case "compare":
            comparison = message.compare
            sign = _SIGNS.get(comparison.op, "?")
            return f"{comparison.attribute} {sign} {attribute_scalar(comparison.value)!r}"
        case "one_of":
            values = ", ".join(repr(attribute_scalar(value)) for value in message.one_of.values)
            return f"{message.one_of.attribute} in ({values})"
        case "all_of":
            return " and ".join(_text(part) for part in message.all_of.filters)
        case "any_of":
            return f"({' or '.join(_text(part) for part in message.any_of.filters)})"
        case "negation":
            return f"not {_text(message.negation)}"
        case "ids":
            return f"{len(message.ids.ids)} ids"
        case _:
            return "all"
