"""Heavy work in the background, on threads that leave the processor to requests.

Only work without locks belongs here: a lock held by a thread that gets no processor time would stop the requests too.
"""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")

# Low enough for requests to go first, high enough for the interpreter's lock not to be sat on for long.
NICENESS = 10


class LowPriorityExecutor:
    """A few threads of low priority.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="low-priority", initializer=_yield_to_requests)

    def run(self, work: Callable[[], T]) -> T:
        """Does a piece of work and returns its result, while the caller waits. The caller's stop is the work's too."""
        return self._executor.submit(copy_context().run, work).result()

    def close(self) -> None:
        """Ends the threads after what they are at."""
        self._executor.shutdown(wait=True)


def _yield_to_requests() -> None:
    """Lowers the priority of this thread, and of those that libraries start from it."""
    # Elsewhere than on Linux the priority is the whole process's.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
