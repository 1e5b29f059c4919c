"""A lock on a file, which the system drops when its process dies, however it dies."""

import fcntl
import os
from pathlib import Path


class Held(Exception):
    """Another process holds the lock. Attribute pid: its process id as text, "unknown" where it has not said."""

    def __init__(self, pid: str) -> None:
        super().__init__(f"held by process {pid}")
        self.pid = pid


def take(path: Path) -> int:
    """Locks a file, made if missing, and writes the process id into it. Returns a descriptor: closing it gives the lock
    back. The file stays behind: deleting it would let two processes lock two files of one name.

    Raises:
        Held: at once, where another process has it.
        OSError: the file cannot be made or written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    except BlockingIOError:
        pid = os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"
        os.close(descriptor)
        raise Held(pid) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
