"""Time, room for derived arrays, and the alarm."""

from collections.abc import Callable
from typing import Protocol

from assay.server.core.records.arrays import FloatArray

# Told, from any thread, that the disk lost what it had been given to keep. What the process reads back from then on may
# be of its memory alone, so it must end; what was acknowledged before is safe.
Alarm = Callable[[str], None]


def unheard(_reason: str) -> None:
    """For tools that use a directory for a moment: they end anyway."""


class Clock(Protocol):
    """Time: what people read, and what runs out."""

    def now(self) -> float:
        """Seconds since the Unix epoch. May jump either way when the system's clock is set."""

    def steady(self) -> float:
        """Seconds that only ever go on, at the pace of time, through restarts too. Leases are counted in them."""

    def shown(self, steady: float) -> float:
        """A steady time as seconds since the Unix epoch, to within a second; the same each time it is asked, unless the
        system's clock is set."""

    def keep(self) -> None:
        """Writes down what the steady time needs to go on after a restart; called now and then."""


class Scratch(Protocol):
    """Room for derived arrays."""

    def array(self, shape: tuple[int, int]) -> FloatArray:
        """A writable float32 array, in memory or, where it is large, in a file that vanishes with the process. Raises
        AssayError(STORAGE_FULL)."""
