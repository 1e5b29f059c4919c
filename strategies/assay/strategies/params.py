"""Parameters of a strategy: a frozen dataclass, its JSON Schema, and strict parsing from a mapping.

A field says what it accepts in its metadata:
`alpha: float = field(default=1.0, metadata={"doc": "...", "minimum": 0.0, "maximum": 10.0})`;
`start: str = field(default="first", metadata={"doc": "...", "enum": ("first", "mean")})`.
Types: bool, int, float, str. Every field has a default.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from assay.strategies.errors import InvalidParams

P = TypeVar("P")

_JSON_TYPES: dict[type[Any], str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_KEYWORDS = ("minimum", "maximum", "enum")


def schema(params_type: type[Any]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a parameter dataclass. Raises TypeError for a field it cannot describe."""
    types = get_type_hints(params_type)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": params_type.__name__,
        "type": "object",
        "additionalProperties": False,
        "properties": {f.name: _field_schema(f, types[f.name]) for f in dataclasses.fields(params_type)},
    }


def parse(params_type: type[P], values: Mapping[str, Any]) -> P:
    """The parameters of a mapping, defaults filled in.

    Raises InvalidParams, naming the field and what it accepts, for an unknown key, a wrong type, NaN, or a value
    out of range. A whole float counts as an int and an int as a float: JSON does not tell them apart.
    """
    fields = {f.name: f for f in dataclasses.fields(params_type)}  # type: ignore[arg-type]
    types = get_type_hints(params_type)
    for name in values:
        if name not in fields:
            raise InvalidParams(str(name), f"unknown; accepted: {', '.join(fields) or 'none'}")
    return params_type(**{name: _checked(fields[name], types[name], value) for name, value in values.items()})


def _field_schema(f: dataclasses.Field[Any], kind: type[Any]) -> dict[str, Any]:
    if kind not in _JSON_TYPES or f.default is dataclasses.MISSING:
        raise TypeError(f"parameter {f.name!r} must be a bool, int, float or str with a default")
    described: dict[str, Any] = {"type": _JSON_TYPES[kind], "default": f.default}
    if "doc" in f.metadata:
        described["description"] = f.metadata["doc"]
    for keyword in _KEYWORDS:
        if keyword in f.metadata:
            bound = f.metadata[keyword]
            described[keyword] = list(bound) if keyword == "enum" else bound
    return described


def _checked(f: dataclasses.Field[Any], kind: type[Any], value: Any) -> Any:
    converted = _converted(kind, value)
    if converted is None or not _accepted(f.metadata, converted):
        raise InvalidParams(f.name, f"{value!r} is refused; accepted: {_accepts(f.metadata, kind)}")
    return converted


def _converted(kind: type[Any], value: Any) -> Any:
    """`value` as `kind`, or None where that would change its meaning."""
    if isinstance(value, bool) or kind in (bool, str):
        return value if type(value) is kind else None
    if not isinstance(value, (int, float)) or not -sys.float_info.max <= value <= sys.float_info.max:
        return None
    return kind(value) if kind is float or value == int(value) else None


def _accepted(metadata: Mapping[str, Any], value: Any) -> bool:
    return (
        ("minimum" not in metadata or value >= metadata["minimum"])
        and ("maximum" not in metadata or value <= metadata["maximum"])
        and ("enum" not in metadata or value in metadata["enum"])
    )


def _accepts(metadata: Mapping[str, Any], kind: type[Any]) -> str:
    if "enum" in metadata:
        return ", ".join(repr(choice) for choice in metadata["enum"])
    low, high = metadata.get("minimum"), metadata.get("maximum")
    bounds = [f"at least {low}"] * (low is not None) + [f"at most {high}"] * (high is not None)
    return " ".join([_JSON_TYPES[kind], ", ".join(bounds)]).strip()
