"""Both ends of a stream: messages that a thread makes one by one, and messages that a client sends."""

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.current import Context, current_call

T = TypeVar("T")

# Reads that nobody waits for any more; the event loop itself keeps no tasks alive.
_LEFT_READS: set["asyncio.Task[object]"] = set()


class Pulled(Generic[T]):
    """A generator that is run by threads, one message at a time, and closed by whoever has it last.

    A generator cannot be closed while it runs. So close() of a running one leaves that to its thread.
    """

    def __init__(self, messages: Generator[T, None, None]) -> None:
        self._messages = messages
        self._lock = threading.Lock()  # of the two flags, never held while the generator runs
        self._running = False
        self._closed = False

    def next(self) -> T | None:
        """The next message; None at the end and once it is closed. One thread at a time."""
        with self._lock:
            if self._closed:
                return None
            self._running = True
        try:
            return next(self._messages, None)
        finally:
            with self._lock:
                self._running = False
                closing = self._closed
            if closing:
                self._messages.close()

    def close(self) -> None:
        """Lets the generator's resources go, as soon as the message that is being made is done."""
        with self._lock:
            self._closed = True
            running = self._running
        if not running:
            self._messages.close()


class Incoming(Generic[T]):
    """A client's messages, the next of which may be read while one is worked on.

    A read that has begun is never cancelled, because gRPC writes into what a cancelled read has already given back; and
    none begins after close(), because the call may be gone by then.
    """

    def __init__(self, messages: AsyncIterator[T]) -> None:
        self._messages = aiter(messages)
        self._reading: asyncio.Task[T | None] | None = None
        self._closed = False

    def read_ahead(self) -> None:
        """Begins to read the next message, unless that is under way."""
        if self._reading is None and not self._closed:
            self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> T | None:
        return await anext(self._messages, None)

    async def next(self) -> T | None:
        """The next message; None at the end. Cancelling it leaves the message for the next call."""
        self.read_ahead()
        if self._reading is None:
            return None
        await asyncio.wait((self._reading,))
        message, self._reading = self._reading.result(), None
        return message

    def close(self) -> None:
        """No more is read. To be called before the handler of the call ends."""
        self._closed = True
        if self._reading is not None:
            _LEFT_READS.add(self._reading)
            self._reading.add_done_callback(_forget)


def _forget(reading: "asyncio.Task[object]") -> None:
    _LEFT_READS.discard(reading)
    if not reading.cancelled():
        reading.exception()  # nobody is left to be told


async def send(responses: AsyncGenerator[Any, None] | Awaitable[None], context: Context) -> None:
    """Writes the messages of a handler, unless it writes them itself.

    gRPC would leave a generator where it stands when the client leaves, to be closed by the garbage collector at some
    later time, when there is no call any more. A coroutine gets the cancellation, and closes what it iterates over.

    Raises:
        AssayError: DEADLINE_EXCEEDED for a client that does not read; and what the handler raises.
    """
    if inspect.isawaitable(responses):
        await responses
        return
    patience_s = current_call().patience_s
    async with aclosing(responses):
        async for response in responses:
            try:
                async with asyncio.timeout(patience_s):
                    await context.write(response)
            except TimeoutError:
                raise AssayError(
                    Reason.DEADLINE_EXCEEDED,
                    f"No message of the stream was read for {patience_s:g} s, so it ended. Begin it again, and read "
                    "what comes.",
                ) from None
