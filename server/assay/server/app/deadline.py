"""The end of the process at a given time, whatever still runs.

Nothing that was acknowledged is lost by that: it is what a crash would do.
"""

import faulthandler
import os
import signal
import threading
import time
from typing import NoReturn

import structlog

from assay.server.app import logs

LAST_WORDS_S = 0.2
STOPPED_BY_FORCE = 4  # exit status
log = structlog.get_logger("assay.server")


def end_after(seconds: float) -> None:
    """Ends the process after so many seconds, unless it has ended by then.

    A thread does it, and says what the others were at. Where no thread gets its turn, because a library does not let go
    of the interpreter, the system's alarm does it.
    """
    threading.Thread(target=_end, args=(seconds,), daemon=True, name="deadline").start()
    signal.setitimer(signal.ITIMER_REAL, seconds + 1.5 * LAST_WORDS_S)


def leave() -> NoReturn:
    """Ends the process now that everything is closed. An interpreter that takes itself down takes its time, and waits
    for whatever threads its libraries have."""
    logs.drain()
    os._exit(0)


def _end(seconds: float) -> None:
    time.sleep(seconds)
    # In a thread of its own: who reads the log may be stuck, too.
    telling = threading.Thread(target=_tell, daemon=True, name="last words")
    telling.start()
    telling.join(LAST_WORDS_S)
    os._exit(STOPPED_BY_FORCE)


def _tell() -> None:
    log.error("stopped by force", reason="work did not end within drain_seconds; the threads follow")
    logs.drain()
    faulthandler.dump_traceback(all_threads=True)
