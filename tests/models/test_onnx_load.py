"""What the loader takes, what it finds out, and every file that it refuses."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.server.adapters.onnx_backbone import OnnxBackboneLoader
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.models import BackboneSpec, Pooling
from assay.server.core.stop import Stop
from tests.models import onnx_factory as factory
from tests.models.backbones import NOTHING_DECLARED, find, serve
from tests.models.onnx_factory import FLOAT, INT64

LOADER = OnnxBackboneLoader(threads=1)


def refusal(path: str, spec: BackboneSpec = NOTHING_DECLARED) -> AssayError:
    with pytest.raises(AssayError) as caught:
        find(path, spec)
    assert caught.value.reason is Reason.MODEL_INVALID
    assert path not in caught.value.message
    assert caught.value.message.endswith(".")
    return caught.value


def edited(path: str, edit: Callable[[onnx.ModelProto], None]) -> str:
    model = onnx.load(path, load_external_data=False)
    edit(model)
    Path(path).write_bytes(model.SerializeToString())
    return path


def test_linear_model_is_discovered(tmp_path: Path) -> None:
    path = factory.linear_embedder(tmp_path / "m.onnx", features=4, dimension=3)
    info, sha256 = find(path), hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert (info.embedding_output, info.logits_output, info.pooling) == ("embedding", "", Pooling.NONE)
    assert (info.dimension, info.mask_input, info.normalize, info.sha256) == (3, "", False, sha256)
    assert [(spec.name, spec.dtype, spec.shape) for spec in info.inputs] == [("features", "float32", (-1, 4))]
    assert info.size_bytes == Path(path).stat().st_size


def test_logits_only_where_declared(tmp_path: Path) -> None:
    path = factory.linear_embedder(tmp_path / "m.onnx", classes=5)
    assert find(path).logits_output == ""
    backbone = serve(path, BackboneSpec(logits_output="logits"))
    assert backbone.info.embedding_output == "embedding"
    _, logits_NC = backbone.embed({"features": np.ones((2, 4), np.float32)})
    assert logits_NC is not None
    assert logits_NC.shape == (2, 5)


def test_token_model_is_pooled_with_its_mask(tmp_path: Path) -> None:
    info = find(factory.token_embedder(tmp_path / "m.onnx"))
    assert (info.pooling, info.mask_input, info.dimension) == (Pooling.MEAN, "attention_mask", 6)


@pytest.mark.parametrize("side", [8, "side"])
def test_image_model_is_pooled_over_space(tmp_path: Path, side: int | str) -> None:
    info = find(factory.image_embedder(tmp_path / "m.onnx", side=side))
    assert (info.pooling, info.dimension) == (Pooling.SPATIAL_MEAN, 5)


def test_opened_is_what_was_accepted(tmp_path: Path) -> None:
    path = factory.token_embedder(tmp_path / "m.onnx")
    info = find(path, BackboneSpec(normalize=True, pooling=Pooling.CLS))
    assert LOADER.open(path, info).info == info


def test_opening_stops(tmp_path: Path) -> None:
    path = factory.exploding(tmp_path / "m.onnx", levels=9)
    info, stop = find(path), Stop()
    stop.request(Reason.SHUTTING_DOWN)
    with pytest.raises(AssayError) as caught, stop.scope():
        LOADER.open(path, info)
    assert caught.value.reason is Reason.SHUTTING_DOWN


@pytest.mark.parametrize("harm", ["flipped", "truncated", "another", "missing"])
def test_damaged_files_are_not_opened(tmp_path: Path, harm: str) -> None:
    path = Path(factory.linear_embedder(tmp_path / "m.onnx"))
    info, content = find(str(path)), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes({"flipped": content, "truncated": content[:-1], "another": bytes(len(content))}[harm])
    with pytest.raises(AssayError) as caught:
        LOADER.open(str(path), info)
    assert caught.value.reason is Reason.SEGMENT_DAMAGED


def test_missing_file_is_storage(tmp_path: Path) -> None:
    with pytest.raises(AssayError) as caught:
        find(str(tmp_path / "none.onnx"))
    assert caught.value.reason is Reason.STORAGE_FAILED


@pytest.mark.parametrize("content", [b"", b"hello, this is text", bytes(1000), b"PK\x03\x04" + bytes(range(256))])
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert refusal(str(tmp_path / "m.onnx")).metadata["problem"] == "not_onnx"


def test_truncated(tmp_path: Path) -> None:
    path = Path(factory.linear_embedder(tmp_path / "m.onnx"))
    path.write_bytes(path.read_bytes()[:-20])
    assert refusal(str(path)).metadata["problem"] in {"not_onnx", "not_loadable"}


def _external_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(factory.external_tensor())


def _external_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=factory.external_tensor("c")))


def _external_in_subgraph(model: onnx.ModelProto) -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["o"])],
        "inner",
        [],
        [helper.make_tensor_value_info("o", FLOAT, [4, 3])],
        [factory.external_tensor("w")],
    )
    outer = helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=inner)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(outer)


def _external_sparse(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add(dims=[4, 3])
    sparse.values.CopyFrom(factory.external_tensor("s"))


def _external_in_function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Constant", [], ["o"], value=factory.external_tensor("c"))]
    model.functions.append(helper.make_function("mine", "F", [], ["o"], body, [helper.make_opsetid("", 17)]))


def _listed_without_flag(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")


@pytest.mark.parametrize(
    "edit",
    [
        _external_weight,
        _external_constant,
        _external_in_subgraph,
        _external_sparse,
        _external_in_function,
        _listed_without_flag,
    ],
)
def test_outside_files(tmp_path: Path, edit: Callable[[onnx.ModelProto], None]) -> None:
    (tmp_path / "outside.bin").write_bytes(bytes(48))
    path = edited(factory.linear_embedder(tmp_path / "m.onnx"), edit)
    assert refusal(path).metadata["problem"] == "external_data"


def test_custom_operator(tmp_path: Path) -> None:
    error = refusal(factory.one_node(tmp_path / "m.onnx", "Mine", ["batch", 3], domain="my.ops"))
    assert error.metadata["problem"] == "custom_operator"
    assert error.metadata["operator"] == "my.ops.Mine"


def test_unknown_standard_operator(tmp_path: Path) -> None:
    error = refusal(factory.one_node(tmp_path / "m.onnx", "NoSuchOperator", ["batch", 3]))
    assert error.metadata["problem"] == "not_loadable"


def test_no_inputs(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["W"], ["y"])
    path = factory.save(tmp_path / "m.onnx", [node], [], [("y", FLOAT, [2, 2])], {"W": np.ones((2, 2), np.float32)})
    assert refusal(path).metadata["problem"] == "no_inputs"


@pytest.mark.parametrize("shape", [[4, 3], []])
def test_no_batch(tmp_path: Path, shape: list[int]) -> None:
    assert refusal(factory.one_node(tmp_path / "m.onnx", "Relu", shape)).metadata["problem"] == "no_batch"


def test_input_dtype(tmp_path: Path) -> None:
    path = factory.one_node(tmp_path / "m.onnx", "Cast", ["batch", 3], kind=TensorProto.STRING, to=FLOAT)
    assert refusal(path).metadata["problem"] == "input_dtype"


def test_output_missing_lists_what_is_there(tmp_path: Path) -> None:
    path = factory.linear_embedder(tmp_path / "m.onnx", classes=2)
    for spec in (BackboneSpec(embedding_output="nope"), BackboneSpec(logits_output="nope")):
        error = refusal(path, spec)
        assert error.metadata["problem"] == "output_missing"
        assert error.metadata["available"] == "embedding,logits"


def test_output_not_float(tmp_path: Path) -> None:
    path = factory.one_node(tmp_path / "m.onnx", "Cast", ["batch", 3], output_kind=INT64, to=INT64)
    assert refusal(path, BackboneSpec(embedding_output="y")).metadata["problem"] == "output_dtype"
    assert refusal(path).metadata["problem"] == "no_embedding"


def test_embedding_is_not_the_logits(tmp_path: Path) -> None:
    path = factory.linear_embedder(tmp_path / "m.onnx")
    spec = BackboneSpec(embedding_output="embedding", logits_output="embedding")
    assert refusal(path, spec).metadata["problem"] == "same_output"


def test_several_outputs_without_a_known_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Abs", ["x"], ["b"])]
    shape = ["batch", 3]
    path = factory.save(tmp_path / "m.onnx", nodes, [("x", FLOAT, shape)], [("a", FLOAT, shape), ("b", FLOAT, shape)])
    assert refusal(path).metadata["problem"] == "no_embedding"
    assert find(path, BackboneSpec(embedding_output="b")).dimension == 3
    assert find(path, BackboneSpec(logits_output="b")).embedding_output == "a"


@pytest.mark.parametrize("shape", [["batch"], ["batch", 2, 2, 2, 2]])
def test_embedding_rank(tmp_path: Path, shape: list[int | str]) -> None:
    assert refusal(factory.one_node(tmp_path / "m.onnx", "Relu", shape)).metadata["problem"] == "embedding_rank"


def test_pooling_that_does_not_fit(tmp_path: Path) -> None:
    path = factory.linear_embedder(tmp_path / "m.onnx")
    assert refusal(path, BackboneSpec(pooling=Pooling.CLS)).metadata["problem"] == "embedding_rank"


def test_logits_rank(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["e"], axes=[1], keepdims=0), helper.make_node("Relu", ["x"], ["l"])]
    path = factory.save(
        tmp_path / "m.onnx", nodes, [("x", FLOAT, ["batch", 2, 3])], [("e", FLOAT, None), ("l", FLOAT, None)]
    )
    assert refusal(path, BackboneSpec(logits_output="l")).metadata["problem"] == "logits_rank"


def test_mask_missing_and_mask_of_wrong_rank(tmp_path: Path) -> None:
    path = factory.token_embedder(tmp_path / "m.onnx")
    assert refusal(path, BackboneSpec(mask_input="nope")).metadata["problem"] == "mask_missing"
    cube = factory.one_node(tmp_path / "n.onnx", "Relu", ["batch", 2, 3])
    assert refusal(cube, BackboneSpec(mask_input="x")).metadata["problem"] == "mask_rank"


def test_mask_of_another_length_than_the_output(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("Identity", ["attention_mask"], ["z"]),
    ]
    inputs = [("x", FLOAT, ["batch", 3, 2]), ("attention_mask", INT64, ["batch", 4])]
    path = factory.save(tmp_path / "m.onnx", nodes, inputs, [("y", FLOAT, None), ("z", INT64, None)])
    assert refusal(path).metadata["problem"] == "mask_mismatch"


def test_warm_up_fails(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    path = factory.save(
        tmp_path / "m.onnx", [node], [("x", FLOAT, ["batch", 3])], [("y", FLOAT, None)], {"shape": np.array([7, 5])}
    )
    error = refusal(path)
    assert error.metadata["problem"] == "warmup_failed"
    assert "Reshape" in error.message


def test_warm_up_that_never_ends(tmp_path: Path) -> None:
    path = factory.endless(tmp_path / "m.onnx")
    with pytest.raises(AssayError) as caught:
        find(path, run_seconds=0.2)
    assert caught.value.metadata["problem"] == "too_slow"


@pytest.mark.parametrize("operator", ["Log", "Sqrt"])
def test_not_finite(tmp_path: Path, operator: str) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node(operator, ["n"], ["y"])]
    path = factory.save(tmp_path / "m.onnx", nodes, [("x", FLOAT, ["batch", 3])], [("y", FLOAT, None)])
    assert refusal(path).metadata["problem"] == "warmup_not_finite"


def test_result_without_the_batch(tmp_path: Path) -> None:
    path = factory.one_node(tmp_path / "m.onnx", "Transpose", ["batch", 3], perm=[1, 0])
    assert refusal(path).metadata["problem"] == "not_batch_shaped"


def test_dimension_that_varies_with_the_batch(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    path = factory.save(tmp_path / "m.onnx", nodes, [("x", FLOAT, ["batch", 3])], [("y", FLOAT, None)])
    assert refusal(path).metadata["problem"] == "dimension_varies"


def test_endless_names_do_not_make_endless_errors(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x" * 100_000], ["y" * 100_000])
    path = factory.save(
        tmp_path / "m.onnx", [node], [("x" * 100_000, FLOAT, ["batch", 3])], [("y" * 100_000, FLOAT, None)]
    )
    error = refusal(path, BackboneSpec(embedding_output="nope"))
    assert len(error.message) + sum(map(len, error.metadata.values())) < 4000
