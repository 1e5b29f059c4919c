"""Backbones that cannot serve: refused before they are stored, or before they are active."""

import hashlib
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import helper

from assay.client import AlreadyExists, Classification, FailedPrecondition
from assay.v1 import pools_pb2
from tests.e2e.wire import Stubs, matrix, refusal
from tests.models.onnx_factory import FLOAT, external_tensor, linear_embedder, one_node, save
from tests.rpc.stubs import create_request

POOL = "pools/bad-models"


@pytest.fixture(scope="module")
def stubs(server):
    with grpc.insecure_channel(server.target) as channel:
        stubs = Stubs(channel)
        stubs.pools.CreatePool(create_request(pool_id="bad-models", class_names=["a", "b"]))
        batch = pools_pb2.SampleBatch(ids=["one", "two"], embeddings=matrix(np.eye(2, 5)))
        stubs.add(POOL, batch)
        yield stubs


def not_onnx(path: Path) -> None:
    path.write_bytes(b"GIF89a, not a model at all")


def truncated(path: Path) -> None:
    linear_embedder(path)
    path.write_bytes(path.read_bytes()[:-20])


def outside_files(path: Path) -> None:
    linear_embedder(path)
    model = onnx.load(path)
    model.graph.initializer[0].CopyFrom(external_tensor(file="/etc/passwd"))
    path.write_bytes(model.SerializeToString())


def fails_its_warm_up(path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    save(path, [node], [("x", FLOAT, ["batch", 3])], [("y", FLOAT, None)], {"shape": np.array([7, 5])})


def gives_no_numbers(path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Log", ["n"], ["y"])]
    save(path, nodes, [("x", FLOAT, ["batch", 3])], [("y", FLOAT, None)])


def changes_dimension(path: Path) -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["x", "t"], ["y"])]
    save(path, nodes, [("x", FLOAT, ["batch", 3])], [("y", FLOAT, None)])


def custom_operator(path: Path) -> None:
    one_node(path, "Mine", ["batch", 3], domain="my.ops")


def of_three_classes(path: Path) -> None:
    linear_embedder(path, classes=3)


@pytest.mark.parametrize(
    ("write", "header", "problem"),
    [
        (not_onnx, {}, "not_onnx"),
        (outside_files, {}, "external_data"),
        (linear_embedder, {"embedding_output": "nowhere"}, "output_missing"),
        (linear_embedder, {"logits_output": "nowhere"}, "output_missing"),
        (linear_embedder, {"mask_input": "nowhere"}, "mask_missing"),
        (fails_its_warm_up, {}, "warmup_failed"),
        (gives_no_numbers, {}, "warmup_not_finite"),
        (changes_dimension, {}, "dimension_varies"),
        (custom_operator, {}, "custom_operator"),
        (of_three_classes, {"logits_output": "logits"}, None),
        (truncated, {}, None),
    ],
)
def test_a_bad_file_is_refused_and_nothing_is_stored(server, stubs, tmp_path, write, header, problem):
    write(tmp_path / "model.onnx")
    before, files = stubs.state(POOL), stored(server)
    told = refusal(lambda: stubs.upload(POOL, (tmp_path / "model.onnx").read_bytes(), **header))
    assert (told.code, told.reason, told.domain) == (grpc.StatusCode.INVALID_ARGUMENT, "MODEL_INVALID", "assay")
    assert problem is None or told.metadata["problem"] == problem
    assert str(server.data_dir) not in told.message
    assert (stubs.state(POOL), stored(server)) == (before, files)


@pytest.mark.parametrize(
    ("header", "code", "reason"),
    [
        ({"sha256": hashlib.sha256(b"another file").hexdigest()}, "INVALID_ARGUMENT", "MODEL_INVALID"),
        ({"size_bytes": 5}, "INVALID_ARGUMENT", "TOO_LARGE"),
        ({"size_bytes": 1 << 40}, "INVALID_ARGUMENT", "TOO_LARGE"),
        ({"size_bytes": 0}, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ({"model_id": "Upper Case"}, "INVALID_ARGUMENT", "INVALID_NAME"),
        ({"pool": "pools/nowhere"}, "NOT_FOUND", "POOL_NOT_FOUND"),
    ],
)
def test_a_good_file_under_a_bad_header_is_refused(server, stubs, tmp_path, header, code, reason):
    linear_embedder(tmp_path / "model.onnx")
    before, files = stubs.state(POOL), stored(server)
    data = (tmp_path / "model.onnx").read_bytes()
    told = refusal(lambda: stubs.upload(**{"pool": POOL, "data": data, **header}))
    assert (told.code.name, told.reason, told.domain) == (code, reason, "assay")
    assert (stubs.state(POOL), stored(server)) == (before, files)


def test_an_id_that_is_taken_is_refused(client, pool, tmp_path):
    client.create_pool(pool)
    path = linear_embedder(tmp_path / "model.onnx")
    first = client.upload_backbone(pool, path, model_id="first")
    with pytest.raises(AlreadyExists) as caught:
        client.upload_backbone(pool, path, model_id="first")
    assert caught.value.reason == "MODEL_EXISTS"
    assert list(client.list_models(pool)) == [first]


def test_a_backbone_cannot_embed_samples_whose_inputs_it_never_saw(client, pool, tmp_path):
    client.create_pool(pool, task=Classification(["a", "b"]))
    client.add_samples(pool, ["one", "two"], embeddings=np.eye(2, 5))
    model = client.upload_backbone(pool, linear_embedder(tmp_path / "model.onnx", dimension=3))
    before = client.get_pool(pool)
    with pytest.raises(FailedPrecondition) as caught:
        client.activate_model(model)
    assert caught.value.reason == "INPUTS_NOT_KEPT"
    assert client.get_pool(pool) == before


def stored(server):
    """Every file of the store."""
    return sorted(path for path in (server.data_dir / "pools").rglob("*") if path.is_file())
