"""A stored backbone: the bytes of its ONNX file, followed by those of its data files, in one file."""

import hashlib
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from assay.server.adapters.onnx_backbone.problems import not_onnx
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.models import DataFile

_BLOCK = 4 << 20


class Bundle:
    """The parts of a stored file, mapped read-only. Nothing else on the disk is looked at."""

    def __init__(self, path: str, data_files: Sequence[DataFile]) -> None:
        """Maps a file. Raises AssayError(STORAGE_FAILED) if it cannot be read, AssayError(MODEL_INVALID) if it is
        empty."""
        self.path = path
        self._data_files = tuple(data_files)
        try:
            with open(path, "rb") as stream:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise AssayError(Reason.STORAGE_FAILED, f"The model's file cannot be read: {error.strerror}.") from error
        except ValueError:
            raise not_onnx("it is empty") from None

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return len(self._map)

    def model(self) -> bytes:
        """The ONNX file."""
        return self._map[: self.size - sum(file.size_bytes for file in self._data_files)]

    def data(self) -> dict[str, memoryview]:
        """The data files by name, without a copy."""
        parts: dict[str, memoryview] = {}
        end = self.size
        for file in reversed(self._data_files):
            parts[file.name] = memoryview(self._map)[end - file.size_bytes : end]
            end -= file.size_bytes
        return parts

    def close(self) -> None:
        """Unmaps the file, unless a view of it is still in use: then with that."""
        with suppress(BufferError):
            self._map.close()

    def __enter__(self) -> "Bundle":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def check_content(path: str, size_bytes: int, sha256: str) -> None:
    """Raises AssayError(SEGMENT_DAMAGED) unless a file still holds the bytes that were stored."""
    try:
        found = os.path.getsize(path)
        digest = _sha256(path) if found == size_bytes else ""
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({error.strerror})") from error
    if found != size_bytes:
        raise _damaged(path, f"it has {found:,} bytes instead of {size_bytes:,}")
    if digest != sha256:
        raise _damaged(path, "its content is not what was stored")


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_BLOCK))
    with open(path, "rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def _damaged(path: str, why: str) -> AssayError:
    name = Path(path).name
    return AssayError(
        Reason.SEGMENT_DAMAGED,
        f"The model's file {name} is damaged: {why}. Restore it from a backup, or upload the backbone again and "
        "activate it.",
        file=name,
    )
