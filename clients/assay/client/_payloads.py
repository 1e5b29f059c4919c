"""Payloads: what a person looks at to label a sample, as bytes of one media type."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from assay.client._values import Place, column, json_value, kind_of, shown

_TEXT: Final = "text/plain"
_JSON: Final = "application/json"
_LEGACY_JSON: Final = "text/json"
_TOO_DEEP: Final = "is nested too deeply for JSON, or holds itself"
_BYTES: Final = "application/octet-stream"


def payload_column(values: Any, media_type: str | None, place: Place) -> tuple[Sequence[bytes] | None, str]:
    """A column of payloads for the wire, and its media type.

    Raises:
        ValueError: several kinds without a media type; what JSON cannot say, such as NaN; under the name of JSON, what
            is none.
        TypeError: no column, or a value that is neither text, bytes nor an object of JSON.
    """
    if values is None:
        return None, ""
    if media_type == "":
        raise ValueError("media_type is empty: None lets text and JSON be recognised")
    payloads = column(values, place.what)
    kinds = {_kind(payload, place, row) for row, payload in enumerate(payloads) if payload is not None}
    if len(kinds) > 1 and media_type is None:
        raise ValueError(f"payloads mix {', '.join(sorted(kinds))}: give one kind, or name the media_type")
    named = next(iter(kinds), "") if media_type is None else media_type
    encoded = [_encoded(payload, place, row) for row, payload in enumerate(payloads)]
    if is_json(named) and kinds != {_JSON}:
        _check_json(encoded, place)
    return encoded, named


def is_json(media_type: str) -> bool:
    """Whether payloads of this media type are JSON documents (RFC 6839, section 3.1; WHATWG MIME Sniffing, 4.6)."""
    essence = media_type.partition(";")[0].strip().lower()
    return essence in (_JSON, _LEGACY_JSON) or essence.endswith("+json")


def _kind(payload: Any, place: Place, row: int) -> str:
    match payload:
        case str():
            return _TEXT
        case bytes() | bytearray() | memoryview():
            return _BYTES
        case Mapping() | list() | tuple():
            return _JSON
    raise TypeError(f"{place.at(row)} is {shown(payload)}, {kind_of(payload)}; text, bytes or a mapping is needed")


def _encoded(payload: Any, place: Place, row: int) -> bytes:
    match payload:
        case None:
            return b""
        case str():
            return _utf8(payload, place, row)
        case bytes() | bytearray() | memoryview():
            return bytes(payload)
    return _utf8(_json_text(payload, place, row), place, row)


def _json_text(payload: Any, place: Place, row: int) -> str:
    try:
        return json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError(f"{place.at(row)} {_TOO_DEEP}") from None
    except (TypeError, ValueError):
        # Scalars and arrays of other libraries; or what is wrong, and where.
        try:
            told = json_value(payload, place.at(row))
            return json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except RecursionError:
            raise ValueError(f"{place.at(row)} {_TOO_DEEP}") from None


def _utf8(text: str, place: Place, row: int) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{place.at(row)} is {shown(text)}, which cannot be written as UTF-8") from error


def _check_json(payloads: Sequence[bytes], place: Place) -> None:
    for row, payload in enumerate(payloads):
        try:
            if payload:
                json.loads(payload.decode(), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place.at(row)} is no JSON: {error}") from error


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no value of JSON")
