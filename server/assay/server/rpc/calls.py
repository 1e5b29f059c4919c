"""What all servicers share: running a method in an executor, and remembered requests."""

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, Concatenate, Literal, TypeVar

import xxhash
from google.protobuf.message import Message

from assay.server.core.assay import Assay
from assay.server.core.errors import RequestReplayed
from assay.server.core.records.requests import RequestKey
from assay.server.rpc.convert.scalars import request_id
from assay.server.rpc.current import Context, current_call
from assay.server.rpc.execution import Executor, Executors
from assay.server.rpc.gate import Gate
from assay.server.rpc.streams import Pulled

ExecutorName = Literal["compute", "batch", "io", "stream", "ingest", "upload"]
S = TypeVar("S", bound="BaseServicer")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
T = TypeVar("T")


class BaseServicer:
    """Base of the servicers: the way to the core and the executors to go it in."""

    def __init__(self, gate: Gate, executors: Executors) -> None:
        self.gate = gate
        self.executors = executors

    @property
    def core(self) -> Assay:
        """The core. Raises EdgeError(STARTING) while it is not open."""
        return self.gate.core

    @property
    def reply_bytes(self) -> int:
        """Bytes that a reply may have."""
        return self.core.limits.max_reply_bytes

    async def run(self, executor: ExecutorName, work: Callable[[], T], *, bounded: bool = True) -> T:
        """Runs work of the current call in an executor, in the queue of the pool that the call names; see
        Executor.run."""
        chosen: Executor = getattr(self.executors, executor)
        call = current_call()
        return await chosen.run(work, pool=call.pool, stop=call.stop, bounded=bounded)


def unary(
    executor: ExecutorName, response_type: type[Response]
) -> Callable[[Callable[[S, Request], Response]], Callable[[S, Request, Context], Coroutine[Any, Any, Response]]]:
    """Makes a blocking method an RPC: it runs in an executor, and a remembered response is given again."""

    def decorate(
        method: Callable[[S, Request], Response],
    ) -> Callable[[S, Request, Context], Coroutine[Any, Any, Response]]:
        @functools.wraps(method)
        async def rpc(self: S, request: Request, context: Context) -> Response:
            try:
                return await self.run(executor, lambda: method(self, request))
            except RequestReplayed as replay:
                return response_type.FromString(replay.response)

        return rpc

    return decorate


def request_key(method: str, request: Message, encode: Callable[[Any], Message]) -> RequestKey:
    """Idempotency of a request with a request_id field; its other fields make the fingerprint.

    Raises:
        AssayError: INVALID_ARGUMENT for a request id that is too long.
    """
    key = request_id(getattr(request, "request_id"))  # noqa: B009 - every mutation has the field, Message does not
    return RequestKey(
        request_id=key,
        method=method,
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
    executor: ExecutorName,
) -> Callable[
    [Callable[[S, Request], Generator[Response, None, None]]], Callable[[S, Request, Context], AsyncIterator[Response]]
]:
    """Makes a blocking generator an RPC that streams: each message is made by a thread when the one before is sent.

    The first one may cost much and is made in the executor of that name; streams take turns at making the others. A
    caller that leaves while a message is being made stops that, and drops the generator.
    """

    def decorate(
        method: Callable[[S, Request], Generator[Response, None, None]],
    ) -> Callable[[S, Request, Context], AsyncIterator[Response]]:
        @functools.wraps(method)
        async def rpc(self: S, request: Request, context: Context) -> AsyncIterator[Response]:
            messages = Pulled(method(self, request))
            try:
                message = await self.run(executor, messages.next)
                while message is not None:
                    yield message
                    message = await self.run("stream", messages.next, bounded=False)
            finally:
                messages.close()

        return rpc

    return decorate
