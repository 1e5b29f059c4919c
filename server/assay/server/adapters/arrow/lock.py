"""One server a data directory."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from assay.server.adapters import file_lock
from assay.server.core.errors import AssayError, Reason

LOCK_NAME = ".lock"
# Payloads and labels are nobody else's to read.
PRIVATE = 0o700


class DirectoryLock:
    """Exclusive use of a data directory, from acquire() to release()."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_NAME
        self._descriptor = -1

    def acquire(self) -> None:
        """Takes the lock, or raises AssayError(DATA_DIRECTORY_LOCKED) with the holder's pid at once; raises
        AssayError(STORAGE_FAILED) where the directory cannot be made or written."""
        try:
            self._path.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            # One made by hand, or by an older assay, may be open to others.
            self._path.parent.chmod(PRIVATE)
            self._descriptor = file_lock.take(self._path)
        except file_lock.Held as held:
            raise _held(self._path.parent, held.pid) from None
        except OSError as error:
            raise _unusable(self._path.parent, error) from error

    def release(self) -> None:
        """Gives the lock back; does nothing if it is not held."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def _held(folder: Path, pid: str) -> AssayError:
    return AssayError(
        Reason.DATA_DIRECTORY_LOCKED,
        f"The data directory {folder} is in use by process {pid}. Stop that server, or start this one on another "
        "directory.",
        directory=folder,
        pid=pid,
    )


def _unusable(folder: Path, error: OSError) -> AssayError:
    return AssayError(
        Reason.STORAGE_FAILED,
        f"The data directory {folder} cannot be used: {error.strerror}. Check that it can be made and written.",
        directory=folder,
    )
