"""Expected gradient length of the last layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.candidates import Candidates
from assay.strategies.errors import StrategyError
from assay.strategies.kernels.tensors import borrow, spread
from assay.strategies.needs import Need
from assay.strategies.uncertainty.softmax import measured

# float32 values in a block of embeddings.
_BLOCK_VALUES = 1 << 18


@dataclass(frozen=True)
class ExpectedGradientLengthParams:
    bias: bool = field(
        default=False,
        metadata={"doc": "Whether the last layer has a bias, whose gradient then counts too."},
    )


@dataclass(frozen=True)
class ExpectedGradientLength:
    """How much a label is expected to move the last layer: the length of its gradient, averaged over the labels.

    For a linear layer under softmax and cross-entropy, the gradient of the weights for label j is (p - e_j) h^T,
    where e_j is 1 at j, so its length is |p - e_j| |h| and no backward pass is needed. Long embeddings score higher.

    Formula: sum_j p_j |p - e_j| |h|; with a bias, |h| becomes sqrt(|h|^2 + 1)
    Cost: O(N (C + D)) time, one pass over logits or probabilities and one over embeddings; memory O(N) beside
        blocks. Closed form: no N x C x D array, no gradients. Streams, shards and merges.
    Use when: the model is trained on by gradient steps, and the embeddings are the inputs of its last layer.
    Avoid when: embeddings come from another model, or their lengths mean nothing: the score follows the length.
    Paper: Settles, Craven and Ray, Multiple-Instance Active Learning, NIPS 2007; Huang et al., Active Learning for
        Speech Recognition: the Power of Gradients, 2016.
    Reference: equal to what torch.autograd gives for the last layer. small-text `ExpectedGradientLength` does a
        backward pass through the whole model for every sample and class, and adds up absolute values (a 1-norm); its
        `ExpectedGradientLengthLayer` takes the Euclidean length in one layer, as here. Probabilities count as
        normalised: rows that sum to 1 within 1e-3 are divided by their sum.
    """

    name: ClassVar[str] = "expected_gradient_length"
    summary: ClassVar[str] = "The expected length of the last layer's gradient, at least 0."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROBS, Need.EMBEDDINGS})
    params: ClassVar[type[ExpectedGradientLengthParams]] = ExpectedGradientLengthParams

    def score(self, block: Candidates, params: ExpectedGradientLengthParams) -> NDArray[np.float32]:
        """float32 scores, higher = a longer expected gradient.

        Raises NeedMissing; StrategyError PROBABILITIES_INVALID, or NOT_FINITE for logits, for embeddings, and for
        embeddings whose squared length is beyond float32.
        """
        scores_N = measured(block, "gradient_length")
        scores_N *= _lengths(block.unchecked(Need.EMBEDDINGS), params.bias)
        return scores_N


expected_gradient_length = ExpectedGradientLength()


def _lengths(embeddings_ND: NDArray[np.float32], bias: bool) -> NDArray[np.float32]:
    size, dim = embeddings_ND.shape
    squared_N = np.empty(size, np.float32)

    def block(start: int, stop: int) -> None:
        rows_BD = borrow(embeddings_ND[start:stop])
        torch.linalg.vecdot(rows_BD, rows_BD, out=torch.from_numpy(squared_N[start:stop]))

    if size:
        spread(block, size, max(1, _BLOCK_VALUES // max(dim, 1)))
    if not np.isfinite(squared_N).all():
        raise StrategyError("NOT_FINITE", "an embedding holds NaN, infinity, or values beyond float32 when squared")
    lengths_N: NDArray[np.float32] = np.sqrt(squared_N + np.float32(bias))
    return lengths_N
