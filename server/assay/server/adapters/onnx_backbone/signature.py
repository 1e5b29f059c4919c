"""Inputs and outputs of a session, and which of them mean what."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnxruntime

from assay.server.adapters.onnx_backbone.problems import invalid
from assay.server.core.records.models import BackboneSpec, TensorSpec

# numpy's names of what can be sent as an input.
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(uint32)": "uint32",
    "tensor(uint16)": "uint16",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
_FLOATS = frozenset({"tensor(float)", "tensor(float16)", "tensor(double)", "tensor(bfloat16)"})
# Embeddings that were quantised: numbers all the same, but floats are taken before them.
_QUANTIZED = frozenset({"tensor(int8)", "tensor(uint8)"})
BFLOAT16 = "tensor(bfloat16)"
MAX_INPUTS = 64  # as many as a request can carry
MAX_RANK = 8
MAX_NAME = 1000
# Names that exporters give to an embedding, the best first.
_EMBEDDING_NAMES = (
    "sentence_embedding",
    "sentence_embeddings",
    "embedding",
    "embeddings",
    "image_embeds",
    "text_embeds",
    "features",
    "last_hidden_state",
    "token_embeddings",
    "pooler_output",
)
_MASK_NAME = "attention_mask"


@dataclass(frozen=True)
class Input:
    """One input of a graph.

    Attributes:
        spec: its name, dtype and shape, the batch and what else varies -1.
        symbols: the graph's names of its dimensions, "" where it has none; equal names mean equal sizes.
    """

    spec: TensorSpec
    symbols: tuple[str, ...]


@dataclass(frozen=True)
class Signature:
    """What goes in and comes out.

    Attributes:
        inputs: all inputs.
        single: the batch is fixed to one sample.
        embedding_output, logits_output: names; the latter "" without logits.
        mask_input: name of the input that is 1 on tokens and 0 on padding, "" without one.
        kinds: ONNX's types of the outputs to ask for.
    """

    inputs: tuple[Input, ...]
    single: bool
    embedding_output: str
    logits_output: str
    mask_input: str
    kinds: tuple[str, ...]

    @property
    def outputs(self) -> list[str]:
        """Outputs to ask for."""
        return [self.embedding_output, *([self.logits_output] if self.logits_output else [])]


def read_signature(session: onnxruntime.InferenceSession, spec: BackboneSpec) -> Signature:
    """What a session's inputs and outputs are, as declared or discovered. Raises AssayError(MODEL_INVALID)."""
    _check_sizes(session)
    inputs = tuple(_read_input(node.name, node.type, node.shape) for node in session.get_inputs())
    outputs = {node.name: node.type for node in session.get_outputs()}
    if spec.logits_output:
        _check_output(spec.logits_output, outputs)
    embedding = _find_embedding(spec, outputs)
    return Signature(
        inputs=inputs,
        single=_single(session.get_inputs()),
        embedding_output=embedding,
        logits_output=spec.logits_output,
        mask_input=_find_mask(spec, inputs),
        kinds=tuple(outputs[name] for name in (embedding, spec.logits_output) if name),
    )


def _check_sizes(session: onnxruntime.InferenceSession) -> None:
    """Raises AssayError(MODEL_INVALID) for inputs that no request could carry, and names that no catalog should."""
    nodes = session.get_inputs()
    if len(nodes) > MAX_INPUTS:
        raise invalid("too_many_inputs", f"The model has {len(nodes)} inputs; at most {MAX_INPUTS} can be sent.")
    for node in nodes:
        if len(node.shape) > MAX_RANK:
            raise invalid(
                "input_rank",
                f"The input {node.name!r} has {len(node.shape)} dimensions; at most {MAX_RANK} can be sent.",
                input=node.name,
            )
    for node in [*nodes, *session.get_outputs()]:
        if len(node.name.encode()) > MAX_NAME:
            raise invalid("name_too_long", f"The name {node.name!r} has more than {MAX_NAME} bytes. Shorten it.")


def _read_input(name: str, kind: str, shape: Sequence[int | str | None]) -> Input:
    if kind not in _DTYPES:
        way_out = (
            "Leave the tokeniser out of the export and send the token ids that it gives."
            if kind == "tensor(string)"
            else f"Export the model with one of {', '.join(sorted(_DTYPES.values()))}."
        )
        raise invalid(
            "input_dtype", f"The input {name!r} is a {kind}, which cannot be sent. {way_out}", input=name, dtype=kind
        )
    fixed = [dimension if isinstance(dimension, int) else -1 for dimension in shape]
    symbols = tuple(dimension if isinstance(dimension, str) else "" for dimension in shape)
    return Input(TensorSpec(name, _DTYPES[kind], (-1, *fixed[1:]) if fixed else ()), symbols)


def _single(nodes: Sequence[onnxruntime.NodeArg]) -> bool:
    """Whether the batch is fixed to 1; raises unless the first dimension of all inputs is the batch."""
    if not nodes:
        raise invalid("no_inputs", "The model has no inputs, so there is nothing to embed.")
    fixed = {node.name: node.shape[0] if node.shape else 0 for node in nodes}
    fixed = {name: size for name, size in fixed.items() if isinstance(size, int)}
    if not fixed:
        return False
    if len(fixed) == len(nodes) and set(fixed.values()) == {1}:
        return True
    name = min(fixed, key=lambda key: fixed[key] == 1)
    raise invalid(
        "no_batch",
        f"The first dimension of the input {name!r} is not the batch: it is "
        f"{'missing' if not fixed[name] else f'fixed to {fixed[name]}'}. Export the model with a batch that varies.",
        input=name,
    )


def _check_output(name: str, outputs: dict[str, str]) -> None:
    if name not in outputs:
        raise invalid(
            "output_missing",
            f"The model has no output {name!r}. It has: {', '.join(outputs)}.",
            output=name,
            available=",".join(outputs),
        )
    if outputs[name] not in _FLOATS | _QUANTIZED:
        raise invalid(
            "output_dtype",
            f"The output {name!r} is a {outputs[name]}, which is no embedding. Name another output, or cast this one "
            "to float32 in the model.",
            output=name,
            dtype=outputs[name],
        )


def _find_embedding(spec: BackboneSpec, outputs: dict[str, str]) -> str:
    if spec.embedding_output:
        _check_output(spec.embedding_output, outputs)
        if spec.embedding_output == spec.logits_output:
            raise invalid(
                "same_output", f"The output {spec.logits_output!r} cannot be both embedding and logits. Name two."
            )
        return spec.embedding_output
    others = {name: kind for name, kind in outputs.items() if name != spec.logits_output}
    floats = [name for name, kind in others.items() if kind in _FLOATS]
    usable = floats or [name for name, kind in others.items() if kind in _QUANTIZED]
    by_name = {name.lower(): name for name in reversed(usable)}
    for known in _EMBEDDING_NAMES:
        if known in by_name:
            return by_name[known]
    if len(usable) == 1:
        return usable[0]
    listed = ", ".join(f"{name} ({kind})" for name, kind in outputs.items())
    raise invalid(
        "no_embedding",
        f"Several outputs could be the embedding; the model has: {listed}. Say which embedding_output to take."
        if usable
        else f"No output can be the embedding; the model has: {listed}. Cast one to float32 in the model.",
        available=",".join(outputs),
    )


def _find_mask(spec: BackboneSpec, inputs: tuple[Input, ...]) -> str:
    ranks = {item.spec.name: len(item.spec.shape) for item in inputs}
    name = spec.mask_input
    if not name:
        return _MASK_NAME if ranks.get(_MASK_NAME) == 2 else ""
    if name not in ranks:
        raise invalid(
            "mask_missing",
            f"The model has no input {name!r} to take as the mask. It has: {', '.join(ranks)}.",
            input=name,
            available=",".join(ranks),
        )
    if ranks[name] != 2:
        raise invalid("mask_rank", f"The mask {name!r} has {ranks[name]} dimensions, not [batch, tokens].", input=name)
    return name
