"""Time per stage of a request."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

Timings = tuple[tuple[str, float], ...]  # (stage, seconds) in order


class Stopwatch:
    """Time per stage, in order."""

    def __init__(self) -> None:
        self._laps: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of a block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._laps[name] = self._laps.get(name, 0.0) + time.perf_counter() - start

    @property
    def timings(self) -> tuple[tuple[str, float], ...]:
        """(stage, seconds), in the order of their first use."""
        return tuple(self._laps.items())
