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

Context = grpc.aio.ServicerContext[Any, Any]
_CURRENT: ContextVar["Call"] = ContextVar("assay_call")


@dataclass(frozen=True, slots=True)
class Call:
    """A call.

    Attributes:
        method: its full name, with a slash before the service.
        peer: address of the client, as gRPC writes it.
        metadata: text that came with it, by lower-case key.
        deadline: moment of the monotonic clock when the client stops waiting; None without a deadline.
    """

    method: str
    peer: str
    metadata: Mapping[str, str]
    deadline: float | None

    @property
    def ran_out(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline


def read_call(method: str, context: Context) -> Call:
    """Reads all that is needed of a call; only while it certainly lives: before its handler first waits."""
    remaining: float | None = context.time_remaining()
    pairs = context.invocation_metadata() or ()
    return Call(
        method=method,
        peer=context.peer(),
        metadata={key: value for key, value in pairs if isinstance(value, str)},
        deadline=None if remaining is None else time.monotonic() + remaining,
    )


def enter(call: Call) -> None:
    """Makes a call the current one of the running task; each call has a task of its own."""
    _CURRENT.set(call)


def current_call() -> Call:
    """The call that the running task answers. Raises LookupError outside of one."""
    return _CURRENT.get()
