"""Names and directories that are used again: a pool created anew, a model called like a space, a restore."""

import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest

from assay.client.testing import ServerFailed, ServerProcess, start_server
from assay.v1 import annotations_pb2, labeling_pb2, models_pb2, pools_pb2
from tests.e2e.wire import Stubs, matrix, refusal
from tests.models.onnx_factory import linear_embedder
from tests.rpc.stubs import create_request, said

COUNT = 20
LABELS = {"request_id": "label", "worker": "ann", "annotations": said({"s0": "a"})}


@pytest.fixture
def stubs(server):
    with grpc.insecure_channel(server.target) as channel:
        yield Stubs(channel)


def samples() -> pools_pb2.SampleBatch:
    embeddings = matrix(np.random.default_rng(0).standard_normal((COUNT, 4)))
    return pools_pb2.SampleBatch(ids=[f"s{i}" for i in range(COUNT)], embeddings=embeddings)


def test_a_nightly_job_with_one_id_for_each_step_does_its_work_each_night(stubs):
    leases = set()
    for _ in range(3):
        created = stubs.pools.CreatePool(create_request(pool_id="nightly", class_names=["a", "b"], request_id="create"))
        pool = created.name
        assert created.counts.total == 0
        for _ in range(2):
            assert stubs.add(pool, samples(), request_id="fill").added == COUNT
        assert stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=pool)).counts.total == COUNT
        labels = annotations_pb2.AnnotateRequest(parent=pool, **LABELS)
        assert stubs.annotations.Annotate(labels).stored == 1
        batch = labeling_pb2.NextBatchRequest(parent=pool, worker="ann", size=2, request_id="batch")
        lease = stubs.labeling.NextBatch(batch).lease
        assert stubs.labeling.NextBatch(batch).lease == lease
        leases.add(lease.name)
        stubs.pools.DeletePool(pools_pb2.DeletePoolRequest(name=pool))
    assert len(leases) == 3


def test_a_deletion_sent_late_once_more_spares_the_new_pool(stubs):
    delete = pools_pb2.DeletePoolRequest(name="pools/again", request_id="delete")
    create = pools_pb2.CreatePoolRequest(pool_id="again")
    stubs.pools.CreatePool(create)
    for _ in range(2):
        stubs.pools.DeletePool(delete)
    stubs.pools.CreatePool(create)
    refused = refusal(lambda: stubs.pools.DeletePool(delete))
    assert refused.reason == "REQUEST_ID_REUSED"
    assert stubs.pools.GetPool(pools_pb2.GetPoolRequest(name="pools/again")).name == "pools/again"


def test_a_model_called_pushed_is_no_space(stubs, pool, tmp_path):
    name = stubs.pools.CreatePool(create_request(pool_id=pool, class_names=["a", "b"])).name
    stubs.add(name, samples())
    data = Path(linear_embedder(tmp_path / "pushed.onnx", 4, 3)).read_bytes()
    model = stubs.upload(name, data, model_id="pushed")
    assert model.backbone.embedding_space == "space-2"
    stubs.models.DeleteModel(models_pb2.DeleteModelRequest(name=model.name))
    found = stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=name))
    assert (found.embedding_space, found.counts.unlabeled) == ("space-1", COUNT)
    search = pools_pb2.SearchSamplesRequest(parent=name, samples={"ids": ["s1"]}, k=3)
    assert len(stubs.pools.SearchSamples(search).results[0].neighbors) == 3


def adopt(server: ServerProcess) -> None:
    """Starts a server's data with --adopt, lets it serve, and ends it."""
    server.start("--adopt")
    assert server.stop() == 0


@pytest.mark.slow
def test_catalog_and_directory_that_are_no_pair_are_refused_until_they_are_adopted(tmp_path):
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    with start_server(tmp_path / "first", catalog_url=url, log_level="info") as first:
        with first.client() as client:
            client.create_pool("news")
            client.add_samples("news", ["one"], embeddings=[[1.0, 2.0]])
        with pytest.raises(ServerFailed, match="status 3"):
            ServerProcess(tmp_path / "second", catalog_url=url).start()
    with pytest.raises(ServerFailed, match="belongs to the data directory"):
        ServerProcess(tmp_path / "second", catalog_url=url).start()
    restored = ServerProcess(tmp_path / "restored", catalog_url=url, log_level="info")
    shutil.copytree(first.data_dir / "pools", restored.data_dir / "pools")
    with pytest.raises(ServerFailed, match="--adopt"):
        restored.start()
    adopt(restored)
    restored.start()
    with restored.client() as client:
        assert client.get_pool("news").counts.total == 1
    assert restored.stop() == 0
