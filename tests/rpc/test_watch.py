"""WatchPool on the wire: what changes comes at once and in order, at whatever pace it is read, and costs little."""

import asyncio

import grpc
import grpc.aio
import pytest
from google.protobuf import duration_pb2
from sqlalchemy import event

from assay.server.rpc.changes import PAGE
from assay.v1 import annotations_pb2, changes_pb2, pools_pb2
from tests.rpc.stubs import POOL, Stubs, failure


def ask(**fields):
    return changes_pb2.WatchPoolRequest(pool=POOL, heartbeat=duration_pb2.Duration(seconds=3600), **fields)


async def exclude(stubs, *numbers):
    """A small change."""
    ids = [f"s{number}" for number in numbers]
    return await stubs.annotations.SetSampleState(
        annotations_pb2.SetSampleStateRequest(
            parent=POOL, sample_ids=ids, worker="ann", action=annotations_pb2.STATE_ACTION_EXCLUDE
        )
    )


async def excluded(watch, count):
    """Ids in the next messages of a watch."""
    found = []
    for _ in range(count):
        message = await watch.read()
        found += [sample_id for change in message.changes for sample_id in change.samples.samples.sample_ids]
    return found


@pytest.fixture
async def filled(stubs):
    await stubs.create_pool()
    await stubs.fill(200)
    return stubs


async def test_a_watch_begins_with_a_heartbeat_and_tells_what_comes(filled):
    watch = filled.changes.WatchPool(ask())
    first = await watch.read()
    assert (first.epoch, list(first.changes), first.HasField("change_time")) == (2, [], False)
    reply = await exclude(filled, 3, 4)
    told = await watch.read()
    assert told.epoch == reply.epoch == 3
    assert told.HasField("change_time")
    (change,) = told.changes
    assert change.samples.action == changes_pb2.SamplesChange.ACTION_EXCLUDED
    assert (change.samples.samples.count, list(change.samples.samples.sample_ids)) == (2, ["s3", "s4"])
    again = filled.changes.WatchPool(ask(cursor=first.cursor))
    assert (await again.read()).cursor == first.cursor
    assert await again.read() == told
    whole = filled.changes.WatchPool(ask(since_epoch=0))
    assert [(await whole.read()).epoch for _ in range(4)] == [0, 1, 2, 3]


async def test_a_heartbeat_says_up_to_where_all_was_told(filled):
    request = ask()
    request.heartbeat.seconds = 1
    watch = filled.changes.WatchPool(request)
    first = await watch.read()
    second = await watch.read()
    assert (second.cursor, second.epoch, list(second.changes)) == (first.cursor, 2, [])


async def test_who_reads_late_misses_nothing(server, filled):
    late, prompt = filled.changes.WatchPool(ask()), filled.changes.WatchPool(ask())
    await late.read()
    await prompt.read()
    count = PAGE + 20
    for number in range(count):
        await exclude(filled, number)
        assert await excluded(prompt, 1) == [f"s{number}"]
    assert await excluded(late, count) == [f"s{number}" for number in range(count)]
    behind = filled.changes.WatchPool(ask(since_epoch=2))
    assert await excluded(behind, count + 1) == [f"s{number}" for number in range(count)]
    assert not server.rpc.executors.io.running, "nobody's thread waits"


async def test_many_watchers_read_the_catalog_once(server, filled):
    watches = [filled.changes.WatchPool(ask()) for _ in range(20)]
    for watch in watches:
        await watch.read()
    reads = []
    engine = server.core._ports.catalog._reader
    event.listen(engine, "before_cursor_execute", lambda *given: reads.append(given[2]))
    await exclude(filled, 7)
    for watch in watches:
        assert await excluded(watch, 1) == ["s7"]
    assert sum("FROM changes" in statement for statement in reads) == 1
    for watch in watches:
        watch.cancel()


async def test_the_end_of_a_pool_ends_its_watches(filled):
    watch = filled.changes.WatchPool(ask())
    cursor = (await watch.read()).cursor
    await filled.pools.DeletePool(pools_pb2.DeletePoolRequest(name=POOL))
    code, reason, _, _ = await failure(watch.read())
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "POOL_NOT_FOUND")
    await filled.create_pool()
    for request in (ask(cursor=cursor), ask(since_epoch=2)):
        code, reason, told, _ = await failure(filled.changes.WatchPool(request).read())
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CHANGES_FORGOTTEN")
        assert told["epoch"] == "0"


async def test_a_server_that_stops_sends_watchers_away_to_come_back(start):
    async with start() as server, grpc.aio.insecure_channel(server.address) as channel:
        stubs = Stubs(channel)
        await stubs.create_pool()
        watch = stubs.changes.WatchPool(ask())
        cursor = (await watch.read()).cursor
        server.rpc.gate.draining.set()
        code, reason, _, retry = await failure(watch.read())
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        assert retry is not None
    async with start() as server, grpc.aio.insecure_channel(server.address) as channel:
        assert (await Stubs(channel).changes.WatchPool(ask(cursor=cursor)).read()).cursor == cursor


async def test_watches_have_places_of_their_own(start):
    async with (
        start(max_pool_watches=2, max_concurrent_rpcs=1) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stubs = Stubs(channel)
        await stubs.create_pool()
        watch = stubs.changes.WatchPool(ask())
        await watch.read()
        code, reason, _, _ = await failure(stubs.changes.WatchPool(ask()).read())
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert (await stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=POOL))).name == POOL
        watch.cancel()
        while server.rpc.gate._calls:
            await asyncio.sleep(0)
        await stubs.changes.WatchPool(ask()).read()


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ask(cursor="soon"), "INVALID_ARGUMENT"),
        (ask(cursor="1.2.3" + "4" * 40), "INVALID_ARGUMENT"),
        (ask(cursor="9.1.1"), "CHANGES_FORGOTTEN"),
        (ask(since_epoch=3), "CHANGES_FORGOTTEN"),
        (ask(since_epoch=-1), "CHANGES_FORGOTTEN"),
        (changes_pb2.WatchPoolRequest(pool=POOL, heartbeat=duration_pb2.Duration()), "INVALID_ARGUMENT"),
        (changes_pb2.WatchPoolRequest(pool="pools/none"), "POOL_NOT_FOUND"),
    ],
)
async def test_where_nothing_begins_is_refused(filled, request_, reason):
    assert (await failure(filled.changes.WatchPool(request_).read()))[1] == reason
