"""Runs of ONNX Runtime that end when their caller leaves or their time is over.

ONNX Runtime looks at the flag that ends a run between two nodes. One node that computes for long is not interrupted: it
is left to itself, in a thread that nobody waits for.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Generic, TypeVar

import onnxruntime

from assay.server.core.errors import AssayError, Reason
from assay.server.core.stop import Stop

T = TypeVar("T")

_ONLY_FATAL = 4  # what goes wrong is raised; ONNX Runtime need not print it as well
_LOOK_SECONDS = 0.05  # between two looks at all runs
_IDLE_SECONDS = 10.0  # without any, after which the watching thread ends
_GRACE_SECONDS = 0.35  # that a run gets to end once it is told to
MOST_LEFT = 2  # runs of one backbone that go on without anybody


class Ended(StrEnum):
    """Why a run was ended."""

    NO = ""
    STOPPED = "stopped"
    LATE = "late"


class Watched:
    """The runs of one caller, one after the other, all ended by one flag."""

    def __init__(self, seconds: float, stop: Stop) -> None:
        self.ended = Ended.NO
        self._told = 0.0
        self._seconds = seconds
        self.stop = stop
        self._flag = onnxruntime.RunOptions()
        self._last = onnxruntime.RunOptions()
        # What the arena holds beyond what is in use goes back to the system.
        self._last.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        for options in (self._flag, self._last):
            options.log_severity_level = _ONLY_FATAL
        self._deadline = time.monotonic() + seconds

    def options(self, *, last: bool) -> onnxruntime.RunOptions:
        """Options of the next run, whose time begins now; the last gives memory back."""
        self._deadline = time.monotonic() + self._seconds
        return self._last if last else self._flag

    def look(self) -> None:
        """Ends the run if it must end."""
        if self.ended is Ended.NO:
            if self.stop.requested():
                self._end(Ended.STOPPED)
            elif time.monotonic() > self._deadline:
                self._end(Ended.LATE)

    @property
    def overdue(self) -> bool:
        """Whether it was told to end, and had the time to."""
        return self.ended is not Ended.NO and time.monotonic() > self._told + _GRACE_SECONDS

    def _end(self, why: Ended) -> None:
        self._told = time.monotonic()
        self.ended = why
        self._flag.terminate = True
        self._last.terminate = True


class _Outcome(Generic[T]):
    """What a piece of work came to."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.result: T | None = None
        self.error: BaseException | None = None
        self.left = False


class Runner:
    """Does the work of one backbone in threads of its own, so that who waits for it can leave."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = 0

    def call(self, work: Callable[[], T], watched: Watched, ended: Callable[[], AssayError]) -> T:
        """What the work gives or raises. If it is told to end and does not, it is left and `ended` says why.

        Raises AssayError(BUSY) while too many that were left still run.
        """
        with self._lock:
            if self._left >= MOST_LEFT:
                raise AssayError(
                    Reason.BUSY, "Runs of this backbone that were stopped have not ended yet. Try again in a moment."
                )
        outcome: _Outcome[T] = _Outcome()
        threading.Thread(target=self._do, args=(work, outcome), name="assay-run", daemon=True).start()
        while not outcome.done.wait(_GRACE_SECONDS if watched.ended else _LOOK_SECONDS):
            if watched.overdue and self._leave(outcome):
                raise ended()
        if outcome.error is not None:
            raise outcome.error
        return outcome.result  # type: ignore[return-value]

    def _leave(self, outcome: _Outcome[T]) -> bool:
        with self._lock:
            if outcome.done.is_set():
                return False
            self._left += 1
            outcome.left = True
            return True

    def _do(self, work: Callable[[], T], outcome: _Outcome[T]) -> None:
        try:
            outcome.result = work()
        except BaseException as error:
            outcome.error = error
        with self._lock:
            outcome.done.set()
            self._left -= outcome.left


class RunWatch:
    """One thread that looks at all runs, as long as there are any."""

    def __init__(self, seconds: float) -> None:
        """A watch over runs of at most so many seconds each."""
        self.seconds = seconds
        self._changed = threading.Condition()
        self._runs: set[Watched] = set()
        self._watching = False

    @contextmanager
    def watch(self, stop: Stop) -> Iterator[Watched]:
        """Watches the runs within a context; `stop` is asked from another thread, about 20 times a second."""
        run = Watched(self.seconds, stop)
        run.look()
        with self._changed:
            self._runs.add(run)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._look, name="assay-runs", daemon=True).start()
            self._changed.notify()
        try:
            yield run
        finally:
            with self._changed:
                self._runs.discard(run)

    def _look(self) -> None:
        while runs := self._present():
            for run in runs:
                run.look()
            time.sleep(_LOOK_SECONDS)

    def _present(self) -> list[Watched]:
        """The runs there are, at once or within a while; none ends the thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._runs, _IDLE_SECONDS)
            self._watching = bool(self._runs)
            return list(self._runs)
