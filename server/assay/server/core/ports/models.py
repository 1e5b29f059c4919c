"""Models: the backbones' runtime, and heads."""

from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.models import (
    BackboneInfo,
    BackboneSpec,
    DataFile,
    HeadWeights,
    Targets,
    TrainedHead,
)


class Backbone(Protocol):
    """A loaded backbone, safe to call from several threads."""

    @property
    def info(self) -> BackboneInfo: ...
    def check_inputs(self, inputs: Mapping[str, npt.NDArray[Any]]) -> int:
        """Number of samples in the inputs. Raises AssayError(INPUTS_INVALID) for unknown or missing names, wrong dtypes
        or shapes, unequal counts."""

    def embed(self, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[FloatArray, FloatArray | None]:
        """Embeddings [N, D] and logits [N, C] if it has them, in blocks. Ends within half a second once the current
        stop is requested. Raises AssayError(INPUTS_INVALID): the graph refuses the inputs; AssayError(NOT_FINITE |
        INFERENCE_FAILED | CANCELLED | DEADLINE_EXCEEDED | SHUTTING_DOWN)."""


class BackboneLoader(Protocol):
    """Tries and opens ONNX files."""

    def examine(
        self, path: str, spec: BackboneSpec, sha256: str, data_files: tuple[DataFile, ...] = ()
    ) -> BackboneInfo:
        """Checks and tries a stored file, which holds an ONNX file and after it the data files that it names, without
        any risk to this process. Raises AssayError(MODEL_INVALID): not ONNX, a tensor in another file, output missing,
        no embedding found, the trial failed, took too long or too much memory; and what the current stop says
        once it is requested."""

    def open(self, path: str, info: BackboneInfo) -> Backbone:
        """Opens a file that was accepted before, without a trial. Raises AssayError(SEGMENT_DAMAGED) if its content is
        not what was accepted, AssayError(MODEL_INVALID) if it cannot be opened any more."""


class Heads(Protocol):
    """Trains, stores and applies heads."""

    def train(
        self,
        embeddings_ND: FloatArray,
        targets: Targets,
        weights_N: npt.NDArray[np.float64] | None = None,
        *,
        l2: float | None,
        balanced: bool,
        members: int,
        folds: int,
        seed: int,
        progress: Callable[[int, int], None],
        stop: Callable[[], bool],
    ) -> TrainedHead:
        """A head of the kind that the targets ask for: multinomial, a sigmoid for each class, or ridge. Raises
        AssayError(TOO_FEW_CLASSES | TOO_FEW_LABELS | NOT_FINITE | CANCELLED)."""

    def encode(self, weights: HeadWeights) -> bytes:
        """Weights as a file."""

    def decode(self, stream: BinaryIO) -> HeadWeights:
        """Weights from a file. Raises AssayError(SEGMENT_DAMAGED)."""

    def predict(self, weights: HeadWeights, embeddings_ND: FloatArray, out_NC: FloatArray) -> None:
        """Writes what the first member says of a block into out, which may have columns for classes that are newer than
        the head: logits of classes, the probability of each class of a set, or numbers."""

    def predict_members(self, weights: HeadWeights, embeddings_ND: FloatArray, columns: int) -> FloatArray:
        """What every member says of a block [K, N, columns]: class probabilities, the probability of each class of a
        set, or numbers."""
