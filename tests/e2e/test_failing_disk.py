"""A disk that fails at fsync: the server ends rather than go on from its page cache, and what it acknowledged is there
when it starts again."""

import errno
from pathlib import Path

import grpc
import numpy as np
import pytest

from assay.client import AssayError, Classification, RetryPolicy
from assay.client.testing import ServerProcess, start_server
from assay.v1 import pools_pb2
from tests.e2e.bad_disk import BadDisk
from tests.e2e.corpus import CLASSES
from tests.e2e.wire import Stubs, matrix, refusal


@pytest.mark.parametrize(
    ("path_part", "told", "killed"),
    [
        pytest.param("catalog.db-wal", (grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN"), False, marks=pytest.mark.slow),
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
            client.annotate("zoo", {"one": CLASSES[0]}, "ann")
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


def test_a_disk_that_fails_for_a_while_is_told_and_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read-only, unable to write, unable to read: nothing half-done, reading goes on, all works once it does."""
    disk = BadDisk(tmp_path, monkeypatch)
    faults = (
        ("wc", errno.EROFS, "/data/"),
        ("w", errno.EIO, "catalog.db-wal"),
        ("r", errno.EIO, "catalog.db-wal"),
    )
    with start_server(tmp_path / "server") as server, server.client(retry=RetryPolicy(attempts=1)) as client:
        client.create_pool("zoo", task=Classification(CLASSES))
        client.add_samples("zoo", ["one", "two", "three"], embeddings=np.eye(3), payloads=["1", "2", "3"])
        client.annotate("zoo", {"one": CLASSES[0], "two": CLASSES[1]}, "ann")
        head = client.train_head("zoo", l2=1.0).result(timeout=60)
        before = client.get_pool("zoo")
        for kinds, number, path_part in faults:
            disk.fail(kinds, number, path_part)
            for change in (
                lambda: client.annotate("zoo", {"three": CLASSES[0]}, "ann"),
                lambda: client.next_batch("zoo", "ann", 1),
                lambda: client.add_samples("zoo", ["four"], embeddings=np.eye(1, 3)),
            ):
                with pytest.raises(AssayError) as caught:
                    change()
                assert caught.value.reason == "STORAGE_FAILED"
            assert client.health() == "SERVING"
            assert client.get_sample("zoo", "one").text == "1"
            assert client.mine("zoo", 1, "margin").ids == ["three"]
            disk.work()
            assert client.get_pool("zoo") == before
        disk.fail("r", errno.EIO, "/models/")
        with pytest.raises(AssayError, match="cannot be read") as caught:
            client.activate_model(client.train_head("zoo", l2=2.0, activate=False).result(timeout=60).name).result()
        assert caught.value.reason == "STORAGE_FAILED"
        assert client.get_pool("zoo").active_head == head.name
        disk.work()
        assert client.annotate("zoo", {"three": CLASSES[0]}, "ann").stored == 1
