"""discriminative: what a classifier can tell apart from everything labeled."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.lbfgs import minimise
from assay.strategies.kernels.points import Metric, Points, labeled_embeddings
from assay.strategies.kernels.tensors import alone
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import Need

# Evaluations of a fit, and where it ends: the largest entry of the gradient, and the rounding of products in float32.
_PASSES = 50
_TOLERANCE = 1e-6
_NOISE = 1e-7


@dataclass(frozen=True)
class DiscriminativeParams:
    sub_batches: int = field(
        default=10,
        metadata={"doc": "The classifier is fitted anew so many times; picks so far count as labeled.", "minimum": 1},
    )
    l2: float = field(
        default=1e-3,
        metadata={"doc": "Weight of the squared length of the classifier's weights.", "minimum": 1e-8, "maximum": 1e4},
    )
    metric: Metric = field(
        default="l2",
        metadata={"doc": "What is told apart: embeddings as they are (l2) or scaled to length 1 (cosine)."},
    )


@dataclass(frozen=True)
class Discriminative:
    """Discriminative active learning: picks what is most surely not labeled, so that labels come to look like the data.

    A logistic classifier learns to tell labeled samples from the others; those that it is surest are unlabeled are
    picked, in sub-batches, after each of which the picks count as labeled and it learns again. Both sides weigh the
    same, however many they are.

    Formula:
        P(unlabeled | h) = sigmoid(w . x + b), x = (h - mean) / s with s^2 the mean of |h - mean|^2 / D; w, b minimise
        the mean loss of the labeled plus that of the others, halved, plus l2 / 2 |w|^2; picks: highest P.
    Cost:
        two passes O((N + L) D) over the embeddings per step of L-BFGS, at most 50 per sub-batch, fewer as each starts
        where the last one ended; memory O(N + L).
    Use when:
        what is labeled does not look like the data: a biased start, new sources.
    Avoid when:
        labels stand for the data already; then it picks outliers.
    Paper:
        Gissin and Shalev-Shwartz, Discriminative Active Learning, arXiv:1907.06347, 2019.
    Reference:
        scikit-learn's LogisticRegression on the same samples and weights. The authors' code fits a network of three
        hidden layers on the embeddings, stops it at 98 % accuracy and shows it at most ten unlabeled samples for each
        labeled one; its class weights come out equal, so that sides weigh by their sizes. Ours is the linear case on
        all samples, convex, so picks do not depend on a seed. Where nothing is labeled there is nothing to tell apart:
        the first pick is the sample nearest to the mean.
    """

    name: ClassVar[str] = "discriminative"
    summary: ClassVar[str] = "The samples that a classifier is surest to tell from the labeled ones."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    params: ClassVar[type[DiscriminativeParams]] = DiscriminativeParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = False

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: DiscriminativeParams,
    ) -> Selection:
        """Scores of the picks: P(unlabeled) when picked; 1 for the first pick where nothing is labeled.

        Raises NeedMissing, or StrategyError INVALID_ARRAY or NOT_FINITE.
        """
        size = checked_size(size, candidates)
        labeled_LD = labeled_embeddings(candidates)
        if size == 0:
            return Selection.empty()
        points = Points(candidates.unchecked(Need.EMBEDDINGS), params.metric)
        return alone(lambda: _select(points, points.centres(labeled_LD), size, params))


def _select(points: Points, labeled_LD: torch.Tensor, size: int, params: DiscriminativeParams) -> Selection:
    task = Task(points.every_row(), labeled_LD, points.norms_N, points.mean_D.float(), params.l2)
    picks: list[int] = []
    logits: list[float] = []
    if not len(labeled_LD):
        picks, logits = [task.most_central()], [np.inf]
        task.label(picks)
    fits = 0
    for part in _parts(size - len(picks), params.sub_batches):
        logits_N = task.fitted()
        fresh = top_k(logits_N, part, ~task.labeled_N)
        picks += fresh.tolist()
        logits += logits_N[fresh].tolist()
        task.label(fresh.tolist())
        fits += 1
    scores = torch.tensor(logits, dtype=torch.float64).sigmoid().float().numpy()
    return Selection(np.array(picks, np.int64), scores, {"labeled": len(labeled_LD), "fits": fits})


def _parts(size: int, sub_batches: int) -> list[int]:
    """`size` in at most `sub_batches` parts, as equal as can be."""
    edges = [size * part // sub_batches for part in range(sub_batches + 1)]
    return [stop - start for start, stop in pairwise(edges) if stop > start]


class Task:
    """Labeled samples against the others, and the classifier so far.

    labeled_N: True for candidates that count as labeled.
    """

    def __init__(
        self,
        points_ND: torch.Tensor,
        given_LD: torch.Tensor,
        norms_N: torch.Tensor,
        mean_D: torch.Tensor,
        l2: float,
    ) -> None:
        self._points_ND, self._given_LD, self._mean_D, self._l2 = points_ND, given_LD, mean_D, l2
        self._norms_N = norms_N
        variance = float(norms_N.double().mean() - mean_D.double().square().sum()) / max(len(mean_D), 1)
        # Samples that are all the same cannot be told apart at any scale.
        self._scale = variance**-0.5 if variance > float(norms_N.double().mean()) * 2.0**-20 else 0.0
        self._weights_D = torch.zeros(len(mean_D) + 1, dtype=torch.float64)
        self.labeled_N: NDArray[np.bool_] = np.zeros(len(points_ND), np.bool_)

    def label(self, rows: list[int]) -> None:
        self.labeled_N[rows] = True

    def most_central(self) -> int:
        """The candidate nearest to the mean."""
        closeness_N = 2 * (self._points_ND @ self._mean_D) - self._norms_N
        return int(top_k(closeness_N.numpy(), 1)[0])

    def fitted(self) -> NDArray[np.float64]:
        """The logit of each candidate to be unlabeled, by the classifier that fits best."""
        labeled_N = torch.from_numpy(self.labeled_N)
        labels = int(labeled_N.count_nonzero()) + len(self._given_LD)
        others = len(labeled_N) - int(labeled_N.count_nonzero())
        # Minus for labeled, plus for unlabeled; both sides weigh one half.
        signs_N = torch.where(labeled_N, -1.0, 1.0).double()
        shares_N = torch.where(labeled_N, 0.5 / labels, 0.5 / others).double()
        self._minimise(signs_N, shares_N, 0.5 / labels)
        return self._logits(self._points_ND, self._weights_D).numpy()

    def _minimise(self, signs_N: torch.Tensor, shares_N: torch.Tensor, share: float) -> None:
        self._weights_D = minimise(
            lambda weights_D: self._loss(weights_D, signs_N, shares_N, share),
            self._weights_D,
            tolerance=_TOLERANCE,
            passes=_PASSES,
            check=checkpoint,
            noise=_NOISE,
        )

    def _loss(
        self, weights_D: torch.Tensor, signs_N: torch.Tensor, shares_N: torch.Tensor, share: float
    ) -> tuple[float, torch.Tensor]:
        """The objective and its gradient, in float64 but for the products with the embeddings."""
        value = 0.5 * self._l2 * weights_D[:-1].square().sum()
        gradient_D = torch.cat([self._l2 * weights_D[:-1], weights_D.new_zeros(1)])
        sides = ((self._points_ND, signs_N, shares_N), (self._given_LD, -1.0, share))
        for rows_MD, signs_M, shares_M in sides:
            checkpoint()
            logits_M = self._logits(rows_MD, weights_D) * signs_M
            value = value + (torch.nn.functional.softplus(-logits_M) * shares_M).sum()
            slopes_M = torch.sigmoid(-logits_M) * -signs_M * shares_M
            gradient_D += self._gradient(rows_MD, slopes_M)
        return float(value), gradient_D

    def _logits(self, rows_MD: torch.Tensor, weights_D: torch.Tensor) -> torch.Tensor:
        """Logits in float64, shape (M,); rows are centred and scaled by way of the weights."""
        raw_D = weights_D[:-1] * self._scale
        return (rows_MD @ raw_D.float()).double() + (weights_D[-1] - self._mean_D.double() @ raw_D)

    def _gradient(self, rows_MD: torch.Tensor, slopes_M: torch.Tensor) -> torch.Tensor:
        total = slopes_M.sum()
        raw_D = (slopes_M.float() @ rows_MD).double() - total * self._mean_D.double()
        return torch.cat([raw_D * self._scale, total.unsqueeze(0)])


discriminative = Discriminative()
