"""Keys from a person at a terminal, one at a time, or lines from a file or a pipe."""

import os
import re
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

END = "\x04"
ENTER = "\r\n"
_ESCAPE = b"\x1b"
# What a sequence of a terminal ends with.
_LAST = re.compile(rb"[@-~]")


class Keys(Protocol):
    """Where answers come from.

    Attributes:
        single: whether one key is an answer; else a line is.
    """

    single: bool

    def read(self) -> str | None:
        """The next key, or line without its end; None when there is no more."""


class Lines:
    """Lines of standard input."""

    single = False

    def read(self) -> str | None:
        line = sys.stdin.readline()
        return line.strip() if line else None


class Terminal:
    """Single keys of a terminal. Keys that send several bytes, as arrows do, are passed over."""

    single = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> str | None:
        while True:
            key = os.read(self._descriptor, 1)
            if not key or key == END.encode():
                return None
            if key != _ESCAPE and key < b"\x80":
                return key.decode()
            if key == _ESCAPE:
                self._pass_over()

    def _pass_over(self) -> None:
        """Reads the rest of a key that began with an escape, if it is not that key itself."""
        if self._more() in (b"[", b"O"):
            while (byte := self._more()) and not _LAST.match(byte):
                pass

    def _more(self) -> bytes:
        return os.read(self._descriptor, 1) if select.select([self._descriptor], [], [], 0.02)[0] else b""


@contextmanager
def keys(*, single: bool) -> Iterator[Keys]:
    """Keys of the terminal, which is left as it was; lines where there is none, or where single keys are not asked
    for."""
    if not single or not sys.stdin.isatty():
        yield Lines()
        return
    try:
        import termios
        import tty
    except ImportError:  # there are none on Windows
        yield Lines()
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield Terminal(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
