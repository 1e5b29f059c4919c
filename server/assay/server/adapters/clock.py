"""The system's clocks."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
KEEP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Anchor:
    """How the steady clock continued: `steady` seconds when the system had been up for `uptime`, in the boot `boot`."""

    boot: str
    uptime: float
    steady: float


class SystemClock:
    """Wall-clock time, and a clock that only ever goes on.

    The steady clock counts the time that the system has been up. Its reading is kept in a file: a server that is
    started again in the same boot goes on exactly, whatever the wall clock was set to. After a reboot the time that
    passed is taken from the wall clock, but never backwards.

    Args:
        path: where the reading is kept.
        wall: the system's wall clock.
    """

    def __init__(self, path: Path, wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._wall = wall
        self._lock = threading.Lock()
        boot, uptime = _boot_id(), _uptime()
        kept = _read(path)
        if kept is not None and boot and kept.boot == boot and uptime >= kept.uptime:
            self._offset = kept.steady - kept.uptime
        else:
            self._offset = max(wall(), kept.steady if kept else 0.0) - uptime
        self._boot = boot
        self._kept_at = -KEEP_SECONDS
        self.keep()

    def now(self) -> float:
        """Seconds since the Unix epoch, as the system's clock has them."""
        return self._wall()

    def steady(self) -> float:
        """Seconds since an epoch of its own; see the class."""
        return self._offset + _uptime()

    def shown(self, steady: float) -> float:
        """A steady time as the system's clock will show it, to within a second."""
        # In whole seconds, so that what was shown once is not shown with other digits the next time.
        return steady + round(self._wall() - self.steady())

    def keep(self) -> None:
        """Writes the reading down, at most every half minute. A file that cannot be written (the disk is full) costs
        only what this clock is worth after a reboot with a wall clock that was set back."""
        with self._lock:
            uptime = _uptime()
            if uptime - self._kept_at < KEEP_SECONDS:
                return
            self._kept_at = uptime
            with suppress(OSError):
                _write(self._path, _Anchor(self._boot, uptime, self._offset + uptime))


def _uptime() -> float:
    # Counts the time that the system sleeps, too, where there is such a clock: a lease ends while the laptop is closed.
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


def _boot_id() -> str:
    """Names the time since the system was started; "" where the system does not tell."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _read(path: Path) -> _Anchor | None:
    """The reading that was kept; None if there is none, or none that can be read."""
    try:
        kept = json.loads(path.read_bytes())
        return _Anchor(str(kept["boot"]), float(kept["uptime"]), float(kept["steady"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, anchor: _Anchor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(
        json.dumps({"boot": anchor.boot, "uptime": anchor.uptime, "steady": anchor.steady}), encoding="ascii"
    )
    os.replace(temporary, path)
