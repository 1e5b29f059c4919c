"""Which piece of work is next, where many pools share few threads."""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may run and wait.

    Attributes:
        threads: pieces of work that run at once.
        spare: how many more may run at once, each of another pool that has nothing running: whatever the others do,
            no pool waits for theirs.
        per_pool: pieces of work of one pool that run at once.
        queue: pieces of work of one pool that wait.
        queue_in_all: pieces of work that wait in all, besides the first one of each pool.
    """

    threads: int
    spare: int
    per_pool: int
    queue: int
    queue_in_all: int

    @property
    def most(self) -> int:
        """Pieces of work that ever run at once."""
        return self.threads + self.spare


class QueueFull(Exception):
    """A pool's queue, or the whole one, is full."""


class FairQueue(Generic[T]):
    """Queues of pools, one each. The pool with the fewest pieces of work running is next, of equals the one that was
    not for longest; within a pool the oldest is.

    It decides and remembers, and runs nothing. Its user sees to it that one thread uses it at a time.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self.waiting = 0
        self.running = 0

    def put(self, pool: str, item: T, *, bounded: bool = True) -> None:
        """Adds work of a pool. Raises QueueFull if it would have to wait, and `bounded` without room for that."""
        if bounded and not self.has_room(pool):
            raise QueueFull
        self._waiting.setdefault(pool, deque()).append(item)
        self.waiting += 1

    def has_room(self, pool: str) -> bool:
        """Whether another piece of work of a pool may be put."""
        waiting = len(self._waiting.get(pool, ()))
        if not waiting:
            return self.bounds.queue > 0 or self._may_start(pool)
        return waiting < self.bounds.queue and self.waiting < self.bounds.queue_in_all

    def take(self) -> T | None:
        """The next piece of work that may start, which counts as running from now on; None if none may."""
        able = [pool for pool in self._waiting if self._may_start(pool)]
        if not able:
            return None
        pool = min(able, key=self._running.__getitem__)
        items = self._waiting[pool]
        item = items.popleft()
        if items:
            self._waiting.move_to_end(pool)
        else:
            del self._waiting[pool]
        self.waiting -= 1
        self.running += 1
        self._running[pool] += 1
        return item

    def _may_start(self, pool: str) -> bool:
        running = self._running[pool]
        if running >= self.bounds.per_pool:
            return False
        return self.running < (self.bounds.threads if running else self.bounds.most)

    def done(self, pool: str) -> None:
        """Takes note that a piece of work of a pool has ended."""
        self.running -= 1
        self._running[pool] -= 1
        if not self._running[pool]:
            del self._running[pool]

    def remove(self, pool: str, item: T) -> bool:
        """Takes a piece of work out that has not started; whether there was such a one."""
        return self.remove_if(pool, lambda waiting: waiting is item)

    def remove_if(self, pool: str, condition: Callable[[T], bool]) -> bool:
        """Takes the first piece of work out that has not started and meets a condition; whether there was one."""
        items = self._waiting.get(pool, ())
        found = next((index for index, item in enumerate(items) if condition(item)), None)
        if found is None:
            return False
        del self._waiting[pool][found]
        self.waiting -= 1
        if not self._waiting[pool]:
            del self._waiting[pool]
        return True

    def clear(self) -> list[T]:
        """Takes out all that has not started."""
        items = [item for queue in self._waiting.values() for item in queue]
        self._waiting.clear()
        self.waiting = 0
        return items
