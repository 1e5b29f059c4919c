"""What all servicers share: running a method in an executor, and remembered requests."""

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, Concatenate, Literal, TypeVar

from google.protobuf.message import Message

from assay.server.core.assay import Assay
from assay.server.core.errors import RequestReplayed
from assay.server.rpc.current import Context, current_call
from assay.server.rpc.execution import Executor, Executors
from assay.server.rpc.gate import Gate
from assay.server.rpc.replies import Reply, fingerprint, id_of, unpack
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

    def reply(
        self,
        method: str,
        request: Message,
        build: Callable[[Any], Response],
        small: Callable[[Any], Any] = lambda result: result,
        extra: Callable[[Any], bytes] = lambda _: b"",
    ) -> Reply[Response]:
        """The reply to come of a mutation; see Reply. Raises AssayError(INVALID_ARGUMENT) for a request id that is too
        long."""
        request_id = id_of(request)
        return Reply(
            method, request_id, fingerprint(request) if request_id else "", build, self.reply_bytes, small, extra
        )

    async def again(
        self, replay: RequestReplayed, kind: type[Response], request: Any, restore: "Restore | None" = None
    ) -> Response:
        """The reply that a request got before."""

        def rebuilt() -> Response:
            message, extra = unpack(replay.response, kind)
            if restore is not None:
                restore(self.core, request, message, extra)
            return message

        return await self.run("io", rebuilt)


Restore = Callable[[Assay, Any, Any, bytes], None]


def unary(
    executor: ExecutorName, response_type: type[Response], restore: Restore | None = None
) -> Callable[[Callable[[S, Request], Response]], Callable[[S, Request, Context], Coroutine[Any, Any, Response]]]:
    """Makes a blocking method an RPC: it runs in an executor, and what is remembered of a reply is given again, the
    rest put back by `restore`."""

    def decorate(
        method: Callable[[S, Request], Response],
    ) -> Callable[[S, Request, Context], Coroutine[Any, Any, Response]]:
        @functools.wraps(method)
        async def rpc(self: S, request: Request, context: Context) -> Response:
            try:
                return await self.run(executor, lambda: method(self, request))
            except RequestReplayed as replay:
                return await self.again(replay, response_type, request, restore)

        return rpc

    return decorate


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
