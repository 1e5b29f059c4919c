"""Turns at what only one may do at a time."""

import threading

from assay.server.core.stop import current_stop

# Between two looks at the stop.
LOOK_S = 0.05


class Turn:
    """A lock that is waited for no longer than the work of the waiting thread may go on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self) -> None:
        """Takes it. Raises AssayError(CANCELLED | DEADLINE_EXCEEDED | SHUTTING_DOWN) if the work is to end first."""
        if self._lock.acquire(blocking=False):
            return
        stop = current_stop()
        while not self._lock.acquire(timeout=LOOK_S):
            stop.check()

    def release(self) -> None:
        """Gives it to the next."""
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
