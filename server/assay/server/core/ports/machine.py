"""Time and room for derived arrays."""

from typing import Protocol

from assay.server.core.records.arrays import FloatArray


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""


class Scratch(Protocol):
    """Room for derived arrays."""

    def array(self, shape: tuple[int, int]) -> FloatArray:
        """A writable float32 array, in memory or, where it is large, in a file that vanishes with the process. Raises
        AssayError(STORAGE_FULL)."""
