"""Any JSON value per sample. A value is its canonical text: keys sorted, no spaces, every number in one form."""

import json
from collections.abc import Sequence
from typing import Any

from assay.server.core.errors import Reason
from assay.server.core.limits import MAX_JSON_DEPTH, MAX_VALUE_BYTES
from assay.server.core.tasks.base import Column, CommonTask, Consensus, Refused, TaskMetrics, Value, wrong_task
from assay.server.core.tasks.given import Given, JsonText
from assay.server.core.tasks.voting import checked_weights, pairwise, plurality


class Freeform(CommonTask):
    """The task of any JSON value per sample: it has no head, and people agree where they say exactly the same."""

    def value_of(self, given: Given, text_length: int | None, retired: bool) -> Value:
        if not isinstance(given, JsonText):
            raise wrong_task(given, JsonText, "one JSON value as text")
        if len(given.text) > MAX_VALUE_BYTES:
            raise _too_large(len(given.text))
        try:
            text = canonical(given.text)
        except (ValueError, RecursionError) as error:
            raise Refused(
                Reason.INVALID_VALUE,
                f"its value is no JSON that can be kept ({str(error)[:200]}). Send JSON (RFC 8259).",
            ) from None
        size = len(text.encode())
        if size > MAX_VALUE_BYTES:
            raise _too_large(size)
        return text

    def encode(self, value: Value) -> bytes:
        return str(value).encode()

    def decode(self, data: bytes) -> Value:
        text = data.decode()
        if canonical(text) != text:
            raise ValueError("no canonical JSON")
        return text

    def agreement(self, a: Value, b: Value) -> float:
        """1 for the same value, else 0."""
        return float(a == b)

    def consensus(self, values: Sequence[Value], weights: Sequence[float] | None = None) -> Consensus:
        """The value with the most weight; None if two have as much."""
        winner, share = plurality(values, checked_weights(len(values), weights))
        return Consensus(winner, share, pairwise(values, self.agreement))

    def metrics(self, values: Column, predictions: Any, seed: int = 0) -> TaskMetrics:
        """None: there are no models of it."""
        return TaskMetrics(len(values), {})

    @property
    def export_columns(self) -> tuple[str, ...]:
        return ("json",)

    def cell(self, value: Value) -> str:
        return str(value)

    def given_of(self, cell: Any) -> Given:
        if not isinstance(cell, str):
            raise TypeError("not a text")
        return JsonText(cell)


def canonical(text: str) -> str:
    """JSON text in the one form that equal values have.

    Raises ValueError or RecursionError: no JSON, a name twice in an object, a number that is not finite, half of a
    surrogate pair, or too deep.
    """
    value = json.loads(text, parse_constant=_refuse_constant, parse_float=_float, object_pairs_hook=_object)
    _check_depth(value)
    written = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    written.encode()  # a UnicodeEncodeError, which is a ValueError, for half of a surrogate pair
    return written


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no value of JSON")


def _float(digits: str) -> float:
    return float(digits) + 0.0  # without the sign of -0.0


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"an object has {name[:50]!r} twice")
            seen.add(name)
    return found


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_JSON_DEPTH + 1):
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return
        level = [part for each in level for part in (each.values() if isinstance(each, dict) else each)]
    raise ValueError(f"it is nested deeper than {MAX_JSON_DEPTH}")


def _too_large(size: int) -> Refused:
    return Refused(
        Reason.TOO_LARGE,
        f"its value has {size:,} bytes; at most {MAX_VALUE_BYTES:,} are kept. Keep it elsewhere and give its address.",
    )
