"""Models: the backbones' runtime, and heads."""

from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.models import BackboneInfo, BackboneWishes, HeadInfo, HeadWeights


class Backbone(Protocol):
    """A loaded backbone, safe to call from several threads."""

    @property
    def info(self) -> BackboneInfo: ...
    @property
    def classes(self) -> int:
        """Columns of the logits, 0 without logits."""

    def check_inputs(self, inputs: Mapping[str, npt.NDArray[Any]]) -> int:
        """Number of samples in the inputs. Raises AssayError(INPUTS_INVALID) for unknown or missing names, wrong dtypes
        or shapes, unequal counts."""

    def embed(self, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[FloatArray, FloatArray | None]:
        """Embeddings [N, D] and logits [N, C] if it has them, in blocks. Raises AssayError(INFERENCE_FAILED |
        NOT_FINITE)."""


class BackboneLoader(Protocol):
    """Opens ONNX files."""

    def load(self, path: str, wishes: BackboneWishes, sha256: str) -> Backbone:
        """Opens, checks and warms up a file. Raises AssayError(MODEL_INVALID): not ONNX, outside files referred to,
        output missing, warm-up failed, no embedding found."""

    def reopen(self, path: str, info: BackboneInfo) -> Backbone:
        """Opens a file that was accepted before."""


class Heads(Protocol):
    """Trains, stores and applies heads."""

    def train(
        self,
        embeddings_ND: FloatArray,
        classes_N: npt.NDArray[np.int32],
        class_count: int,
        *,
        space: str,
        l2: float | None,
        balanced: bool,
        members: int,
        folds: int,
        seed: int,
        progress: Callable[[int, int], None],
        stop: Callable[[], bool],
    ) -> tuple[HeadWeights, HeadInfo]:
        """Multinomial logistic regression. Raises AssayError(TOO_FEW_CLASSES | CANCELLED)."""

    def encode(self, weights: HeadWeights) -> bytes:
        """Weights as a file."""

    def decode(self, stream: BinaryIO) -> HeadWeights:
        """Weights from a file. Raises AssayError(SEGMENT_DAMAGED)."""

    def logits(self, weights: HeadWeights, embeddings_ND: FloatArray, out_NC: FloatArray) -> None:
        """Writes the first member's logits of a block into out."""

    def member_probs(self, weights: HeadWeights, embeddings_ND: FloatArray) -> FloatArray:
        """Class probabilities [K, N, C] of every member for a block."""
