"""What is known of a call, read once when it arrives.

gRPC frees a call as soon as its client left, and whoever asks the context about it afterwards ends the process. So what
the log, the metrics and the handlers need of a call is read before anything else happens, and kept here.
"""

import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc.aio

from assay.server.core.stop import Stop
from assay.server.rpc.auth import ANONYMOUS, POLICY, Caller
from assay.v1.method import Method

Context = grpc.aio.ServicerContext[Any, Any]
_CURRENT: ContextVar["Call"] = ContextVar("assay_call")


@dataclass(slots=True)
class Call:
    """A call.

    Attributes:
        method: its full name, with a slash before the service.
        peer: address of the client, as gRPC writes it.
        metadata: text that came with it, by lower-case key.
        deadline: moment of the monotonic clock when the client stops waiting; None without a deadline.
        patience_s: how long a message of a stream waits for its client to read it.
        stop: ends the work that is done for it: at its deadline, when its client leaves, and at shutdown.
        caller: whose key it came with; ANONYMOUS until that is known.
        request_id: the caller's own id of it: its idempotency key once that is read, or what came as x-request-id.
        pool: id of the pool that its request names; "" until that is read, and where there is none.
    """

    method: str
    peer: str
    metadata: Mapping[str, str]
    deadline: float | None
    patience_s: float
    stop: Stop
    caller: Caller = ANONYMOUS
    request_id: str = ""
    pool: str = ""

    @property
    def host(self) -> str:
        """The peer without its port."""
        return self.peer.rpartition(":")[0] or self.peer

    @property
    def known(self) -> Method[Any, Any]:
        """What the table says of its method. Raises KeyError for a method that is not listed."""
        return POLICY[self.method]

    @property
    def ran_out(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline


def read_call(method: str, context: Context, patience_s: float) -> Call:
    """Reads all that is needed of a call; only while it certainly lives: before its handler first waits."""
    remaining: float | None = context.time_remaining()
    pairs = context.invocation_metadata() or ()
    metadata = {key: value for key, value in pairs if isinstance(value, str)}
    deadline = None if remaining is None else time.monotonic() + remaining
    return Call(
        method=method,
        peer=context.peer(),
        metadata=metadata,
        deadline=deadline,
        patience_s=patience_s,
        stop=Stop(deadline),
        request_id=metadata.get("x-request-id", ""),
    )


def enter(call: Call) -> None:
    """Makes a call the current one of the running task; each call has a task of its own."""
    _CURRENT.set(call)


def current_call() -> Call:
    """The call that the running task answers. Raises LookupError outside of one."""
    return _CURRENT.get()


def current_caller() -> Caller:
    """Who makes the call that this runs for, also in the thread that a lane runs it in; ANONYMOUS outside of calls."""
    call = _CURRENT.get(None)
    return call.caller if call else ANONYMOUS
