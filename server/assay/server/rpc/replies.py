"""Replies of mutations: built once, measured before anything is stored, remembered small, and given again alike.

Of a reply is remembered what the server would not know again: ids, scores, times. What lies in files that never change
(payloads, attributes) or came with the request (the plan, class names) is put back when the request is repeated.
"""

import zlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import xxhash
from google.protobuf.message import Message

from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.requests import RequestKey
from assay.server.rpc.convert.scalars import request_id

M = TypeVar("M", bound=Message)

# Shorter answers gain nothing by being compressed.
WORTH_COMPRESSING = 512
PLAIN, COMPRESSED = b"\0", b"\1"


class Reply(Generic[M]):
    """The reply of one mutation.

    Args:
        method: name of the RPC.
        request_id: the caller's; empty where the request is not remembered.
        fingerprint: tells the bodies of requests apart.
        build: makes the reply of a result.
        most_bytes: bytes that a reply may have.
        small: the result without what can be put back.
        extra: what else is needed to put it back.
    """

    def __init__(
        self,
        method: str,
        request_id: str,
        fingerprint: str,
        build: Callable[[Any], M],
        most_bytes: int,
        small: Callable[[Any], Any] = lambda result: result,
        extra: Callable[[Any], bytes] = lambda _: b"",
    ) -> None:
        self.key = RequestKey(request_id, method, fingerprint, self._encode)
        self._build = build
        self._most_bytes = most_bytes
        self._small = small
        self._extra = extra
        self._message: M | None = None

    @property
    def message(self) -> M:
        """The reply, once the request was answered."""
        assert self._message is not None, "a mutation gives its answer before it ends"
        return self._message

    def _encode(self, result: Any) -> bytes:
        message = self._build(result)
        size = message.ByteSize()
        if size > self._most_bytes:
            raise AssayError(
                Reason.TOO_LARGE,
                f"The reply would have {size:,} bytes; at most {self._most_bytes:,} are sent (max_message_bytes). "
                "Nothing was done. Ask for fewer samples at once, or leave their payloads out.",
                bytes=size,
                most=self._most_bytes,
            )
        self._message = message
        if not self.key.request_id:
            return b""
        small = self._small(result)
        return pack(message if small is result else self._build(small), self._extra(result))


def pack(message: Message, extra: bytes = b"") -> bytes:
    """A message, and what goes with it, as they are remembered."""
    content = len(extra).to_bytes(4, "little") + extra + message.SerializeToString()
    return PLAIN + content if len(content) < WORTH_COMPRESSING else COMPRESSED + zlib.compress(content, 1)


def unpack(kept: bytes, kind: type[M]) -> tuple[M, bytes]:
    """Inverse of pack."""
    content = zlib.decompress(kept[1:]) if kept[:1] == COMPRESSED else kept[1:]
    start = 4 + int.from_bytes(content[:4], "little")
    return kind.FromString(content[start:]), content[4:start]


def id_of(request: Message) -> str:
    """The id of a request. Raises AssayError(INVALID_ARGUMENT) for one that is too long."""
    return request_id(getattr(request, "request_id"))  # noqa: B009 - every mutation has the field, Message does not


def fingerprint(request: Message) -> str:
    """Digest of a request, its id left out."""
    rest = type(request)()
    rest.CopyFrom(request)
    rest.ClearField("request_id")
    return digest(rest)


def digest(*messages: Message) -> str:
    """XXH3-128 of messages, hexadecimal: it tells bodies apart, and guards against nobody but the caller himself."""
    hasher = xxhash.xxh3_128()
    for message in messages:
        body = message.SerializeToString(deterministic=True)
        hasher.update(len(body).to_bytes(8, "little"))
        hasher.update(body)
    return hasher.hexdigest()
