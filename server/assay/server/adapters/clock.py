"""The system's clock."""

import time


class SystemClock:
    """Wall-clock time."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()
