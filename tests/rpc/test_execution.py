"""Lanes: bounded, and what nobody waits for any more leaves the queue."""

import asyncio
import threading

import pytest

from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.execution import Lane, open_lanes


@pytest.fixture
def lane():
    lane = Lane("compute", threads=1, queue=1)
    yield lane
    lane.close()


async def _started(work):
    while not work.is_set():
        await asyncio.sleep(0)


async def _admitted(lane, depth):
    while lane.depth != depth:
        await asyncio.sleep(0)


async def test_work_runs_beside_the_event_loop(lane):
    assert await lane.run(threading.get_ident) != threading.get_ident()
    assert await lane.run(int, "ff", base=16) == 255


async def test_errors_come_back(lane):
    with pytest.raises(ZeroDivisionError):
        await lane.run(lambda: 1 // 0)


async def test_a_full_queue_says_busy_and_later_takes_work_again(lane):
    started, finish = threading.Event(), threading.Event()
    running = asyncio.ensure_future(lane.run(lambda: (started.set(), finish.wait())))
    await _started(started)
    queued = asyncio.ensure_future(lane.run(lambda: "queued"))
    await _admitted(lane, 1)
    with pytest.raises(AssayError) as caught:
        await lane.run(lambda: "refused")
    assert caught.value.reason is Reason.BUSY
    finish.set()
    assert await queued == "queued"
    await running
    assert lane.depth == 0
    assert await lane.run(lambda: "again") == "again"


async def test_work_whose_caller_left_is_never_done(lane):
    started, finish, done = threading.Event(), threading.Event(), []
    running = asyncio.ensure_future(lane.run(lambda: (started.set(), finish.wait())))
    await _started(started)
    queued = asyncio.ensure_future(lane.run(done.append, "late"))
    await _admitted(lane, 1)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    assert lane.depth == 0
    finish.set()
    await running
    await lane.run(done.append, "after")
    assert done == ["after"]


async def test_work_whose_deadline_passed_leaves_the_queue(lane):
    started, finish = threading.Event(), threading.Event()
    running = asyncio.ensure_future(lane.run(lambda: (started.set(), finish.wait())))
    await _started(started)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(lane.run(lambda: "late"), 0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(lane.run(lambda: "late"), 0.01)
    assert lane.depth == 0
    finish.set()
    await running


async def test_a_closed_lane_takes_no_work(lane):
    lane.close()
    with pytest.raises(AssayError) as caught:
        await lane.run(int)
    assert caught.value.reason is Reason.SHUTTING_DOWN
    assert lane.depth == 0


def test_there_are_at_least_two_threads_for_computing():
    lanes = open_lanes()
    assert lanes.compute.threads >= 2
    assert open_lanes(compute_threads=1).compute.threads == 1
    assert [lane.name for lane in lanes.all()] == ["compute", "batch", "io", "ingest", "upload", "wait"]
    lanes.close()
