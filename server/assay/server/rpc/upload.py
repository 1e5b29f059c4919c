"""Chunks of an upload, taken at the pace of their client and no slower than the server can bear.

No thread waits for a client: each chunk is read on the event loop and stored by a thread before the next is read.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.gate import Gate
from assay.server.rpc.streams import Incoming
from assay.v1 import models_pb2

T = TypeVar("T")
MAX_CHUNK_BYTES = 4 << 20
MAX_UPLOADS = 32


@dataclass(frozen=True)
class Pace:
    """How slow a client may be.

    Attributes:
        grace_seconds: longest wait for one message, and what a client may lag behind in all.
        bytes_per_second: what it must send on average beyond that.
    """

    grace_seconds: float = 30.0
    bytes_per_second: float = 64 * 1024


class Slots:
    """Uploads that may arrive at once. Used on the event loop only."""

    def __init__(self, most: int = MAX_UPLOADS) -> None:
        self._most = most
        self._taken = 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Holds one. Raises AssayError(BUSY) if all are taken."""
        if self._taken >= self._most:
            raise AssayError(
                Reason.BUSY, f"{self._taken} uploads are arriving already. Try again in a moment.", executor="upload"
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Arrival:
    """The messages of one upload, and how long they were waited for."""

    def __init__(self, messages: Incoming[models_pb2.UploadBackboneRequest], pace: Pace, gate: Gate) -> None:
        self._messages = messages
        self._pace = pace
        self._gate = gate
        self._waited = 0.0
        self._received = 0

    async def header(self) -> models_pb2.UploadBackboneHeader:
        """The first message. Raises AssayError(INVALID_ARGUMENT) if it is none, DEADLINE_EXCEEDED if it is late."""
        message = await self._next()
        if message is None or message.WhichOneof("kind") != "header":
            raise AssayError(Reason.INVALID_ARGUMENT, "An UploadBackbone stream starts with its header.")
        return message.header

    async def chunks(self, store: Callable[[bytes], Awaitable[None]]) -> None:
        """Stores all other messages, one by one.

        Raises:
            AssayError: INVALID_ARGUMENT: not a chunk; TOO_LARGE: a chunk that is; DEADLINE_EXCEEDED: the client is too
                slow; and what `store` raises.
        """
        while (message := await self._next()) is not None:
            chunk = _chunk(message)
            self._received += len(chunk)
            await store(chunk)

    async def _next(self) -> models_pb2.UploadBackboneRequest | None:
        behind = self._pace.grace_seconds + self._received / self._pace.bytes_per_second - self._waited
        begun = time.monotonic()
        try:
            async with asyncio.timeout(min(self._pace.grace_seconds, behind)):
                return await self._gate.heard(self._messages.next())
        except TimeoutError:
            raise AssayError(
                Reason.DEADLINE_EXCEEDED,
                f"The upload is too slow: {self._received:,} bytes came in "
                f"{self._waited + time.monotonic() - begun:.0f} seconds. Send it again, with at most "
                f"{self._pace.grace_seconds:g} seconds between two messages and at least "
                f"{self._pace.bytes_per_second:,.0f} bytes a second.",
            ) from None
        finally:
            self._waited += time.monotonic() - begun


def _chunk(message: models_pb2.UploadBackboneRequest) -> bytes:
    if message.WhichOneof("kind") != "chunk":
        raise AssayError(Reason.INVALID_ARGUMENT, "After its header an UploadBackbone stream has chunks only.")
    if len(message.chunk) > MAX_CHUNK_BYTES:
        raise AssayError(
            Reason.TOO_LARGE, f"A chunk has {len(message.chunk):,} bytes; send at most {MAX_CHUNK_BYTES:,} in one."
        )
    return message.chunk
