"""The Changes service.

The last changes of a pool are read once for all who follow it: its tail. Who is farther behind reads pages of the
catalog by itself, at the pace at which it is read from. So nothing is kept for anybody, and no thread waits.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from assay.server.core.errors import AssayError, Reason
from assay.server.core.pools.feed import BEFORE_ALL, PoolFeed
from assay.server.core.records.changes import Position
from assay.server.rpc.calls import BaseServicer
from assay.server.rpc.convert import names
from assay.server.rpc.convert.changes import change_messages, heartbeat_message, to_heartbeat, to_start
from assay.server.rpc.current import Context
from assay.server.rpc.execution import Executor, Executors
from assay.server.rpc.gate import Gate
from assay.v1 import changes_pb2

T = TypeVar("T")
# Changes that are read at once, and that a tail keeps.
PAGE = 64

Told = tuple[Position, changes_pb2.WatchPoolResponse]


@dataclass(slots=True)
class _Tail:
    """The last changes of a pool. On the event loop only.

    Attributes:
        start, head: positions before the first and of the last of the changes that it holds.
        epoch: of the pool when it was read last.
        told: the changes between the two.
        news: set, and replaced, when there are more, or there is an end to it.
        failure: why there will be no more.
    """

    feed: PoolFeed
    start: Position = BEFORE_ALL
    head: Position = BEFORE_ALL
    epoch: int = 0
    told: deque[Told] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None
    watchers: int = 0
    reading: "asyncio.Task[None] | None" = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, told: list[Told]) -> None:
        """Takes changes in, which follow those that it has."""
        self.told.extend(told)
        while len(self.told) > PAGE:
            self.start, _ = self.told.popleft()
        self.head = told[-1][0]
        self.tell()

    def tell(self) -> None:
        """Wakes who waits for news."""
        news, self.news = self.news, asyncio.Event()
        news.set()


class _Tails:
    """Tails of the pools that somebody follows."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._tails: dict[int, _Tail] = {}

    @asynccontextmanager
    async def joined(self, feed: PoolFeed) -> AsyncIterator[_Tail]:
        """The tail of a pool, which is kept up to date meanwhile. Raises AssayError as PoolFeed.after."""
        tail = self._tails.get(feed.pool_uid)
        if tail is None or tail.failure is not None:
            tail = self._tails[feed.pool_uid] = _Tail(feed)
            tail.reading = asyncio.ensure_future(self._follow(tail))
        tail.watchers += 1
        try:
            await tail.ready.wait()
            yield tail
        finally:
            tail.watchers -= 1
            if not tail.watchers:
                self._drop(tail)
                assert tail.reading is not None
                tail.reading.cancel()

    def _drop(self, tail: _Tail) -> None:
        if self._tails.get(tail.feed.pool_uid) is tail:
            del self._tails[tail.feed.pool_uid]

    async def _follow(self, tail: _Tail) -> None:
        """Reads what is new whenever the pool's bell rings."""
        bell = _Bell()
        try:
            with tail.feed.heard(bell.ring):
                tail.start = tail.head = await self._read(tail, tail.feed.now)
                tail.epoch = tail.head.epoch
                tail.ready.set()
                while True:
                    await self._catch_up(tail)
                    await bell.rung()
        except Exception as failure:
            tail.failure = failure
            self._drop(tail)
            tail.ready.set()
            tail.tell()

    async def _catch_up(self, tail: _Tail) -> None:
        more = True
        while more:
            told, epoch = await self._read(tail, lambda: read_page(tail.feed, tail.head))
            more = len(told) == PAGE
            if told:
                tail.add(told)
            if not more:
                tail.epoch = epoch

    async def _read(self, tail: _Tail, work: Callable[[], T]) -> T:
        return await self._executor.run(work, pool=tail.feed.pool_id, bounded=False)


class _Bell:
    """Brings ringing from any thread to the event loop: many at once as one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._coming = False

    def ring(self) -> None:
        """In whatever thread."""
        if not self._coming:
            self._coming = True
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._event.set)

    async def rung(self) -> None:
        """Waits for the next ringing, or returns at once for one that was not waited for."""
        await self._event.wait()
        self._event.clear()
        self._coming = False


def read_page(feed: PoolFeed, position: Position) -> tuple[list[Told], int]:
    """Changes after a position, and the epoch that they lead to where there are no more of them."""
    view = feed.after(position, PAGE)
    messages = change_messages(feed, view)
    return [(record.position, message) for record, message in zip(view.records, messages, strict=True)], view.epoch


class ChangesServicer(BaseServicer):
    """Translates between the wire and the changes of pools."""

    def __init__(self, gate: Gate, executors: Executors) -> None:
        super().__init__(gate, executors)
        self._tails = _Tails(executors.io)

    async def WatchPool(
        self, request: changes_pb2.WatchPoolRequest, context: Context
    ) -> AsyncGenerator[changes_pb2.WatchPoolResponse, None]:
        heartbeat_s = to_heartbeat(request)
        feed, position = await self.run("io", lambda: self._begin(request))
        async with self._tails.joined(feed) as tail:
            yield heartbeat_message(feed, position, 0)
            while True:
                news = tail.news
                if tail.failure is not None:
                    raise tail.failure
                if self.gate.draining.is_set():
                    raise AssayError(Reason.SHUTTING_DOWN, "The server is shutting down. Go on at the last cursor.")
                messages = await self._after(tail, position)
                for place, message in messages:
                    position = place
                    yield message
                if not messages and not await self._news(news, heartbeat_s):
                    yield heartbeat_message(feed, position, tail.epoch if position >= tail.head else 0)

    def _begin(self, request: changes_pb2.WatchPoolRequest) -> tuple[PoolFeed, Position]:
        feed = self.core.changes.of(names.parse_pool(request.pool))
        return feed, to_start(feed, request)

    async def _after(self, tail: _Tail, position: Position) -> list[Told]:
        """Some of what comes after a position: of the tail where it reaches back to it, else of the catalog."""
        if position >= tail.head:
            return []
        if position >= tail.start:
            return [told for told in tail.told if told[0] > position]
        told, _ = await self.run("io", lambda: read_page(tail.feed, position), bounded=False)
        return told

    async def _news(self, news: asyncio.Event, heartbeat_s: float) -> bool:
        """Waits for news; False if none came for the length of a heartbeat."""
        waits = [asyncio.ensure_future(event.wait()) for event in (news, self.gate.draining)]
        try:
            done, _ = await asyncio.wait(waits, timeout=heartbeat_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return bool(done)
