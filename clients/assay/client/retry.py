"""When to try again, and how long to wait first."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from assay.client.errors import Aborted, AssayError, ResourceExhausted, Unavailable

# A try that lasted longer was answered for a while: what follows is another outage. Trying to connect takes less.
_ANSWERED_S = 10.0
# Beyond this the backoff has long been at its longest.
_MOST_DOUBLINGS = 60


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter, for as long as a server takes to come back.

    Only calls that change nothing when repeated are tried again: reads, and changes under a request id, streams among
    them, which go on where they broke. They are when the server was not reached, or when it is too busy or others got
    in between and it says how long to wait; never beyond the call's own deadline.

    Attributes:
        outage: how long a server that is away or busy is tried again, in seconds; 0 never tries again. A call's
            deadline may end it earlier.
        connect: the same for a server that has never answered this client: None for as long as an outage.
        attempts: tries in a row at most; None for as many as there is time for, 1 never tries again.
        initial: longest wait before the second try, in seconds.
        multiplier: growth of that from try to try.
        longest: longest wait, in seconds, unless the server asks for more.
        patience: what the server may ask for, in seconds; where it asks for more, the caller is told instead.
    """

    outage: float = 60.0
    connect: float | None = None
    attempts: int | None = None
    initial: float = 0.1
    multiplier: float = 2.0
    longest: float = 1.0
    patience: float = 10.0

    def wait(self, error: AssayError, tried: int, jitter: float) -> float | None:
        """Seconds to wait after `tried` tries of which the last ended in `error`; None to give up.

        `jitter` is from 0 to 1: the share of the backoff to wait.
        """
        asked = None if error.retry_after is None else error.retry_after.total_seconds()
        out_of_tries = self.attempts is not None and tried >= self.attempts
        if out_of_tries or (asked is not None and asked > self.patience):
            return None
        growth = self.multiplier ** min(tried - 1, _MOST_DOUBLINGS)
        backoff = jitter * min(self.initial * growth, self.longest)
        if isinstance(error, Unavailable):
            return backoff if asked is None else max(backoff, asked)
        if isinstance(error, ResourceExhausted | Aborted) and asked is not None:
            # Those who were turned away together should not come back together.
            return asked + backoff
        return None

    def lasts(self, answered: bool) -> float:
        """For how many seconds a server that is away is tried, by whether it has ever answered."""
        return self.outage if answered or self.connect is None else self.connect


class Contact:
    """Whether a server has ever answered over one channel."""

    def __init__(self) -> None:
        self.answered = False

    def note(self, error: AssayError | None) -> None:
        """A call ended, well or in this error; one that says more than that nobody was there is an answer."""
        self.answered = self.answered or not isinstance(error, Unavailable) or bool(error.reason)


class Budget:
    """The time and tries of one call."""

    def __init__(
        self,
        policy: RetryPolicy,
        seconds: float | None,
        contact: Contact,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._contact = contact
        self._clock = clock
        self._jitter = jitter
        self._started = clock()
        self._end = math.inf if seconds is None else self._started + seconds
        self._tried = 0
        self._away_since = math.inf

    def remaining(self) -> float | None:
        """Seconds left, 0 or more; None where there is no limit."""
        return None if math.isinf(self._end) else max(0.0, self._end - self._clock())

    def wait(self, error: AssayError) -> float | None:
        """Count a failed try: seconds to wait before the next; None where there is to be none."""
        now = self._clock()
        if now - self._started > _ANSWERED_S:
            self._tried, self._away_since = 0, math.inf
        self._contact.note(error)
        self._tried += 1
        self._away_since = min(self._away_since, now)
        pause = self._policy.wait(error, self._tried, self._jitter())
        patient_until = self._away_since + self._policy.lasts(self._contact.answered)
        if pause is None or now + pause >= min(self._end, patient_until):
            return None
        self._started = now + pause
        return pause
