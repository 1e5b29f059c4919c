"""Inputs and outputs of a session, and which of them mean what."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnxruntime

from assay.server.adapters.onnx_backbone.problems import invalid
from assay.server.core.records.models import BackboneWishes, TensorSpec

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
}
_FLOATS = frozenset({"tensor(float)", "tensor(float16)", "tensor(double)"})
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
    """

    inputs: tuple[Input, ...]
    single: bool
    embedding_output: str
    logits_output: str
    mask_input: str

    @property
    def outputs(self) -> list[str]:
        """Outputs to ask for."""
        return [self.embedding_output, *([self.logits_output] if self.logits_output else [])]


def read_signature(session: onnxruntime.InferenceSession, wishes: BackboneWishes) -> Signature:
    """What a session's inputs and outputs are, as declared or discovered. Raises AssayError(MODEL_INVALID)."""
    inputs = tuple(_read_input(node.name, node.type, node.shape) for node in session.get_inputs())
    outputs = {node.name: node.type for node in session.get_outputs()}
    if wishes.logits_output:
        _check_output(wishes.logits_output, outputs)
    return Signature(
        inputs=inputs,
        single=_single(session.get_inputs()),
        embedding_output=_find_embedding(wishes, outputs),
        logits_output=wishes.logits_output,
        mask_input=_find_mask(wishes, inputs),
    )


def _read_input(name: str, kind: str, shape: Sequence[int | str | None]) -> Input:
    if kind not in _DTYPES:
        raise invalid(
            "input_dtype",
            f"The input {name!r} is a {kind}, which cannot be sent. Export the model with one of "
            f"{', '.join(sorted(set(_DTYPES.values())))}.",
            input=name,
            dtype=kind,
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
    if outputs[name] not in _FLOATS:
        raise invalid(
            "output_dtype",
            f"The output {name!r} is a {outputs[name]}, not a tensor of floats. Name another output.",
            output=name,
            dtype=outputs[name],
        )


def _find_embedding(wishes: BackboneWishes, outputs: dict[str, str]) -> str:
    if wishes.embedding_output:
        _check_output(wishes.embedding_output, outputs)
        if wishes.embedding_output == wishes.logits_output:
            raise invalid(
                "same_output", f"The output {wishes.logits_output!r} cannot be both embedding and logits. Name two."
            )
        return wishes.embedding_output
    floats = [name for name, kind in outputs.items() if kind in _FLOATS and name != wishes.logits_output]
    by_name = {name.lower(): name for name in reversed(floats)}
    for known in _EMBEDDING_NAMES:
        if known in by_name:
            return by_name[known]
    if len(floats) == 1:
        return floats[0]
    trouble = "Several outputs could be" if floats else "No output can be"
    raise invalid(
        "no_embedding",
        f"{trouble} the embedding; the model has: {', '.join(outputs)}. Say which embedding_output to take.",
        available=",".join(outputs),
    )


def _find_mask(wishes: BackboneWishes, inputs: tuple[Input, ...]) -> str:
    ranks = {item.spec.name: len(item.spec.shape) for item in inputs}
    name = wishes.mask_input
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
