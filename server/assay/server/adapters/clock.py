"""Time."""

import time


class SystemClock:
    """The system's wall clock."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()
