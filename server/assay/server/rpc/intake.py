"""How many calls are let in, and how long a request may take to arrive. On the event loop only.

Nobody can take all places: each host has a share, whoever sends slowly waits among others that do, and streams of
watchers, which last until their callers leave, have places of their own.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from assay.server.rpc.current import Call
from assay.server.rpc.errors import EdgeError, EdgeReason
from assay.server.rpc.streams import Incoming
from assay.v1 import methods

# A request that comes right after its headers, as nearly all do, is here by then.
GRACE_S = 0.15
MIN_SLOW = 16
SPARE_STREAMS = 64
# Without a key only health may be asked, and that is a message of a few bytes, here right after its headers.
ANONYMOUS_RECEIVE_S = 0.1
ANONYMOUS_MESSAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of the intake.

    Attributes:
        calls: calls at once.
        calls_per_peer: of one host.
        watches: streams of Health.Watch at once; a host has at most an eighth of them.
        pool_watches: streams of WatchPool at once; a host has at most half of them.
        receive_s: seconds in which a request must have arrived; of a stream, its first message.
        idle_s: seconds between two messages of a stream of requests.
    """

    calls: int = 1024
    calls_per_peer: int = 512
    watches: int = 256
    pool_watches: int = 1024
    receive_s: float = 60.0
    idle_s: float = 600.0

    @property
    def pool_watches_per_peer(self) -> int:
        """Streams of WatchPool that a host may have."""
        return max(1, self.pool_watches // 2)

    @property
    def streams_per_connection(self) -> int:
        """Streams that a connection may have: more than calls, so that those beyond their bound are told so, and health
        is answered beside them."""
        return self.calls_per_peer + self.pool_watches_per_peer + SPARE_STREAMS


class Places:
    """A number of places, of which a host has a share."""

    def __init__(self, what: str, places: int, per_host: int) -> None:
        self._what = what
        self._places = places
        self._per_host = per_host
        self._taken = 0
        self._by_host: Counter[str] = Counter()

    @contextmanager
    def taken(self, host: str) -> Iterator[None]:
        """Takes a place for a while. Raises EdgeError(TOO_MANY_CALLS) where there is none."""
        if self._taken >= self._places or self._by_host[host] >= self._per_host:
            raise EdgeError(
                EdgeReason.TOO_MANY_CALLS,
                f"The server has too many {self._what}, in all or from your address. Try again in a moment.",
            )
        self._taken += 1
        self._by_host[host] += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._by_host[host] -= 1
            if not self._by_host[host]:
                del self._by_host[host]


class Intake:
    """Lets calls in."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        slow = max(MIN_SLOW, bounds.calls // 4)
        self._calls = Places("calls at once", bounds.calls, bounds.calls_per_peer)
        self._watches = Places("health watchers", bounds.watches, max(1, bounds.watches // 8))
        self._pool_watches = Places("watchers of pools", bounds.pool_watches, bounds.pool_watches_per_peer)
        self._slow = Places("requests half sent", slow, slow // 2)
        self._anonymous = asyncio.Semaphore(1)

    @contextmanager
    def admitted(self, call: Call) -> Iterator[None]:
        """A place for a call while it runs. Health is told to anybody at any time, and in no time; but who watches it
        stays. Raises EdgeError(TOO_MANY_CALLS)."""
        if call.method == methods.HEALTH_WATCH.path:  # lasts until its caller leaves
            with self._watches.taken(call.host):
                yield
        elif call.method == methods.WATCH_POOL.path:
            with self._pool_watches.taken(call.host):
                yield
        elif call.known.role is None:
            yield
        else:
            with self._calls.taken(call.host):
                yield

    async def first(self, call: Call, messages: Incoming[bytes]) -> bytes | None:
        """The first message of a call, None for none. Raises EdgeError(REQUEST_INCOMPLETE | TOO_MANY_CALLS)."""
        if call.caller.role is None:
            return await self._first_of_anonymous(call, messages)
        # Twice: where the event loop itself stood still, the first time runs out although the message is here.
        for _ in range(2):
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    return await messages.next()
        with self._slow.taken(call.host):
            return await _within(self._bounds.receive_s, messages)

    async def _first_of_anonymous(self, call: Call, messages: Incoming[bytes]) -> bytes | None:
        """The first message of a call without a key; an empty one, which asks for the health of the whole server, where
        it is not here at once. Raises EdgeError(REQUEST_INCOMPLETE).

        gRPC takes in a message of any size once it is asked for one, until the call ends. So strangers are asked for
        one after the other, and none for long; whoever asks for health gets an answer all the same, which ends the
        call. A stream does not end with it, and is refused.
        """
        asked = False
        with suppress(TimeoutError):
            async with asyncio.timeout(ANONYMOUS_RECEIVE_S), self._anonymous:
                asked = True
                return await messages.next()
        if asked and call.method == methods.HEALTH_WATCH.path:
            raise _incomplete(ANONYMOUS_RECEIVE_S)
        return b""

    async def next(self, messages: Incoming[bytes]) -> bytes | None:
        """A further message of a stream, None at its end. Raises EdgeError(REQUEST_INCOMPLETE)."""
        return await _within(self._bounds.idle_s, messages)


async def _within(seconds: float, messages: Incoming[bytes]) -> bytes | None:
    try:
        async with asyncio.timeout(seconds):
            return await messages.next()
    except TimeoutError:
        raise _incomplete(seconds) from None


def _incomplete(seconds: float) -> EdgeError:
    return EdgeError(
        EdgeReason.REQUEST_INCOMPLETE,
        f"No whole message came for {seconds:g} s. Send the request again, in smaller parts if it is large.",
    )
