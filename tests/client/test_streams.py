"""Streams that end before all of them is sent, against a real server."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from assay.client import AsyncClient, Client, SampleBatch, errors
from assay.client.testing import ServerProcess

ROWS, DIMENSION = 20_000, 256


async def blocking(target: str, use: Callable[[Any], Any]) -> Any:
    with Client(target) as client:
        return use(client)


async def on_loop(target: str, use: Callable[[Any], Any]) -> Any:
    async with AsyncClient(target) as client:
        return await use(client)


@pytest.fixture(params=[blocking, on_loop], ids=["Client", "AsyncClient"])
def run(request: pytest.FixtureRequest) -> Callable[..., Awaitable[Any]]:
    """Runs a use of a client."""
    return request.param


async def test_a_refusal_before_all_is_sent_keeps_its_reason(
    assay_server: ServerProcess, run: Callable[..., Awaitable[Any]]
) -> None:
    """The write that finds the stream closed must not hide why it was."""
    ids = [str(row) for row in range(ROWS)]
    embeddings_ND = np.ones((ROWS, DIMENSION), np.float32)
    for _ in range(8):
        with pytest.raises(errors.NotFound) as caught:
            await run(assay_server.target, lambda client: client.add_samples("nowhere", ids, embeddings=embeddings_ND))
        assert caught.value.reason == "POOL_NOT_FOUND"


async def test_a_refusal_midway_counts_what_is_stored(
    assay_server: ServerProcess, run: Callable[..., Awaitable[Any]], request: pytest.FixtureRequest
) -> None:
    pool = f"midway-{request.node.callspec.id.lower()}"
    ids = [f"s{row}" for row in range(30)] + ["s0"] + [f"t{row}" for row in range(300)]
    embeddings_ND = np.ones((len(ids), DIMENSION), np.float32)
    await run(assay_server.target, lambda client: client.create_pool(pool))
    with pytest.raises(errors.AlreadyExists) as caught:
        await run(
            assay_server.target,
            lambda client: client.add_samples(pool, ids, embeddings=embeddings_ND, batch_size=1),
        )
    assert caught.value.stored == 30
    stored = await run(assay_server.target, lambda client: client.get_pool(pool))
    assert stored.counts.total == 30


async def test_an_upload_ends_with_its_task(assay_server: ServerProcess) -> None:
    begun, release = threading.Event(), threading.Event()

    def source() -> Iterator[SampleBatch]:
        yield SampleBatch(["a"], np.ones((1, 2), np.float32))
        begun.set()
        release.wait()

    async with AsyncClient(assay_server.target) as client:
        await client.create_pool("cancelled")
        task = asyncio.create_task(client.add_batches("cancelled", source()))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        assert (await client.get_pool("cancelled")).id == "cancelled"
