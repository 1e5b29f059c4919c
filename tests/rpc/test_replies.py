"""Replies fit a message: listings in shorter pages, searches and single resources with a clear refusal."""

import grpc
import numpy as np

from assay.server.rpc.convert.arrays import matrix_message
from assay.v1 import labeling_pb2, pools_pb2
from tests.rpc.stubs import DIMENSION, POOL, Stubs, create_request, failure

MIB = 1 << 20
SAMPLES = 60
PAYLOAD = 60_000
LONG_NAMES = [f"{number:05d}" + "n" * 240 for number in range(1500)]  # 370 kB


def _channel(server):
    return grpc.aio.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)])


async def _filled(channel):
    """A pool of 3.6 MB of payloads, sent in parts that fit."""
    stubs = Stubs(channel)
    await stubs.create_pool()
    values_ND = np.random.default_rng(0).normal(size=(SAMPLES, DIMENSION)).astype(np.float32)
    messages = [pools_pb2.UploadSamplesRequest(header=pools_pb2.UploadSamplesHeader(parent=POOL))]
    for first in range(0, SAMPLES, 10):
        batch = pools_pb2.SampleBatch(
            ids=[f"s{index}" for index in range(first, first + 10)],
            embeddings=matrix_message(values_ND[first : first + 10]),
            payloads=[bytes(PAYLOAD)] * 10,
        )
        messages.append(pools_pb2.UploadSamplesRequest(batch=batch))
    await stubs.pools.UploadSamples(iter(messages))
    return stubs


async def _pages(call, request, items):
    """(items of all pages, bytes of the largest page)."""
    found, largest = [], 0
    while True:
        page = await call(request)
        assert items(page)
        found += items(page)
        largest = max(largest, page.ByteSize())
        if not page.next_page_token:
            return found, largest
        request.page_token = page.next_page_token


async def test_pools_with_many_long_class_names_are_listed_in_shorter_pages(start):
    async with start(max_message_bytes=MIB) as server, _channel(server) as channel:
        stubs = Stubs(channel)
        for number in range(7):
            await stubs.pools.CreatePool(create_request(pool_id=f"p{number}", class_names=LONG_NAMES))
        request = pools_pb2.ListPoolsRequest(page_size=1000)
        found, largest = await _pages(stubs.pools.ListPools, request, lambda page: list(page.pools))
        assert [pool.name for pool in found] == [f"pools/p{number}" for number in range(7)]
        assert all([each.name for each in pool.task.classification.classes] == LONG_NAMES for pool in found)
        assert largest <= MIB


async def test_samples_with_payloads_are_listed_in_shorter_pages(start):
    async with start(max_message_bytes=MIB) as server, _channel(server) as channel:
        stubs = await _filled(channel)
        request = pools_pb2.ListSamplesRequest(parent=POOL, page_size=1000, include_payload=True)
        found, largest = await _pages(stubs.pools.ListSamples, request, lambda page: list(page.samples))
        assert [sample.id for sample in found] == [f"s{index}" for index in range(SAMPLES)]
        assert all(len(sample.payload) == PAYLOAD for sample in found)
        assert largest <= MIB


async def test_a_search_is_bounded_in_hits_and_in_bytes(start):
    async with start(max_message_bytes=MIB) as server, _channel(server) as channel:
        stubs = await _filled(channel)
        vectors = matrix_message(np.ones((1000, DIMENSION), np.float32))

        def search(queries, k, payload):
            query = matrix_message(np.ones((queries, DIMENSION), np.float32))
            return stubs.pools.SearchSamples(
                pools_pb2.SearchSamplesRequest(parent=POOL, vectors=query, k=k, include_payload=payload)
            )

        request = pools_pb2.SearchSamplesRequest(parent=POOL, vectors=vectors, k=10_000)
        code, reason, metadata, _ = await failure(stubs.pools.SearchSamples(request))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_LARGE")
        assert metadata == {"hits": "10000000", "max_hits": "100000"}
        # 60 neighbors of 60 kB are too much; 10 of them are not; without payloads a hundred times as many are not.
        assert (await failure(search(1, 60, True)))[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_LARGE")
        assert len((await search(1, 10, True)).results[0].neighbors) == 10
        assert sum(len(result.neighbors) for result in (await search(100, 60, False)).results) == 100 * SAMPLES


async def test_what_alone_is_too_large_is_refused_with_the_way_out(start):
    """Made under a larger bound, read under a smaller one."""
    large = [f"{number:05d}" + "n" * 240 for number in range(9000)]
    async with start() as server, _channel(server) as channel:
        await Stubs(channel).pools.CreatePool(create_request(pool_id="news", class_names=large))
    async with start(max_message_bytes=MIB) as server, _channel(server) as channel:
        for call in (
            Stubs(channel).pools.GetPool(pools_pb2.GetPoolRequest(name=POOL)),
            Stubs(channel).pools.ListPools(pools_pb2.ListPoolsRequest()),
        ):
            code, reason, metadata, _ = await failure(call)
            assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_LARGE")
            assert metadata["max_bytes"] == str(MIB)


async def test_leases_are_listed_in_shorter_pages(start):
    async with start(max_message_bytes=MIB) as server, _channel(server) as channel:
        stubs = Stubs(channel)
        await stubs.create_pool()
        ids = [f"{number:05d}" + "s" * 240 for number in range(6000)]
        messages = [pools_pb2.UploadSamplesRequest(header=pools_pb2.UploadSamplesHeader(parent=POOL))]
        for first in range(0, 6000, 2000):
            values_ND = np.random.default_rng(first).normal(size=(2000, DIMENSION)).astype(np.float32)
            batch = pools_pb2.SampleBatch(ids=ids[first : first + 2000], embeddings=matrix_message(values_ND))
            messages.append(pools_pb2.UploadSamplesRequest(batch=batch))
        await stubs.pools.UploadSamples(iter(messages))
        for _ in range(6):
            request = labeling_pb2.NextBatchRequest(parent=POOL, worker="ann", size=900, omit_payload=True)
            await stubs.labeling.NextBatch(request)
        request = labeling_pb2.ListLeasesRequest(parent=POOL, page_size=1000)
        found, largest = await _pages(stubs.labeling.ListLeases, request, lambda page: list(page.leases))
        assert [len(lease.sample_ids) for lease in found] == [900] * 6
        assert largest <= MIB
