"""The port `BackboneLoader`: opens an ONNX file, finds out what it is, and tries it before it may serve."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from threading import Timer
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from assay.server.adapters.onnx_backbone.backbone import OnnxBackbone
from assay.server.adapters.onnx_backbone.batching import BatchLimits, Trimming, find_trimming
from assay.server.adapters.onnx_backbone.graph import GraphFacts, inspect_file
from assay.server.adapters.onnx_backbone.pooling import RANKS, default_pooling
from assay.server.adapters.onnx_backbone.problems import first_line, invalid
from assay.server.adapters.onnx_backbone.signature import Signature, read_signature
from assay.server.core.errors import AssayError
from assay.server.core.records.models import BackboneInfo, BackboneWishes, Pooling

onnxruntime.disable_telemetry_events()

_SIZES = (8, 32, 224)  # tried for dimensions that vary: tokens are content with few, images need many
_ONLY_FATAL = 4  # what goes wrong is raised; ONNX Runtime need not print it as well

Feed = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class _Trial:
    """What a warm-up gave: the outputs for a batch of 1 and of 2 (of 1 again where the batch is fixed)."""

    one: list[npt.NDArray[Any]]
    two: list[npt.NDArray[Any]]
    size: int


class OnnxBackboneLoader:
    """Opens backbones for ONNX Runtime on the CPU."""

    def __init__(self, threads: int = 0, limits: BatchLimits | None = None, warmup_seconds: float = 60.0) -> None:
        """A loader.

        Args:
            threads: threads of one run; 0 for as many as there are cores.
            limits: how large one run may be.
            warmup_seconds: longest run of the warm-up.
        """
        self._threads = threads or os.cpu_count() or 1
        self._limits = limits or BatchLimits()
        self._warmup_seconds = warmup_seconds

    def load(self, path: str, wishes: BackboneWishes, sha256: str) -> OnnxBackbone:
        """Opens, checks and warms up a file.

        A graph that quantises activations by the range of its batch is run sample by sample: it is slower, but an
        embedding does not depend on what happened to be embedded beside it.

        Raises AssayError(MODEL_INVALID), its metadata `problem` one of not_onnx, external_data, custom_operator,
        not_loadable, no_inputs, no_batch, input_dtype, output_missing, output_dtype, same_output, no_embedding,
        mask_missing, mask_rank, mask_mismatch, warmup_failed, warmup_not_finite, not_batch_shaped, dimension_varies,
        embedding_rank, logits_rank; AssayError(STORAGE_FAILED) if the file cannot be read.
        """
        facts = inspect_file(path)
        session = self._open(path)
        signature = read_signature(session, wishes)
        trial = self._try(session, signature)
        info = _describe(path, sha256, wishes, signature, trial)
        return self._assemble(session, info, signature, facts, trial)

    def reopen(self, path: str, info: BackboneInfo) -> OnnxBackbone:
        """Opens a file that was accepted before. Raises as load, and if the file is not what the info says."""
        wishes = BackboneWishes(
            info.embedding_output, info.logits_output, info.pooling, info.mask_input, info.normalize
        )
        backbone = self.load(path, wishes, info.sha256)
        if backbone.info != info:
            raise invalid("changed", "The model's file is not the one that was accepted. Upload it again.")
        return backbone

    def _open(self, path: str) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = _ONLY_FATAL
        # Threads that spin between two runs take the cores from the rest of the server.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise invalid("not_loadable", f"ONNX Runtime cannot open the model: {first_line(error, path)}.") from error

    def _try(self, session: onnxruntime.InferenceSession, signature: Signature) -> _Trial:
        """Runs dummies of growing size until one goes through."""
        failure: AssayError | None = None
        for size in _sizes(signature):
            try:
                one = self._run(session, signature, _dummy(signature, 1, size))
                two = self._run(session, signature, _dummy(signature, 1 if signature.single else 2, size))
            except AssayError as error:
                failure = failure or error
            else:
                return _Trial(one, two, size)
        assert failure is not None
        raise failure

    def _run(self, session: onnxruntime.InferenceSession, signature: Signature, feed: Feed) -> list[npt.NDArray[Any]]:
        options = onnxruntime.RunOptions()
        options.log_severity_level = _ONLY_FATAL
        timer = Timer(self._warmup_seconds, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            outputs: list[npt.NDArray[Any]] = session.run(signature.outputs, feed, options)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise invalid(
                "warmup_failed",
                f"The model fails on {_shapes(feed)}: {first_line(error)}. Check it with ONNX Runtime first.",
            ) from error
        finally:
            timer.cancel()
        return outputs

    def _assemble(
        self,
        session: onnxruntime.InferenceSession,
        info: BackboneInfo,
        signature: Signature,
        facts: GraphFacts,
        trial: _Trial,
    ) -> OnnxBackbone:
        limits = replace(self._limits, samples=1) if facts.batch_dependent else self._limits
        classes = trial.one[1].shape[1] if signature.logits_output else 0

        def backbone(trimming: Trimming | None) -> OnnxBackbone:
            return OnnxBackbone(session, info, signature, classes=classes, limits=limits, trimming=trimming)

        plain, trimming = backbone(None), find_trimming(signature)
        if trimming is None:
            return plain
        trimmed = backbone(trimming)
        # Padding does count in a graph that quantises by range; without any, the result is the sample's own.
        return trimmed if facts.batch_dependent or _same(plain, trimmed, signature, trial.size) else plain


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


def _describe(path: str, sha256: str, wishes: BackboneWishes, signature: Signature, trial: _Trial) -> BackboneInfo:
    """What the outputs of the warm-up say. Raises AssayError(MODEL_INVALID)."""
    for name, one, two in _named(signature, trial):
        _check_output(name, one, two, 1 if signature.single else 2)
    embedding = trial.one[0]
    pooling = _choose_pooling(wishes, signature, embedding)
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
        normalize=wishes.normalize,
        dimension=embedding.shape[1] if pooling in (Pooling.NONE, Pooling.SPATIAL_MEAN) else embedding.shape[2],
        size_bytes=os.path.getsize(path),
        sha256=sha256,
    )


def _named(signature: Signature, trial: _Trial) -> Iterator[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]]:
    return zip(signature.outputs, trial.one, trial.two, strict=True)


def _check_output(name: str, one: npt.NDArray[Any], two: npt.NDArray[Any], batch: int) -> None:
    if not one.ndim or one.shape[0] != 1 or two.shape[0] != batch:
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


def _choose_pooling(wishes: BackboneWishes, signature: Signature, embedding: npt.NDArray[Any]) -> Pooling:
    pooling = wishes.pooling or default_pooling(embedding.ndim)
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
