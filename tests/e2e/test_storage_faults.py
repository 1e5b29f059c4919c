"""Disks that are full and files that rot: said by name, and the rest goes on."""

import json
import os
import resource
from contextlib import contextmanager

import grpc
import numpy as np
import pytest

from assay.client import AssayError, Classification, DataLoss, NeedMissing
from assay.client.testing import ServerFailed, ServerProcess, start_server
from assay.v1 import pools_pb2
from tests.e2e.corpus import CLASSES, Corpus
from tests.e2e.wire import Stubs, matrix, refusal
from tests.models.onnx_factory import linear_embedder
from tests.small_disk import set_writable, small_disk

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = ServerProcess(tmp_path_factory.mktemp("assay"), log_format="json")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


def stored(server):
    """Every file of the store."""
    return sorted(path for path in (server.data_dir / "pools").rglob("*") if path.is_file())


def events(server):
    """What the server's log tells, oldest first."""
    return [json.loads(line) for line in server.log.read_text().splitlines()]


@contextmanager
def full_disk(server, largest):
    """The server can write no file beyond so many bytes, as on a disk with no more room than that."""
    before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)


def test_a_full_disk_refuses_what_does_not_fit_and_nothing_else(server, client, pool, tmp_path):
    client.create_pool(pool, task=Classification(CLASSES))
    client.add_samples(pool, ["first"], embeddings=np.ones((1, 512)))
    large = [f"s{index}" for index in range(6144)]
    vectors_ND = np.random.default_rng(0).normal(size=(6144, 512))
    batch = pools_pb2.SampleBatch(ids=large, embeddings=matrix(vectors_ND))
    model = linear_embedder(tmp_path / "model.onnx", features=4096, dimension=512)
    with grpc.insecure_channel(server.target) as channel:
        stubs, name = Stubs(channel), f"pools/{pool}"
        before, files = stubs.state(name), stored(server)
        with full_disk(server, 6 * MIB):
            told = refusal(lambda: stubs.add(name, batch, request_id="large"))
            assert (told.code, told.reason, told.domain) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "STORAGE_FULL",
                "assay",
            )
            assert told.metadata["stored"] == "0"
            told = refusal(lambda: stubs.upload(name, (tmp_path / "model.onnx").read_bytes()))
            assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")
            assert (stubs.state(name), stored(server)) == (before, files)
            assert client.add_samples(pool, ["small"], embeddings=np.ones((1, 512))).added == 1
            assert client.annotate(pool, {"small": CLASSES[0]}, "ann").stored == 1
            assert client.health() == "SERVING"
        assert stubs.add(name, batch, request_id="large").added == len(large)
    assert client.upload_backbone(pool, model).backbone.dimension == 512
    assert client.get_pool(pool).counts.total == len(large) + 2


def test_a_disk_without_any_room_loses_nothing_that_was_acknowledged(server, client, pool):
    client.create_pool(pool, task=Classification(CLASSES))
    client.add_samples(pool, ["one", "two"], embeddings=np.eye(2))
    before, files = client.get_pool(pool), stored(server)
    with full_disk(server, 1):
        for change in (
            lambda: client.annotate(pool, {"one": CLASSES[0]}, "ann"),
            lambda: client.next_batch(pool, "ann", 1),
            lambda: client.add_samples(pool, ["three"], embeddings=np.eye(1, 2)),
        ):
            with pytest.raises(AssayError) as caught:
                change()
            assert caught.value.reason in ("STORAGE_FULL", "STORAGE_FAILED")
        assert sorted(client.mine(pool, 2, "random").ids) == ["one", "two"]
    assert (client.get_pool(pool), stored(server)) == (before, files)
    # The log was on that disk too, and goes on. A call is logged once it is answered, so that a later one sees it: the
    # calls are the wait, and the test's own time limit ends it.
    while "/assay.v1.Pools/GetPool" not in {event.get("method") for event in events(server)[-3:]}:
        client.get_pool(pool)
    assert client.annotate(pool, {"one": CLASSES[0]}, "ann").stored == 1


def flip(path):
    """One bit of the middle byte."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


GOOD, ROTTEN = Corpus(60, seed=1), Corpus(40, seed=2)
LOST = [f"r{index}" for index in range(40)]


class Rot:
    """Pools that each had one byte of one file flipped while the server was down: `files` by what they hold."""

    def __init__(self, server):
        self._server = server
        with server.client() as client:
            victims = {kind: self._prepare(client, kind) for kind in ("samples", "vectors", "models")}
        self.files = {kind: path.relative_to(server.data_dir).as_posix() for kind, path in victims.items()}
        self._intact = {path: path.read_bytes() for path in victims.values()}
        server.stop()
        for path in victims.values():
            flip(path)
        server.start()

    def _prepare(self, client, kind):
        """A pool of two batches and a head; returns the file of the second batch, or of the head."""
        pool = f"rot-{kind}"
        GOOD.create(client, pool)
        GOOD.label(client, pool, GOOD.ids[:20])
        before = set(stored(self._server))
        client.add_samples(pool, LOST, embeddings=ROTTEN.embeddings_ND, payloads=ROTTEN.texts)
        client.annotate(pool, {LOST[0]: CLASSES[0]}, "ann")
        client.train_head(pool).result(timeout=60)
        (victim,) = (path for path in set(stored(self._server)) - before if f"/{kind}/" in str(path))
        return victim

    def restore(self):
        """Puts the files back, as from a backup, and starts the server again."""
        self._server.stop()
        for path, data in self._intact.items():
            path.write_bytes(data)
        self._server.start()


@pytest.fixture(scope="module")
def rot(server):
    return Rot(server)


@pytest.mark.parametrize("kind", ["samples", "vectors"])
def test_a_flipped_byte_is_named_and_the_rest_is_served(rot, server, client, kind):
    pool, file = f"rot-{kind}", rot.files[kind]
    found = client.get_pool(pool)
    assert found.state == "degraded"
    assert [(damage.file, damage.samples) for damage in found.damaged_segments] == [(file, 40)]
    assert (found.counts.damaged, found.counts.labeled, found.counts.unlabeled) == (40, 20, 40)
    for call in (
        lambda: client.get_sample(pool, LOST[3]),
        lambda: client.annotate(pool, {LOST[3]: CLASSES[1]}, "ann"),
        lambda: client.predict(pool, samples=LOST[:2]),
    ):
        with pytest.raises(DataLoss) as caught:
            call()
        assert caught.value.reason == "SEGMENT_DAMAGED"
        assert file in caught.value.message
        assert caught.value.metadata["files"] == file
    assert client.get_pool(pool) == found
    errors = [event for event in events(server) if event["level"] == "error"]
    assert ("/assay.v1.Pools/GetSample", "SEGMENT_DAMAGED") in {
        (event.get("method"), event.get("reason")) for event in errors
    }
    assert client.get_sample(pool, GOOD.ids[5]).text == GOOD.texts[5]
    mined = client.mine(pool, 40, "margin")
    assert mined.provenance.head == found.active_head
    assert set(mined.ids) == set(GOOD.ids[20:])
    hits = client.search(pool, vectors=ROTTEN.embeddings_ND[:1], k=100).hits[0]
    assert {hit.sample.id for hit in hits} == set(GOOD.ids)
    # A sample whose vector is lost still has its id, and so its label.
    known = [*GOOD.ids[:20], *([LOST[0]] if kind == "vectors" else [])]
    assert [label.sample_id for label in client.list_labels(pool)] == known
    batch = client.next_batch(pool, "ann", 5)
    assert client.annotate(pool, GOOD.answers(batch.ids), "ann", lease=batch.lease).stored == 5
    assert client.add_samples(pool, ["new"], embeddings=GOOD.embeddings_ND[:1]).added == 1


def test_a_rotten_head_is_named_and_the_pool_served_without_it(rot, client):
    pool = "rot-models"
    found = client.get_pool(pool)
    assert found.state == "degraded"
    assert [damage.file for damage in found.damaged_segments] == [rot.files["models"]]
    assert found.counts.damaged == 0
    assert len(client.mine(pool, 5, "k_center").ids) == 5
    with pytest.raises(NeedMissing):
        client.mine(pool, 5, "margin")
    retrained = client.train_head(pool).result(timeout=60)
    assert client.mine(pool, 5, "margin").provenance.head == retrained.name


def test_files_that_are_restored_are_served_again(rot, server):
    rot.restore()
    with server.client() as client:
        for kind in rot.files:
            found = client.get_pool(f"rot-{kind}")
            assert (found.state, found.damaged_segments, found.counts.damaged) == ("open", (), 0)
            assert found.counts.total in (100, 101)
            assert client.get_sample(f"rot-{kind}", LOST[0]).label == CLASSES[0]
            assert client.get_sample(f"rot-{kind}", LOST[3]).text == ROTTEN.texts[3]


def test_a_disk_that_fills_while_the_pool_is_scored_is_told_and_survived(tmp_path):
    scratch = tmp_path / "data" / "scratch"
    with small_disk(scratch, MIB), start_server(tmp_path, scratch_memory_bytes=0) as server, server.client() as client:
        corpus = Corpus(300, seed=3)
        client.create_pool("tight", task=Classification([*CLASSES, *(f"class {index}" for index in range(1500))]))
        client.add_samples("tight", corpus.ids, embeddings=corpus.embeddings_ND)
        corpus.label(client, "tight", corpus.ids[:40])
        with pytest.raises(AssayError) as caught:
            client.train_head("tight").result(timeout=60)
        assert caught.value.reason == "STORAGE_FULL"
        assert client.health() == "SERVING"
        assert client.get_pool("tight").counts.labeled == 40
        assert len(client.mine("tight", 5, "k_center").ids) == 5


def test_a_disk_that_may_only_be_read_is_refused_at_the_start_and_left_as_it_is(tmp_path):
    server = ServerProcess(tmp_path)
    with small_disk(server.data_dir, 64 * MIB) as disk:
        server.start()
        with server.client() as client:
            Corpus(30, seed=5).create(client, "kept")
        assert server.stop() == 0
        set_writable(disk, False)
        with pytest.raises(ServerFailed, match=r"data cannot be used: Read-only file system\. Check"):
            server.start()
        set_writable(disk, True)
        server.start()
        with server.client() as client:
            assert client.get_pool("kept").counts.total == 30
        assert server.stop() == 0


def test_what_is_stored_is_the_owners_alone(tmp_path):
    (tmp_path / "data").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        with start_server(tmp_path) as server, server.client() as client:
            corpus = Corpus(60, seed=4)
            corpus.create(client, "private")
            corpus.label(client, "private", corpus.ids[:30])
            client.train_head("private").result(timeout=60)
            stored = [server.data_dir, *server.data_dir.rglob("*")]
            modes = {str(path): oct(path.lstat().st_mode & 0o777) for path in stored}
    finally:
        os.umask(before)
    assert len(modes) > 10
    assert set(modes.values()) == {"0o700", "0o600"}, modes
