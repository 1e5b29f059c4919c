"""Both ends of a stream."""

import asyncio
import threading

import pytest

from assay.server.rpc.streams import Incoming, Pulled


def _resource(events, *items):
    try:
        yield from items
    finally:
        events.append("closed")


def test_a_pulled_generator_gives_its_messages_and_then_none():
    events = []
    pulled = Pulled(_resource(events, 1, 2))
    assert [pulled.next(), pulled.next(), pulled.next(), pulled.next()] == [1, 2, None, None]
    assert events == ["closed"]


def test_a_waiting_generator_is_closed_at_once():
    events = []
    pulled = Pulled(_resource(events, 1, 2))
    pulled.next()
    pulled.close()
    assert events == ["closed"]
    assert pulled.next() is None


def test_a_running_generator_is_closed_by_its_thread():
    events, entered, go_on = [], threading.Event(), threading.Event()

    def messages():
        try:
            entered.set()
            go_on.wait()
            yield 1
        finally:
            events.append(threading.get_ident())

    pulled = Pulled(messages())
    thread = threading.Thread(target=pulled.next)
    thread.start()
    entered.wait()
    pulled.close()
    assert events == []
    go_on.set()
    thread.join()
    assert events == [thread.ident]


class _Wire:
    """A stream whose reads end when the test says so; counts them, and those that were cancelled."""

    def __init__(self):
        self.arriving = asyncio.Queue()
        self.begun = self.cancelled = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.begun += 1
        try:
            item = await self.arriving.get()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(item, Exception):
            raise item
        return item


async def test_a_reader_that_is_cancelled_cancels_no_read_and_loses_no_message():
    wire = _Wire()
    incoming = Incoming(wire)
    waiting = asyncio.ensure_future(incoming.next())
    while not wire.begun:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    wire.arriving.put_nowait("first")
    assert await incoming.next() == "first"
    assert (wire.begun, wire.cancelled) == (1, 0)


async def test_no_read_begins_after_close_and_the_last_one_may_fail_unheard():
    wire, unheard = _Wire(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    incoming = Incoming(wire)
    incoming.read_ahead()
    while not wire.begun:
        await asyncio.sleep(0)
    incoming.close()
    wire.arriving.put_nowait(ConnectionResetError("gone"))
    while not wire.arriving.empty():
        await asyncio.sleep(0)
    del incoming
    await asyncio.sleep(0)
    assert (wire.begun, wire.cancelled, unheard) == (1, 0, [])
    ended = Incoming(wire)
    ended.close()
    assert await ended.next() is None
    assert wire.begun == 1
