"""What all servicers share: running work in an executor, and remembered requests."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, Literal, TypeVar

from google.protobuf.message import Message

from assay.server.core.assay import Assay
from assay.server.core.errors import RequestReplayed
from assay.server.rpc.current import current_call
from assay.server.rpc.execution import Executor, Executors
from assay.server.rpc.gate import Gate
from assay.server.rpc.replies import Reply, fingerprint, id_of, unpack

ExecutorName = Literal["compute", "batch", "io", "stream", "ingest", "upload"]
Response = TypeVar("Response", bound=Message)
T = TypeVar("T")
# Puts back what is not remembered of a reply; see `remembering`.
Restore = Callable[[Assay, Any, Any, bytes], None]


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
        self, replay: RequestReplayed, kind: type[Response], request: Any, restore: Restore | None = None
    ) -> Response:
        """The reply that a request got before."""

        def rebuilt() -> Response:
            message, extra = unpack(replay.response, kind)
            if restore is not None:
                restore(self.core, request, message, extra)
            return message

        return await self.run("io", rebuilt)


def bind(function: Callable[Concatenate[str, ...], Response], pool_id: str) -> Callable[[Any], Response]:
    """A conversion that needs the pool's id, with it."""
    return functools.partial(function, pool_id)
