"""Parameters of a strategy: a frozen dataclass, its JSON Schema, and strict parsing from a mapping.

A field says what it accepts in its metadata:
`alpha: float = field(default=1.0, metadata={"doc": "...", "minimum": 0.0, "maximum": 10.0})`;
`start: Literal["first", "mean"] = field(default="first", metadata={"doc": "..."})`.
Types: bool, int, float, str, Literal of one of them (or "enum" in the metadata), and tuple[float, ...], whose bounds
hold for each item. Every field has a default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from assay.strategies.errors import InvalidParams

P = TypeVar("P")

_LARGEST = float(np.finfo(np.float32).max)

_JSON_TYPES: dict[type[Any], str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_LIST = tuple[float, ...]


def schema(params_type: type[Any]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a parameter dataclass. Raises TypeError for a field it cannot describe."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": params_type.__name__,
        "type": "object",
        "additionalProperties": False,
        "properties": {rule.name: rule.described() for rule in _rules(params_type)},
    }


def parse(params_type: type[P], values: Mapping[str, Any]) -> P:
    """The parameters of a mapping, defaults filled in.

    Raises InvalidParams, naming the field and what it accepts, for an unknown key, a wrong type, NaN, a value out of
    range or beyond float32, in which strategies compute. A whole float counts as an int and an int as a float: JSON
    does not tell them apart.
    """
    rules = {rule.name: rule for rule in _rules(params_type)}
    for name in values:
        if name not in rules:
            raise InvalidParams(str(name), f"unknown; accepted: {', '.join(rules) or 'none'}")
    return params_type(**{name: rules[name].checked(value) for name, value in values.items()})


@dataclasses.dataclass(frozen=True)
class _Rule:
    """What one field accepts."""

    name: str
    type: type[Any]
    default: Any
    doc: str | None
    minimum: Any
    maximum: Any
    enum: tuple[Any, ...] | None

    def described(self) -> dict[str, Any]:
        keywords = {
            "description": self.doc,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "enum": None if self.enum is None else list(self.enum),
        }
        present = {keyword: value for keyword, value in keywords.items() if value is not None}
        if self.type is not tuple:
            return {"type": _JSON_TYPES[self.type], "default": self.default, **present}
        described = {"description": present.pop("description")} if self.doc is not None else {}
        return {"type": "array", "items": {"type": "number", **present}, "default": list(self.default), **described}

    def checked(self, value: Any) -> Any:
        converted = _converted_items(value) if self.type is tuple else _converted(self.type, value)
        items = converted if self.type is tuple and converted is not None else (converted,)
        if converted is None or not all(self._accepts(item) for item in items):
            raise InvalidParams(self.name, f"{value!r} is refused; accepted: {self._accepted()}")
        return converted

    def _accepts(self, value: Any) -> bool:
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.enum is None or value in self.enum)
        )

    def _accepted(self) -> str:
        if self.enum is not None:
            return ", ".join(repr(choice) for choice in self.enum)
        bounds = [f"at least {self.minimum}"] * (self.minimum is not None)
        bounds += [f"at most {self.maximum}"] * (self.maximum is not None)
        name = "list of numbers" if self.type is tuple else _JSON_TYPES[self.type]
        return " ".join([name, " and ".join(bounds)]).strip()


def _rules(params_type: type[Any]) -> list[_Rule]:
    hints = get_type_hints(params_type)
    return [_rule(field, hints[field.name]) for field in dataclasses.fields(params_type)]


def _rule(field: dataclasses.Field[Any], hint: Any) -> _Rule:
    literal = get_origin(hint) is Literal
    choices: tuple[Any, ...] | None = get_args(hint) if literal else field.metadata.get("enum")
    kind = type(get_args(hint)[0]) if literal else tuple if hint == _LIST else hint
    if kind not in (*_JSON_TYPES, tuple) or field.default is dataclasses.MISSING:
        raise TypeError(f"parameter {field.name!r} must be a bool, int, float, str or tuple[float, ...] with a default")
    bounds = field.metadata.get("minimum"), field.metadata.get("maximum")
    return _Rule(field.name, kind, field.default, field.metadata.get("doc"), *bounds, choices)


def _converted_items(value: Any) -> tuple[float, ...] | None:
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        return None
    items = [_converted(float, item) for item in value]
    return None if None in items else tuple(item for item in items if item is not None)


def _converted(kind: type[Any], value: Any) -> Any:
    """`value` as `kind`, or None where that would change its meaning. Scalars of numpy are those of Python."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if isinstance(value, bool) or kind in (bool, str):
        return value if type(value) is kind else None
    if not isinstance(value, (int, float)) or not -_LARGEST <= value <= _LARGEST:
        return None
    return kind(value) if kind is float or value == int(value) else None
