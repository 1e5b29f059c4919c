"""A bridge from a client's stream of chunks to a thread that reads them as a plain iterator."""

import asyncio
import queue
from collections.abc import Iterator

from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.streams import Incoming
from assay.v1 import models_pb2

CHUNKS_AHEAD = 4


class ChunkBridge:
    """Feeds chunks from the event loop to one reading thread, a few ahead at most.

    The reader gets exactly the announced number of bytes, or an error: a client that vanished cannot pass for one that
    has sent all.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size = size_bytes
        self._queue: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()
        self._slots = asyncio.Semaphore(CHUNKS_AHEAD)
        self._loop = asyncio.get_running_loop()

    async def feed(self, messages: Incoming[models_pb2.UploadBackboneRequest]) -> None:
        """Passes the chunks of a stream on, and any error with it."""
        try:
            received = 0
            while (message := await messages.next()) is not None:
                chunk = _chunk(message)
                received += len(chunk)
                self._check_not_above(received)
                await self._slots.acquire()
                self._queue.put(chunk)
            self._check_complete(received)
            self._queue.put(None)
        except Exception as error:
            self._queue.put(error)

    def _check_not_above(self, received: int) -> None:
        if received > self._size:
            raise AssayError(Reason.TOO_LARGE, f"The stream holds more than the {self._size:,} bytes it announced.")

    def _check_complete(self, received: int) -> None:
        if received < self._size:
            message = f"The stream ended after {received:,} of {self._size:,} bytes. Upload the file again."
            raise AssayError(Reason.INVALID_ARGUMENT, message)

    def abandon(self) -> None:
        """Makes the reader fail if it still waits for chunks."""
        self._queue.put(AssayError(Reason.CANCELLED, "The upload was given up by its client."))

    def __iter__(self) -> Iterator[bytes]:
        """The chunks; blocks, so it belongs into a thread."""
        while (item := self._queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            self._loop.call_soon_threadsafe(self._slots.release)
            yield item


def _chunk(message: models_pb2.UploadBackboneRequest) -> bytes:
    if message.WhichOneof("kind") != "chunk":
        raise AssayError(Reason.INVALID_ARGUMENT, "After its header an UploadBackbone stream has chunks only.")
    return message.chunk
