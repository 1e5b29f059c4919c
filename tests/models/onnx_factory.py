"""Small real ONNX files, good and bad, for tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Dims = Sequence[int | str]


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, int, Dims]],
    outputs: Sequence[tuple[str, int, Dims | None]],
    weights: dict[str, np.ndarray] | None = None,
    domains: Sequence[str] = (),
) -> str:
    """Writes a graph; returns its path."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return str(path)


def linear_embedder(
    path: Path, features: int = 4, dimension: int = 3, classes: int = 0, seed: int = 0, batch: int | str = "batch"
) -> str:
    """features [batch, F] -> embedding [batch, D] = features @ W, and with classes, logits [batch, C]."""
    weights = {"W": _normal(seed, features, dimension)}
    nodes = [helper.make_node("MatMul", ["features", "W"], ["embedding"])]
    outputs: list[tuple[str, int, Dims | None]] = [("embedding", FLOAT, [batch, dimension])]
    if classes:
        weights["V"] = _normal(seed + 1, dimension, classes)
        nodes.append(helper.make_node("MatMul", ["embedding", "V"], ["logits"]))
        outputs.append(("logits", FLOAT, [batch, classes]))
    return save(path, nodes, [("features", FLOAT, [batch, features])], outputs, weights)


def token_embedder(
    path: Path,
    vocabulary: int = 50,
    dimension: int = 6,
    seed: int = 0,
    uses_mask: bool = True,
    length: Dims = ("tokens",),
) -> str:
    """input_ids, attention_mask (int64 [batch, tokens]) -> last_hidden_state [batch, tokens, D].

    Each token's vector is its own plus the mean over the sample's tokens (with uses_mask: those of mask 1), as
    attention mixes them.
    """
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["own"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["seen" if uses_mask else "unused"]),
        *([] if uses_mask else [helper.make_node("Mul", ["unused", "zero"], ["none"])]),
        *([] if uses_mask else [helper.make_node("Add", ["none", "one"], ["seen"])]),
        helper.make_node("Mul", ["own", "seen"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["sum"]),
        helper.make_node("ReduceSum", ["seen", "axis"], ["count"]),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Add", ["own", "mean"], ["last_hidden_state"]),
    ]
    weights = {
        "table": _normal(seed, vocabulary, dimension),
        "last": np.array([2]),
        "axis": np.array([1]),
        "zero": np.zeros(1, np.float32),
        "one": np.ones(1, np.float32),
    }
    inputs = [(name, INT64, ["batch", *length]) for name in ("input_ids", "attention_mask")]
    return save(path, nodes, inputs, [("last_hidden_state", FLOAT, ["batch", *length, dimension])], weights)


def image_embedder(path: Path, channels: int = 3, dimension: int = 5, side: int | str = 8, seed: int = 0) -> str:
    """pixels [batch, channels, H, W] -> features [batch, D, H-2, W-2], a convolution."""
    weights = {"kernel": _normal(seed, dimension, channels, 3, 3)}
    nodes = [helper.make_node("Conv", ["pixels", "kernel"], ["features"])]
    sides = ["height", "width"] if isinstance(side, str) else [side, side]
    inner = [None, None] if isinstance(side, str) else [side - 2, side - 2]
    return save(
        path,
        nodes,
        [("pixels", FLOAT, ["batch", channels, *sides])],
        [("features", FLOAT, ["batch", dimension, *inner])],  # type: ignore[list-item]
        weights,
    )


def quantized_embedder(path: Path, features: int = 4, dimension: int = 3, seed: int = 0) -> str:
    """As linear_embedder, but with activations quantised to 8 bits by the range of the whole batch."""
    weights = {"W": _normal(seed, features, dimension)}
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["features"], ["small", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["small", "scale", "zero"], ["coarse"]),
        helper.make_node("MatMul", ["coarse", "W"], ["embedding"]),
    ]
    return save(
        path, nodes, [("features", FLOAT, ["batch", features])], [("embedding", FLOAT, ["batch", dimension])], weights
    )


def one_node(
    path: Path,
    operator: str,
    shape: Dims,
    *,
    kind: int = FLOAT,
    output_kind: int = FLOAT,
    domain: str = "",
    **attributes: object,
) -> str:
    """x -> y by one operator of one input."""
    node = helper.make_node(operator, ["x"], ["y"], domain=domain, **attributes)
    return save(path, [node], [("x", kind, shape)], [("y", output_kind, None)], domains=[domain] if domain else [])


def external_tensor(name: str = "W", file: str = "outside.bin") -> TensorProto:
    """A float tensor [4, 3] that says that its values are in another file."""
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=file)
    return tensor


def weights_of(path: str) -> dict[str, np.ndarray]:
    """Stored tensors of a file, by name."""
    model = onnx.load(path, load_external_data=False)
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
