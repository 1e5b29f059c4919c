"""How a computation is stopped: whoever starts it says when to, and the computation asks between blocks of work.

with interruptible(lambda: time.monotonic() > end):
    picks = select("k_center", size=1000, embeddings=embeddings_ND)  # raises Interrupted once end has passed
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Stop = Callable[[], bool]

# Seconds between two looks at the stop while another thread holds a lock.
_PATIENCE = 0.05

_STOP: ContextVar[Stop | None] = ContextVar("assay_strategies_stop", default=None)


class Interrupted(Exception):
    """The computation was asked to stop, and did; what it had is lost."""


@contextmanager
def interruptible(stop: Stop) -> Iterator[None]:
    """Computations of this thread within the block end with Interrupted soon after stop() has turned true.

    Args:
        stop: asked every few milliseconds, so it must be cheap; once true, it must stay so. It is asked in the thread
            that computes, beside that of a block around this one: the first to turn true counts.

    Raises:
        Interrupted: from within the block.
    """
    outer = _STOP.get()
    token = _STOP.set(stop if outer is None else lambda: stop() or outer())
    try:
        yield
    finally:
        _STOP.reset(token)


def checkpoint() -> None:
    """To be called at least every 50 ms of work, where nothing is half done that outlives the computation.

    Costs a tenth of a microsecond; without an `interruptible` block around it, it does nothing.

    Raises:
        Interrupted: if the computation is to stop.
    """
    stop = _STOP.get()
    if stop is not None and stop():
        raise Interrupted("the computation was asked to stop")


@contextmanager
def holding(lock: threading.Lock) -> Iterator[None]:
    """Holds a lock within the block, and does not wait for it any longer once the computation is to stop.

    Raises:
        Interrupted: if the computation is to stop before the lock is its own.
    """
    while not lock.acquire(timeout=_PATIENCE):
        checkpoint()
    try:
        yield
    finally:
        lock.release()
