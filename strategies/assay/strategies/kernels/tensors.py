"""Arrays as torch tensors without copies, and a thread pool whose threads run torch single-threaded."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from assay.strategies.interrupt import checkpoint

AnyArray = np.ndarray[Any, Any]
T = TypeVar("T")

# Blocks of one task that are handed over at a time, for each thread: what runs beside it gets its turn between them.
_HANDED_OVER = 3
# Sequences at a time. Each mostly waits for blocks, and a long one must not be in the way of a short one.
_SEQUENCES = 32
# Seconds between two looks at the stop while blocks of others are in the way.
_PATIENCE = 0.05


class _Writable:
    """An array's memory, declared writable: torch has no read-only tensors and warns about read-only arrays."""

    def __init__(self, array: AnyArray) -> None:
        self.__array_interface__ = {
            **array.__array_interface__,
            "data": (array.__array_interface__["data"][0], False),
        }
        self.owner = array


def borrow(array: AnyArray) -> torch.Tensor:
    """A tensor over the array's own memory, read-only and mapped files too. Whoever borrows must only read.

    The one copy: strides that torch cannot express (reversed axes, fields of records).
    """
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        return torch.from_numpy(np.array(array))
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Writable(array)))


def spread(task: Callable[[int, int], None], size: int, block: int) -> None:
    """Run `task(start, stop)` over blocks of 0..size-1, on all cores; raises what the first failing block raises.

    One thread per block that fits a core's cache beats one operation spread over all cores. A block that takes longer
    than 50 ms has to call `checkpoint` itself; before each it is called here. Once this has raised, no block runs.
    """
    checkpoint()
    if size <= block:
        task(0, size)
        return
    executors = _pools.get()
    jobs: deque[Future[None]] = deque()
    try:
        for start in range(0, size, block):
            jobs.append(executors.blocks.submit(copy_context().run, _checked, task, start, min(start + block, size)))
            if len(jobs) >= _HANDED_OVER * executors.threads:
                _result(jobs[0])
                jobs.popleft()
        while jobs:
            _result(jobs[0])
            jobs.popleft()
    except BaseException:
        _end(jobs)
        raise


def alone(task: Callable[[], T]) -> T:
    """Run a sequence of small operations, which may `spread`, in a thread of its own, and give its result.

    Threads that meet at the end of every small operation cost more than they save, the more so on a busy machine.
    """
    checkpoint()
    job = _pools.get().sequences.submit(copy_context().run, task)
    try:
        return _result(job)
    except BaseException:
        _end([job])
        raise


def _checked(task: Callable[[int, int], None], start: int, stop: int) -> None:
    checkpoint()
    task(start, stop)


def _result(job: Future[T]) -> T:
    """What a job gives or raises; raises Interrupted while it waits for its turn, too."""
    while True:
        try:
            return job.result(_PATIENCE)
        except TimeoutError:
            if job.done():
                return job.result()
            checkpoint()


def _end(jobs: Iterable[Future[Any]]) -> None:
    """Take back what has not begun, and wait for the rest: it writes into arrays that its caller may give away."""
    wait([job for job in jobs if not job.cancel()])


@dataclass(frozen=True)
class _Executors:
    """Threads in which torch's own threading is off. A sequence waits for blocks, so they never share threads.

    threads: how many run blocks.
    """

    threads: int
    blocks: ThreadPoolExecutor
    sequences: ThreadPoolExecutor


class _Pools:
    """As many threads for blocks as torch may use, and those for sequences, started at first use, once per process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executors: _Executors | None = None

    def get(self) -> _Executors:
        with self._lock:
            if self._executors is None:
                threads = torch.get_num_threads()
                self._executors = _Executors(threads, _started(threads), _started(_SEQUENCES))
                # torch keeps the count per thread, but setting it also sets what threads born later get: put it back.
                torch.set_num_threads(threads)
            return self._executors


def _started(threads: int) -> ThreadPoolExecutor:
    executor = ThreadPoolExecutor(threads, thread_name_prefix="assay-strategies")
    barrier = threading.Barrier(threads)

    def enter(_: int) -> None:
        # A thread takes over the common count when torch first looks it up there, so have that over first.
        torch.get_num_threads()
        torch.set_num_threads(1)
        barrier.wait()

    for _ in executor.map(enter, range(threads)):
        pass
    return executor


_pools = _Pools()


def _forget_threads() -> None:
    global _pools
    _pools = _Pools()


if hasattr(os, "register_at_fork"):
    # A forked child inherits the executors but none of their threads.
    os.register_at_fork(after_in_child=_forget_threads)
