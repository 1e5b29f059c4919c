"""Small things on the wire: enums, times, counts, request ids."""

import math
from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.arrays import Scalar
from assay.v1 import types_pb2

T = TypeVar("T")

MAX_REQUEST_ID = 128
MAX_DURATION_S = 315_576_000_000
NANOS = 1_000_000_000


def choice(table: Mapping[int, T], value: int, field: str) -> T:
    """The domain's word for an enum value. Raises AssayError(INVALID_ARGUMENT) for one that is not in the table."""
    try:
        return table[value]
    except KeyError:
        raise AssayError(
            Reason.INVALID_ARGUMENT,
            f"{field} has no usable value {value}. Use one of its declared values.",
            field=field,
        ) from None


def bounded_or(request: Message, field: str, low: int, high: int, default: int) -> int:
    """A count within its bounds, or its default where the request leaves it unset. Raises
    AssayError(INVALID_ARGUMENT)."""
    return bounded(getattr(request, field), low, high, field) if request.HasField(field) else default


def bounded(value: int, low: int, high: int, field: str) -> int:
    """A count within its bounds. Raises AssayError(INVALID_ARGUMENT)."""
    if not low <= value <= high:
        raise AssayError(
            Reason.INVALID_ARGUMENT, f"{field} is {value}; it must be from {low:,} to {high:,}.", field=field
        )
    return value


def request_id(value: str) -> str:
    """A request id of at most 128 characters. Raises AssayError(INVALID_ARGUMENT)."""
    if len(value) > MAX_REQUEST_ID or not value.isprintable():
        raise AssayError(
            Reason.INVALID_ARGUMENT,
            f"request_id must be at most {MAX_REQUEST_ID} printable characters. A random UUID serves well.",
            field="request_id",
        )
    return value


def seconds(duration: Duration, field: str) -> float:
    """Length of a well-formed duration. Raises AssayError(INVALID_ARGUMENT)."""
    signs_agree = duration.seconds * duration.nanos >= 0
    if abs(duration.seconds) > MAX_DURATION_S or abs(duration.nanos) >= NANOS or not signs_agree:
        raise AssayError(Reason.INVALID_ARGUMENT, f"{field} is no valid duration.", field=field)
    return duration.seconds + duration.nanos / NANOS


def bounded_seconds(duration: Duration, low: float, high: float, field: str) -> float:
    """Length of a duration within its bounds. Raises AssayError(INVALID_ARGUMENT)."""
    value = seconds(duration, field)
    if not low <= value <= high:
        raise AssayError(
            Reason.INVALID_ARGUMENT, f"{field} is {value:g} s; it must be from {low:g} s to {high:g} s.", field=field
        )
    return value


def finite(value: float, field: str) -> float:
    """A finite number. Raises AssayError(NOT_FINITE)."""
    if not math.isfinite(value):
        raise AssayError(Reason.NOT_FINITE, f"{field} is {value}; it must be finite.", field=field)
    return value


def duration_message(value: float) -> Duration:
    """A duration of so many seconds."""
    whole = math.floor(value)
    nanos = round((value - whole) * NANOS)
    return Duration(seconds=whole + nanos // NANOS, nanos=nanos % NANOS)


def timestamp_message(value: float) -> Timestamp:
    """A moment, from seconds since the Unix epoch, to the microsecond."""
    micros = round(value * 1_000_000)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def scalar_message(value: Scalar) -> types_pb2.AttributeValue:
    """Value of an attribute for the wire."""
    match value:
        case bool():
            return types_pb2.AttributeValue(bool_value=value)
        case int():
            return types_pb2.AttributeValue(int64_value=value)
        case float():
            return types_pb2.AttributeValue(double_value=value)
        case str():
            return types_pb2.AttributeValue(string_value=value)
