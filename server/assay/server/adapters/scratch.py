"""Room for derived arrays: in memory while small, in a nameless file once large."""

import errno
import os
import tempfile
from pathlib import Path

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.arrays import FloatArray


class ScratchSpace:
    """Arrays that vanish with the process.

    Args:
        folder: where files are made; created if absent.
        memory_bytes: arrays up to this size stay in memory.
    """

    def __init__(self, folder: Path, memory_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._memory_bytes = memory_bytes

    def array(self, shape: tuple[int, int]) -> FloatArray:
        """A writable float32 array of zeros. Raises AssayError(STORAGE_FULL)."""
        size = 4 * shape[0] * shape[1]
        if size <= self._memory_bytes:
            return np.zeros(shape, np.float32)
        try:
            # The file has no name: the kernel frees it when the last array over it is gone, or the process dies.
            with tempfile.TemporaryFile(dir=self._folder) as file:
                # Allocated, not only truncated to: a page of a sparse file that finds no room is a SIGBUS.
                os.posix_fallocate(file.fileno(), 0, size)
                return np.memmap(file, np.float32, "r+", shape=shape)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise AssayError(
                    Reason.STORAGE_FULL, f"No room for {size:,} bytes of predictions. Free some disk space."
                ) from error
            raise AssayError(Reason.STORAGE_FAILED, f"Scratch space failed: {error.strerror}.") from error
