"""A client rides out a restart: what it asked meanwhile is answered, what it was sending goes on where it broke."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from assay.client import Classification, Client, RetryPolicy, SampleBatch, Unavailable
from assay.client.testing import ServerProcess

ROWS = 4000


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
