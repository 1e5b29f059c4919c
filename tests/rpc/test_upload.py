"""The bridge between a client's chunks and the thread that reads them."""

import asyncio

import pytest

from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.streams import Incoming
from assay.server.rpc.upload import CHUNKS_AHEAD, ChunkBridge
from assay.v1 import models_pb2


async def _stream(*chunks):
    for chunk in chunks:
        yield models_pb2.UploadBackboneRequest(chunk=chunk)


async def _read(bridge, messages):
    feeding = asyncio.ensure_future(bridge.feed(Incoming(messages)))
    try:
        return await asyncio.to_thread(lambda: b"".join(bridge))
    finally:
        feeding.cancel()
        bridge.abandon()


async def test_all_chunks_arrive_in_order():
    chunks = [bytes([i]) * 3 for i in range(50)]
    assert await _read(ChunkBridge(150), _stream(*chunks)) == b"".join(chunks)


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [((b"ab",), Reason.INVALID_ARGUMENT), ((), Reason.INVALID_ARGUMENT), ((b"abc", b"d"), Reason.TOO_LARGE)],
)
async def test_a_stream_of_another_length_is_an_error(chunks, reason):
    with pytest.raises(AssayError) as caught:
        await _read(ChunkBridge(3), _stream(*chunks))
    assert caught.value.reason is reason


async def test_a_second_header_is_an_error():
    async def messages():
        yield models_pb2.UploadBackboneRequest(header=models_pb2.UploadBackboneHeader())

    with pytest.raises(AssayError) as caught:
        await _read(ChunkBridge(3), messages())
    assert caught.value.reason is Reason.INVALID_ARGUMENT


async def test_a_broken_stream_breaks_the_reader():
    async def messages():
        yield models_pb2.UploadBackboneRequest(chunk=b"a")
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await _read(ChunkBridge(3), messages())


async def test_no_more_than_a_few_chunks_wait():
    sent = []

    async def messages():
        for index in range(100):
            sent.append(index)
            yield models_pb2.UploadBackboneRequest(chunk=b"x")

    feeding = asyncio.ensure_future(ChunkBridge(100).feed(Incoming(messages())))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(sent) == CHUNKS_AHEAD + 1
    feeding.cancel()


async def test_an_abandoned_reader_ends():
    bridge = ChunkBridge(3)
    reading = asyncio.ensure_future(asyncio.to_thread(lambda: b"".join(bridge)))
    bridge.abandon()
    with pytest.raises(AssayError) as caught:
        await reading
    assert caught.value.reason is Reason.CANCELLED
