"""A client rides out a restart: what it asked meanwhile is answered, what it was sending goes on where it broke, and
who follows a pool misses nothing."""

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest

from assay.client import (
    AsyncClient,
    ChangesForgotten,
    Classification,
    Client,
    NotFound,
    PoolChanges,
    RetryPolicy,
    SampleBatch,
    Unavailable,
)
from assay.client.testing import ServerProcess

ROWS = 4000
POOL = "followed"
ROUNDS = 6


@dataclass
class Picture:
    """What somebody knows of a pool who reads its changes and nothing else."""

    samples: set[str] = field(default_factory=set)
    labeled: set[str] = field(default_factory=set)
    epochs: list[int] = field(default_factory=list)

    def take(self, changed: PoolChanges) -> bool:
        """Notes what changed; False for the last word."""
        self.epochs.append(changed.epoch)
        for change in changed.changes:
            if change.kind == "samples" and change.action == "added":
                self.samples.update(change.sample_ids)
            elif change.kind == "samples":
                self.samples.difference_update(change.sample_ids)
            elif change.kind == "annotations":
                self.labeled.update(change.sample_ids)
        return not any("metadata" in change.fields for change in changed.changes)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    """A server that comes back on its port; the last test leaves it dead."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ServerProcess(tmp_path_factory.mktemp("fixed"), listen=f"127.0.0.1:{port}")
    server.start()
    yield server
    server.stop()


def test_reads_changes_and_uploads_outlive_a_kill(fixed):
    ids = [f"s{row}" for row in range(ROWS)]
    vectors_ND = np.ones((ROWS, 8), np.float32)
    half_sent, killed = threading.Event(), threading.Event()

    def watch(sent, _total):
        if sent >= ROWS // 2 and not killed.is_set():
            half_sent.set()
            killed.wait(60)

    with fixed.client() as client, ThreadPoolExecutor(3) as threads:
        client.create_pool("restarted", task=Classification(["a"]))
        adding = threads.submit(
            client.add_samples, "restarted", ids, embeddings=vectors_ND, batch_size=100, progress=watch
        )
        assert half_sent.wait(60)
        fixed.kill()
        killed.set()
        reading = threads.submit(client.get_pool, "restarted")
        creating = threads.submit(client.create_pool, "another")
        fixed.start()
        added = adding.result(60)
        assert reading.result(60).name == "pools/restarted"
        assert creating.result(60).name == "pools/another"
        assert added.added == ROWS
        assert client.get_pool("restarted").counts.total == ROWS


def follow(server) -> Picture:
    picture = Picture()
    with server.client() as client:
        for changed in client.watch_pool(POOL, since_epoch=0):
            if not picture.take(changed):
                return picture
    raise AssertionError("a watch has no end")


def follow_on_loop(server) -> Picture:
    async def read() -> Picture:
        picture = Picture()
        async with AsyncClient(server.target) as client:
            async for changed in client.watch_pool(POOL, since_epoch=0):
                if not picture.take(changed):
                    return picture
        raise AssertionError("a watch has no end")

    return asyncio.run(read())


def test_no_change_is_missed_over_a_kill(fixed):
    rng = np.random.default_rng(0)
    epochs = set()
    with fixed.client() as client, ThreadPoolExecutor(2) as threads:
        client.create_pool(POOL, task=Classification(["a", "b"]))
        following = [threads.submit(follow, fixed), threads.submit(follow_on_loop, fixed)]
        try:
            for number in range(ROUNDS):
                ids = [f"s{number}-{index}" for index in range(10)]
                epochs.add(client.add_samples(POOL, ids, embeddings=rng.normal(size=(10, 4)).astype(np.float32)).epoch)
                if number == ROUNDS // 2:
                    fixed.kill()
                    fixed.start()
                batch = client.next_batch(POOL, "ann", 3, plan="random")
                epochs.add(client.annotate(POOL, dict.fromkeys(batch.ids, "a"), worker="ann", lease=batch.lease).epoch)
                left = set(ids) - set(batch.ids) - {label.sample_id for label in client.list_labels(POOL)}
                epochs.add(client.delete_samples(POOL, sorted(left)[:1]).epoch)
            epochs.add(client.update_pool(POOL, metadata={"done": "yes"}).epoch)
        except BaseException:
            client.delete_pool(POOL)  # else its followers never end
            raise
        samples = {sample.id for sample in client.list_samples(POOL)}
        labeled = {label.sample_id for label in client.list_labels(POOL)}
        for picture in (each.result(60) for each in following):
            assert epochs <= set(picture.epochs)
            assert picture.epochs == sorted(picture.epochs)
            assert picture.samples == samples
            assert picture.labeled == labeled


def test_a_cursor_outlives_its_client_and_a_deleted_pool_ends_the_watch(fixed):
    with fixed.client() as client:
        client.create_pool("brief")
        beats = client.watch_pool("brief", heartbeats=True)
        start = next(beats)
        assert (start.epoch, start.changes, start.time) == (0, (), None)
        client.add_samples("brief", ["a"], embeddings=np.ones((1, 4), np.float32))
        assert next(beats).changes[0].sample_ids == ("a",)
        beats.close()
    with fixed.client() as client:
        watch = client.watch_pool("brief", cursor=start.cursor)
        assert next(watch).changes[0].sample_ids == ("a",)
        client.delete_pool("brief")
        with pytest.raises(NotFound):
            next(watch)
        client.create_pool("brief")
        with pytest.raises(ChangesForgotten):
            next(client.watch_pool("brief", cursor=start.cursor))


def test_an_upload_that_cannot_be_finished_says_what_is_stored_at_least(fixed):
    vectors_ND = np.ones((10, 8), np.float32)

    def source():
        yield SampleBatch([f"a{row}" for row in range(10)], vectors_ND)
        fixed.kill()
        yield SampleBatch([f"b{row}" for row in range(10)], vectors_ND)

    with Client(fixed.target, retry=RetryPolicy(outage=0.5)) as client:
        client.create_pool("cut")
        with pytest.raises(Unavailable) as caught:
            client.add_batches("cut", source())
        assert caught.value.stored == 0
        with pytest.raises(Unavailable) as caught:
            client.get_pool("cut")
        assert caught.value.stored is None
