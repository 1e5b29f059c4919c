"""Where work runs: executors beside the event loop, which itself never computes nor waits.

Each has its own threads, so that uploads and ingests cannot starve the picking of batches. In front of each are queues
on the event loop, one a pool: no thread waits for its turn, and no pool for another's work.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from assay.server.core.errors import AssayError, Reason
from assay.server.core.fair_queue import Bounds, FairQueue, QueueFull
from assay.server.core.stop import Stop

T = TypeVar("T")


class _Job:
    """A piece of work, who waits for it, and what ends it early."""

    def __init__(self, work: Callable[[], Any], pool: str, stop: Stop) -> None:
        self.work = work
        self.pool = pool
        self.stop = stop
        self.result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.context = copy_context()  # what is known of the call is known in the thread too

    def run(self) -> Any:
        """In a thread. Raises what the work raises, or why it is to end."""
        with self.stop.scope():
            self.stop.check()
            return self.work()


class Executor:
    """Threads with a bounded queue for each pool. Work whose caller leaves or runs out of time leaves the queue, and is
    stopped where it runs. To be used on one event loop."""

    def __init__(self, name: str, bounds: Bounds) -> None:
        self.name = name
        self._queue = FairQueue[_Job](bounds)
        self._threads = ThreadPoolExecutor(bounds.most, thread_name_prefix=f"assay-{name}")
        self._running: set[_Job] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Pieces of work that wait for a thread."""
        return self._queue.waiting

    @property
    def running(self) -> int:
        """Pieces of work that run, also for callers that have left."""
        return self._queue.running

    async def run(self, work: Callable[[], T], *, pool: str = "", stop: Stop | None = None, bounded: bool = True) -> T:
        """Runs work in a thread.

        Args:
            work: computes or waits as long as it needs to, and looks at `current_stop()`.
            pool: whose queue it waits in.
            stop: ends it early; requested, too, when the caller is cancelled.
            bounded: False for what goes on with work that was let in before.

        Raises:
            AssayError: BUSY if the queue is full, SHUTTING_DOWN after close, the stop's own; what the work raises.
        """
        if self._closed:
            raise _shutting_down()
        job = _Job(work, pool, stop or Stop())
        try:
            self._queue.put(pool, job, bounded=bounded)
        except QueueFull:
            message = f"The server has too much {self.name} work waiting. Try again in a moment."
            raise AssayError(Reason.BUSY, message, executor=self.name) from None
        self._start_due()
        try:
            result: T = await job.result
        except asyncio.CancelledError:
            if not self._queue.remove(pool, job):
                job.stop.request(Reason.CANCELLED)
            raise
        return result

    def _start_due(self) -> None:
        while (job := self._queue.take()) is not None:
            self._running.add(job)
            self._idle.clear()
            self._threads.submit(self._work, job, asyncio.get_running_loop())

    def _work(self, job: _Job, loop: asyncio.AbstractEventLoop) -> None:
        result, error = None, None
        try:
            result = job.context.run(job.run)
        except BaseException as raised:
            # Whatever it is belongs to the caller: a thread has nobody to raise to.
            error = raised
        try:
            loop.call_soon_threadsafe(self._finish, job, result, error)
        except RuntimeError:  # the loop was closed: the server has stopped without it
            return

    def _finish(self, job: _Job, result: Any, error: BaseException | None) -> None:
        self._queue.done(job.pool)
        self._running.discard(job)
        if not self._running:
            self._idle.set()
        self._start_due()
        if job.result.done():  # nobody waits any more
            return
        if error is None:
            job.result.set_result(result)
        else:
            job.result.set_exception(error)

    async def close(self) -> None:
        """Takes no more work, drops what is queued, stops what runs and waits for its end."""
        self._closed = True
        for job in self._queue.clear():
            if not job.result.done():
                job.result.set_exception(_shutting_down())
        for job in self._running:
            job.stop.request(Reason.SHUTTING_DOWN)
        await self._idle.wait()
        self._threads.shutdown(wait=False)


def _shutting_down() -> AssayError:
    return AssayError(Reason.SHUTTING_DOWN, "The server is shutting down. Try again in a moment.")


@dataclass(frozen=True, slots=True)
class Executors:
    """The executors.

    Attributes:
        compute: scoring, long selections, prediction, search.
        batch: batches for workers, who wait in front of a screen: quick plans, and the turns of long ones.
        io: look-ups and short transactions.
        stream: what is left to do of a stream after its first message, and exports.
        ingest: storing and embedding of batches.
        upload: trials of uploaded models, each in a process of its own.
    """

    compute: Executor
    batch: Executor
    io: Executor
    stream: Executor
    ingest: Executor
    upload: Executor

    def all(self) -> tuple[Executor, ...]:
        """All executors."""
        return tuple(getattr(self, field.name) for field in fields(self))

    async def close(self) -> None:
        """Closes all executors."""
        await asyncio.gather(*(executor.close() for executor in self.all()))


def open_executors(compute_threads: int = 0, compute_queue: int = 64) -> Executors:
    """Executors; 0 compute threads means one per core, and at least 2: more would only take the interpreter's lock from
    each other. So threads beyond the cores are only for pools that would wait for others without them.

    Batches and ingests of one pool would wait for each other anyway: they run one by one. Messages of streams are made
    in Python, which is at the expense of everybody: so they take turns.
    """
    threads = compute_threads or max(2, os.cpu_count() or 1)
    return Executors(
        compute=Executor("compute", _bounds(threads, compute_queue, spare=16, per_pool=threads)),
        batch=Executor("batch", _bounds(threads, compute_queue, spare=64, per_pool=1)),
        io=Executor("io", _bounds(16, 512, spare=48, per_pool=8)),
        stream=Executor("stream", _bounds(1, 256, spare=7, per_pool=1)),
        ingest=Executor("ingest", _bounds(4, 64, spare=16, per_pool=1)),
        upload=Executor("upload", _bounds(2, 8, spare=2, per_pool=1)),
    )


def _bounds(threads: int, queue: int, *, spare: int, per_pool: int) -> Bounds:
    return Bounds(threads, spare, per_pool, queue, queue_in_all=4 * queue)
