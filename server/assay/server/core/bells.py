"""Bells: who waits for news of a pool hears that there are some, in whatever thread they were made."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[], None]


class Bells:
    """One bell a pool, by its uid. A bell says that something is new, never what: the catalog tells that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[int, tuple[Listener, ...]] = {}

    def ring(self, pool_uid: int) -> None:
        """Calls those who listen, in this thread; they must not wait nor raise."""
        for listener in self._listeners.get(pool_uid, ()):
            listener()

    @contextmanager
    def heard(self, pool_uid: int, listener: Listener) -> Iterator[None]:
        """Calls a listener at each ringing from now on. What it missed before it reads by itself."""
        with self._lock:
            self._listeners[pool_uid] = (*self._listeners.get(pool_uid, ()), listener)
        try:
            yield
        finally:
            with self._lock:
                left = tuple(one for one in self._listeners[pool_uid] if one is not listener)
                if left:
                    self._listeners[pool_uid] = left
                else:
                    del self._listeners[pool_uid]
