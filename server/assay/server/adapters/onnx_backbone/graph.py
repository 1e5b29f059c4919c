"""What is checked in an ONNX file before ONNX Runtime opens it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from assay.server.adapters.onnx_backbone.problems import invalid
from assay.server.core.errors import AssayError, Reason

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


@dataclass(frozen=True)
class GraphFacts:
    """What the nodes of a graph tell.

    Attributes:
        batch_dependent: activations are quantised by the range seen in the whole batch, so that a sample's embedding
            would depend on what it is batched with, and on its padding.
    """

    batch_dependent: bool


def inspect_file(path: str) -> GraphFacts:
    """Reads a file's graph. Raises AssayError(MODEL_INVALID): not ONNX, outside files, operators not known here."""
    model = _parse(path)
    nodes, tensors = _contents(model)
    _refuse_outside_files(tensors)
    _refuse_custom_operators(model, nodes)
    return GraphFacts(batch_dependent=any(node.op_type.startswith("DynamicQuantize") for node in nodes))


def _parse(path: str) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(Path(path).read_bytes())
    except DecodeError:
        raise invalid("not_onnx", "The file is no ONNX model. Upload the .onnx file itself.") from None
    except OSError as error:
        raise AssayError(Reason.STORAGE_FAILED, f"The model's file cannot be read: {error.strerror}.") from error
    if not model.ir_version or not model.graph.node:
        raise invalid("not_onnx", "The file is no ONNX model: it has no graph. Upload the .onnx file itself.")
    return model


def _contents(model: onnx.ModelProto) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """All nodes and stored tensors, those of subgraphs, functions, attributes and training graphs included."""
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    graphs = [model.graph, *(graph for info in model.training_info for graph in (info.initialization, info.algorithm))]
    attributes = [attribute for function in model.functions for attribute in function.attribute_proto]
    fresh = [node for function in model.functions for node in function.node]
    while graphs or attributes or fresh:
        for graph in graphs:
            tensors.extend(graph.initializer)
            tensors.extend(_parts(graph.sparse_initializer))
            fresh.extend(graph.node)
        attributes.extend(attribute for node in fresh for attribute in node.attribute)
        nodes.extend(fresh)
        for attribute in attributes:
            tensors.extend((attribute.t, *attribute.tensors))
            tensors.extend(_parts((attribute.sparse_tensor, *attribute.sparse_tensors)))
        graphs = [graph for attribute in attributes for graph in _subgraphs(attribute)]
        attributes, fresh = [], []
    return nodes, tensors


def _parts(sparse: Iterable[onnx.SparseTensorProto]) -> list[onnx.TensorProto]:
    return [part for tensor in sparse for part in (tensor.values, tensor.indices)]


def _subgraphs(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _refuse_outside_files(tensors: list[onnx.TensorProto]) -> None:
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise invalid(
                "external_data",
                f"The model keeps the tensor {tensor.name!r} in another file. Save it with all its weights inside.",
                tensor=tensor.name,
            )


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
