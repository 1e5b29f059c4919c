"""The way to the core, shut while the core opens its pools; and who is on it."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason
from assay.server.core.stop import Stop
from assay.server.rpc.errors import EdgeError, EdgeReason

T = TypeVar("T")
# How long a message that is on its way may take once the server is about to stop.
LINGER_S = 1.0


class Gate:
    """Holds the core once it is open. All but `core` and `is_open` belongs on the event loop.

    Attributes:
        draining: set when the server is about to stop: calls that merely wait end early.
    """

    def __init__(self) -> None:
        self._core: Assay | None = None
        self._calls: set[Stop] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = asyncio.Event()

    def open(self, core: Assay) -> None:
        """Lets calls through to a core."""
        self._core = core

    @property
    def is_open(self) -> bool:
        """Whether calls go through."""
        return self._core is not None

    @property
    def core(self) -> Assay:
        """The core. Raises EdgeError(STARTING) while it is not open."""
        if self._core is None:
            raise EdgeError(EdgeReason.STARTING, "The server is still opening its pools. Try again in a moment.")
        return self._core

    @contextmanager
    def call(self, stop: Stop) -> Iterator[None]:
        """Counts a call while it runs, and knows what ends it."""
        self._calls.add(stop)
        self._idle.clear()
        try:
            yield
        finally:
            self._calls.discard(stop)
            if not self._calls:
                self._idle.set()

    async def idle(self) -> None:
        """Returns when no call runs."""
        await self._idle.wait()

    def stop_calls(self) -> None:
        """Asks all that run to end."""
        for stop in tuple(self._calls):
            stop.request(Reason.SHUTTING_DOWN)

    async def heard(self, waiting: Coroutine[Any, Any, T]) -> T:
        """What a client sends next. Who sends nothing must not hold up a server that is about to stop: it then raises
        AssayError(SHUTTING_DOWN)."""
        message = asyncio.ensure_future(waiting)
        draining = asyncio.ensure_future(self.draining.wait())
        try:
            await asyncio.wait((message, draining), return_when=asyncio.FIRST_COMPLETED)
            if not message.done():
                await asyncio.wait((message,), timeout=LINGER_S)
            if not message.done():
                raise AssayError(Reason.SHUTTING_DOWN, "The server is shutting down. Send the rest in a moment.")
            return message.result()
        finally:
            message.cancel()
            draining.cancel()
