"""The port `Backbone`: a session that serves."""

from collections.abc import Iterator, Mapping
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
    in_order,
)
from assay.server.adapters.onnx_backbone.inputs import SHOWN, cast, check_inputs
from assay.server.adapters.onnx_backbone.pooling import normalize_rows, pool
from assay.server.adapters.onnx_backbone.problems import first_line
from assay.server.adapters.onnx_backbone.signature import Signature
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.models import BackboneInfo


class OnnxBackbone:
    """A loaded backbone. Sessions of ONNX Runtime may run on several threads at once, and so may this."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        info: BackboneInfo,
        signature: Signature,
        *,
        classes: int,
        limits: BatchLimits,
        trimming: Trimming | None,
    ) -> None:
        """A backbone from what the loader found.

        Args:
            session: the opened graph.
            info: what the catalog keeps.
            signature: inputs and outputs.
            classes: columns of the logits, 0 without logits.
            limits: of one run.
            trimming: where trailing padding may be cut; None if it must stay.
        """
        self._session = session
        self._info = info
        self._signature = signature
        self._classes = classes
        self._limits = replace(limits, samples=1) if signature.single else limits
        self._trimming = trimming

    @property
    def info(self) -> BackboneInfo:
        """What is known of the backbone."""
        return self._info

    @property
    def classes(self) -> int:
        """Columns of the logits, 0 without logits."""
        return self._classes

    def check_inputs(self, inputs: Mapping[str, npt.NDArray[Any]]) -> int:
        """Number of samples, 1 or more. int32 and uint8 are widened to int64, floats of any width are taken.

        Raises AssayError(INPUTS_INVALID): unknown or missing names, dtypes, shapes, unequal counts, a mask with other
        values than 0 and 1 or without any 1; AssayError(NOT_FINITE).
        """
        return check_inputs(self._signature, inputs)

    def embed(self, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[FloatArray, FloatArray | None]:
        """Embeddings [N, D] and logits [N, C] if it has them, float32, for inputs that check_inputs accepts.

        Samples with a mask are run in the order of their length, trailing padding cut off, where the loader found that
        this changes nothing.

        Raises AssayError(INFERENCE_FAILED): the graph refuses the inputs, such as a token id beyond its vocabulary;
        AssayError(NOT_FINITE): NaN or infinity comes out.
        """
        count = len(next(iter(inputs.values())))
        embeddings_ND = np.empty((count, self._info.dimension), dtype=np.float32)
        logits_NC = np.empty((count, self._classes), dtype=np.float32) if self._signature.logits_output else None
        for samples, feed in self._batches(inputs):
            outputs = self._run(feed, samples)
            embeddings_ND[samples] = self._take(self._embedding(outputs[0], feed), samples, self._info.dimension)
            if logits_NC is not None:
                logits_NC[samples] = self._take(outputs[1], samples, self._classes)
        return embeddings_ND, logits_NC

    def _batches(self, inputs: Arrays) -> Iterator[tuple[Samples, dict[str, npt.NDArray[Any]]]]:
        """Samples and what to feed for them."""
        dtypes = {item.spec.name: item.spec.dtype for item in self._signature.inputs}
        if self._trimming is None:
            for samples in in_order(inputs, self._signature.mask_input, self._limits):
                yield samples, {name: cast(inputs[name][samples], dtype) for name, dtype in dtypes.items()}
            return
        for samples, length in by_length(self._trimming.lengths(inputs), self._limits):
            yield (
                samples,
                {
                    name: cast(self._trimming.cut(name, inputs[name], length)[samples], dtype)
                    for name, dtype in dtypes.items()
                },
            )

    def _run(self, feed: dict[str, npt.NDArray[Any]], samples: Samples) -> list[npt.NDArray[Any]]:
        try:
            outputs: list[npt.NDArray[Any]] = self._session.run(self._signature.outputs, feed)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise _failed(f"the graph said: {first_line(error)}", samples) from error
        return outputs

    def _embedding(self, output: npt.NDArray[Any], feed: Arrays) -> FloatArray:
        mask_NT = feed[self._signature.mask_input] if self._signature.mask_input else None
        vectors_ND = pool(output, self._info.pooling, mask_NT)
        if self._info.normalize:
            vectors_ND = vectors_ND.copy()
            normalize_rows(vectors_ND)
        return vectors_ND

    def _take(self, values: npt.NDArray[Any], samples: Samples, width: int) -> FloatArray:
        """An output as float32, if it is whole."""
        positions = _positions(samples)
        if values.shape != (len(positions), width):
            raise _failed(f"the output has the shape {list(values.shape)}, not [{len(positions)}, {width}]", samples)
        values_NW: FloatArray = values.astype(np.float32, copy=False)
        bad_N = ~np.isfinite(values_NW).all(axis=1)
        if bad_N.any():
            listed = ", ".join(map(str, np.sort(positions[bad_N])[:SHOWN]))
            raise AssayError(
                Reason.NOT_FINITE,
                f"The backbone gives NaN or infinity for the samples {listed} of the batch. Check their inputs.",
                samples=listed,
            )
        return values_NW


def _positions(samples: Samples) -> npt.NDArray[np.int64]:
    return np.arange(samples.start, samples.stop) if isinstance(samples, slice) else samples


def _failed(why: str, samples: Samples) -> AssayError:
    positions = np.sort(_positions(samples))
    listed = ", ".join(map(str, positions[:SHOWN])) + (", ..." if len(positions) > SHOWN else "")
    return AssayError(
        Reason.INFERENCE_FAILED,
        f"The backbone failed on a run with the samples {listed}: {why}. Check their inputs.",
        samples=listed,
    )
