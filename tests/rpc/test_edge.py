"""What surrounds the calls: health, reflection, metrics, keys, drain."""

import asyncio
import gc

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import generate_latest

from assay.server.adapters.label_export import parquet_chunks
from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.execution import open_executors
from assay.server.rpc.server import SERVICES, EdgeSettings, RpcServer
from assay.server.rpc.streams import Incoming
from assay.v1 import pools_pb2
from tests.rpc.stubs import Stubs, failure

KEY = "correct horse battery staple"
LIST = pools_pb2.ListPoolsRequest()
Health = health_pb2.HealthCheckResponse


async def _health(channel, service=""):
    return (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))).status


async def test_health_knows_every_service(stubs):
    for service in ("", *SERVICES):
        assert await _health(stubs.channel, service) == Health.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _health(stubs.channel, "assay.v1.Nothing")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_before_the_core_is_open_the_server_answers_but_does_not_serve():
    executors = open_executors()
    rpc = RpcServer(EdgeSettings("127.0.0.1:0"), executors, parquet_chunks)
    port = await rpc.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await _health(channel) == Health.NOT_SERVING
        code, reason, _, retry = await failure(Stubs(channel).pools.ListPools(LIST))
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "STARTING")
        assert retry.retry_delay.ToMilliseconds() > 0
    await rpc.drain(0)
    await executors.close()


async def test_reflection_names_the_services(stubs):
    stub = reflection_pb2_grpc.ServerReflectionStub(stubs.channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    reply = await anext(aiter(stub.ServerReflectionInfo(asked)))
    assert set(SERVICES) < {service.name for service in reply.list_services_response.service}


async def test_a_method_that_does_not_exist_is_unimplemented(stubs):
    call = stubs.channel.unary_unary("/assay.v1.Pools/Nothing")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_key_is_asked_for_where_one_is_configured(start):
    async with (
        start({"ASSAY_API_KEYS": "x" * 20 + " role=admin\n" + KEY.replace(" ", "-") + " role=read"}) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        pools = Stubs(channel).pools
        assert await _health(channel) == Health.SERVING
        for metadata in ((), (("x-api-key", "y" * 20),)):
            code, reason, _, _ = await failure(pools.ListPools(LIST, metadata=metadata))
            assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        await pools.ListPools(LIST, metadata=(("authorization", "Bearer " + "x" * 20),))
        await pools.ListPools(LIST, metadata=(("x-api-key", KEY.replace(" ", "-")),))


async def test_an_unexpected_error_leaks_nothing(server, stubs, monkeypatch):
    def broken(*_):
        raise RuntimeError("secret at /var/lib/secret")

    monkeypatch.setattr(server.core.pools, "list", broken)
    code, reason, metadata, _ = await failure(stubs.pools.ListPools(LIST))
    assert (code, reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert list(metadata) == ["error_id"]


async def test_a_full_queue_says_when_to_come_back(server, stubs, monkeypatch):
    def busy(*_):
        raise AssayError(Reason.BUSY, "Too much waits. Try again.")

    monkeypatch.setattr(server.core.pools, "list", busy)
    code, reason, _, retry = await failure(stubs.pools.ListPools(LIST))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY")
    assert retry.retry_delay.ToMilliseconds() == 500


async def test_calls_stages_queues_and_pools_are_counted(server, stubs):
    await stubs.create_pool()
    await stubs.fill(200)
    await failure(stubs.pools.GetPool(pools_pb2.GetPoolRequest(name="pools/nope")))
    text = (await asyncio.to_thread(generate_latest, server.rpc.metrics.registry)).decode()
    assert 'assay_requests_total{code="OK",method="/assay.v1.Pools/CreatePool"} 1.0' in text
    assert 'assay_requests_total{code="NOT_FOUND",method="/assay.v1.Pools/GetPool"} 1.0' in text
    assert 'assay_request_seconds_count{method="/assay.v1.Pools/UploadSamples"} 1.0' in text
    assert 'assay_stage_seconds_count{method="/assay.v1.Pools/UploadSamples"' in text
    assert 'assay_pool_samples{pool="news",state="unlabeled"} 200.0' in text
    assert 'assay_queue_depth{executor="compute"} 0.0' in text
    assert 'assay_pool_model_info{backbone="",head="",pool="news",space="space-1"} 1.0' in text


async def test_a_second_start_finds_what_the_first_one_stored(start):
    async with start() as server, grpc.aio.insecure_channel(server.address) as channel:
        await Stubs(channel).create_pool()
        await Stubs(channel).fill(200)
    async with start() as server, grpc.aio.insecure_channel(server.address) as channel:
        pool = await Stubs(channel).pools.GetPool(pools_pb2.GetPoolRequest(name="pools/news"))
        assert pool.counts.unlabeled == 200


async def test_drain_turns_unhealthy_and_does_not_wait_for_watchers(start):
    async with start(drain_seconds=3600.0) as server:
        channel = grpc.aio.insecure_channel(server.address)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == Health.SERVING
    assert (await watch.read()).status == Health.NOT_SERVING
    await channel.close()


async def _reply(call):
    return await call


async def test_drain_lets_calls_finish(start, monkeypatch):
    started, finish = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(after, limit):
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(finish.wait(), loop).result()
        return []

    async with start(drain_seconds=3600.0) as server:
        channel = grpc.aio.insecure_channel(server.address)
        monkeypatch.setattr(server.core.pools, "list", slow)
        call = Stubs(channel).pools.ListPools(LIST)
        waiting = asyncio.ensure_future(_reply(call))
        await started.wait()
        draining = asyncio.ensure_future(server.rpc.drain(3600.0))
        while not server.rpc.gate.draining.is_set():
            await asyncio.sleep(0)
        assert not draining.done()
        finish.set()
        assert await waiting == pools_pb2.ListPoolsResponse()
        await draining
    await channel.close()


async def test_a_refused_call_leaves_nothing_of_its_request(start):
    """Not even until garbage is collected, which is seldom: gigabytes, where many large requests are refused."""
    async with start() as server, grpc.aio.insecure_channel(server.address) as channel:
        calls = (channel.unary_unary("/assay.v1.Pools/ListPools"), channel.unary_stream("/assay.v1.Mining/Score"))
        gc.collect()
        gc.disable()
        try:
            for call in calls:
                code, *_ = await failure(_first(call(b"\xff" * 1000)))
                assert code is grpc.StatusCode.INVALID_ARGUMENT
            async with asyncio.timeout(30):  # the call ends a moment after its caller has heard of it
                while any(type(each) is Incoming for each in gc.get_objects()):
                    await asyncio.sleep(0)
        finally:
            gc.enable()


async def _first(call):
    """The reply of a call, or its first."""
    return await (call.read() if hasattr(call, "read") else call)
