"""A backbone's trial: what its file is, found out by running it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from assay.server.adapters.onnx_backbone.backbone import OnnxBackbone
from assay.server.adapters.onnx_backbone.batching import BatchLimits, Trimming, find_trimming
from assay.server.adapters.onnx_backbone.bundle import Bundle
from assay.server.adapters.onnx_backbone.graph import GraphFacts, inspect
from assay.server.adapters.onnx_backbone.pooling import RANKS, default_pooling
from assay.server.adapters.onnx_backbone.problems import invalid, no_memory, said, too_much_memory, too_slow
from assay.server.adapters.onnx_backbone.runs import Ended, RunWatch
from assay.server.adapters.onnx_backbone.session import open_session, run_graph
from assay.server.adapters.onnx_backbone.signature import Signature, read_signature
from assay.server.core.errors import AssayError
from assay.server.core.records.models import BackboneInfo, BackboneSpec, DataFile, Pooling
from assay.server.core.stop import Stop

_SIZES = (8, 32, 224)  # tried for dimensions that vary: tokens are content with few, images need many

Feed = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class TrialLimits:
    """What a model may take.

    Attributes:
        threads: threads of one run; 0 for as many as there are cores.
        run_seconds: of one run.
        memory_bytes: beside its weights.
        batch: how large one run may be.
    """

    threads: int
    run_seconds: float
    memory_bytes: int
    batch: BatchLimits


@dataclass(frozen=True)
class _Trial:
    """The outputs for a batch of 1 and of 2 (of 1 again where the batch is fixed)."""

    one: list[npt.NDArray[Any]]
    two: list[npt.NDArray[Any]]
    size: int


def examine(
    path: str,
    spec: BackboneSpec,
    data_files: tuple[DataFile, ...],
    sha256: str,
    limits: TrialLimits,
    opened: Callable[[], None] = lambda: None,
) -> BackboneInfo:
    """Checks, opens and runs a stored file; `opened` is called before it is run.

    A graph that quantises activations by the range of its batch will be run sample by sample: it is slower, but an
    embedding does not depend on what happened to be embedded beside it.

    Raises AssayError(MODEL_INVALID), its metadata `problem` one of not_onnx, external_data, custom_operator,
    too_many_nodes, not_loadable, ir_version, opset, no_inputs, no_batch, too_many_inputs, input_rank, name_too_long,
    input_dtype, output_missing, output_dtype, same_output, no_embedding, mask_missing, mask_rank, mask_mismatch,
    warmup_failed, warmup_not_finite, too_slow, too_much_memory, not_batch_shaped, dimension_varies, embedding_rank,
    logits_rank; AssayError(STORAGE_FAILED) if the file cannot be read.
    """
    with Bundle(path, data_files) as bundle:
        facts = inspect(bundle.model(), {file.name: file.size_bytes for file in data_files})
        session = open_session(bundle, limits.threads, limits.memory_bytes)
        opened()
        signature = read_signature(session, spec)
        watch = RunWatch(limits.run_seconds)
        trial = _Runs(session, signature, watch, limits).first_that_works()
        info = _describe(bundle, sha256, data_files, spec, signature, facts, trial)

    def backbone(trimming: Trimming | None) -> OnnxBackbone:
        return OnnxBackbone(
            session,
            info,
            signature,
            limits=limits.batch,
            trimming=trimming,
            watch=watch,
            memory_bytes=limits.memory_bytes,
        )

    trimming = find_trimming(signature)
    # Padding does count in a graph that quantises by range; without any, the result is the sample's own.
    trims = trimming is not None and (
        facts.batch_dependent or _same(backbone(None), backbone(trimming), signature, trial.size)
    )
    return replace(info, trims_padding=trims)


class _Runs:
    """Runs of a graph on inputs made up for it."""

    def __init__(
        self, session: onnxruntime.InferenceSession, signature: Signature, watch: RunWatch, limits: TrialLimits
    ) -> None:
        self._session = session
        self._signature = signature
        self._watch = watch
        self._limits = limits

    def first_that_works(self) -> _Trial:
        """Dummies of growing size until one goes through. Raises AssayError(MODEL_INVALID): what was wrong with the
        smallest, or that the model takes too long or too much."""
        failure: AssayError | None = None
        for size in _sizes(self._signature):
            try:
                one = self._run(_dummy(self._signature, 1, size))
                two = self._run(_dummy(self._signature, 1 if self._signature.single else 2, size))
            except AssayError as error:
                if error.metadata["problem"] != "warmup_failed":
                    raise
                failure = failure or error
            else:
                return _Trial(one, two, size)
        assert failure is not None
        raise failure

    def _run(self, feed: Feed) -> list[npt.NDArray[Any]]:
        with self._watch.watch(Stop()) as watched:
            try:
                return run_graph(self._session, self._signature, feed, watched.options(last=False))
            except Exception as error:  # ONNX Runtime's exceptions have no common base
                if watched.ended is Ended.LATE:
                    raise too_slow(self._limits.run_seconds) from error
                if no_memory(error):
                    raise too_much_memory(self._limits.memory_bytes) from error
                raise invalid(
                    "warmup_failed",
                    f"The model fails on {_shapes(feed)}: {said(error)}. Check it with ONNX Runtime first.",
                ) from error


def _sizes(signature: Signature) -> tuple[int, ...]:
    varies = any(-1 in item.spec.shape[1:] for item in signature.inputs)
    return _SIZES if varies else _SIZES[:1]


def _dummy(signature: Signature, batch: int, size: int) -> Feed:
    """Inputs to try a graph with: small positive floats, integers 0, a mask of ones."""
    rng = np.random.default_rng(0)
    feed: Feed = {}
    for item in signature.inputs:
        spec = item.spec
        shape = (batch, *(size if known == -1 else known for known in spec.shape[1:]))
        if spec.name == signature.mask_input:
            feed[spec.name] = np.ones(shape, dtype=spec.dtype)
        elif spec.dtype.startswith("float"):
            feed[spec.name] = rng.random(shape).astype(spec.dtype)
        else:
            feed[spec.name] = np.zeros(shape, dtype=spec.dtype)
    return feed


def _same(plain: OnnxBackbone, trimmed: OnnxBackbone, signature: Signature, size: int) -> bool:
    """Whether cutting padding off leaves the embedding as it is: tried, not believed."""
    feed = _dummy(signature, 2, size)
    for item in signature.inputs:
        array = feed[item.spec.name]
        if item.spec.name == signature.mask_input:
            array[:, size // 2 :] = 0
        elif array.ndim == 2 and array.dtype.kind in "iu":
            array[:, size // 2 :] = 1  # another id than the tokens', so that it shows if padding is looked at
    try:
        pairs = zip(plain.embed(feed), trimmed.embed(feed), strict=True)
        return all(_close(whole, cut) for whole, cut in pairs)
    except AssayError:
        return False


def _close(whole: npt.NDArray[np.float32] | None, cut: npt.NDArray[np.float32] | None) -> bool:
    if whole is None or cut is None:
        return True
    return bool(np.allclose(whole, cut, rtol=1e-4, atol=1e-5 * float(np.abs(whole).max())))


def _shapes(feed: Feed) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in feed.items())


def _describe(
    bundle: Bundle,
    sha256: str,
    data_files: tuple[DataFile, ...],
    spec: BackboneSpec,
    signature: Signature,
    facts: GraphFacts,
    trial: _Trial,
) -> BackboneInfo:
    """What the outputs of the trial say. Raises AssayError(MODEL_INVALID)."""
    for name, one, two in _named(signature, trial):
        _check_output(name, one, two, 1 if signature.single else 2)
    embedding = trial.one[0]
    pooling = _choose_pooling(spec, signature, embedding)
    if signature.mask_input and pooling is Pooling.MEAN:
        _check_mask_fits(signature, embedding, trial.size)
    if signature.logits_output and trial.one[1].ndim != 2:
        raise invalid(
            "logits_rank",
            f"The logits {signature.logits_output!r} have the shape {list(trial.one[1].shape)}, not [batch, classes].",
            output=signature.logits_output,
        )
    return BackboneInfo(
        inputs=tuple(item.spec for item in signature.inputs),
        embedding_output=signature.embedding_output,
        logits_output=signature.logits_output,
        pooling=pooling,
        mask_input=signature.mask_input,
        normalize=spec.normalize,
        dimension=embedding.shape[1] if pooling in (Pooling.NONE, Pooling.SPATIAL_MEAN) else embedding.shape[2],
        size_bytes=bundle.size,
        sha256=sha256,
        data_files=data_files,
        classes=trial.one[1].shape[1] if signature.logits_output else 0,
        trims_padding=False,
        one_by_one=facts.batch_dependent,
    )


def _named(signature: Signature, trial: _Trial) -> Iterator[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]]:
    return zip(signature.outputs, trial.one, trial.two, strict=True)


def _check_output(name: str, one: npt.NDArray[Any], two: npt.NDArray[Any], batch: int) -> None:
    if not one.ndim:
        raise invalid(
            "not_batch_shaped",
            f"The output {name!r} has no dimensions: it is one number for the whole batch. Name another output, or "
            "give it the batch as its first dimension.",
            output=name,
        )
    if one.shape[0] != 1 or two.shape[0] != batch:
        raise invalid(
            "not_batch_shaped",
            f"The first dimension of the output {name!r} is not the batch: a batch of 1 gives {list(one.shape)}, "
            f"a batch of {batch} gives {list(two.shape)}.",
            output=name,
        )
    if one.shape[1:] != two.shape[1:] or 0 in one.shape:
        raise invalid(
            "dimension_varies",
            f"The output {name!r} changes its size with the batch, or is empty: {list(one.shape)}, {list(two.shape)}.",
            output=name,
        )
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise invalid("warmup_not_finite", f"The output {name!r} is NaN or infinite on plain inputs.", output=name)


def _choose_pooling(spec: BackboneSpec, signature: Signature, embedding: npt.NDArray[Any]) -> Pooling:
    pooling = spec.pooling or default_pooling(embedding.ndim)
    if pooling is None or RANKS[pooling] != embedding.ndim:
        raise invalid(
            "embedding_rank",
            f"The output {signature.embedding_output!r} has the shape {list(embedding.shape)}, which cannot become one "
            f"vector a sample{f' by the pooling {pooling}' if pooling else ''}. Name another output or pooling.",
            output=signature.embedding_output,
        )
    return pooling


def _check_mask_fits(signature: Signature, embedding: npt.NDArray[Any], size: int) -> None:
    mask = next(item.spec for item in signature.inputs if item.spec.name == signature.mask_input)
    tokens = size if mask.shape[1] == -1 else mask.shape[1]
    if embedding.shape[1] != tokens:
        raise invalid(
            "mask_mismatch",
            f"The output {signature.embedding_output!r} has {embedding.shape[1]} tokens where the mask "
            f"{signature.mask_input!r} has {tokens}. Name another output or pooling.",
            output=signature.embedding_output,
        )
