"""Which files go with an ONNX file: those that it names and that lie beside it, and no others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.client._models import upload_backbone
from assay.client._onnx import data_file_names, find_data_files
from assay.v1 import models_pb2


def outside(name: str, location: str, values: np.ndarray | None = None) -> TensorProto:
    """A tensor whose bytes are elsewhere."""
    tensor = numpy_helper.from_array(np.zeros((3, 3), np.float32) if values is None else values, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def save(path: Path, *locations: str, edit: Callable[[onnx.ModelProto], None] | None = None) -> Path:
    """A model with one weight in each of these files, and one within."""
    names = [f"W{number}" for number in range(len(locations))]
    nodes = [helper.make_node("Sum", ["x", "inside", *names], ["y"])]
    tensors = [numpy_helper.from_array(np.zeros((3, 3), np.float32), "inside")]
    tensors += [outside(name, location) for name, location in zip(names, locations, strict=True)]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], tensors))
    if edit is not None:
        edit(model)
    path.write_bytes(model.SerializeToString())
    return path


def sent(upload: object) -> tuple[models_pb2.UploadBackboneHeader, bytes]:
    """The header and the bytes of an upload."""
    header, *chunks = list(upload.messages())  # type: ignore[attr-defined]
    return header.header, b"".join(chunk.chunk for chunk in chunks)


def test_a_model_with_its_weights_inside_has_none(tmp_path: Path) -> None:
    assert data_file_names(save(tmp_path / "m.onnx")) == []


def test_each_file_is_found_once_in_the_order_of_the_model(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", "b.data", "a.data", "./b.data", "sub/c.data")
    assert data_file_names(path) == ["b.data", "a.data", "sub/c.data"]


def test_as_the_onnx_package_writes_them(tmp_path: Path) -> None:
    model = onnx.load(save(tmp_path / "whole.onnx"))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    assert find_data_files(tmp_path / "m.onnx") == {"m.onnx.data": tmp_path / "m.onnx.data"}


def test_in_every_place_that_may_hold_a_tensor(tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        constant = model.graph.node.add(op_type="Constant", output=["c"])
        constant.attribute.add(name="value", type=4).t.CopyFrom(outside("c", "constant"))
        branch = model.graph.node.add(op_type="If").attribute.add(name="then_branch", type=5)
        branch.g.initializer.append(outside("s", "subgraph"))
        branch.g.sparse_initializer.add().values.CopyFrom(outside("v", "sparse"))
        function = model.functions.add(name="f").node.add(op_type="Constant")
        function.attribute.add(name="value", type=9).tensors.append(outside("f", "function"))
        model.training_info.add().algorithm.initializer.append(outside("t", "training"))

    found = data_file_names(save(tmp_path / "m.onnx", "weights", edit=edit))
    assert set(found) == {"weights", "constant", "subgraph", "sparse", "function", "training"}


@pytest.mark.parametrize("content", [b"", b"no ONNX at all", bytes(1000), b"\x3a\xff\xff\xff\xff\x0f", b"\x80" * 50])
def test_what_is_no_onnx_file_has_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert data_file_names(tmp_path / "m.onnx") == []


def test_a_truncated_file_does_no_harm(tmp_path: Path) -> None:
    content = save(tmp_path / "m.onnx", "a.data").read_bytes()
    for size in range(len(content)):
        (tmp_path / "m.onnx").write_bytes(content[:size])
        assert data_file_names(tmp_path / "m.onnx") in ([], ["a.data"])


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "sub/../../secret", "C:\\secret", "\\secret", "a\0b"])
def test_names_that_lead_elsewhere_are_not_followed(tmp_path: Path, location: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(ValueError, match="nothing was sent"):
        upload_backbone("p", save(home / "m.onnx", location))


def test_links_that_lead_elsewhere_are_not_followed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (home / "m.onnx.data").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="link that leads elsewhere"):
        upload_backbone("p", save(home / "m.onnx", "m.onnx.data"))


def test_links_into_one_folder_are_followed_as_download_caches_make_them(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    save(blobs / "0a1b", "model.onnx_data")
    (blobs / "2c3d").write_bytes(bytes(36))
    (snapshot / "model.onnx").symlink_to(blobs / "0a1b")
    (snapshot / "model.onnx_data").symlink_to(blobs / "2c3d")
    header, content = sent(upload_backbone("p", snapshot / "model.onnx"))
    assert [(file.name, file.size_bytes) for file in header.data_files] == [("model.onnx_data", 36)]
    assert content.endswith(bytes(36))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"m\.onnx\.data"):
        upload_backbone("p", save(tmp_path / "m.onnx", "m.onnx.data"))
    (tmp_path / "m.onnx.data").mkdir()
    with pytest.raises(FileNotFoundError, match=r"m\.onnx\.data"):
        upload_backbone("p", save(tmp_path / "m.onnx", "m.onnx.data"))


def test_files_are_sent_after_the_model_in_the_order_of_the_header(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", "b.data", "a.data")
    (tmp_path / "a.data").write_bytes(b"a" * 36)
    (tmp_path / "b.data").write_bytes(b"b" * 40)
    (tmp_path / "unnamed.data").write_bytes(b"not sent")
    progress: list[tuple[int, int]] = []
    header, content = sent(upload_backbone("p", path, progress=lambda done, total: progress.append((done, total))))
    assert [(file.name, file.size_bytes) for file in header.data_files] == [("b.data", 40), ("a.data", 36)]
    assert header.size_bytes == path.stat().st_size
    assert content == path.read_bytes() + b"b" * 40 + b"a" * 36
    assert progress[-1] == (len(content), len(content))


def test_files_that_are_given_are_taken_instead(tmp_path: Path) -> None:
    content = save(tmp_path / "m.onnx", "a.data").read_bytes()
    (tmp_path / "elsewhere").write_bytes(b"e" * 36)
    for source in (content, tmp_path / "m.onnx"):
        header, sent_bytes = sent(upload_backbone("p", source, data_files={"a.data": tmp_path / "elsewhere"}))
        assert [file.name for file in header.data_files] == ["a.data"]
        assert sent_bytes == content + b"e" * 36
    header, sent_bytes = sent(upload_backbone("p", content, data_files={"a.data": b"given"}))
    assert sent_bytes == content + b"given"
    assert not sent(upload_backbone("p", content))[0].data_files
