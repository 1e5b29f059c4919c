"""Handles on work that the server goes on with by itself: training a head, activating a model, an audit,
resolving labels."""

import time
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar, cast

from google.longrunning import operations_proto_pb2 as operations_pb2

from assay.client._async import AsyncTransport
from assay.client._operations import (
    cancel_operation,
    get_operation,
    outcome,
    progress_of,
    still_running,
    wait_operation,
)
from assay.client._sync import Transport
from assay.client.results import AuditResult, Model, Progress, ResolveResult

# What an operation ends with.
R = TypeVar("R", bound=Model | ResolveResult | AuditResult)
OperationCallback: TypeAlias = Callable[[Progress], None]

# How long the server holds one waiting call: short where somebody watches, and in any case less than proxies allow.
_WATCHED_WAIT = 0.5
_UNWATCHED_WAIT = 20.0
# How much longer than that the call may take: long enough for the server to be started again.
_MARGIN = 60.0


class _Handle:
    """The last state seen of an operation."""

    def __init__(self, operation: operations_pb2.Operation) -> None:
        self._operation = operation

    @property
    def name(self) -> str:
        """Resource name; `Client.get_operation` takes it."""
        return self._operation.name

    @property
    def is_done(self) -> bool:
        """Whether it had ended when last heard of; asks nothing."""
        return self._operation.done

    @property
    def last_progress(self) -> Progress:
        """How far it was when last heard of; asks nothing."""
        return progress_of(self._operation)

    def __repr__(self) -> str:
        state = "done" if self._operation.done else "running"
        return f"<{type(self).__name__} {self.name} {state}>"


class Operation(_Handle, Generic[R]):
    """A long-running operation."""

    def __init__(self, transport: Transport, operation: operations_pb2.Operation) -> None:
        super().__init__(operation)
        self._transport = transport

    def done(self) -> bool:
        """Whether it has ended, well or not; asks the server unless that is known."""
        if not self._operation.done:
            self._operation = self._transport.unary(get_operation(self.name))
        return self._operation.done

    def progress(self) -> Progress:
        """How far it is now; asks the server."""
        self._operation = self._transport.unary(get_operation(self.name))
        return self.last_progress

    def cancel(self) -> None:
        """Ask it to stop at its next block of work; `result` then raises Cancelled."""
        self._transport.unary(cancel_operation(self.name))

    def result(self, timeout: float | None = None, progress: OperationCallback | None = None) -> R:
        """Wait for the result, at most `timeout` seconds; `progress` is called with each state seen.

        Raises:
            DeadlineExceeded: it still runs after the timeout.
            Cancelled: it was cancelled.
            AssayError: it failed.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not self._operation.done:
            wait = next_wait(end, progress is not None)
            if wait is None:
                raise still_running(self.name, timeout or 0.0)
            self._operation = self._transport.unary(wait_operation(self.name, wait), wait + _MARGIN)
            if progress is not None:
                progress(self.last_progress)
        return cast(R, outcome(self._operation))


class AsyncOperation(_Handle, Generic[R]):
    """A long-running operation, on an event loop."""

    def __init__(self, transport: AsyncTransport, operation: operations_pb2.Operation) -> None:
        super().__init__(operation)
        self._transport = transport

    async def done(self) -> bool:
        """Whether it has ended, well or not; asks the server unless that is known."""
        if not self._operation.done:
            self._operation = await self._transport.unary(get_operation(self.name))
        return self._operation.done

    async def progress(self) -> Progress:
        """How far it is now; asks the server."""
        self._operation = await self._transport.unary(get_operation(self.name))
        return self.last_progress

    async def cancel(self) -> None:
        """Ask it to stop at its next block of work; `result` then raises Cancelled."""
        await self._transport.unary(cancel_operation(self.name))

    async def result(self, timeout: float | None = None, progress: OperationCallback | None = None) -> R:
        """Wait for the result, at most `timeout` seconds; `progress` is called with each state seen.

        Raises:
            DeadlineExceeded: it still runs after the timeout.
            Cancelled: it was cancelled.
            AssayError: it failed.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not self._operation.done:
            wait = next_wait(end, progress is not None)
            if wait is None:
                raise still_running(self.name, timeout or 0.0)
            self._operation = await self._transport.unary(wait_operation(self.name, wait), wait + _MARGIN)
            if progress is not None:
                progress(self.last_progress)
        return cast(R, outcome(self._operation))


def next_wait(end: float | None, watched: bool, now: Callable[[], float] = time.monotonic) -> float | None:
    """Seconds for the next waiting call; None where the time to wait is over."""
    longest = _WATCHED_WAIT if watched else _UNWATCHED_WAIT
    if end is None:
        return longest
    left = end - now()
    return min(longest, left) if left > 0 else None
