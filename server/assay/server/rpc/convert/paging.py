"""Page sizes and tokens. A token holds where the next page starts and a digest of the request that it continues."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast

from google.protobuf.message import Message

from assay.server.core.errors import AssayError, Reason

T = TypeVar("T")
M = TypeVar("M", bound=Message)
C = TypeVar("C", int, str, tuple[float, str])

MAX_PAGE = 1000
DEFAULT_PAGE = 100
MAX_TOKEN = 2048
# Bytes of a reply beside its items, and of an item's tag and length.
REPLY_MARGIN = 4096
ITEM_MARGIN = 16
MAX_INT64 = 2**63 - 1


class Paged(Protocol):
    """A request for a page."""

    page_size: int
    page_token: str


@dataclass(frozen=True, slots=True)
class Page(Generic[C]):
    """Where a page starts, how long it is, and the digest of its request."""

    after: C
    size: int
    digest: str

    @property
    def fetch(self) -> int:
        """How many to read: one more than the page holds, to see whether another follows."""
        return self.size + 1

    def cut(self, items: Sequence[T], cursor: Callable[[T], C]) -> tuple[Sequence[T], str]:
        """The page's items and the token of the next page, "" on the last."""
        if len(items) <= self.size:
            return items, ""
        shown = items[: self.size]
        return shown, self.token(cursor(shown[-1]))

    def fill(
        self,
        items: Sequence[T],
        cursor: Callable[[T], C],
        to_message: Callable[[T], M],
        most_bytes: int,
        shown: Callable[[T], bool] = lambda _: True,
    ) -> tuple[list[M], str]:
        """Messages of the page's items that are shown, as many as fit a reply, and the token of the next page, "" on
        the last. There is always one, so that pages get on; if it alone is too large, the reply is refused."""
        messages: list[M] = []
        room = most_bytes - REPLY_MARGIN
        for index, item in enumerate(items[: self.size]):
            if not shown(item):
                continue
            message = to_message(item)
            room -= message.ByteSize() + ITEM_MARGIN
            if room < 0 and messages:
                return messages, self.token(cursor(items[index - 1]))
            messages.append(message)
        return messages, self.cut(items, cursor)[1]

    def token(self, cursor: C) -> str:
        """Token of a page that starts after a cursor."""
        return _encode(cursor, self.digest)


def page(request: Paged, start: C, default: int = DEFAULT_PAGE) -> Page[C]:
    """The page that a request asks for. Sizes beyond the maximum are cut down to it.

    Raises:
        AssayError: INVALID_ARGUMENT for a negative size, INVALID_PAGE_TOKEN for a token that this request did not get.
    """
    digest = _digest(request)
    size = _size(request.page_size, default)
    return Page(_decode(request.page_token, digest, start) if request.page_token else start, size, digest)


def _size(value: int, default: int) -> int:
    if value < 0:
        raise AssayError(Reason.INVALID_ARGUMENT, f"page_size is {value}; it must be from 1 to {MAX_PAGE:,}.")
    return min(value, MAX_PAGE) or default


def _digest(request: Paged) -> str:
    message = cast(Message, request)
    rest = type(message)()
    rest.CopyFrom(message)
    for field in ("page_size", "page_token"):
        rest.ClearField(field)
    body = message.DESCRIPTOR.full_name.encode() + b"\0" + rest.SerializeToString(deterministic=True)
    return hashlib.sha256(body).hexdigest()[:16]


def _encode(cursor: object, digest: str) -> str:
    text = json.dumps([cursor, digest], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(token: str, digest: str, start: C) -> C:
    if len(token) > MAX_TOKEN:
        raise _refused()
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise _refused() from None
    if not isinstance(parts, list) or len(parts) != 2 or parts[1] != digest:
        raise _refused()
    return _typed(parts[0], start)


def _typed(cursor: object, start: C) -> C:
    if isinstance(cursor, list):
        cursor = tuple(cursor)
    if _kinds(cursor) != _kinds(start) or (isinstance(cursor, int) and not -1 <= cursor <= MAX_INT64):
        raise _refused()
    return cast(C, cursor)


def _kinds(cursor: object) -> tuple[type, ...]:
    return (type(cursor), *map(type, cursor)) if isinstance(cursor, tuple) else (type(cursor),)


def _refused() -> AssayError:
    return AssayError(
        Reason.INVALID_PAGE_TOKEN,
        "The page token was not given out for this request. Repeat the request of the page before, with its "
        "next_page_token, or start without a token.",
    )
