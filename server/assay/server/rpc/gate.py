"""The way to the core, shut while the core opens its pools; and who is on it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from assay.server.core.assay import Assay
from assay.server.rpc.errors import EdgeError, EdgeReason


class Gate:
    """Holds the core once it is open.

    Attributes:
        draining: the server is about to stop: calls that merely wait end early.
    """

    def __init__(self) -> None:
        self._core: Assay | None = None
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False

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
    def call(self) -> Iterator[None]:
        """Counts a call while it runs. On the event loop only, as idle()."""
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def idle(self) -> None:
        """Returns when no call runs."""
        await self._idle.wait()
