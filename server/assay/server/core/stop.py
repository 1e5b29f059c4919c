"""When work is to end before it is done: its caller left, its deadline passed, or the server shuts down.

Who accepts work makes a Stop and runs the work within its scope. Within it, the strategies' checkpoints see it, and
`current_stop()` gives it to whatever else takes long, so that no signature has to carry it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from assay.server.core.errors import AssayError, Reason
from assay.strategies.interrupt import Interrupted, interruptible

MESSAGES = {
    Reason.CANCELLED: "The work was cancelled before it was done.",
    Reason.DEADLINE_EXCEEDED: "The deadline passed before the work was done. Allow more time, or ask for less at once.",
    Reason.SHUTTING_DOWN: "The server is shutting down. Try again in a moment.",
}


class Stop:
    """Whether a piece of work is to end; once it is, it stays so.

    Args:
        deadline: the time of `time.monotonic()` at which the work is to end by itself; None if there is none.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self._lock = threading.Lock()
        self._reason: Reason | None = None
        self._listeners: list[Callable[[], None]] = []

    @classmethod
    def after(cls, seconds: float) -> "Stop":
        """A stop whose deadline is in so many seconds."""
        return cls(time.monotonic() + seconds)

    def request(self, reason: Reason = Reason.CANCELLED) -> None:
        """Asks the work to end, from any thread; of several reasons the first counts.

        Args:
            reason: CANCELLED, DEADLINE_EXCEEDED or SHUTTING_DOWN.
        """
        if reason not in MESSAGES:
            raise ValueError(f"work does not end for {reason}")
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def requested(self) -> bool:
        """Whether the work is to end. Takes well under a microsecond and no lock."""
        return self._reason is not None or (self.deadline is not None and time.monotonic() >= self.deadline)

    def remaining(self) -> float | None:
        """Seconds until the work is to end by itself, 0 once it is to end anyway; None without a deadline."""
        if self._reason is not None:
            return 0.0
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def error(self) -> AssayError:
        """Why the work is to end, as its caller is told of it."""
        reason = self._reason or Reason.DEADLINE_EXCEEDED
        return AssayError(reason, MESSAGES[reason])

    def check(self) -> None:
        """Between blocks of work. Raises AssayError(CANCELLED | DEADLINE_EXCEEDED | SHUTTING_DOWN) if it is to end."""
        if self.requested():
            raise self.error()

    @contextmanager
    def scope(self) -> Iterator["Stop"]:
        """Runs the block as the work that this stop ends: it is the thread's current stop, and its strategies see it.

        Raises:
            AssayError: CANCELLED, DEADLINE_EXCEEDED or SHUTTING_DOWN, if the work was interrupted by this stop.
        """
        token = _CURRENT.set(self)
        try:
            with interruptible(self.requested):
                yield self
        except Interrupted:
            # One that another scope around this one asked for is that scope's to explain.
            if not self.requested():
                raise
            raise self.error() from None
        finally:
            _CURRENT.reset(token)

    @contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """Calls listener once if the work is to end while the block runs, or at once if it is already.

        For what cannot ask, such as a wait or a library's run. The listener is called in another thread, or in this one
        before the block begins; it must be quick and must not raise.
        """
        once = _Once(listener)
        timer: threading.Timer | None = None
        with self._lock:
            listens = self._reason is None
            if listens:
                self._listeners.append(once)
        if not listens:
            once()
        elif (remaining := self.remaining()) is not None:
            timer = threading.Timer(remaining, once)
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            with self._lock:
                if once in self._listeners:
                    self._listeners.remove(once)
            once.forget()


class _Once:
    """Calls a listener once at most, and never after it was told to forget it."""

    def __init__(self, listener: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._listener: Callable[[], None] | None = listener

    def __call__(self) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
            if listener is not None:
                listener()

    def forget(self) -> None:
        with self._lock:
            self._listener = None


_CURRENT: ContextVar[Stop | None] = ContextVar("assay_server_stop", default=None)


def current_stop() -> Stop:
    """The stop of the work that this thread does; one that nobody requests if there is none."""
    return _CURRENT.get() or Stop()
