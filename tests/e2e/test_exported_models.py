"""Models as people export them, and models that mean harm, over the wire."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from assay.client import FailedPrecondition, InvalidArgument
from assay.client.testing import start_server
from assay.v1 import models_pb2
from tests.e2e.wire import Stubs, refusal
from tests.models import onnx_factory as factory

MIB = 1 << 20
FOUR_GIB_OF_FLOATS = 1 << 30


def beside(path: Path, folder: Path) -> Path:
    """The same model with its weights beside it."""
    onnx.save(onnx.load(path), folder / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    return folder / "m.onnx"


def resident(server) -> int:
    """Bytes of the server in memory."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024


def test_a_model_with_its_weights_beside_it_embeds(server, client, pool, tmp_path):
    client.create_pool(pool, metric="l2")
    whole = factory.linear_embedder(tmp_path / "whole.onnx", features=64, dimension=32)
    model = client.upload_backbone(pool, beside(Path(whole), tmp_path))
    assert model.backbone.data_files == ("m.onnx.data",)
    client.activate_model(model).result()
    x = np.eye(64, dtype=np.float32)[:5]
    client.add_samples(pool, list("abcde"), inputs={"features": x})
    predicted = client.predict(pool, inputs={"features": x}, include_embeddings=True)
    np.testing.assert_allclose(predicted.embeddings_ND, factory.weights_of(whole)["W"][:5], rtol=1e-6)


def test_the_command_sends_the_files_beside_the_model(server, client, pool, tmp_path):
    client.create_pool(pool, metric="l2")
    path = beside(Path(factory.linear_embedder(tmp_path / "whole.onnx", features=64, dimension=32)), tmp_path)
    command = [sys.executable, "-m", "assay.client.cli", "--server", server.target]
    subprocess.run([*command, "model", "upload", pool, str(path), "--id", "beside"], check=True, capture_output=True)
    assert client.get_model(f"pools/{pool}/models/beside").backbone.data_files == ("m.onnx.data",)


def test_without_its_files_a_model_is_refused_with_the_way_out(client, pool, tmp_path):
    client.create_pool(pool)
    path = beside(Path(factory.linear_embedder(tmp_path / "whole.onnx", features=64, dimension=32)), tmp_path)
    with pytest.raises(InvalidArgument, match=r"'m\.onnx\.data', which did not come with the model. Upload"):
        client.upload_backbone(pool, path.read_bytes())


def test_quantised_embeddings_and_bool_inputs(client, pool, tmp_path):
    client.create_pool(pool, metric="l2")
    path = factory.casting(tmp_path / "m.onnx", TensorProto.INT8, kind=TensorProto.BOOL)
    model = client.upload_backbone(pool, path)
    assert [spec.dtype for spec in model.backbone.inputs] == ["bool"]
    client.activate_model(model).result()
    x = np.array([[True, False, True], [False, False, True]])
    client.add_samples(pool, ["a", "b"], inputs={"x": x})
    for inputs in (x, x.astype(np.int8), x.astype(np.uint32)):
        found = client.predict(pool, inputs={"x": inputs}, include_embeddings=True)
        np.testing.assert_array_equal(found.embeddings_ND, x.astype(np.float32))
    with pytest.raises(InvalidArgument, match="'x' holds 2"):
        client.predict(pool, inputs={"x": x.astype(np.int64) * 2}, include_embeddings=True)


def test_what_the_graph_refuses_is_the_callers_input(client, pool, tmp_path):
    client.create_pool(pool, metric="l2")
    client.activate_model(client.upload_backbone(pool, factory.token_embedder(tmp_path / "m.onnx"))).result()
    inputs = {"input_ids": np.array([[1, 5000]]), "attention_mask": np.ones((1, 2), np.int64)}
    with pytest.raises(InvalidArgument, match="out of data bounds, idx=5000") as caught:
        client.predict(pool, inputs=inputs, include_embeddings=True)
    assert caught.value.reason == "INPUTS_INVALID"


def bombs(folder: Path) -> dict[str, str]:
    """Small files that want gigabytes."""
    size = FOUR_GIB_OF_FLOATS
    return {
        "constant": factory.hungry(folder / "constant.onnx", size),
        "expand": factory.hungry(folder / "expand.onnx", size, operator="Expand"),
        "range": factory.hungry(folder / "range.onnx", size, operator="Range"),
        "folded": factory.folded(folder / "folded.onnx", 4 * size),
        "functions": factory.exploding(folder / "functions.onnx", 22),
    }


def test_bombs_leave_the_server_as_it_was(server, client, pool, tmp_path):
    client.create_pool(pool)
    client.upload_backbone(pool, factory.linear_embedder(tmp_path / "m.onnx"))  # whatever the first one loads
    before = resident(server)
    for name, path in bombs(tmp_path).items():
        with pytest.raises(InvalidArgument) as caught:
            client.upload_backbone(pool, path)
        assert caught.value.reason == "MODEL_INVALID", name
        assert caught.value.metadata["problem"] in ("too_much_memory", "too_many_nodes"), name
    assert resident(server) - before < 50 * MIB


def test_a_caller_that_leaves_takes_the_trial_along(server, client, pool, tmp_path):
    client.create_pool(pool)
    data = Path(factory.endless(tmp_path / "m.onnx")).read_bytes()
    others, stored = children(server), models(server)
    with grpc.insecure_channel(server.target) as channel:
        header = models_pb2.UploadBackboneHeader(parent=f"pools/{pool}", size_bytes=len(data))
        messages = [models_pb2.UploadBackboneRequest(header=header), models_pb2.UploadBackboneRequest(chunk=data)]
        call = Stubs(channel).models.UploadBackbone.future(iter(messages))
        until(lambda: children(server) - others)
        call.cancel()
        until(lambda: not children(server) - others)
    until(lambda: models(server) <= stored)


def models(server) -> set[Path]:
    """Files of models, half-written ones too."""
    return set((server.data_dir / "pools").rglob("*.model*"))


def children(server) -> set[str]:
    """Processes that the server started and that have not ended."""
    tasks = Path(f"/proc/{server.pid}/task").iterdir()
    return {child for task in tasks for child in (task / "children").read_text().split()}


def until(happens, seconds=60.0) -> None:
    """Returns once something is so."""
    ticking, end = threading.Event(), time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        ticking.wait(0.02)


def test_a_dimension_beyond_that_of_pools_is_refused(client, pool, tmp_path):
    client.create_pool(pool)
    node = onnx.helper.make_node("Expand", ["x", "size"], ["y"])
    path = factory.save(
        tmp_path / "m.onnx",
        [node],
        [("x", factory.FLOAT, ["batch", 1])],
        [("y", factory.FLOAT, None)],
        {"size": np.array([1, 100_000])},
    )
    with pytest.raises(InvalidArgument, match="100,000 numbers; a pool's have at most 65,536"):
        client.upload_backbone(pool, path)


def test_a_model_that_was_accepted_holds_no_thread(tmp_path):
    """More endless calls than there are threads: each ends, and others are served meanwhile and afterwards."""
    with start_server(tmp_path / "data", log_level="warning", run_seconds=1, compute_threads=2) as server:
        client = server.client()
        client.create_pool("evil", metric="l2")
        path = factory.looping(tmp_path / "m.onnx", endless_above=100.0)
        client.activate_model(client.upload_backbone("evil", path)).result()
        x = np.full((1, 3), 1000.0, np.float32)

        def call() -> None:
            with pytest.raises(FailedPrecondition, match="run_seconds"):
                client.predict("evil", inputs={"x": x}, include_embeddings=True)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert client.get_pool("evil").name
        for thread in threads:
            thread.join(60)
        good = client.predict("evil", inputs={"x": x * 0}, include_embeddings=True)
        np.testing.assert_array_equal(good.embeddings_ND, x * 0)
        client.close()


def test_senders_that_stall_own_nothing(server, client, pool, tmp_path):
    """Eight begin and send no more; a ninth is served."""
    client.create_pool(pool)
    data = Path(factory.linear_embedder(tmp_path / "m.onnx")).read_bytes()
    going = threading.Event()

    def stalled():
        header = models_pb2.UploadBackboneHeader(parent=f"pools/{pool}", size_bytes=len(data))
        yield models_pb2.UploadBackboneRequest(header=header)
        yield models_pb2.UploadBackboneRequest(chunk=data[:10])
        going.wait(60)

    with grpc.insecure_channel(server.target) as channel:
        stubs = Stubs(channel)
        calls = [stubs.models.UploadBackbone.future(stalled()) for _ in range(8)]
        assert client.upload_backbone(pool, data, model_id="ninth").id == "ninth"
        going.set()
        for call in calls:
            assert "ended after 10 of" in refusal(call.result).message
    assert not list((server.data_dir / "pools").rglob("*.tmp"))


def test_chunks_are_bounded(server, client, pool):
    client.create_pool(pool)
    with grpc.insecure_channel(server.target) as channel:
        header = models_pb2.UploadBackboneHeader(parent=f"pools/{pool}", size_bytes=5 * MIB)
        messages = [
            models_pb2.UploadBackboneRequest(header=header),
            models_pb2.UploadBackboneRequest(chunk=bytes(5 * MIB)),
        ]
        told = refusal(lambda: Stubs(channel).models.UploadBackbone(iter(messages)))
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_LARGE")
