"""Disks that are full and files that rot: said by name, and the rest goes on."""

import resource
from contextlib import contextmanager

import grpc
import numpy as np
import pytest

from assay.client import DataLoss
from assay.client.testing import ServerProcess
from assay.v1 import pools_pb2
from tests.e2e.corpus import CLASSES, Corpus
from tests.e2e.wire import Stubs, matrix, refusal
from tests.models.onnx_factory import linear_embedder

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = ServerProcess(tmp_path_factory.mktemp("assay"), log_level="error")
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
    client.create_pool(pool, class_names=CLASSES)
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
            assert client.submit_labels(pool, {"small": CLASSES[0]}, "ann").stored == 1
            assert client.health() == "SERVING"
        assert stubs.add(name, batch, request_id="large").added == len(large)
    assert client.upload_backbone(pool, model).backbone.dimension == 512
    assert client.get_pool(pool).counts.total == len(large) + 2


def flip(path):
    """One bit of the middle byte."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["samples", "vectors"])
def test_a_flipped_byte_is_named_and_the_rest_is_served(server, kind):
    pool, good, rotten = f"rot-{kind}", Corpus(60, seed=1), Corpus(40, seed=2)
    lost = [f"r{index}" for index in range(40)]
    with server.client() as client:
        good.create(client, pool)
        good.label(client, pool, good.ids[:20])
        untouched = set(stored(server))
        client.add_samples(pool, lost, embeddings=rotten.embeddings_ND, payloads=rotten.texts)
        client.submit_labels(pool, {lost[0]: CLASSES[0]}, "ann")
        head = client.train_head(pool).result(timeout=60)
    (victim,) = (path for path in set(stored(server)) - untouched if f"/{kind}/" in str(path))
    intact = victim.read_bytes()
    server.stop()
    flip(victim)
    server.start()
    file = victim.relative_to(server.data_dir).as_posix()
    with server.client() as client:
        found = client.get_pool(pool)
        assert found.state == "degraded"
        assert [(damage.file, damage.samples) for damage in found.damaged_segments] == [(file, 40)]
        assert (found.counts.damaged, found.counts.labeled, found.counts.unlabeled) == (40, 20, 40)
        for call in (
            lambda: client.get_sample(pool, lost[3]),
            lambda: client.submit_labels(pool, {lost[3]: CLASSES[1]}, "ann"),
            lambda: client.predict(pool, samples=lost[:2]),
        ):
            with pytest.raises(DataLoss) as caught:
                call()
            assert caught.value.reason == "SEGMENT_DAMAGED"
            assert file in caught.value.message
            assert caught.value.metadata["files"] == file
        assert client.get_sample(pool, good.ids[5]).text == good.texts[5]
        mined = client.mine(pool, 40, "margin")
        assert mined.provenance.head == head.name
        assert set(mined.ids) == set(good.ids[20:])
        hits = client.search(pool, vectors=rotten.embeddings_ND[:1], k=100).hits[0]
        assert {hit.sample.id for hit in hits} == set(good.ids)
        # A sample whose vector is lost still has its id, and so its label.
        known = [*good.ids[:20], *([lost[0]] if kind == "vectors" else [])]
        assert [label.sample_id for label in client.list_labels(pool)] == known
        batch = client.next_batch(pool, "ann", 5)
        client.submit_labels(pool, good.answers(batch.ids), "ann", lease=batch.lease)
        assert client.add_samples(pool, ["new"], embeddings=good.embeddings_ND[:1]).added == 1
    server.stop()
    victim.write_bytes(intact)  # restored from a backup
    server.start()
    with server.client() as client:
        found = client.get_pool(pool)
        assert (found.state, found.damaged_segments, found.counts.damaged) == ("open", (), 0)
        assert (found.counts.total, found.counts.labeled) == (101, 26)
        assert client.get_sample(pool, lost[0]).label == CLASSES[0]
        assert client.get_sample(pool, lost[3]).text == rotten.texts[3]


def test_a_rotten_head_is_named_and_the_pool_served_without_it(server, corpus):
    pool = "rot-head"
    with server.client() as client:
        corpus.create(client, pool)
        corpus.label(client, pool, corpus.ids[:20])
        untouched = set(stored(server))
        client.train_head(pool).result(timeout=60)
    (victim,) = set(stored(server)) - untouched
    server.stop()
    flip(victim)
    server.start()
    with server.client() as client:
        found = client.get_pool(pool)
        assert found.state == "degraded"
        assert [damage.file for damage in found.damaged_segments] == [victim.relative_to(server.data_dir).as_posix()]
        assert len(client.mine(pool, 5, "k_center").ids) == 5
        retrained = client.train_head(pool).result(timeout=60)
        assert client.mine(pool, 5, "margin").provenance.head == retrained.name
