"""A disk that fails at fsync: the server ends rather than go on from its page cache, and what it acknowledged is there
when it starts again."""

import shutil
import subprocess
from pathlib import Path

import grpc
import numpy as np
import pytest

from assay.client.testing import ServerProcess
from assay.v1 import pools_pb2
from tests.e2e.corpus import CLASSES
from tests.e2e.wire import Stubs, matrix, refusal

# fsync of a file whose path contains the text in the file $FAILING_FSYNC ends in EIO.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    char link[64], path[4096], wanted[256] = "";
    const char *control = getenv("FAILING_FSYNC");
    FILE *file = control ? fopen(control, "r") : NULL;
    if (!file) return 0;
    if (!fgets(wanted, sizeof wanted, file)) wanted[0] = 0;
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0 || !wanted[0]) return 0;
    path[size] = 0;
    return strstr(path, wanted) != NULL;
}

#define SYNC(NAME) int NAME(int fd) { \
    if (fails(fd)) { errno = EIO; return -1; } \
    int (*real)(int) = dlsym(RTLD_NEXT, #NAME); \
    return real(fd); }

SYNC(fsync)
SYNC(fdatasync)
"""


class FailingDisk:
    """fsync of some files fails, for processes that are started from now on."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("a C compiler (cc) is needed to make fsync fail")
        source, library = folder / "shim.c", folder / "shim.so"
        source.write_text(SHIM)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        self._control = folder / "failing"
        monkeypatch.setenv("FAILING_FSYNC", str(self._control))
        monkeypatch.setenv("LD_PRELOAD", str(library))

    def fail(self, path_part: str) -> None:
        """Lets fsync fail for files with this in their paths."""
        self._control.write_text(path_part)

    def work(self) -> None:
        """Lets it work again."""
        self._control.unlink()


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
    disk = FailingDisk(tmp_path, monkeypatch)
    server = ServerProcess(tmp_path / "server", drain_seconds=20)
    server.start()
    try:
        with server.client() as client:
            client.create_pool("zoo", class_names=CLASSES)
            client.add_samples("zoo", ["one", "two"], embeddings=np.eye(2))
            client.submit_labels("zoo", {"one": CLASSES[0]}, "ann")
        batch = pools_pb2.SampleBatch(ids=["three"], embeddings=matrix(np.ones((1, 2))))
        with grpc.insecure_channel(server.target) as channel:
            disk.fail(path_part)
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
