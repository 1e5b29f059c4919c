"""Parameters: schema and strict parsing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from assay.strategies import InvalidParams
from assay.strategies.params import parse, schema


@dataclass(frozen=True)
class Example:
    alpha: float = field(default=1.5, metadata={"doc": "Weight.", "minimum": 0.0, "maximum": 10.0})
    rounds: int = field(default=3, metadata={"doc": "Rounds.", "minimum": 1})
    exact: bool = field(default=False, metadata={"doc": "Whether exact."})
    start: Literal["first", "mean"] = field(default="mean", metadata={"doc": "Where to start."})
    mode: str = field(default="a", metadata={"doc": "A mode.", "enum": ("a", "b")})


def test_schema_says_what_is_accepted() -> None:
    described = schema(Example)
    Draft202012Validator.check_schema(described)
    assert described["additionalProperties"] is False
    assert described["properties"] == {
        "alpha": {"type": "number", "default": 1.5, "description": "Weight.", "minimum": 0.0, "maximum": 10.0},
        "rounds": {"type": "integer", "default": 3, "description": "Rounds.", "minimum": 1},
        "exact": {"type": "boolean", "default": False, "description": "Whether exact."},
        "start": {"type": "string", "default": "mean", "description": "Where to start.", "enum": ["first", "mean"]},
        "mode": {"type": "string", "default": "a", "description": "A mode.", "enum": ["a", "b"]},
    }


def test_parse_fills_in_defaults_and_converts_numbers_of_json() -> None:
    parsed = parse(Example, {"alpha": 2, "rounds": 4.0})
    assert parsed == Example(alpha=2.0, rounds=4)
    assert type(parsed.alpha) is float
    assert type(parsed.rounds) is int


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("alpha", -0.1, "at least 0.0 and at most 10.0"),
        ("alpha", float("nan"), "number"),
        ("alpha", float("inf"), "number"),
        ("alpha", 10**400, "number"),
        ("alpha", "1", "number"),
        ("alpha", True, "number"),
        ("alpha", None, "number"),
        ("rounds", 1.5, "integer at least 1"),
        ("rounds", 0, "integer at least 1"),
        ("exact", 1, "boolean"),
        ("start", "last", "'first', 'mean'"),
        ("start", 1, "'first', 'mean'"),
        ("mode", "c", "'a', 'b'"),
        ("nothing", 1, "alpha, rounds"),
    ],
)
def test_parse_names_the_field_and_what_it_accepts(name: str, value: Any, accepted: str) -> None:
    with pytest.raises(InvalidParams, match=f"{name}.*{accepted}") as caught:
        parse(Example, {name: value})
    assert caught.value.field == name
    assert caught.value.reason == "INVALID_PARAMETER"


def test_schema_refuses_a_field_that_it_cannot_describe() -> None:
    @dataclass(frozen=True)
    class Undescribed:
        values: list[int] = field(default_factory=list)

    with pytest.raises(TypeError, match="values"):
        schema(Undescribed)


@dataclass(frozen=True)
class Wide:
    gamma: float = field(default=1.0, metadata={"doc": "Width.", "minimum": 0.0})
    weights: tuple[float, ...] = field(default=(1.0,), metadata={"doc": "Weights."})


@pytest.mark.parametrize("number", [np.int64(5), np.float32(5), np.float64(5), np.array(5), np.uint8(5)])
def test_numbers_of_numpy_are_numbers(number: Any) -> None:
    assert parse(Example, {"rounds": number, "alpha": number}) == Example(rounds=5, alpha=5.0)
    assert parse(Example, {"exact": np.True_, "start": np.str_("first")}) == Example(exact=True, start="first")
    assert parse(Wide, {"weights": np.array([1, 2])}) == Wide(weights=(1.0, 2.0))


@pytest.mark.parametrize("value", [1e39, float("inf"), float("nan"), np.float64(1e300), 10**400, np.array([1.0]), "5"])
def test_numbers_that_strategies_cannot_compute_with_are_refused(value: Any) -> None:
    with pytest.raises(InvalidParams, match="gamma"):
        parse(Wide, {"gamma": value})
