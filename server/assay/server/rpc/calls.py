"""What all servicers share: running a method in a lane, and remembered requests."""

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, Concatenate, Literal, TypeVar

import xxhash
from google.protobuf.message import Message

from assay.server.core.assay import Assay
from assay.server.core.errors import RequestReplayed
from assay.server.core.records.requests import RequestKey
from assay.server.rpc.convert.scalars import request_id
from assay.server.rpc.current import Context
from assay.server.rpc.execution import Lane, Lanes
from assay.server.rpc.gate import Gate
from assay.server.rpc.streams import Pulled

LaneName = Literal["compute", "batch", "io", "ingest", "upload", "wait"]
S = TypeVar("S", bound="Edge")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class Edge:
    """Base of the servicers: the way to the core and the lanes to go it in."""

    def __init__(self, gate: Gate, lanes: Lanes) -> None:
        self.gate = gate
        self.lanes = lanes

    @property
    def core(self) -> Assay:
        """The core. Raises EdgeError(STARTING) while it is not open."""
        return self.gate.core

    @property
    def reply_bytes(self) -> int:
        """Bytes that a reply may have."""
        return self.core.limits.max_reply_bytes

    def lane(self, name: LaneName) -> Lane:
        """A lane by name."""
        lane: Lane = getattr(self.lanes, name)
        return lane


def unary(
    lane: LaneName, response_type: type[Response]
) -> Callable[[Callable[[S, Request], Response]], Callable[[S, Request, Context], Coroutine[Any, Any, Response]]]:
    """Makes a blocking method an RPC: it runs in a lane, and a remembered response is given again."""

    def decorate(
        method: Callable[[S, Request], Response],
    ) -> Callable[[S, Request, Context], Coroutine[Any, Any, Response]]:
        @functools.wraps(method)
        async def rpc(self: S, request: Request, context: Context) -> Response:
            try:
                return await self.lane(lane).run(method, self, request)
            except RequestReplayed as replay:
                return response_type.FromString(replay.response)

        return rpc

    return decorate


def request_key(method: str, pool_id: str, request: Message, encode: Callable[[Any], Message]) -> RequestKey:
    """Idempotency of a request with a request_id field; its other fields make the fingerprint.

    Raises:
        AssayError: INVALID_ARGUMENT for a request id that is too long.
    """
    key = request_id(getattr(request, "request_id"))  # noqa: B009 - every mutation has the field, Message does not
    return RequestKey(
        request_id=key,
        scope=f"{method}/{pool_id}",
        fingerprint=_fingerprint(request) if key else "",
        encode=lambda result: encode(result).SerializeToString(),
    )


def _fingerprint(request: Message) -> str:
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


def bind(function: Callable[Concatenate[str, ...], Response], pool_id: str) -> Callable[[Any], Response]:
    """A conversion that needs the pool's id, with it."""
    return functools.partial(function, pool_id)


def streamed(
    lane: LaneName,
) -> Callable[
    [Callable[[S, Request], Generator[Response, None, None]]], Callable[[S, Request, Context], AsyncIterator[Response]]
]:
    """Makes a blocking generator an RPC that streams: each message is made in a lane when the one before is sent.

    A caller that leaves while a message is being made drops the generator; it ends with that message.
    """

    def decorate(
        method: Callable[[S, Request], Generator[Response, None, None]],
    ) -> Callable[[S, Request, Context], AsyncIterator[Response]]:
        @functools.wraps(method)
        async def rpc(self: S, request: Request, context: Context) -> AsyncIterator[Response]:
            messages = Pulled(method(self, request))
            try:
                while (message := await self.lane(lane).run(messages.next)) is not None:
                    yield message
            finally:
                messages.close()

        return rpc

    return decorate
