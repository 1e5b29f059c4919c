"""A backbone on its way in: its bytes as they come, then its trial, then its place in the catalog."""

import threading
from collections.abc import Callable
from enum import Enum

from assay.server.core.errors import AssayError, Reason
from assay.server.core.models.messages import ModelView, UploadSpec
from assay.server.core.ports.segments import IncomingModel

# Tries a stored file, given its name and SHA-256, and makes it a version; deletes it if that fails.
Accept = Callable[[str, str], ModelView]


class _Stage(Enum):
    ARRIVING = "arriving"
    TRYING = "trying"
    OVER = "over"


class BackboneUpload:
    """Takes a backbone in. write() and finish() are called one after the other, abandon() at any time."""

    def __init__(self, spec: UploadSpec, incoming: IncomingModel, accept: Accept) -> None:
        self._spec = spec
        self._incoming = incoming
        self._accept = accept
        self._lock = threading.Lock()  # of the file and the stage; not held during the trial
        self._stage = _Stage.ARRIVING
        self._received = 0

    def write(self, chunk: bytes) -> None:
        """Stores the next bytes. Raises AssayError(TOO_LARGE | STORAGE_FULL | STORAGE_FAILED | CANCELLED)."""
        with self._lock:
            self._require(_Stage.ARRIVING)
            self._received += len(chunk)
            if self._received > self._spec.total_bytes:
                raise AssayError(
                    Reason.TOO_LARGE, f"The stream holds more than the {self._spec.total_bytes:,} bytes it announced."
                )
            self._incoming.write(chunk)

    def finish(self) -> ModelView:
        """Tries what arrived and makes it a version of the pool's models.

        Raises:
            AssayError: INVALID_ARGUMENT: bytes are missing; MODEL_INVALID, MODEL_EXISTS, STORAGE_FULL; CANCELLED,
                DEADLINE_EXCEEDED or SHUTTING_DOWN once the current stop is requested.
            RequestReplayed: it was accepted before under the same key.
        """
        with self._lock:
            self._require(_Stage.ARRIVING)
            if self._received < self._spec.total_bytes:
                raise AssayError(
                    Reason.INVALID_ARGUMENT,
                    f"The stream ended after {self._received:,} of {self._spec.total_bytes:,} bytes. Upload the file "
                    "again.",
                )
            self._stage = _Stage.TRYING
            file, sha256 = self._incoming.finish()
        try:
            return self._accept(file, sha256)
        finally:
            self._stage = _Stage.OVER

    def abandon(self) -> None:
        """Drops what arrived, unless it is being tried or has been: then the trial ends with its stop."""
        with self._lock:
            if self._stage is _Stage.ARRIVING:
                self._stage = _Stage.OVER
                self._incoming.abandon()

    def _require(self, stage: _Stage) -> None:
        if self._stage is not stage:
            raise AssayError(Reason.CANCELLED, "The upload was given up by its client.")
