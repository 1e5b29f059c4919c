"""Parameters of strategies: JSON-like values as google.protobuf.Struct."""

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value

from assay.server.core.errors import AssayError, Reason

MAX_STRUCT_DEPTH = 16
LARGEST_EXACT_INT = 2**53


def params(struct: Struct) -> dict[str, Any]:
    """Parameters of a strategy. JSON knows one kind of number, so whole ones become int.

    Raises:
        AssayError: INVALID_PARAMETER for a number that is not finite, an unset value, or too deep a nesting.
    """
    return {name: _plain(value, name, 1) for name, value in struct.fields.items()}


def _plain(value: Value, name: str, depth: int) -> Any:
    if depth > MAX_STRUCT_DEPTH:
        raise AssayError(Reason.INVALID_PARAMETER, f"Parameter {name[:100]!r} is nested too deep.")
    match value.WhichOneof("kind"):
        case "null_value":
            return None
        case "number_value":
            return _number(value.number_value, name)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return {key: _plain(part, name, depth + 1) for key, part in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(part, name, depth + 1) for part in value.list_value.values]
        case _:
            raise AssayError(Reason.INVALID_PARAMETER, f"Parameter {name[:100]!r} has an unset value.")


def _number(value: float, name: str) -> int | float:
    if not math.isfinite(value):
        raise AssayError(Reason.INVALID_PARAMETER, f"Parameter {name[:100]!r} is not finite.")
    return int(value) if value.is_integer() and abs(value) <= LARGEST_EXACT_INT else value


def struct_message(values: Mapping[str, Any]) -> Struct:
    """A JSON-like mapping for the wire; tuples become lists."""
    struct = Struct()
    struct.update({key: _jsonable(value) for key, value in values.items()})
    return struct


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(part) for part in value]
    return value
