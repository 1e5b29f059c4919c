"""Runs of ONNX Runtime that end when their caller leaves or their time is over."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import onnxruntime

from assay.server.core.stop import Stop

_ONLY_FATAL = 4  # what goes wrong is raised; ONNX Runtime need not print it as well
_LOOK_SECONDS = 0.05  # between two looks at all runs
_IDLE_SECONDS = 10.0  # without any, after which the watching thread ends


class Ended(StrEnum):
    """Why a run was ended."""

    NO = ""
    STOPPED = "stopped"
    LATE = "late"


class Watched:
    """The runs of one caller, one after the other, all ended by one flag.

    ONNX Runtime looks at the flag between two nodes: one node that computes for long is not interrupted.
    """

    def __init__(self, seconds: float, stop: Stop) -> None:
        self.ended = Ended.NO
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

    def _end(self, why: Ended) -> None:
        self.ended = why
        self._flag.terminate = True
        self._last.terminate = True


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
