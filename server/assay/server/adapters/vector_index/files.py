"""Index files below the derived directory: written so that a crash leaves the old index or the new one, checked before
use."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import BinaryIO
from urllib.parse import quote

import xxhash

from assay.server.adapters.vector_index.library import Index, faiss
from assay.server.adapters.vector_index.sidecar import Sidecar
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.pools import Metric

SIDECAR = "index.json"
CHUNK = 1 << 22  # bytes


class IndexFiles:
    """One folder for each pool and space, holding one index file and its sidecar, which names it.

    The index file is complete under a name of its own before the sidecar is replaced, and the old one is deleted after
    that.

    Args:
        directory: derived directory; created when something is stored.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def store(self, pool_uid: int, index: Index, sidecar: Sidecar) -> Sidecar:
        """Writes an index, replacing the one stored before. Returns the sidecar with the file's facts filled in.

        Raises:
            AssayError: STORAGE_FULL or STORAGE_FAILED; the index stored before is still there.
        """
        folder = self._folder(pool_uid, sidecar.space)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sidecar = _write_index(folder, index, sidecar)
            _write_sidecar(folder, sidecar)
        except OSError as error:
            raise _storage_error(error) from error
        _clear(folder, {SIDECAR, sidecar.file})
        return sidecar

    def load(self, pool_uid: int, space: str, metric: Metric, dimension: int) -> tuple[Index, Sidecar] | None:
        """Maps the stored index. None if there is none; one that does not fit, or is damaged, is deleted. Reads the
        whole file once, against its checksum: FAISS may abort the process on a damaged one."""
        folder = self._folder(pool_uid, space)
        sidecar = _read_sidecar(folder)
        if sidecar is not None and sidecar.fits(space, metric, dimension) and _intact(folder / sidecar.file, sidecar):
            index = self.map(pool_uid, sidecar)
            if index is not None:
                _clear(folder, {SIDECAR, sidecar.file})
                return index, sidecar
        rmtree(folder, ignore_errors=True)
        return None

    def map(self, pool_uid: int, sidecar: Sidecar) -> Index | None:
        """Maps an index file that is known to be intact; the index must not be changed. None if it cannot be opened."""
        return _read(self._path(pool_uid, sidecar), faiss.IO_FLAG_MMAP_IFC)

    def copy(self, pool_uid: int, sidecar: Sidecar) -> Index | None:
        """Reads an index file into memory, to be extended. None if it is not there, or not intact, any more."""
        path = self._path(pool_uid, sidecar)
        return _read(path, 0) if _intact(path, sidecar) else None

    def forget(self, pool_uid: int, space: str = "") -> None:
        """Deletes what is stored for a space of a pool, or for all of them."""
        rmtree(self._folder(pool_uid, space) if space else self._directory / str(pool_uid), ignore_errors=True)

    def sweep(self, epochs: Mapping[int, int]) -> None:
        """Deletes what is stored for pools that are not named, or was built from an epoch that a pool has not come
        to."""
        for pool_folder in _folders(self._directory):
            for folder in _folders(pool_folder):
                sidecar = _read_sidecar(folder)
                if sidecar is None or sidecar.epoch > epochs.get(int(pool_folder.name), -1):
                    rmtree(folder, ignore_errors=True)

    def _path(self, pool_uid: int, sidecar: Sidecar) -> Path:
        return self._folder(pool_uid, sidecar.space) / sidecar.file

    def _folder(self, pool_uid: int, space: str) -> Path:
        name = quote(space, safe="")
        return self._directory / str(pool_uid) / name.replace(".", "%2E")


class _HashingWriter:
    """Hands what FAISS writes to a file, and keeps its checksum and size."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = xxhash.xxh3_128()
        self.size = 0

    def __call__(self, data: bytes) -> None:
        self._stream.write(data)
        self._hash.update(data)
        self.size += len(data)

    @property
    def checksum(self) -> str:
        return self._hash.hexdigest()


def _write_index(folder: Path, index: Index, sidecar: Sidecar) -> Sidecar:
    temporary = folder / "index.tmp"
    with _synced(temporary) as stream:
        writer = _HashingWriter(stream)
        faiss.write_index(index, faiss.PyCallbackIOWriter(writer, CHUNK))
    name = f"index-{writer.checksum}.faiss"
    _publish(temporary, folder / name)
    return replace(sidecar, file=name, size=writer.size, checksum=writer.checksum)


def _write_sidecar(folder: Path, sidecar: Sidecar) -> None:
    temporary = folder / "sidecar.tmp"
    with _synced(temporary) as stream:
        stream.write(sidecar.encode())
    _publish(temporary, folder / SIDECAR)


@contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on disk when the context ends, or gone if it fails."""
    try:
        with path.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _publish(temporary: Path, path: Path) -> None:
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_sidecar(folder: Path) -> Sidecar | None:
    with suppress(OSError, ValueError):
        return Sidecar.decode((folder / SIDECAR).read_bytes())
    return None


def _read(path: Path, flags: int) -> Index | None:
    try:
        return faiss.read_index(str(path), flags)
    except RuntimeError:  # what FAISS makes of a missing or unreadable file
        return None


def _intact(path: Path, sidecar: Sidecar) -> bool:
    try:
        if path.name != sidecar.file or path.stat().st_size != sidecar.size:
            return False
        found = xxhash.xxh3_128()
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                found.update(chunk)
    except OSError:
        return False
    return found.hexdigest() == sidecar.checksum


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _clear(folder: Path, keep: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in keep:
            path.unlink(missing_ok=True)


def _storage_error(error: OSError) -> AssayError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AssayError(Reason.STORAGE_FULL, "The disk is full: the search index was not stored. Free some space.")
    return AssayError(
        Reason.STORAGE_FAILED, f"The search index could not be stored: {error}. Check the data directory."
    )
