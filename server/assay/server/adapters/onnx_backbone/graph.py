"""What is checked in an ONNX file before ONNX Runtime opens it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
from google.protobuf.message import DecodeError

from assay.server.adapters.onnx_backbone.problems import invalid, not_onnx
from assay.server.core.errors import AssayError

# What ONNX Runtime registers by itself.
_DOMAINS = frozenset(
    {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "ai.onnx.training",
        "com.microsoft",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
    }
)
# Tensors up to this size are taken out of data files when a model is opened.
SMALL_BYTES = 1024
_WIDTHS: Mapping[int, int] = {
    onnx.TensorProto.INT64: 8,
    onnx.TensorProto.INT32: 4,
    onnx.TensorProto.FLOAT: 4,
    onnx.TensorProto.DOUBLE: 8,
    onnx.TensorProto.FLOAT16: 2,
    onnx.TensorProto.INT8: 1,
    onnx.TensorProto.UINT8: 1,
    onnx.TensorProto.BOOL: 1,
}
# Nodes of a graph once its functions are written out in it: large models have thousands, and opening one takes longer
# than in proportion.
MAX_NODES = 100_000
# Functions that call functions.
MAX_DEPTH = 64
_MAX_DIGITS = 18  # of an offset or a length


@dataclass(frozen=True)
class GraphFacts:
    """What the nodes of a graph tell.

    Attributes:
        batch_dependent: activations are quantised by the range seen in the whole batch, so that a sample's embedding
            would depend on what it is batched with, and on its padding.
    """

    batch_dependent: bool


@dataclass(frozen=True)
class _Contents:
    """All nodes and stored tensors of a model, those of subgraphs, functions, attributes and training graphs included.

    Attributes:
        movable: tensors whose bytes may come from beside the model: initializers and constants of the main graph.
        fixed: all others.
    """

    nodes: list[onnx.NodeProto]
    movable: list[onnx.TensorProto]
    fixed: list[onnx.TensorProto]


def inspect(content: bytes, data_files: Mapping[str, int]) -> GraphFacts:
    """Reads the graph of an ONNX file that came with data files of these names and sizes.

    Raises AssayError(MODEL_INVALID), its metadata `problem` one of not_onnx, external_data, custom_operator,
    too_many_nodes.
    """
    model = _parse(content)
    try:
        contents = _contents(model)
        _check_data(contents, data_files)
        _refuse_custom_operators(model, contents.nodes)
        _refuse_bombs(model)
        return GraphFacts(batch_dependent=any(node.op_type.startswith("DynamicQuantize") for node in contents.nodes))
    except (UnicodeError, TypeError):  # what protobuf raises for a name is the one or the other
        raise not_onnx("a name in it is not UTF-8") from None


def _parse(content: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise not_onnx("it cannot be parsed") from None
    if not model.ir_version or not model.graph.node:
        raise not_onnx("it has no graph")
    return model


def _contents(model: onnx.ModelProto) -> _Contents:
    found = _Contents([], [], [])
    graphs = [(model.graph, True)]
    graphs += [(graph, False) for info in model.training_info for graph in (info.initialization, info.algorithm)]
    attributes = [(attribute, False) for function in model.functions for attribute in function.attribute_proto]
    fresh = [(node, False) for function in model.functions for node in function.node]
    while graphs or attributes or fresh:
        for graph, main in graphs:
            (found.movable if main else found.fixed).extend(graph.initializer)
            found.fixed.extend(_parts(graph.sparse_initializer))
            fresh.extend((node, main) for node in graph.node)
        attributes.extend(
            (attribute, main and node.op_type == "Constant") for node, main in fresh for attribute in node.attribute
        )
        found.nodes.extend(node for node, _ in fresh)
        for attribute, constant in attributes:
            (found.movable if constant else found.fixed).append(attribute.t)
            found.fixed.extend(attribute.tensors)
            found.fixed.extend(_parts((attribute.sparse_tensor, *attribute.sparse_tensors)))
        graphs = [(graph, False) for attribute, _ in attributes for graph in _subgraphs(attribute)]
        attributes, fresh = [], []
    return found


def _parts(sparse: Iterable[onnx.SparseTensorProto]) -> list[onnx.TensorProto]:
    return [part for tensor in sparse for part in (tensor.values, tensor.indices)]


def _subgraphs(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


# --- tensors outside of the file -----------------------------------------------------------------------------------


def _check_data(contents: _Contents, data_files: Mapping[str, int]) -> None:
    """Every tensor outside of the file must lie in a data file that came with it: none is ever looked for on disk."""
    used: set[str] = set()
    for tensor in contents.fixed:
        if _is_outside(tensor):
            raise _outside(
                tensor, "is in another file, which only the main graph's may. Save the model with all weights inside"
            )
    for tensor in contents.movable:
        if _is_outside(tensor):
            used.add(_check_tensor(tensor, data_files))
    if unused := sorted(set(data_files) - used):
        raise invalid(
            "external_data",
            f"The model has no tensor in the data file {unused[0]!r}. Upload only the files that it names: "
            f"{', '.join(sorted(used)) or 'none'}.",
            file=unused[0],
        )


def _is_outside(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL or bool(tensor.external_data)


def _check_tensor(tensor: onnx.TensorProto, data_files: Mapping[str, int]) -> str:
    """The data file that holds a tensor. Raises AssayError(MODEL_INVALID)."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        raise _outside(tensor, "names a data file and says that it is inside. Save the model again")
    entries = {entry.key: entry.value for entry in tensor.external_data}
    name = _file_of(entries)
    if name not in data_files:
        raise _outside(
            tensor,
            f"is in the file {name!r}, which did not come with the model. Upload that file with it, under this name, "
            "or save the model with all its weights inside",
            file=name,
        )
    # Without a length ONNX Runtime works it out, and checks it.
    end = _number(tensor, entries, "offset") + _number(tensor, entries, "length")
    if end > data_files[name]:
        raise _outside(
            tensor,
            f"ends at byte {end:,} of the file {name!r}, which has {data_files[name]:,}. Upload the whole file",
            file=name,
        )
    return name


def _number(tensor: onnx.TensorProto, entries: Mapping[str, str], key: str) -> int:
    text = entries.get(key) or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise _outside(tensor, f"has the {key} {text!r}, which is no number of bytes. Save the model again")
    return int(text)


def _outside(tensor: onnx.TensorProto, why: str, **metadata: str) -> AssayError:
    return invalid("external_data", f"The tensor {tensor.name!r} {why}.", tensor=tensor.name, **metadata)


def with_small_tensors(content: bytes, data: Mapping[str, memoryview]) -> bytes:
    """An ONNX file that inspect() takes, with the small tensors of its data files put back in it: ONNX Runtime has to
    know the numbers of those that say shapes and axes before it looks at data files."""
    model = onnx.ModelProto.FromString(content)
    for tensor in _contents(model).movable:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        part = data.get(_file_of(entries)) if _is_outside(tensor) else None
        size = math.prod(tensor.dims) * _WIDTHS.get(tensor.data_type, SMALL_BYTES + 1)
        # What does not fit is left for ONNX Runtime to refuse.
        if part is None or not 0 <= size <= SMALL_BYTES or int(entries.get("length") or size) != size:
            continue
        offset = int(entries.get("offset") or 0)
        tensor.raw_data = bytes(part[offset : offset + size])
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.ClearField("external_data")
    return model.SerializeToString()


def _file_of(entries: Mapping[str, str]) -> str:
    return entries.get("location", "").removeprefix("./")


# --- nodes ---------------------------------------------------------------------------------------------------------


def _refuse_custom_operators(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    functions = {(function.domain, function.name) for function in model.functions}
    for node in nodes:
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in functions:
            raise invalid(
                "custom_operator",
                f"The model uses the operator {node.domain}.{node.op_type}, which ONNX Runtime does not have. "
                "Export it with standard operators.",
                operator=f"{node.domain}.{node.op_type}",
            )


def _refuse_bombs(model: onnx.ModelProto) -> None:
    """ONNX Runtime writes functions out where they are called: a few that call each other twice become millions of
    nodes, and one that calls itself never ends."""
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    open_calls: list[tuple[str, str]] = []

    def size(nodes: Iterable[onnx.NodeProto]) -> int:
        return sum(_size_of_call((node.domain, node.op_type)) + _inside(node) for node in nodes)

    def _inside(node: onnx.NodeProto) -> int:
        return sum(size(graph.node) for attribute in node.attribute for graph in _subgraphs(attribute))

    def _size_of_call(name: tuple[str, str]) -> int:
        if name not in functions:
            return 1
        if name not in sizes:
            if name in open_calls:
                raise _too_many(f"its function {name[1]!r} calls itself")
            if len(open_calls) >= MAX_DEPTH:
                raise _too_many("its functions call each other too deeply")
            open_calls.append(name)
            sizes[name] = size(functions[name].node)
            open_calls.pop()
        return sizes[name]

    total = size(model.graph.node)
    if total > MAX_NODES:
        raise _too_many(f"with its functions written out it has {total:,} nodes, of at most {MAX_NODES:,}")


def _too_many(why: str) -> AssayError:
    return invalid("too_many_nodes", f"The model cannot be run: {why}. Export it without functions.")
