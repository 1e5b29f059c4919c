"""Whose work waits for whose: pools for no other pool, who waits on no thread, and nobody for who does not read."""

import asyncio

import grpc
import numpy as np
import pytest
from google.longrunning import operations_pb2

from assay.server.rpc.convert.arrays import matrix_message
from assay.v1 import labeling_pb2, mining_pb2, pools_pb2
from tests.rpc.stubs import CLASSES, POOL, Stubs, create_request, embeddings, failure, stream

OTHER = "pools/other"


@pytest.fixture
async def two_pools(stubs):
    await stubs.create_pool()
    await stubs.pools.CreatePool(create_request(pool_id="other", class_names=CLASSES))
    await stubs.fill(100)
    await _add(stubs, OTHER, 0)
    return stubs


async def _add(stubs, pool, first):
    header = pools_pb2.UploadSamplesRequest(header=pools_pb2.UploadSamplesHeader(parent=pool))
    ids = [f"n{index}" for index in range(first, first + 100)]
    batch = pools_pb2.SampleBatch(ids=ids, embeddings=matrix_message(embeddings(100)))
    return await stubs.pools.UploadSamples(iter([header, pools_pb2.UploadSamplesRequest(batch=batch)]))


def _next_batch(stubs, pool, **fields):
    return stubs.labeling.NextBatch(labeling_pb2.NextBatchRequest(parent=pool, worker="ann", size=2, **fields))


async def _until(condition):
    while not condition():
        await asyncio.sleep(0)


def _pool(server, pool_id):
    return server.core.labeling._pools.get(pool_id)


async def test_one_pools_selection_delays_no_other_pool(server, two_pools):
    """As during the first scoring of a new head: the turn is taken, and many wait for it."""
    turn, batch = _pool(server, "news").selection_lock, server.rpc.executors.batch
    turn.acquire()
    waiting = [asyncio.ensure_future(_reply(_next_batch(two_pools, POOL))) for _ in range(8)]
    await _until(lambda: (batch.running, batch.waiting) == (1, 7))  # one thread at most
    assert len((await _next_batch(two_pools, OTHER)).picks) == 2
    turn.release()
    picked = [pick.sample.id for reply in await asyncio.gather(*waiting) for pick in reply.picks]
    assert len(set(picked)) == 16


async def test_one_pools_ingest_delays_no_other_pool(server, two_pools):
    turn, ingest = _pool(server, "news").ingest_lock, server.rpc.executors.ingest
    turn.acquire()
    waiting = [asyncio.ensure_future(_add(two_pools, POOL, 1000 * k)) for k in range(1, 7)]
    await _until(lambda: (ingest.running, ingest.waiting) == (1, 5))
    assert (await _add(two_pools, OTHER, 1000)).added == 100
    turn.release()
    assert [reply.added for reply in await asyncio.gather(*waiting)] == [100] * 6


async def test_a_turn_that_does_not_come_is_waited_for_no_longer_than_the_call_lasts(server, two_pools):
    turn = _pool(server, "news").selection_lock
    turn.acquire()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await two_pools.labeling.NextBatch(
            labeling_pb2.NextBatchRequest(parent=POOL, worker="ann", size=2), timeout=0.2
        )
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await _until(lambda: server.rpc.executors.batch.running == 0)  # though nobody released it
    turn.release()


async def test_a_full_queue_of_a_pool_is_busy_and_others_are_served(server, two_pools):
    executors, turn = server.rpc.executors, _pool(server, "news").selection_lock
    turn.acquire()
    room = executors.batch._queue.bounds.queue
    waiting = [asyncio.ensure_future(_reply(_next_batch(two_pools, POOL))) for _ in range(room + 1)]
    await _until(lambda: executors.batch.waiting == room)
    code, reason, _, retry = await failure(_next_batch(two_pools, POOL))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY")
    assert retry.retry_delay.ToMilliseconds() > 0
    assert len((await _next_batch(two_pools, OTHER)).picks) == 2
    turn.release()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_whoever_waits_for_an_operation_takes_no_thread(server, two_pools):
    service, go_on = server.core.operations, asyncio.Event()
    loop = asyncio.get_running_loop()
    task = service.prepare("train_head", _pool(server, "news").snapshot.pool, "head")

    def work(task):
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        return b""

    with server.core.operations._catalog.transaction() as tx:
        service.record(tx, task)
    service.launch(task, work)
    request = operations_pb2.WaitOperationRequest(name=f"{POOL}/operations/{task.record.operation_id}")
    request.timeout.FromSeconds(600)
    waiting = [asyncio.ensure_future(_reply(two_pools.operations.WaitOperation(request))) for _ in range(200)]
    await _until(lambda: len(task._listeners) == 200)
    await _until(lambda: not any(executor.running + executor.waiting for executor in server.rpc.executors.all()))
    short = operations_pb2.WaitOperationRequest(name=request.name)
    short.timeout.FromMilliseconds(1)
    assert not (await two_pools.operations.WaitOperation(short)).done
    go_on.set()
    assert all(reply.done for reply in await asyncio.gather(*waiting))


async def _reply(call):
    return await call


async def test_a_stream_that_nobody_reads_ends(start):
    options = (("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
    async with (
        start(stream_stall_seconds=0.3) as server,
        grpc.aio.insecure_channel(server.address, options=options) as channel,
    ):
        stubs = Stubs(channel)
        await stubs.create_pool()
        await stubs.pools.UploadSamples(iter(_with_long_ids(4000)))
        request = mining_pb2.ScoreRequest(pool=POOL, chunk_size=10)
        request.plan.scores.add(strategy="margin")
        call = stubs.mining.Score(request)
        await call.read()
        await _until(lambda: server.rpc.gate._calls)
        await server.rpc.gate.idle()  # its snapshot and its place are free
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _read_all(call)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "read" in caught.value.details()


async def _read_all(call):
    while await call.read() is not grpc.aio.EOF:
        pass


def _with_long_ids(count):
    values_N2 = np.random.default_rng(0).dirichlet(np.ones(len(CLASSES)), count).astype(np.float32)
    ids = [f"{index:0200d}" for index in range(count)]
    matrix = matrix_message(values_N2)
    batch = pools_pb2.SampleBatch(ids=ids, embeddings=matrix, predictions=matrix)
    return [stream(0)[0], pools_pb2.UploadSamplesRequest(batch=batch)]
