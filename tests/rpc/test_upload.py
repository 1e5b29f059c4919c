"""Uploads on their way in: chunks are stored one by one, and no client is waited for without end."""

import asyncio

import pytest

from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.convert.models import to_data_files
from assay.server.rpc.gate import Gate
from assay.server.rpc.streams import Incoming
from assay.server.rpc.upload import MAX_CHUNK_BYTES, Arrival, Pace, Slots
from assay.v1 import models_pb2

QUICK = Pace(grace_seconds=0.05, bytes_per_second=1000)
UNHURRIED = Pace()


def chunk(data):
    return models_pb2.UploadBackboneRequest(chunk=data)


async def stream(*chunks):
    for data in chunks:
        yield chunk(data)


async def stored(messages, pace=UNHURRIED):
    """All that is stored of a stream's chunks."""
    kept = []

    async def store(data):
        kept.append(data)

    await Arrival(Incoming(messages), pace, Gate()).chunks(store)
    return kept


async def test_all_chunks_arrive_in_order():
    chunks = [bytes([i]) * 3 for i in range(50)]
    assert await stored(stream(*chunks)) == chunks


async def test_a_second_header_is_an_error():
    async def messages():
        yield models_pb2.UploadBackboneRequest(header=models_pb2.UploadBackboneHeader())

    with pytest.raises(AssayError) as caught:
        await stored(messages())
    assert caught.value.reason is Reason.INVALID_ARGUMENT


async def test_a_stream_without_a_header_is_an_error():
    for messages in (stream(), stream(b"x")):
        with pytest.raises(AssayError) as caught:
            await Arrival(Incoming(messages), QUICK, Gate()).header()
        assert caught.value.reason is Reason.INVALID_ARGUMENT


async def test_a_broken_stream_breaks_the_upload():
    async def messages():
        yield chunk(b"a")
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await stored(messages())


async def test_a_chunk_that_is_too_large_is_refused():
    with pytest.raises(AssayError) as caught:
        await stored(stream(bytes(MAX_CHUNK_BYTES + 1)))
    assert caught.value.reason is Reason.TOO_LARGE


async def test_no_chunk_is_read_while_another_is_stored():
    sent, going = [], asyncio.Event()

    async def messages():
        for index in range(100):
            sent.append(index)
            yield chunk(b"x")

    async def store(_):
        await going.wait()

    arriving = asyncio.ensure_future(Arrival(Incoming(messages()), QUICK, Gate()).chunks(store))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert sent == [0]
    going.set()
    await arriving
    assert len(sent) == 100


async def test_a_client_that_sends_nothing_is_given_up():
    async def messages():
        yield chunk(b"a")
        await asyncio.Event().wait()

    with pytest.raises(AssayError, match="too slow: 1 bytes") as caught:
        await stored(messages(), QUICK)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


async def test_a_client_that_trickles_is_given_up():
    """Each message is in time, all together are too slow."""

    async def messages():
        while True:
            await asyncio.sleep(0.01)
            yield chunk(b"a")

    with pytest.raises(AssayError) as caught:
        await asyncio.wait_for(stored(messages(), QUICK), 10)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


async def test_a_slow_disk_is_not_the_clients_fault():
    async def store(_):
        await asyncio.sleep(QUICK.grace_seconds)

    await Arrival(Incoming(stream(b"a", b"b", b"c")), QUICK, Gate()).chunks(store)


async def test_slots_are_given_back():
    slots = Slots(2)
    with slots.slot(), slots.slot(), pytest.raises(AssayError) as caught, slots.slot():
        pass
    assert caught.value.reason is Reason.BUSY
    with slots.slot(), slots.slot():
        pass


def test_data_files_are_named_as_the_tensors_name_them():
    def announced(*names):
        files = [models_pb2.DataFile(name=name, size_bytes=4) for name in names]
        return [file.name for file in to_data_files(models_pb2.UploadBackboneHeader(data_files=files))]

    assert announced("./w.bin", "sub/b.bin") == ["w.bin", "sub/b.bin"]
    for names in (["./w.bin", "w.bin"], ["./"]):
        with pytest.raises(AssayError) as caught:
            announced(*names)
        assert caught.value.reason is Reason.INVALID_ARGUMENT
