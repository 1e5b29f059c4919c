"""Makes good messages bad: one to three edits anywhere in them, or in their bytes."""

import math
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

WORDS = (
    "", " ", "a", "b", "c", "s1", "s2", "text", "n", "lang", "margin", "random", "k_center", "badge", "top", "nope",
    "pools/", "pools/main", "pools/raw", "pools/empty", "pools/../main", "pools/main/models/../../x", "/", ".", "-1",
    "pools/main/leases/1-0", "../../../etc/passwd", "\x00", "a\nb", "\u202e\u0000", "\N{ROCKET}" * 80, "é", "%s%n",
    "{}", "'; DROP TABLE pools; --", "x" * 300, "y" * 3_000, "z" * 100_000, "NaN", "true",
)  # fmt: skip
INTS = (0, 1, -1, 2, 3, 7, 100, 1_000, 65_536, 100_001, 2**31, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**40)
SINGLES = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-45, 3e38, -3e38, math.inf, -math.inf, math.nan, 1e6)
FLOATS = (*SINGLES, 1e-320, 1e39, 1e308, -1e308)
REPEATS = (0, 1, 2, 17, 1_000)
DEPTH = 3

_RANGES = {
    Field.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    Field.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    Field.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    Field.CPPTYPE_UINT64: (0, (1 << 64) - 1),
    Field.CPPTYPE_ENUM: (-1, 99),
}


def mutate(rng: Random, message: Message) -> None:
    """Edits a message in place."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        _edit(rng, _somewhere(rng, message))


def garble(rng: Random, data: bytes) -> bytes:
    """Bytes that are nearly those, or nothing like them."""
    content = bytearray(data)
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.choice((0, 1, 7, 64, 4_096)))
    if kind == 1 and content:
        return bytes(content[: rng.randrange(len(content))])
    if kind == 2:
        return bytes(content) + rng.randbytes(rng.randrange(1, 64))
    if kind == 3:
        return bytes(content) * rng.choice((2, 3, 50))
    if kind == 4:
        return b"\x0a" * rng.choice((50, 500, 20_000)) + bytes(content)  # messages within messages, as deep as they go
    for _ in range(rng.randrange(1, 9)):
        if content:
            content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def _somewhere(rng: Random, message: Message) -> Message:
    """The message itself or one inside it."""
    inside = [message]
    for field, value in message.ListFields():
        if field.cpp_type == Field.CPPTYPE_MESSAGE and not _is_map(field):
            inside += list(value) if field.is_repeated else [value]
    chosen = rng.choice(inside)
    return chosen if chosen is message or rng.random() < 0.3 else _somewhere(rng, chosen)


def _edit(rng: Random, message: Message) -> None:
    fields = message.DESCRIPTOR.fields
    if not fields:
        return
    field = rng.choice(fields)
    if rng.random() < 0.2:
        message.ClearField(field.name)
    elif _is_map(field):
        _edit_map(rng, getattr(message, field.name))
    elif field.is_repeated:
        _edit_list(rng, getattr(message, field.name), field)
    elif field.cpp_type == Field.CPPTYPE_MESSAGE:
        _fill(rng, getattr(message, field.name), DEPTH)
    else:
        setattr(message, field.name, _scalar(rng, field, getattr(message, field.name)))


def _edit_list(rng: Random, values: Any, field: Any) -> None:
    kind = rng.randrange(4)
    if kind == 0 and values:
        del values[rng.randrange(len(values))]
    elif kind == 1 and values:
        values.extend(list(values)[:50] * rng.choice((1, 1, 20)))
    elif kind == 2 and values and field.cpp_type != Field.CPPTYPE_MESSAGE:
        place = rng.randrange(len(values))
        values[place] = _scalar(rng, field, values[place])
    else:
        for _ in range(rng.choice(REPEATS)):
            _append(rng, values, field)


def _append(rng: Random, values: Any, field: Any) -> None:
    if field.cpp_type == Field.CPPTYPE_MESSAGE:
        _fill(rng, values.add(), 1)
    else:
        values.append(_scalar(rng, field, None))


def _edit_map(rng: Random, values: Any) -> None:
    """A map's value may be a message (of Struct: anything)."""
    key = rng.choice(WORDS[:30])
    try:
        entry = values[key]
    except (KeyError, TypeError, ValueError):
        return
    if isinstance(entry, Message):
        _fill(rng, entry, DEPTH)


def _fill(rng: Random, message: Message, depth: int) -> None:
    """Sets some fields of a message to anything."""
    message.SetInParent()
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.5:
            continue
        if _is_map(field):
            _edit_map(rng, getattr(message, field.name))
        elif field.is_repeated:
            for _ in range(rng.randrange(3)):
                if depth:
                    _append(rng, getattr(message, field.name), field)
        elif field.cpp_type == Field.CPPTYPE_MESSAGE:
            if depth:
                _fill(rng, getattr(message, field.name), depth - 1)
        else:
            setattr(message, field.name, _scalar(rng, field, None))


def _scalar(rng: Random, field: Any, before: Any) -> Any:
    kind = field.cpp_type
    if kind in _RANGES:
        low, high = _RANGES[kind]
        return min(max(rng.choice(INTS), low), high)
    if kind in (Field.CPPTYPE_DOUBLE, Field.CPPTYPE_FLOAT):
        return rng.choice(FLOATS)
    if kind == Field.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.type == Field.TYPE_BYTES:
        return _bytes(rng, before or b"")
    return rng.choice(_TEXTS)(rng, before or "")


def _bytes(rng: Random, before: bytes) -> bytes:
    numbers = struct.pack("<8f", *(rng.choice(SINGLES) for _ in range(8)))
    middle = before[: len(before) // 2]
    return rng.choice((b"", before[:-1], before + b"\x00", numbers, middle + numbers, rng.randbytes(37)))


_TEXTS: tuple[Callable[[Random, str], str], ...] = (
    lambda rng, before: rng.choice(WORDS),
    lambda rng, before: rng.choice(WORDS),
    lambda rng, before: before + rng.choice(WORDS[:20]),
    lambda rng, before: before[: rng.randrange(len(before) + 1)],
)


def _is_map(field: Any) -> bool:
    kind = field.message_type
    return kind is not None and kind.GetOptions().map_entry
