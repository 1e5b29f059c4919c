"""A disk that fails at fsync: the server ends rather than go on from its page cache, and what it acknowledged is there
when it starts again."""

import errno
from pathlib import Path

import grpc
import numpy as np
import pytest

from assay.client import Classification
from assay.client.testing import ServerProcess
from assay.v1 import pools_pb2
from tests.e2e.bad_disk import BadDisk
from tests.e2e.corpus import CLASSES
from tests.e2e.wire import Stubs, matrix, refusal


@pytest.mark.parametrize(
    ("path_part", "told", "killed"),
    [
        ("catalog.db-wal", (grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN"), False),
        ("catalog.db-wal", (grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN"), True),
        ("/vectors/", (grpc.StatusCode.INTERNAL, "STORAGE_FAILED"), False),
    ],
)
def test_after_an_error_of_fsync_the_server_ends_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path_part: str, told: tuple[grpc.StatusCode, str], killed: bool
) -> None:
    disk = BadDisk(tmp_path, monkeypatch)
    server = ServerProcess(tmp_path / "server", drain_seconds=20)
    server.start()
    try:
        with server.client() as client:
            client.create_pool("zoo", task=Classification(CLASSES))
            client.add_samples("zoo", ["one", "two"], embeddings=np.eye(2))
            client.submit_labels("zoo", {"one": CLASSES[0]}, "ann")
        batch = pools_pb2.SampleBatch(ids=["three"], embeddings=matrix(np.ones((1, 2))))
        with grpc.insecure_channel(server.target) as channel:
            disk.fail("s", errno.EIO, path_part)
            failed = refusal(lambda: Stubs(channel).add("pools/zoo", batch, request_id="again"))
            assert (failed.code, failed.reason) == told
        assert server._process is not None
        if killed:  # Before it has ended in order: what was committed comes back from the log.
            server.kill()
        else:
            assert server._process.wait(60) == 1
            assert "The disk failed" in server.log.read_text()
        disk.work()
        server.start()
        with grpc.insecure_channel(server.target) as channel:
            assert Stubs(channel).add("pools/zoo", batch, request_id="again").added == 1
        with server.client() as client:
            pool = client.get_pool("zoo")
            assert (pool.state, pool.counts.total, pool.counts.labeled) == ("open", 3, 1)
            assert client.get_sample("zoo", "one").label == CLASSES[0]
            hits = client.search("zoo", vectors=np.ones((1, 2)), k=1).hits[0]
            assert [hit.sample.id for hit in hits] == ["three"]
    finally:
        server.kill()
