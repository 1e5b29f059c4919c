"""Segments and models as immutable files: Arrow IPC, memory-mapped, checksummed; and the lock of their directory."""

from assay.server.adapters.arrow.lock import DirectoryLock
from assay.server.adapters.arrow.store import ArrowSegmentStore

__all__ = ["ArrowSegmentStore", "DirectoryLock"]
