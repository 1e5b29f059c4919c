"""A model file whose bytes come bit by bit, between which its client may leave."""

import hashlib
from pathlib import Path

from assay.server.adapters.arrow.files import new_file
from assay.server.core.ports.machine import Alarm


class _Abandoned(Exception):
    """Ends the file's context without a file."""


class ArrowIncomingModel:
    """A file that is there once it is finished."""

    def __init__(self, data_dir: Path, file: str, alarm: Alarm) -> None:
        """Begins a file of this name. Raises AssayError(STORAGE_FULL | STORAGE_FAILED)."""
        self._file = file
        self._context = new_file(data_dir / file, hashlib.sha256(), alarm)
        self._sink = self._context.__enter__()

    def write(self, chunk: bytes) -> None:
        """Adds bytes. Raises AssayError(STORAGE_FULL | STORAGE_FAILED), leaving nothing behind."""
        try:
            self._sink.write(chunk)
        except OSError as error:
            self._context.__exit__(type(error), error, error.__traceback__)
            raise

    def finish(self) -> tuple[str, str]:
        """Makes it durable; gives (file, sha256 hexadecimal). Raises as write."""
        self._context.__exit__(None, None, None)
        return self._file, self._sink.digest.hexdigest()

    def abandon(self) -> None:
        """Leaves nothing behind; does nothing once that is so, or the file is finished."""
        self._context.__exit__(_Abandoned, _Abandoned(), None)
