"""When to try again, and how long to wait first."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from assay.client.errors import Aborted, AssayError, ResourceExhausted, Unavailable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter.

    Only calls that change nothing when repeated are tried again: reads, and changes under a request id. They are when
    the server was not reached, or when it is too busy or others got in between and it says how long to wait; never
    beyond the call's own deadline.

    Attributes:
        attempts: tries in all; 1 never tries again.
        initial: longest wait before the second try, in seconds.
        multiplier: growth of that from try to try.
        longest: longest wait, in seconds, unless the server asks for more.
        patience: what the server may ask for, in seconds; where it asks for more, the caller is told instead.
    """

    attempts: int = 5
    initial: float = 0.1
    multiplier: float = 2.0
    longest: float = 5.0
    patience: float = 10.0

    def wait(self, error: AssayError, tried: int, jitter: float) -> float | None:
        """Seconds to wait after `tried` tries of which the last ended in `error`; None to give up.

        `jitter` is from 0 to 1: the share of the backoff to wait.
        """
        asked = None if error.retry_after is None else error.retry_after.total_seconds()
        if tried >= self.attempts or (asked or 0.0) > self.patience:
            return None
        backoff = jitter * min(self.initial * self.multiplier ** (tried - 1), self.longest)
        if isinstance(error, Unavailable):
            return max(backoff, asked or 0.0)
        if isinstance(error, ResourceExhausted | Aborted) and asked is not None:
            # Those who were turned away together should not come back together.
            return asked + backoff
        return None


class Budget:
    """The time and tries of one call."""

    def __init__(
        self,
        policy: RetryPolicy,
        seconds: float | None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._jitter = jitter
        self._end = math.inf if seconds is None else clock() + seconds
        self._tried = 0

    def remaining(self) -> float | None:
        """Seconds left, 0 or more; None where there is no limit."""
        return None if math.isinf(self._end) else max(0.0, self._end - self._clock())

    def wait(self, error: AssayError) -> float | None:
        """Count a failed try: seconds to wait before the next; None where there is to be none."""
        self._tried += 1
        pause = self._policy.wait(error, self._tried, self._jitter())
        if pause is None or self._clock() + pause >= self._end:
            return None
        return pause
