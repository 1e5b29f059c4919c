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


def looping(path: Path, *, endless_above: float) -> str:
    """x [batch, 3] -> y [batch, 3] = relu(x), at once or, where an x is above a bound, 2^62 times over."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_in"], ["go"]), helper.make_node("Relu", ["s_in"], ["s"])],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s_in", FLOAT, None),
        ],
        [helper.make_tensor_value_info("go", TensorProto.BOOL, []), helper.make_tensor_value_info("s", FLOAT, None)],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "bound"], ["above"]),
        helper.make_node("Where", ["above", "endless", "once"], ["trips"]),
        helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body),
    ]
    weights = {
        "bound": np.array(endless_above, np.float32),
        "endless": np.array(1 << 62),
        "once": np.array(1),
    }
    return save(path, nodes, [("x", FLOAT, ["batch", 3])], [("y", FLOAT, None)], weights)


def stubborn(path: Path, boxes_per_unit: int) -> str:
    """x [batch, 3] -> y [batch, 3] = x, beside one node that takes quadratic time in the largest x: it keeps all of so
    many boxes that do not overlap, having compared each with each."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Ceil", ["most"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["units"], to=INT64),
        helper.make_node("Mul", ["units", "per_unit"], ["count"]),
        helper.make_node("Range", ["start", "count", "step"], ["numbers"]),
        helper.make_node("Cast", ["numbers"], ["floats"], to=FLOAT),
        helper.make_node("Add", ["floats", "half"], ["ends"]),
        helper.make_node("Mul", ["floats", "zero"], ["low"]),
        helper.make_node("Add", ["low", "half"], ["high"]),
        *(helper.make_node("Unsqueeze", [name, "axes"], [f"{name}_1"]) for name in ("low", "floats", "high", "ends")),
        helper.make_node("Concat", ["low_1", "floats_1", "high_1", "ends_1"], ["boxes"], axis=2),
        helper.make_node("Unsqueeze", ["high", "front"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "all", "overlap"], ["kept"]),
        helper.make_node("Cast", ["kept"], ["kept_floats"], to=FLOAT),
        helper.make_node("ReduceMin", ["kept_floats"], ["least"], keepdims=0),
        helper.make_node("Mul", ["least", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    weights = {
        "per_unit": np.array(boxes_per_unit),
        "start": np.array(0),
        "step": np.array(1),
        "half": np.array(0.5, np.float32),
        "zero": np.zeros((), np.float32),
        "axes": np.array([0, 2]),
        "front": np.array([0, 1]),
        "all": np.array([1 << 40]),
        "overlap": np.array([0.5], np.float32),
    }
    return save(path, nodes, [("x", FLOAT, ["batch", 3])], [("y", FLOAT, None)], weights)


def endless(path: Path) -> str:
    """A graph whose every run takes for ever."""
    return looping(path, endless_above=-1.0)


def hungry(path: Path, elements_per_unit: int, *, operator: str = "ConstantOfShape") -> str:
    """x [batch, 3] -> y [batch, 3], by way of a tensor of so many float32 or int64 for each 1 of the largest x, times
    the batch."""
    count = [
        helper.make_node("Shape", ["x"], ["shape"], start=0, end=1),
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Ceil", ["most"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["units"], to=INT64),
        helper.make_node("Mul", ["units", "per_unit"], ["each"]),
        helper.make_node("Mul", ["shape", "each"], ["count"]),
    ]
    large = {
        "ConstantOfShape": [helper.make_node("ConstantOfShape", ["count"], ["large"])],
        "Expand": [helper.make_node("Expand", ["one", "count"], ["large"])],
        "Range": [
            helper.make_node("Squeeze", ["count"], ["end"]),
            helper.make_node("Range", ["start", "end", "step"], ["numbers"]),
            helper.make_node("Cast", ["numbers"], ["large"], to=FLOAT),
        ],
    }[operator]
    rest = [
        helper.make_node("ReduceMin", ["large"], ["least"], keepdims=0),
        helper.make_node("Mul", ["least", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    weights = {
        "per_unit": np.array(elements_per_unit),
        "one": np.ones(1, np.float32),
        "zero": np.zeros((), np.float32),
        "start": np.array(0),
        "step": np.array(1),
    }
    return save(path, [*count, *large, *rest], [("x", FLOAT, ["batch", 3])], [("y", FLOAT, None)], weights)


def folded(path: Path, size_bytes: int) -> str:
    """x [batch, 3] -> y [batch, 3], beside a constant tensor of so many bytes that is made when the graph is opened."""
    nodes = [
        helper.make_node("Expand", ["one", "count"], ["large"]),
        helper.make_node("ReduceMin", ["large"], ["least"], keepdims=0),
        helper.make_node("Mul", ["x", "least"], ["y"]),
    ]
    weights = {"one": np.ones(1, np.float32), "count": np.array([size_bytes // 4])}
    return save(path, nodes, [("x", FLOAT, ["batch", 3])], [("y", FLOAT, None)], weights)


def exploding(path: Path, levels: int) -> str:
    """A graph of 2^levels nodes, once its functions, each of which calls the next twice, are written out."""
    functions = [
        helper.make_function(
            "bomb",
            f"f{level}",
            ["a"],
            ["c"],
            [helper.make_node(f"f{level + 1}", [source], [target], domain="bomb") for source, target in ("ab", "bc")]
            if level < levels
            else [helper.make_node("Identity", ["a"], ["c"])],
            [helper.make_opsetid("", OPSET), helper.make_opsetid("bomb", 1)],
        )
        for level in range(levels + 1)
    ]
    node = helper.make_node("f0", ["x"], ["y"], domain="bomb")
    save(path, [node], [("x", FLOAT, ["batch", 3])], [("y", FLOAT, ["batch", 3])], domains=["bomb"])
    model = onnx.load(path)
    model.functions.extend(functions)
    path.write_bytes(model.SerializeToString())
    return str(path)


def casting(path: Path, output: int, kind: int = FLOAT, name: str = "embedding") -> str:
    """x [batch, 3] of one type -> the same of another."""
    node = helper.make_node("Cast", ["x"], [name], to=output)
    return save(path, [node], [("x", kind, ["batch", 3])], [(name, output, ["batch", 3])])


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
