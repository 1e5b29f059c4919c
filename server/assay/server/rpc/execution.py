"""Where work runs: bounded executors beside the event loop, which itself never computes nor waits.

Each lane has its own threads, so that uploads, waits and ingests cannot starve the picking of batches.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ParamSpec, TypeVar

from assay.server.core.errors import AssayError, Reason

P = ParamSpec("P")
T = TypeVar("T")


class Lane:
    """Threads with a bounded queue. Work whose caller goes away or runs out of time leaves the queue."""

    def __init__(self, name: str, threads: int, queue: int) -> None:
        self.name = name
        self.threads = threads
        self.queue = queue
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"assay-{name}")
        self._lock = threading.Lock()
        self._admitted = 0

    @property
    def depth(self) -> int:
        """How much work waits for a thread."""
        return max(0, self._admitted - self.threads)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs work in a thread. Raises AssayError(BUSY) if the queue is full, SHUTTING_DOWN after close."""
        self._admit()
        try:
            # Who calls, and all else that is known of the call, is known in the thread too.
            job = self._executor.submit(partial(copy_context().run, work, *args, **kwargs))
        except RuntimeError:
            self._release(None)
            raise AssayError(Reason.SHUTTING_DOWN, "The server is shutting down. Try again in a moment.") from None
        except BaseException:
            self._release(None)
            raise
        job.add_done_callback(self._release)
        return await asyncio.wrap_future(job)

    def _admit(self) -> None:
        with self._lock:
            if self._admitted >= self.threads + self.queue:
                message = f"The server has too much {self.name} work waiting. Try again in a moment."
                raise AssayError(Reason.BUSY, message, lane=self.name)
            self._admitted += 1

    def _release(self, _: Future[Any] | None) -> None:
        with self._lock:
            self._admitted -= 1

    def close(self) -> None:
        """Takes no more work, drops what is queued, waits for what runs."""
        self._executor.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lanes.

    Attributes:
        compute: scoring, selection, prediction, search.
        batch: batches for workers, who wait in front of a screen: never behind a long computation of somebody else.
        io: look-ups and short transactions.
        ingest: storing and embedding of batches.
        upload: trials of uploaded models, each in a process of its own.
        wait: waits for operations, in short slices.
    """

    compute: Lane
    batch: Lane
    io: Lane
    ingest: Lane
    upload: Lane
    wait: Lane

    def all(self) -> tuple[Lane, ...]:
        """All lanes."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def close(self) -> None:
        """Closes all lanes."""
        for lane in self.all():
            lane.close()


def open_lanes(compute_threads: int = 0, compute_queue: int = 64) -> Lanes:
    """Lanes; 0 compute threads means one per core, and at least 2: more would only take the interpreter's lock from
    each other."""
    threads = compute_threads or max(2, os.cpu_count() or 1)
    return Lanes(
        compute=Lane("compute", threads, compute_queue),
        batch=Lane("batch", threads, compute_queue),
        io=Lane("io", 16, 256),
        ingest=Lane("ingest", 4, 64),
        upload=Lane("upload", 2, 32),
        wait=Lane("wait", 8, 1024),
    )
