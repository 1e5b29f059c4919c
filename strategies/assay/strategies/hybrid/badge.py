"""BADGE: D^2 sampling on gradient embeddings, which are never written out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.errors import StrategyError
from assay.strategies.kernels.d2_sampling import Space, draw, sample
from assay.strategies.kernels.points import BLOCK_VALUES, Rows, resolution
from assay.strategies.kernels.tensors import borrow, spread
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import Need


@dataclass(frozen=True)
class BadgeParams:
    start: Literal["max_norm", "sample"] = field(
        default="max_norm",
        metadata={"doc": "The first pick: the longest gradient, or one drawn by squared length."},
    )


@dataclass(frozen=True)
class Badge:
    """Draws samples whose gradients are long (the model is unsure) and unlike those drawn before (they differ).

    The gradient is that of the loss in the last layer, were the predicted class the true one: a certain sample has a
    short one, and two samples have similar ones if they look alike and are confused alike. k-means++ on these trades
    the two off without a parameter. When only samples with the gradient of an earlier pick (or none: fully certain)
    remain, the lowest indices fill up.

    Formula: g_i = a_i (x) h_i,  a_i = p_i - onehot(argmax p_i);  P(next pick = i) = D_i^2 / sum_j D_j^2,
        D_i^2 = min over picks s of |g_i - g_s|^2,
        |g_i - g_j|^2 = |a_i|^2 |h_i|^2 + |a_j|^2 |h_j|^2 - 2 (a_i . a_j) (h_i . h_j)
    Cost: as kmeans_pp with C + D in place of D: expected a few passes of O(N (C + D)) and O(k^2 (C + D)), all in matrix
        products; never more than about twice O(N k (C + D)). Memory O(N) beside probabilities and embeddings.
    Use when: batches are large and a model is at hand; the embeddings are the inputs of its last layer.
    Avoid when: probabilities say little (a fresh model): its gradients are then noise; start with typiclust.
    Paper: Ash, Zhang, Krishnamurthy, Langford and Agarwal, "Deep Batch Active Learning by Diverse, Uncertain Gradient
        Lower Bounds", ICLR 2020.
    Reference: the authors' code (JordanAsh/badge): same law, and as there the first pick is the longest gradient and
        picks are not conditioned on labeled samples, whose gradients are small once learned. scikit-activeml's first
        pick is the longest, too; `start` = sample draws it by squared length. small-text leaves the one-hot out, which
        is a bug: its gradients are longest where the model is most certain; and with two classes it takes the
        embeddings alone.
    """

    name: ClassVar[str] = "badge"
    summary: ClassVar[str] = "Samples drawn by k-means++ on their gradients: unsure, and unlike each other."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROBS, Need.EMBEDDINGS})
    params: ClassVar[type[BadgeParams]] = BadgeParams
    deterministic: ClassVar[bool] = False
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: BadgeParams,
    ) -> Selection:
        """Scores of the picks: D^2 when each was drawn; of the first, its squared length.

        Raises NeedMissing, or StrategyError INVALID_ARRAY or NOT_FINITE.
        """
        size = checked_size(size, candidates)
        # The lengths of the gradients tell NaN and infinity.
        probs_NC, embeddings_ND = candidates.unchecked(Need.PROBS), candidates.unchecked(Need.EMBEDDINGS)
        if size == 0:
            return Selection.empty()
        space = gradients(probs_NC, embeddings_ND)
        norms_N = space.norms_N.numpy()
        first = int(top_k(norms_N, 1)[0]) if params.start == "max_norm" else draw(norms_N, rng)
        drawn = sample(space, size, rng, first=first)
        drawn.squared_K[0] = norms_N[first]
        return Selection(drawn.indices_K, drawn.squared_K, {"drawn": drawn.drawn, "passes": drawn.passes})


badge = Badge()


def gradients(probs_NC: NDArray[np.float32], embeddings_ND: NDArray[np.float32]) -> Space:
    """The gradient embeddings as a space to measure in.

    Raises StrategyError INVALID_ARRAY where there is no class, NOT_FINITE for lengths beyond float32 when squared.
    """
    size, classes = probs_NC.shape
    if classes == 0:
        raise StrategyError("INVALID_ARRAY", "there are no classes to take a gradient by; give at least one")
    residuals = _Residuals(probs_NC)
    norms_N = torch.empty(size)

    def block(start: int, stop: int) -> None:
        rows = slice(start, stop)
        residuals_BC, points_BD = residuals(rows), borrow(embeddings_ND[rows])
        torch.linalg.vecdot(residuals_BC, residuals_BC, out=norms_N[rows])
        norms_N[rows] *= torch.linalg.vecdot(points_BD, points_BD)

    width = max(classes, embeddings_ND.shape[1])
    spread(block, size, max(1, BLOCK_VALUES // width))
    if not bool(torch.isfinite(norms_N).all()):
        raise StrategyError(
            "NOT_FINITE", "probabilities or embeddings hold NaN, infinity, or gradients beyond float32 when squared"
        )
    return Space(
        [residuals, lambda rows: borrow(embeddings_ND[rows])],
        norms_N,
        resolution(classes) + resolution(embeddings_ND.shape[1]),
    )


class _Residuals:
    """Rows of p - onehot(argmax p), worked out when asked for."""

    def __init__(self, probs_NC: NDArray[np.float32]) -> None:
        self._probs_NC = probs_NC
        self._tops_N = torch.from_numpy(probs_NC.argmax(axis=1))

    def __call__(self, rows: Rows) -> torch.Tensor:
        residuals_BC = borrow(self._probs_NC[rows]).clone()
        tops_B = self._tops_N[rows if isinstance(rows, slice) else torch.from_numpy(rows)]
        residuals_BC[torch.arange(len(tops_B)), tops_B] -= 1
        return residuals_BC
