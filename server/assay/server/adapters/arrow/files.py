"""Files that are there whole or not at all, and their checksums."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import xxhash

from assay.server.adapters.arrow.errors import storage_error
from assay.server.core.ports.machine import Alarm
from assay.strategies import checkpoint

# Small enough to be hashed and written while it is in the processor's cache.
_CHUNK = 1 << 20
_READ_CHUNK = 4 << 20

# Ends the name of a file that is being written.
TEMPORARY = ".tmp"

# A folder that another thread has made is not yet one that survives a crash.
_making = threading.Lock()


class Hash(Protocol):
    """A running hash."""

    def update(self, data: memoryview, /) -> None:
        """Takes in bytes."""

    def hexdigest(self) -> str:
        """The hash so far, hexadecimal."""


class HashingSink:
    """A file that hashes what is written to it. Has just what pyarrow asks of a Python file."""

    closed = False

    def __init__(self, descriptor: int, digest: Hash) -> None:
        self._descriptor = descriptor
        self.digest = digest
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        """Writes and hashes all bytes of a buffer, without a copy. Raises Interrupted."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _CHUNK):
            checkpoint()
            self._write_chunk(view[start : start + _CHUNK])
        return len(view)

    def _write_chunk(self, chunk: memoryview) -> None:
        self.digest.update(chunk)
        while chunk:
            written = os.write(self._descriptor, chunk)
            self.size += written
            chunk = chunk[written:]

    def tell(self) -> int:
        """Bytes written."""
        return self.size

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """The file is closed by its owner."""


class LostWrite(OSError):
    """fsync failed: the disk lost something, of this file or of another, and will not say so again."""


@contextmanager
def new_file(path: Path, digest: Hash, alarm: Alarm, needed: int = 0) -> Iterator[HashingSink]:
    """A sink whose bytes are on disk under `path` when the context ends; after any exception nothing is left.

    Raises AssayError(STORAGE_FULL | STORAGE_FAILED), after the alarm if the disk lost something; `needed` is the
    expected size for its message.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    made: Path | None = None
    written = 0
    try:
        make_folder(path.parent)
        with open(temporary, "xb", buffering=0) as stream:
            made = temporary
            sink = HashingSink(stream.fileno(), digest)
            try:
                yield sink
            finally:
                written = sink.size
            _sync(stream.fileno())
        os.rename(temporary, path)
        made = path
        sync_folder(path.parent)
    except BaseException as error:
        if made is not None:
            with suppress(OSError):
                made.unlink()
        if isinstance(error, LostWrite):
            alarm(f"{path.name} could not be synced to disk ({error.strerror}).")
        if isinstance(error, OSError):
            raise storage_error(error, path, max(needed, written)) from error
        raise


def make_folder(folder: Path) -> None:
    """Makes a folder and its parents so that they survive a crash."""
    with _making:
        _make_folder(folder)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise LostWrite(error.errno, error.strerror) from error


def checksum_of(stream: BinaryIO) -> str:
    """xxh3-128 of the rest of a stream, hexadecimal."""
    digest = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_READ_CHUNK))
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]
        checkpoint()
        digest.update(buffer[:count])
    return digest.hexdigest()
