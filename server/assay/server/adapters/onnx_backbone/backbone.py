"""The port `Backbone`: a session that serves."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from assay.server.adapters.onnx_backbone.batching import (
    Arrays,
    BatchLimits,
    Samples,
    Trimming,
    by_length,
    halves,
    in_order,
    positions_of,
)
from assay.server.adapters.onnx_backbone.inputs import cast, check_inputs
from assay.server.adapters.onnx_backbone.pooling import AXES, RANKS, normalize_rows, pool
from assay.server.adapters.onnx_backbone.problems import no_memory, said
from assay.server.adapters.onnx_backbone.runs import Ended, Runner, RunWatch, Watched
from assay.server.adapters.onnx_backbone.session import run_graph
from assay.server.adapters.onnx_backbone.signature import Signature
from assay.server.core.errors import AssayError, Reason, SampleError, first_of
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.models import BackboneInfo, Pooling
from assay.server.core.stop import current_stop


class OnnxBackbone:
    """A loaded backbone. Sessions of ONNX Runtime may run on several threads at once, and so may this."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        info: BackboneInfo,
        signature: Signature,
        *,
        limits: BatchLimits,
        trimming: Trimming | None,
        watch: RunWatch,
        memory_bytes: int,
    ) -> None:
        """A backbone from what the loader found.

        Args:
            session: the opened graph.
            info: what the catalog keeps.
            signature: inputs and outputs.
            limits: of one run.
            trimming: where trailing padding may be cut; None if it must stay.
            watch: ends runs.
            memory_bytes: what runs may hold; a batch that takes more is halved.
        """
        self._session = session
        self._info = info
        self._signature = signature
        alone = signature.single or info.one_by_one
        self._limits = replace(limits, samples=1) if alone else limits
        self._trimming = trimming
        self._watch = watch
        self._runner = Runner()
        self._memory_bytes = memory_bytes

    @property
    def info(self) -> BackboneInfo:
        """What is known of the backbone."""
        return self._info

    def check_inputs(self, inputs: Mapping[str, npt.NDArray[Any]]) -> int:
        """Number of samples, 1 or more. Floats of any width are taken, and integers whose values the graph's type
        holds.

        Raises AssayError(INPUTS_INVALID): unknown or missing names, dtypes, values, shapes, unequal counts, a mask with
        other values than 0 and 1 or without any 1; AssayError(NOT_FINITE).
        """
        return check_inputs(self._signature, inputs)

    def embed(self, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[FloatArray, FloatArray | None]:
        """Embeddings [N, D] and logits [N, C] if it has them, float32, for inputs that check_inputs accepts.

        Samples with a mask are run in the order of their length, trailing padding cut off, where the trial found that
        this changes nothing. A batch that takes more memory than is granted is halved.

        The current stop is asked about 20 times a second, from another thread: once it is requested, the run in
        progress ends, or is left to itself if it does not.

        Raises AssayError(INPUTS_INVALID): the graph refuses the inputs, such as a token id beyond its vocabulary;
        AssayError(NOT_FINITE): NaN or infinity comes out; AssayError(INFERENCE_FAILED): a run takes longer, or a single
        sample more memory, than is granted, or the output has another shape than in the trial; AssayError(CANCELLED |
        DEADLINE_EXCEEDED | SHUTTING_DOWN); AssayError(BUSY) while runs that were left go on.
        """
        with self._watch.watch(current_stop()) as watched:
            everything = slice(0, len(next(iter(inputs.values()))))
            return self._runner.call(
                lambda: self._embed(inputs, watched), watched, lambda: self._ended(watched, everything)
            )

    def _embed(self, inputs: Arrays, watched: Watched) -> tuple[FloatArray, FloatArray | None]:
        count = len(next(iter(inputs.values())))
        embeddings_ND = np.empty((count, self._info.dimension), dtype=np.float32)
        logits_NC: FloatArray | None = None
        todo = self._batches(inputs)[::-1]
        while todo:
            samples, length = todo.pop()
            feed = self._feed(inputs, samples, length)
            outputs = self._run(feed, samples, watched, last=not todo)
            if outputs is None:
                todo += [(half, length) for half in halves(samples)[::-1]]
                continue
            embeddings_ND[samples] = self._embeddings(outputs[0], feed, samples)
            if self._signature.logits_output:
                if logits_NC is None:
                    logits_NC = np.empty((count, self._info.classes or outputs[1].shape[-1]), dtype=np.float32)
                logits_NC[samples] = _whole(outputs[1], samples, logits_NC.shape[1])
        return embeddings_ND, logits_NC

    def _batches(self, inputs: Arrays) -> list[tuple[Samples, int | None]]:
        """Samples to run together, and the length that they are cut to."""
        if self._trimming is None:
            return [(samples, None) for samples in in_order(inputs, self._signature.mask_input, self._limits)]
        return list(by_length(self._trimming.lengths(inputs), self._limits))

    def _feed(self, inputs: Arrays, samples: Samples, length: int | None) -> dict[str, npt.NDArray[Any]]:
        feed: dict[str, npt.NDArray[Any]] = {}
        for item in self._signature.inputs:
            name, array = item.spec.name, inputs[item.spec.name]
            if self._trimming is not None and length is not None:
                array = self._trimming.cut(name, array, length)
            feed[name] = cast(array[samples], item.spec.dtype)
        return feed

    def _run(
        self, feed: dict[str, npt.NDArray[Any]], samples: Samples, watched: Watched, *, last: bool
    ) -> list[npt.NDArray[Any]] | None:
        """The outputs of one run; None if there is too little memory for so many samples at once."""
        try:
            outputs = run_graph(self._session, self._signature, feed, watched.options(last=last))
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            if watched.ended is not Ended.NO:
                raise self._ended(watched, samples) from error
            if not no_memory(error):
                raise _refused(error, samples) from error
            if len(positions_of(samples)) > 1:
                return None
            raise self._too_large(samples) from error
        if sum(output.size for output in outputs) * np.dtype(np.float32).itemsize <= self._memory_bytes:
            return outputs
        if len(positions_of(samples)) > 1:
            return None
        raise self._too_large(samples)

    def _embeddings(self, output: npt.NDArray[Any], feed: Arrays, samples: Samples) -> FloatArray:
        mask_NT = feed[self._signature.mask_input] if self._signature.mask_input else None
        _check_shape(output, samples, self._info.pooling, mask_NT)
        vectors_ND = pool(output, self._info.pooling, mask_NT)
        if self._info.normalize:
            vectors_ND = vectors_ND.copy()
            normalize_rows(vectors_ND)
        return _whole(vectors_ND, samples, self._info.dimension)

    def _ended(self, watched: Watched, samples: Samples) -> AssayError:
        if watched.ended is Ended.STOPPED:
            return watched.stop.error()
        return _failed(
            "too_slow",
            f"it took longer than the {self._watch.seconds:g} seconds that one run may take. Send fewer or smaller "
            "samples at once, or raise the server's run_seconds",
            samples,
        )

    def _too_large(self, samples: Samples) -> AssayError:
        return _failed(
            "too_much_memory",
            f"it takes more memory than the {self._memory_bytes:,} bytes that runs may. Send smaller samples, or raise "
            "the server's model_memory_bytes",
            samples,
        )


def _check_shape(
    output: npt.NDArray[Any], samples: Samples, pooling: Pooling, mask_NT: npt.NDArray[Any] | None
) -> None:
    """Raises AssayError(INFERENCE_FAILED) for an output that cannot be pooled as the one of the trial was."""
    count = len(positions_of(samples))
    fits = output.ndim == RANKS[pooling] and len(output) == count and 0 not in output.shape
    if fits and pooling is Pooling.MEAN and mask_NT is not None:
        fits = output.shape[1] == mask_NT.shape[1]
    if not fits:
        raise _wrong_shape(output, f"[{count}, {AXES[pooling]}] as in its trial", samples)


def _whole(values: npt.NDArray[Any], samples: Samples, width: int) -> FloatArray:
    """Rows of one width as float32. Raises AssayError(INFERENCE_FAILED | NOT_FINITE)."""
    positions = positions_of(samples)
    if values.shape != (len(positions), width):
        raise _wrong_shape(values, f"[{len(positions)}, {width}]", samples)
    with np.errstate(over="ignore"):
        values_NW: FloatArray = values.astype(np.float32, copy=False)
    bad_N = ~np.isfinite(values_NW).all(axis=1)
    if bad_N.any():
        problem = "the backbone gives NaN or infinity for it. Check its inputs."
        raise first_of(Reason.NOT_FINITE, positions[bad_N].tolist(), problem)
    return values_NW


def _wrong_shape(output: npt.NDArray[Any], expected: str, samples: Samples) -> AssayError:
    return _failed(
        "output_shape",
        f"its output has the shape {list(output.shape)}, not {expected}. Send inputs of the sizes that it was made for",
        samples,
    )


def _failed(problem: str, why: str, samples: Samples) -> AssayError:
    return SampleError(
        Reason.INFERENCE_FAILED, _first(samples), f"the backbone failed on {_run(samples)}: {why}.", problem=problem
    )


def _refused(error: Exception, samples: Samples) -> AssayError:
    return SampleError(
        Reason.INPUTS_INVALID,
        _first(samples),
        f"the backbone refuses the inputs of {_run(samples)}; it says: {said(error)}. Check them.",
    )


def _first(samples: Samples) -> int:
    return int(positions_of(samples).min())


def _run(samples: Samples) -> str:
    others = len(positions_of(samples)) - 1
    return f"the run that it was in with {others:,} more" if others else "the run that it was in alone"
