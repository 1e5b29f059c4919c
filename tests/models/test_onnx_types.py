"""ONNX as people export it: element types, data files, versions."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from assay.server.adapters.onnx_backbone import OnnxBackboneLoader
from assay.server.adapters.onnx_backbone.problems import said
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.models import BackboneSpec, DataFile
from tests.models import onnx_factory as factory
from tests.models.backbones import MIB, NOTHING_DECLARED, find, serve
from tests.models.onnx_factory import FLOAT

X = np.array([[1.0, 2.0, 3.0], [-4.0, 0.5, 100.0]], np.float32)


def refusal(path: str, spec: BackboneSpec = NOTHING_DECLARED, **settings: object) -> AssayError:
    with pytest.raises(AssayError) as caught:
        find(path, spec, **settings)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.MODEL_INVALID
    return caught.value


# --- outputs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (TensorProto.BFLOAT16, X),
        (TensorProto.FLOAT16, X),
        (TensorProto.DOUBLE, X),
        (TensorProto.INT8, X.astype(np.int8)),
        (TensorProto.UINT8, np.abs(X).astype(np.uint8)),
    ],
)
def test_outputs_that_are_numbers_become_float32(tmp_path: Path, kind: int, expected: np.ndarray) -> None:
    backbone = serve(factory.casting(tmp_path / "m.onnx", kind))
    embeddings_ND, _ = backbone.embed({"x": np.abs(X) if kind == TensorProto.UINT8 else X})
    assert embeddings_ND.dtype == np.float32
    np.testing.assert_array_equal(embeddings_ND, expected.astype(np.float32))


def test_bfloat16_that_overflows_names_its_sample(tmp_path: Path) -> None:
    backbone = serve(factory.casting(tmp_path / "m.onnx", TensorProto.BFLOAT16))
    with pytest.raises(AssayError) as caught:
        backbone.embed({"x": np.array([[1, 2, 3], [1, 3.4e38, 3]], np.float32)})
    assert (caught.value.reason, caught.value.metadata["row"]) == (Reason.NOT_FINITE, "1")


def test_bfloat16_logits_beside_a_float_embedding(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["embedding"]),
        helper.make_node("Cast", ["x"], ["logits"], to=TensorProto.BFLOAT16),
    ]
    outputs = [("embedding", FLOAT, ["batch", 3]), ("logits", TensorProto.BFLOAT16, ["batch", 3])]
    path = factory.save(tmp_path / "m.onnx", nodes, [("x", FLOAT, ["batch", 3])], outputs)
    embeddings_ND, logits_NC = serve(path, BackboneSpec(logits_output="logits")).embed({"x": X})
    np.testing.assert_array_equal(embeddings_ND, X)
    np.testing.assert_array_equal(logits_NC, X)


def test_floats_are_taken_before_quantised_outputs(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["embedding"], to=TensorProto.INT8),
        helper.make_node("Identity", ["x"], ["other"]),
    ]
    outputs = [("embedding", TensorProto.INT8, ["batch", 3]), ("other", FLOAT, ["batch", 3])]
    path = factory.save(tmp_path / "m.onnx", nodes, [("x", FLOAT, ["batch", 3])], outputs)
    assert find(path).embedding_output == "other"
    assert find(path, BackboneSpec(embedding_output="embedding")).embedding_output == "embedding"


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING])
def test_outputs_that_are_no_embedding_are_named_with_their_type(tmp_path: Path, kind: int) -> None:
    path = factory.casting(tmp_path / "m.onnx", kind, name="token")
    word = {TensorProto.INT64: "int64", TensorProto.BOOL: "bool", TensorProto.STRING: "string"}[kind]
    found = refusal(path)
    assert found.metadata["problem"] == "no_embedding"
    assert f"token (tensor({word}))" in found.message
    assert "float32" in found.message
    named = refusal(path, BackboneSpec(embedding_output="token"))
    assert (named.metadata["problem"], named.metadata["dtype"]) == ("output_dtype", f"tensor({word})")


def test_an_output_without_dimensions(tmp_path: Path) -> None:
    path = factory.one_node(tmp_path / "m.onnx", "ReduceMean", ["batch", 3], keepdims=0)
    error = refusal(path)
    assert error.metadata["problem"] == "not_batch_shaped"
    assert "no dimensions" in error.message


def test_an_output_of_no_size(tmp_path: Path) -> None:
    node = helper.make_node("Slice", ["x", "zero", "zero", "one"], ["y"])
    weights = {"zero": np.array([0]), "one": np.array([1])}
    path = factory.save(tmp_path / "m.onnx", [node], [("x", FLOAT, ["batch", 3])], [("y", FLOAT, None)], weights)
    assert "empty" in refusal(path).message


# --- inputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"])
@pytest.mark.parametrize("sent", ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"])
def test_integers_go_where_their_values_fit(tmp_path: Path, dtype: str, sent: str) -> None:
    kind = TensorProto.DataType.Value(dtype.upper())
    backbone = serve(factory.casting(tmp_path / "m.onnx", FLOAT, kind=kind))
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(sent)
    assert backbone.check_inputs({"x": values}) == 2
    np.testing.assert_array_equal(backbone.embed({"x": values})[0], values.astype(np.float32))


@pytest.mark.parametrize(("dtype", "value"), [("bool", 2), ("int8", 128), ("uint8", -1), ("int32", 1 << 31)])
def test_integers_that_do_not_fit_are_named(tmp_path: Path, dtype: str, value: int) -> None:
    kind = TensorProto.DataType.Value(dtype.upper())
    backbone = serve(factory.casting(tmp_path / "m.onnx", FLOAT, kind=kind))
    with pytest.raises(AssayError, match=f"'x' holds {value}; the backbone takes {dtype}") as caught:
        backbone.check_inputs({"x": np.array([[0, 1, value]])})
    assert caught.value.reason is Reason.INPUTS_INVALID


def test_a_bool_mask(tmp_path: Path) -> None:
    path = factory.token_embedder(tmp_path / "m.onnx")
    model = onnx.load(path)
    next(item for item in model.graph.input if item.name == "attention_mask").type.tensor_type.elem_type = 9
    Path(path).write_bytes(model.SerializeToString())
    inputs = {"input_ids": np.array([[1, 2, 3], [4, 5, 5]]), "attention_mask": np.array([[1, 1, 1], [1, 0, 0]])}
    by_bool = serve(path)
    assert by_bool.info.inputs[1].dtype == "bool"
    as_int, _ = by_bool.embed(inputs)
    as_bool, _ = by_bool.embed({**inputs, "attention_mask": inputs["attention_mask"].astype(bool)})
    np.testing.assert_array_equal(as_int, as_bool)
    np.testing.assert_array_equal(as_int, serve(factory.token_embedder(tmp_path / "int.onnx")).embed(inputs)[0])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (TensorProto.STRING, ("tensor(string)", "tokeniser")),
        (TensorProto.BFLOAT16, ("tensor(bfloat16)", "float32")),
        (TensorProto.UINT64, ("tensor(uint64)", "int64")),
    ],
)
def test_inputs_that_cannot_be_sent(tmp_path: Path, kind: int, words: tuple[str, ...]) -> None:
    error = refusal(factory.casting(tmp_path / "m.onnx", FLOAT, kind=kind))
    assert error.metadata["problem"] == "input_dtype"
    assert all(word in error.message for word in ("'x'", *words))


def test_more_inputs_than_a_request_carries(tmp_path: Path) -> None:
    names = [f"x{number}" for number in range(65)]
    path = factory.save(
        tmp_path / "m.onnx",
        [helper.make_node("Sum", names, ["y"])],
        [(name, FLOAT, ["batch", 3]) for name in names],
        [("y", FLOAT, None)],
    )
    assert refusal(path).metadata["problem"] == "too_many_inputs"


# --- versions ------------------------------------------------------------------------------------------------------


def test_an_ir_that_is_too_new(tmp_path: Path) -> None:
    path = versioned(factory.linear_embedder(tmp_path / "m.onnx"), ir=99)
    error = refusal(path)
    assert (error.metadata["problem"], error.metadata["version"]) == ("ir_version", "99")
    assert 8 <= int(error.metadata["highest"]) < 99
    assert f"the highest that this server reads is {error.metadata['highest']}" in error.message
    assert "::" not in error.message
    find(versioned(path, ir=int(error.metadata["highest"])))


def test_an_opset_that_is_too_new(tmp_path: Path) -> None:
    path = versioned(factory.linear_embedder(tmp_path / "m.onnx"), opset=99)
    error = refusal(path)
    assert (error.metadata["problem"], error.metadata["version"]) == ("opset", "99")
    assert f"the highest that this server runs is {error.metadata['highest']}" in error.message
    assert "::" not in error.message
    find(versioned(path, opset=int(error.metadata["highest"])))


def versioned(path: str, *, ir: int | None = None, opset: int | None = None) -> str:
    model = onnx.load(path)
    model.ir_version = ir or model.ir_version
    model.opset_import[0].version = opset or model.opset_import[0].version
    Path(path).write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Load model from /data/x.model failed:/onnxruntime_src/onnxruntime/core/"
            "graph/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, const onnxruntime::PathString&, "
            "const std::function<void(int)>&) It is (really) too new.\n",
            "It is (really) too new",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Gather node. Name:'' Status "
            "Message: /src/bfc_arena.cc:360 void* onnxruntime::BFCArena::Allocate(size_t, bool) const Too large",
            "Non-zero status code returned while running Gather node. Name:'' Status Message: Too large",
        ),
        ("[ONNXRuntimeError] : 1 : FAIL : graph.cc:4479 Inject Tensor W is short", "Tensor W is short"),
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Missing (a) input\nmore", "Missing (a) input more"),
        ("", "ValueError"),
    ],
)
def test_only_the_reason_of_an_error_is_shown(raw: str, reason: str) -> None:
    assert said(ValueError(raw), "/data/x.model") == reason


# --- data files ----------------------------------------------------------------------------------------------------


def with_data(path: Path, features: int = 64, **changes: str) -> tuple[str, tuple[DataFile, ...]]:
    """A stored file of a linear embedder whose weights came beside it."""
    weights = factory.weights_of(factory.linear_embedder(path, features, 32))["W"]

    def move(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": "m.onnx.data", "offset": "5", "length": str(weights.nbytes), **changes}
        tensor.external_data.extend(
            onnx.StringStringEntryProto(key=key, value=value) for key, value in entries.items() if value
        )

    return stored(path, move, {"m.onnx.data": b"12345" + weights.tobytes() + b"rest"})


def stored(
    path: Path, edit: Callable[[onnx.ModelProto], None], data: dict[str, bytes]
) -> tuple[str, tuple[DataFile, ...]]:
    model = onnx.load(path, load_external_data=False)
    edit(model)
    path.write_bytes(b"".join([model.SerializeToString(), *data.values()]))
    return str(path), tuple(DataFile(name, len(content)) for name, content in data.items())


@pytest.mark.parametrize("changes", [{}, {"length": ""}, {"location": "./m.onnx.data"}, {"checksum": "abc"}])
@pytest.mark.parametrize("features", [2, 64])
def test_weights_beside_the_model(tmp_path: Path, features: int, changes: dict[str, str]) -> None:
    path, data_files = with_data(tmp_path / "m.onnx", features, **changes)
    backbone = serve(path, data_files=data_files)
    assert backbone.info.data_files == data_files
    assert backbone.info.size_bytes == Path(path).stat().st_size
    x = np.eye(features, dtype=np.float32)
    weights = factory.weights_of(factory.linear_embedder(tmp_path / "whole.onnx", features, 32))["W"]
    np.testing.assert_allclose(backbone.embed({"features": x})[0], weights, rtol=1e-6)


def test_as_the_onnx_package_writes_them(tmp_path: Path) -> None:
    path = Path(factory.token_embedder(tmp_path / "whole.onnx"))
    model = onnx.load(path)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    data = (tmp_path / "m.onnx.data").read_bytes()
    (tmp_path / "both").write_bytes((tmp_path / "m.onnx").read_bytes() + data)
    backbone = serve(str(tmp_path / "both"), data_files=(DataFile("m.onnx.data", len(data)),))
    inputs = {"input_ids": np.array([[1, 2, 3]]), "attention_mask": np.ones((1, 3), np.int64)}
    np.testing.assert_array_equal(backbone.embed(inputs)[0], serve(str(path)).embed(inputs)[0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"location": "other.data"}, "'other.data', which did not come with the model"),
        ({"location": "../m.onnx.data"}, "did not come"),
        ({"location": "/etc/passwd"}, "did not come"),
        ({"location": "*/_ORT_MEM_ADDR_/*"}, "did not come"),
        ({"location": ""}, "did not come"),
        ({"offset": "-5"}, "no number of bytes"),
        ({"offset": "4611686018427387904"}, "no number of bytes"),
        ({"offset": "10000"}, "ends at byte"),
        ({"length": "10000"}, "ends at byte"),
        ({"length": "9" * 30}, "no number of bytes"),
    ],
)
def test_data_that_is_not_there(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    path, data_files = with_data(tmp_path / "m.onnx", **changes)
    (tmp_path / "other.data").write_bytes(bytes(100))
    error = refusal(path, data_files=data_files)
    assert error.metadata["problem"] in ("external_data", "not_onnx")
    assert words in error.message


@pytest.mark.parametrize("changes", [{"offset": "4000", "length": ""}, {"length": "8"}])
def test_data_of_another_size_than_its_tensor(tmp_path: Path, changes: dict[str, str]) -> None:
    path, data_files = with_data(tmp_path / "m.onnx", **changes)
    assert refusal(path, data_files=data_files).metadata["problem"] == "not_loadable"


def test_a_file_that_no_tensor_is_in(tmp_path: Path) -> None:
    path, data_files = with_data(tmp_path / "m.onnx")
    Path(path).write_bytes(Path(path).read_bytes() + b"more")
    error = refusal(path, data_files=(*data_files, DataFile("more.data", 4)))
    assert (error.metadata["problem"], error.metadata["file"]) == ("external_data", "more.data")


def test_no_file_is_opened_by_a_name_in_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither beside the stored file nor in the working folder, even where one is there."""
    monkeypatch.chdir(tmp_path)
    path, data_files = with_data(tmp_path / "m.onnx", location="real.data")
    (tmp_path / "real.data").write_bytes(bytes(100))
    assert refusal(path, data_files=data_files).metadata["problem"] == "external_data"


def test_data_files_are_tried_and_opened_like_any_other(tmp_path: Path) -> None:
    path, data_files = with_data(tmp_path / "m.onnx")
    content = Path(path).read_bytes()
    loader = OnnxBackboneLoader(threads=1, memory_bytes=64 * MIB)
    info = loader.examine(path, NOTHING_DECLARED, hashlib.sha256(content).hexdigest(), data_files)
    loader.open(path, info)
    with open(path, "r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"\xff")
    with pytest.raises(AssayError) as caught:
        loader.open(path, info)
    assert caught.value.reason is Reason.SEGMENT_DAMAGED


def test_weights_that_are_larger_than_the_memory_of_runs(tmp_path: Path) -> None:
    """They are not counted with what runs hold."""
    path = factory.linear_embedder(tmp_path / "m.onnx", features=2048, dimension=2048)
    backbone = serve(path, memory_bytes=8 * MIB)
    assert backbone.embed({"features": np.ones((3, 2048), np.float32)})[0].shape == (3, 2048)
