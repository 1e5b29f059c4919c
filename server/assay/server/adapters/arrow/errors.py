"""What the file system and Arrow say, as errors of the domain."""

import errno
import os
from pathlib import Path

from assay.server.core.errors import AssayError, Reason

# The disk, the user's quota, or the process's file size limit: in each case smaller or elsewhere would have worked.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# There is no such file, or something else stands in its place.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


def storage_error(error: OSError, path: Path, needed: int) -> AssayError:
    """The error for a failed write of `needed` bytes to a path."""
    if error.errno not in _FULL:
        return AssayError(
            Reason.STORAGE_FAILED,
            f"{path.name} could not be written: {error.strerror or error}. Nothing was stored; check the data "
            "directory and try again.",
            file=path.name,
        )
    return AssayError(
        Reason.STORAGE_FULL,
        f"No room for the {needed} bytes of {path.name}: {error.strerror}. Nothing was stored; free space below the "
        "data directory and send it again.",
        file=path.name,
        bytes_needed=needed,
        bytes_free=_free_bytes(path.parent),
    )


def unread(file: str, error: OSError) -> AssayError:
    """The error for a file that the system would not read: damage where it is not there, else a failure that may
    pass."""
    if error.errno in _GONE:
        return damaged(file, f"it cannot be read ({error.strerror})")
    return AssayError(
        Reason.STORAGE_FAILED,
        f"The file {file} could not be read: {error.strerror}. Check the disk, and the server's limit of open files.",
        file=file,
    )


def damaged(file: str, what: str) -> AssayError:
    """The error for a file that cannot be what was written."""
    return AssayError(
        Reason.SEGMENT_DAMAGED,
        f"The file {file} is damaged: {what}. Restore it from a backup, or delete its samples and add them again.",
        file=file,
    )


def _free_bytes(folder: Path) -> int:
    try:
        stats = os.statvfs(folder)
    except OSError:
        return 0
    return stats.f_bavail * stats.f_frsize
