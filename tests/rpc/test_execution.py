"""Executors: bounded, fair to pools, and what nobody waits for any more leaves the queue or is stopped."""

import asyncio
import threading

import pytest

from assay.server.core.errors import AssayError, Reason
from assay.server.core.fair_queue import Bounds
from assay.server.core.stop import Stop, current_stop
from assay.server.rpc.execution import Executor, open_executors


def _executor(**bounds):
    return Executor(
        "compute", Bounds(**{"threads": 1, "spare": 0, "per_pool": 1, "queue": 1, "queue_in_all": 4, **bounds})
    )


@pytest.fixture
async def executor():
    executor = _executor()
    yield executor
    await executor.close()


class Held:
    """Work that goes on until a test, or its stop, ends it."""

    def __init__(self, executor, **options):
        self.started, self.go_on, self.stopped = threading.Event(), threading.Event(), threading.Event()
        self.call = asyncio.ensure_future(executor.run(self._work, **options))

    def _work(self):
        self.started.set()
        stop = current_stop()
        while not self.go_on.wait(0.001):
            if stop.requested():
                self.stopped.set()
                stop.check()
        return "held"

    async def begun(self):
        while not self.started.is_set():
            await asyncio.sleep(0)
        return self


async def _until(condition):
    while not condition():
        await asyncio.sleep(0)


async def test_work_runs_beside_the_event_loop(executor):
    assert await executor.run(threading.get_ident) != threading.get_ident()


async def test_errors_come_back(executor):
    with pytest.raises(ZeroDivisionError):
        await executor.run(lambda: 1 // 0)


async def test_a_full_queue_says_busy_and_later_takes_work_again(executor):
    held = await Held(executor).begun()
    queued = asyncio.ensure_future(executor.run(lambda: "queued"))
    await _until(lambda: executor.waiting == 1)
    with pytest.raises(AssayError) as caught:
        await executor.run(lambda: "refused")
    assert caught.value.reason is Reason.BUSY
    held.go_on.set()
    assert await queued == "queued"
    assert await held.call == "held"
    assert (executor.waiting, executor.running) == (0, 0)
    assert await executor.run(lambda: "again") == "again"


async def test_what_was_let_in_before_is_not_refused_half_way(executor):
    held = await Held(executor).begun()
    queued = [asyncio.ensure_future(executor.run(lambda: "queued", bounded=False)) for _ in range(3)]
    await _until(lambda: executor.waiting == 3)
    held.go_on.set()
    assert await asyncio.gather(*queued) == ["queued"] * 3


async def test_queued_work_whose_caller_left_is_never_done(executor):
    held, done = await Held(executor).begun(), []
    queued = asyncio.ensure_future(executor.run(lambda: done.append("late")))
    await _until(lambda: executor.waiting == 1)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    assert executor.waiting == 0
    held.go_on.set()
    await held.call
    await executor.run(lambda: done.append("after"))
    assert done == ["after"]


async def test_running_work_whose_caller_left_is_stopped_and_its_thread_counts_until_then(executor):
    held = await Held(executor).begun()
    held.call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held.call
    assert await executor.run(lambda: held.stopped.is_set())  # it had to wait for the thread
    assert executor.running == 0


async def test_work_ends_at_its_deadline_queued_or_running(executor):
    held = await Held(executor, stop=Stop.after(0.01)).begun()
    with pytest.raises(AssayError) as caught:
        await held.call
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    with pytest.raises(AssayError) as caught:
        await executor.run(lambda: "late", stop=Stop.after(0))
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


async def test_one_pools_work_delays_no_other_pool():
    executor = _executor(threads=2, spare=2, per_pool=2, queue=8)
    held = [Held(executor, pool="a") for _ in range(5)]
    await _until(lambda: executor.running == 2)
    assert await executor.run(lambda: "b", pool="b") == "b"
    assert await executor.run(lambda: "c", pool="c") == "c"
    assert (executor.running, executor.waiting) == (2, 3)
    for one in held:
        one.go_on.set()
    assert await asyncio.gather(*(one.call for one in held)) == ["held"] * 5
    await executor.close()


async def test_a_closed_executor_takes_no_work_drops_the_queue_and_stops_what_runs(executor):
    held = await Held(executor).begun()
    queued = asyncio.ensure_future(executor.run(lambda: "queued"))
    await _until(lambda: executor.waiting == 1)
    await executor.close()
    for call in (held.call, queued, executor.run(lambda: "late")):
        with pytest.raises(AssayError) as caught:
            await call
        assert caught.value.reason is Reason.SHUTTING_DOWN
    assert held.stopped.is_set()
    assert (executor.running, executor.waiting) == (0, 0)


@pytest.mark.parametrize("name", ["compute", "batch", "io", "stream", "ingest", "upload"])
async def test_no_executor_lets_one_pool_take_every_thread(name):
    executor = getattr(open_executors(), name)
    held = [Held(executor, pool="a") for _ in range(4)]
    await held[0].begun()
    assert await executor.run(lambda: "b", pool="b") == "b"
    for one in held:
        one.go_on.set()
    await asyncio.gather(*(one.call for one in held))
    await executor.close()


async def test_there_are_at_least_two_threads_for_computing():
    executors = open_executors()
    assert [executor.name for executor in executors.all()] == ["compute", "batch", "io", "stream", "ingest", "upload"]
    held = [await Held(executors.compute, pool="a").begun() for _ in range(2)]
    for one in held:
        one.go_on.set()
    await asyncio.gather(*(one.call for one in held))
    await executors.close()
