"""Whose turn it is to write."""

import threading
from collections import deque


class Turn:
    """A lock that goes to who has waited longest, and knows whether anybody waits."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._queue: deque[threading.Lock] = deque()

    def take(self) -> None:
        """Waits for the turn."""
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            ticket = threading.Lock()
            ticket.acquire()
            self._queue.append(ticket)
        ticket.acquire()

    def give(self) -> None:
        """Hands the turn to the next, if there is one."""
        with self._mutex:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._taken = False

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self._queue)
