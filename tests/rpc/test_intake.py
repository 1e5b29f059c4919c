"""Nobody takes the server from the others: not without a key, not by sending half, not by staying."""

import asyncio
import contextlib
import itertools
import socket
import ssl

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from assay.v1 import pools_pb2
from tests.rpc.stubs import Stubs, failure
from tests.rpc.test_tls import Authority

KEY = "a-key-that-is-long-enough"
WITH_KEY = (("x-api-key", KEY),)
KEYS = {"ASSAY_API_KEYS": f"{KEY} role=admin"}
LIST = pools_pb2.ListPoolsRequest()
CHECK = health_pb2.HealthCheckRequest()
UNARY = "/assay.v1.Pools/ListPools"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # with an empty SETTINGS frame


def half_sent(channel, method, metadata=None):
    """A call whose headers are sent, and never a request."""
    return channel.stream_unary(method)(metadata=metadata)


def whole(channel, method, body, metadata=None):
    """A unary call with any bytes for its request."""
    return channel.unary_unary(method)(body, metadata=metadata)


@contextlib.asynccontextmanager
async def watching(channel, count):
    """So many health watchers; gives those that were let in."""
    calls = [health_pb2_grpc.HealthStub(channel).Watch(CHECK) for _ in range(count)]
    firsts = await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
    try:
        yield [first for first in firsts if not isinstance(first, Exception)]
    finally:
        for call in calls:
            call.cancel()


async def _healthy(channel):
    reply = await health_pb2_grpc.HealthStub(channel).Check(CHECK, timeout=20)
    return reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_watchers_take_no_place_of_others_and_have_a_bound(start):
    async with (
        start(KEYS, max_concurrent_rpcs=2, max_health_watches=16) as server,
        grpc.aio.insecure_channel(server.address) as channel,
        watching(channel, 40) as let_in,
    ):
        assert len(let_in) == 16 // 8  # an eighth of all, from one address
        assert await _healthy(channel)
        await Stubs(channel).pools.ListPools(LIST, metadata=WITH_KEY)


async def test_a_watcher_that_leaves_makes_room(start):
    async with start(max_health_watches=8) as server, grpc.aio.insecure_channel(server.address) as channel:
        for _ in range(3):
            async with watching(channel, 1) as let_in:
                assert len(let_in) == 1
            while (await _refused_watch(channel)) is not None:
                await asyncio.sleep(0)


async def _refused_watch(channel):
    """The code that a watcher is refused with, None if it is let in."""
    call = health_pb2_grpc.HealthStub(channel).Watch(CHECK)
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        return error.code()
    finally:
        call.cancel()
    return None


async def test_the_refusal_of_a_watcher_says_when_to_come_back(start):
    async with (
        start(max_health_watches=8) as server,
        grpc.aio.insecure_channel(server.address) as channel,
        watching(channel, 1),
    ):
        code, reason, _, retry = await failure(health_pb2_grpc.HealthStub(channel).Watch(CHECK).read())
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert retry.retry_delay.ToMilliseconds() > 0


async def test_watchers_are_told_of_the_drain_and_of_unknown_services(start):
    async with start() as server, grpc.aio.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="assay.v9.Later"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


async def test_health_lists_every_service(start):
    async with start(KEYS) as server, grpc.aio.insecure_channel(server.address) as channel:
        statuses = (await health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest())).statuses
        assert {"", "assay.v1.Pools", "google.longrunning.Operations"} < set(statuses)
        assert {each.status for each in statuses.values()} == {health_pb2.HealthCheckResponse.SERVING}


async def test_without_a_key_a_call_is_refused_before_its_request_comes(start):
    """The request never comes: whoever waited for it would wait for ever."""
    async with start(KEYS) as server, grpc.aio.insecure_channel(server.address) as channel:
        for method in (UNARY, "/assay.v1.Mining/Mine", "/assay.v1.Annotations/Annotate"):
            code, reason, _, _ = await failure(half_sent(channel, method))
            assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


async def test_what_is_refused_is_not_decoded(start):
    async with start(KEYS) as server, grpc.aio.insecure_channel(server.address) as channel:
        code, reason, _, _ = await failure(whole(channel, UNARY, b"\xff" * 100))
        assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        code, reason, _, _ = await failure(whole(channel, UNARY, b"\xff" * 100, WITH_KEY))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")


async def _health_code(channel, request):
    call = whole(channel, "/grpc.health.v1.Health/Check", request)
    return await call.code()


async def test_health_takes_no_large_request_without_a_key(start):
    """It is refused once it is here, or passed over where it takes too long to come; read it is not."""
    large = health_pb2.HealthCheckRequest(service="x" * 10_000_000).SerializeToString()
    async with start(KEYS) as server, grpc.aio.insecure_channel(server.address) as channel:
        assert await _health_code(channel, large) in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.OK}
        code, reason, _, _ = await failure(whole(channel, "/grpc.health.v1.Health/Check", large, WITH_KEY))
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SERVICE")


async def test_a_watcher_without_a_key_sends_its_request_at_once(start):
    """gRPC goes on taking in the message that it was asked for, up to its bound, for as long as the stream lasts."""
    async with start(KEYS) as server, grpc.aio.insecure_channel(server.address) as channel:
        watch = channel.stream_stream("/grpc.health.v1.Health/Watch")()
        code, reason, _, _ = await failure(watch.read())
        assert (code, reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "REQUEST_INCOMPLETE")


async def test_packed_messages_are_refused_unread(start):
    """gRPC unpacks them whatever their size: a kilobyte on the wire may be a megabyte, and a gigabyte as well."""
    bomb = health_pb2.HealthCheckRequest(service="x" * 100_000).SerializeToString()
    async with start(KEYS) as server:
        for packing in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            async with grpc.aio.insecure_channel(server.address, compression=packing) as channel:
                for metadata in (None, WITH_KEY):
                    call = whole(channel, "/grpc.health.v1.Health/Check", bomb, metadata)
                    assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_half_sent_calls_end_and_take_no_place_of_whole_ones(start):
    async with (
        start(KEYS, max_concurrent_rpcs=8, max_rpcs_per_peer=8, receive_seconds=1.0) as server,
        grpc.aio.insecure_channel(server.address) as channel,
        grpc.aio.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as other,
    ):
        halves = [half_sent(channel, UNARY, WITH_KEY) for _ in range(8)]
        for _ in range(20):
            await Stubs(other).pools.ListPools(LIST, metadata=WITH_KEY)
        for half in halves:
            code, reason, _, _ = await failure(half)
            assert (code, reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "REQUEST_INCOMPLETE")


async def test_half_sent_health_checks_are_answered_and_leave_health_to_others(start):
    async with (
        start(KEYS) as server,
        grpc.aio.insecure_channel(server.address) as channel,
        grpc.aio.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as other,
    ):
        halves = [half_sent(channel, "/grpc.health.v1.Health/Check") for _ in range(100)]
        assert await _healthy(other)
        for half in halves:
            assert health_pb2.HealthCheckResponse.FromString(await half).status


async def test_a_stream_of_requests_that_stands_still_ends(start):
    async with start(stream_idle_seconds=0.2) as server, grpc.aio.insecure_channel(server.address) as channel:
        await Stubs(channel).create_pool()
        call = Stubs(channel).pools.UploadSamples()
        await call.write(pools_pb2.UploadSamplesRequest(header=pools_pb2.UploadSamplesHeader(parent="pools/news")))
        code, reason, metadata, _ = await failure(call)
        assert (code, reason, metadata) == (grpc.StatusCode.DEADLINE_EXCEEDED, "REQUEST_INCOMPLETE", {"stored": "0"})


async def test_a_call_without_a_request_is_refused(start):
    async with start() as server, grpc.aio.insecure_channel(server.address) as channel:
        call = half_sent(channel, UNARY)
        await call.done_writing()
        code, reason, _, _ = await failure(call)
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")


async def test_calls_beyond_the_bound_are_told_when_to_come_back(start, monkeypatch):
    loop, begun, finish = asyncio.get_running_loop(), asyncio.Semaphore(0), asyncio.Event()

    def slow(after, limit):
        loop.call_soon_threadsafe(begun.release)
        asyncio.run_coroutine_threadsafe(finish.wait(), loop).result()
        return []

    async with start(KEYS, max_concurrent_rpcs=4) as server, grpc.aio.insecure_channel(server.address) as channel:
        monkeypatch.setattr(server.core.pools, "list", slow)
        running = [Stubs(channel).pools.ListPools(LIST, metadata=WITH_KEY) for _ in range(4)]
        for _ in running:
            await begun.acquire()
        code, reason, _, retry = await failure(Stubs(channel).pools.ListPools(LIST, metadata=WITH_KEY))
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert retry.retry_delay.ToMilliseconds() == 1000
        assert await _healthy(channel)
        finish.set()
        assert [await call.code() for call in running] == [grpc.StatusCode.OK] * 4


# --- connections ---------------------------------------------------------------------------------------------------


async def _end(connection):
    """Waits until the server ends a connection."""
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    with contextlib.suppress(OSError):
        while await loop.sock_recv(connection, 4096):
            pass
    connection.close()


def _connect(server):
    host, _, port = server.address.rpartition(":")
    return socket.create_connection((host, int(port)))


@pytest.mark.parametrize("said", [b"", PREFACE[:10], PREFACE], ids=["nothing", "half a preface", "a preface"])
async def test_a_connection_without_a_call_is_closed(start, said):
    async with start(handshake_seconds=0.5, connection_idle_seconds=1.0) as server:
        connection = _connect(server)
        connection.sendall(said)
        await asyncio.wait_for(_end(connection), 30)


async def test_so_is_one_that_never_speaks_tls(start, tmp_path):
    authority = Authority()
    for name, content in zip(("tls_cert", "tls_key"), authority.issue(), strict=True):
        (tmp_path / name).write_bytes(content)
    flags = {name: str(tmp_path / name) for name in ("tls_cert", "tls_key")}
    async with start(handshake_seconds=0.5, **flags) as server:
        silent, greeted = _connect(server), _connect(server)
        context = ssl.create_default_context(cadata=authority.pem.decode())
        context.set_alpn_protocols(["h2"])
        greeted = await asyncio.to_thread(context.wrap_socket, greeted, server_hostname="127.0.0.1")
        await asyncio.wait_for(_end(silent), 30)
        # After TLS the preface is still due.
        greeted.settimeout(30)
        while await asyncio.to_thread(greeted.recv, 4096):
            pass
        greeted.close()


async def test_an_idle_client_is_not_cut_off_from_its_next_call(start):
    async with (
        start(connection_idle_seconds=1.0) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await Stubs(channel).pools.ListPools(LIST)
        while channel.get_state() is not grpc.ChannelConnectivity.IDLE:
            await channel.wait_for_state_change(channel.get_state())
        await Stubs(channel).pools.ListPools(LIST)


async def test_connections_beyond_the_bound_are_closed_and_leave_the_others(start):
    async with start(max_connections=4) as server, grpc.aio.insecure_channel(server.address) as channel:
        await Stubs(channel).pools.ListPools(LIST)
        more = [_connect(server) for _ in range(20)]
        ends = [asyncio.ensure_future(_end(connection)) for connection in more]
        for end in itertools.islice(asyncio.as_completed(ends), len(more) - 3):
            await asyncio.wait_for(end, 30)
        await Stubs(channel).pools.ListPools(LIST)
        for end in ends:
            end.cancel()
        for connection in more:
            connection.close()
