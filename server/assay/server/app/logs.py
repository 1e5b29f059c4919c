"""Logs: one event a line on standard error, as JSON or for people; libraries' records take the same form."""

import atexit
import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

# Libraries that tell at INFO how they load themselves.
_CHATTY = ("faiss.loader",)
# What waits to be written when standard error is slow; beyond it lines are lost, and counted.
MAX_WAITING = 10_000
LAST_WORDS_S = 2.0
# Escape sequences would let a caller write over lines that others read in a terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def configure(level: str, style: str) -> None:
    """Sets logging up for the process. level: "debug", "info", ...; style: "json" or "console"."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    writer = _writer(sys.stderr)
    stream = cast(TextIO, writer)
    # Our own events go straight to the stream: a line per call must cost next to nothing.
    structlog.configure(
        processors=[*shared, *_renderers(style)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(style)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


class Writer:
    """Takes text as a stream does, and never makes its callers wait, nor fails them: a thread of its own writes.

    Standard error may be a pipe that nobody reads, or a disk that is full. A call that did its work must neither stand
    still nor fail for that: lines that find the queue full, or cannot be written, are lost and counted.
    """

    def __init__(self, emit: Callable[[str], object], most: int = MAX_WAITING) -> None:
        """emit writes a text, and may take as long as it likes."""
        self._emit = emit
        self._most = most
        self._lines: deque[str] = deque()
        self._changed = threading.Condition()
        self._writing = False
        self._told = 0
        self.dropped = 0
        threading.Thread(target=self._run, name="assay-log", daemon=True).start()

    def write(self, text: str) -> None:
        """Queues a text."""
        with self._changed:
            if len(self._lines) < self._most:
                self._lines.append(text)
                self._changed.notify_all()
            else:
                self.dropped += 1

    def flush(self) -> None:
        """Nothing: the thread writes as soon as it can."""

    def drain(self, seconds: float) -> bool:
        """Waits until all is written, at most so long; whether it is."""
        end = time.monotonic() + seconds
        with self._changed:
            while self._lines or self._writing:
                if not self._changed.wait(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                    return False
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._lines:
                    self._changed.wait()
                text = "".join(self._lines)
                self._lines.clear()
                self._writing = True
                lost, self._told = self.dropped - self._told, self.dropped
            if lost:
                text += f"{lost} log lines were lost: standard error was blocked\n"
            with suppress(OSError, ValueError):
                self._emit(text)


_writers: list[Writer] = []


def _emitter(stream: TextIO) -> Callable[[str], object]:
    """Writes to a stream's file past its buffer, whose lock a thread that stands still would keep from an ending
    process."""
    try:
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError):  # it is no file
        return stream.write

    def emit(text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(descriptor, data) :]

    return emit


def _writer(stream: TextIO) -> Writer:
    writer = Writer(_emitter(stream))
    _writers.append(writer)
    atexit.register(writer.drain, LAST_WORDS_S)
    return writer


def drain(seconds: float = LAST_WORDS_S) -> None:
    """Waits until all that was logged is written, for so many seconds at most."""
    for writer in _writers:
        writer.drain(seconds)


def dropped() -> int:
    """Log lines that were lost because nobody read them."""
    return sum(writer.dropped for writer in _writers)


def _renderers(style: str) -> list[Any]:
    if style == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Plain tracebacks: richer ones print local variables, and those hold what callers sent.
    traceback = structlog.dev.plain_traceback
    return [_printable, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=traceback)]


def _printable(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Values without control characters, which JSON escapes by itself."""
    for key, value in event.items():
        if isinstance(value, str) and _CONTROL.search(value):
            event[key] = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], value)
    return event
