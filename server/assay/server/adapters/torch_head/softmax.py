"""Multinomial logistic regression on a basis: weighted mean loss + l2 / 2 |W|^2, the bias not penalised."""

from dataclasses import dataclass
from typing import Protocol

import torch

from assay.server.adapters.torch_head.basis import Basis
from assay.server.adapters.torch_head.design import Design
from assay.server.adapters.torch_head.scaling import Scaling, penalty, scaling
from assay.server.adapters.torch_head.training import Fit
from assay.strategies import checkpoint
from assay.strategies.kernels.lbfgs import NOISE, minimise_many

_LEAST_CURVATURE = 1e-4  # of that where all classes are equally probable, however sure the start is
PASSES = 5000  # far more than it takes; where there is no optimum (no penalty, separable classes), an end
LOSS_NOISE = {torch.float64: NOISE, torch.float32: 1e-6}  # relative rounding error of a loss


class Answers(Protocol):
    """What the samples are said to be."""

    def chosen(self, logits_GCB: torch.Tensor, rows: slice) -> torch.Tensor:
        """Logits [G, 1, B] of the true classes of a block; the mean of them where there are several."""

    def subtract(self, probs_GCB: torch.Tensor, shares_G1B: torch.Tensor, rows: slice) -> None:
        """Takes the shares of a block away from the probabilities of the true classes."""


@dataclass(frozen=True)
class Hard:
    """One class each: int64 [N]."""

    classes_N: torch.Tensor

    def chosen(self, logits_GCB: torch.Tensor, rows: slice) -> torch.Tensor:
        return logits_GCB.gather(1, self._index(logits_GCB, rows))

    def subtract(self, probs_GCB: torch.Tensor, shares_G1B: torch.Tensor, rows: slice) -> None:
        probs_GCB.scatter_add_(1, self._index(probs_GCB, rows), -shares_G1B)

    def _index(self, values_GCB: torch.Tensor, rows: slice) -> torch.Tensor:
        return self.classes_N[rows].expand(len(values_GCB), 1, -1)


@dataclass(frozen=True)
class Soft:
    """A distribution each: [C, N], of the type that the fits compute in."""

    probs_CN: torch.Tensor

    def chosen(self, logits_GCB: torch.Tensor, rows: slice) -> torch.Tensor:
        return (logits_GCB * self.probs_CN[:, rows]).sum(dim=1, keepdim=True)

    def subtract(self, probs_GCB: torch.Tensor, shares_G1B: torch.Tensor, rows: slice) -> None:
        probs_GCB.addcmul_(self.probs_CN[:, rows], shares_G1B, value=-1.0)


def fit(basis: Basis, design: Design, answers: Answers, starts_GCR: torch.Tensor, asked: Fit) -> torch.Tensor:
    """Weights [G, C, R] (the last feature the bias) of the optima, of the type of the starts.

    Args:
        basis: what the samples' features are coordinates in.
        design: features, of the type of the starts, and shares of the samples.
        answers: their classes, each with a share in every fit.
        starts_GCR: weights to start from.
        asked: strength and precision.

    Raises:
        Interrupted: if the computation is to stop.
    """
    penalty_R = penalty(basis, asked.l2)
    loss = _Loss(design, answers, penalty_R.to(starts_GCR.dtype))
    scaled = scaling(basis, penalty_R, loss.curvature(starts_GCR))
    problems = _Scaled(loss, scaled, starts_GCR.shape[1:])
    points_GP = minimise_many(
        problems,
        scaled.point(starts_GCR).flatten(1),
        tolerance=asked.tolerance,
        passes=PASSES,
        check=checkpoint,
        noise=LOSS_NOISE[starts_GCR.dtype],
    )
    return scaled.weights(points_GP.view_as(starts_GCR))


@dataclass(frozen=True)
class _Scaled:
    """The losses of G fits by their points [G, C R]."""

    loss: "_Loss"
    scaled: Scaling
    shape: torch.Size

    def __call__(self, points_GP: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        points_GCR = points_GP.view(-1, *self.shape)
        values_G, gradients_GCR = self.loss(self.scaled.weights(points_GCR))
        return values_G, self.scaled.gradient(gradients_GCR).flatten(1)

    def narrowed(self, kept_A: torch.Tensor) -> "_Scaled":
        return _Scaled(self.loss.narrowed(kept_A), self.scaled.narrowed(kept_A), self.shape)


@dataclass(frozen=True)
class _Loss:
    """Values and gradients of the objectives of G fits, block of samples by block.

    Samples are the columns of what is computed: products are twice as fast so, with the few rows that classes are.
    """

    design: Design
    answers: Answers
    penalty_R: torch.Tensor

    def __call__(self, weights_GCR: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gradients_GCR = self.penalty_R * weights_GCR
        values_G = 0.5 * (gradients_GCR * weights_GCR).sum(dim=(1, 2))
        for rows, fits in self.design.parts(weights_GCR.shape[1]):
            values_G[fits] += self._add_block(rows, fits, weights_GCR[fits], gradients_GCR[fits])
        return values_G, gradients_GCR

    def narrowed(self, kept_A: torch.Tensor) -> "_Loss":
        return _Loss(self.design.narrowed(kept_A), self.answers, self.penalty_R)

    def curvature(self, weights_GCR: torch.Tensor) -> torch.Tensor:
        """Weighted mean over the samples of p (1 - p) of each class [G, C], but never nothing."""
        classes = weights_GCR.shape[1]
        curvature_GC = weights_GCR.new_zeros(weights_GCR.shape[:2])
        for rows, fits in self.design.parts(classes):
            logits_OB = weights_GCR[fits].flatten(0, 1) @ self.design.features_NR[rows].T
            probs_GCB = torch.softmax(logits_OB.view(-1, classes, logits_OB.shape[1]), dim=1)
            probs_GCB -= probs_GCB.square()
            curvature_GC[fits] += (probs_GCB * self._shares(rows, fits)).sum(dim=2)
        return curvature_GC.clamp_(min=_LEAST_CURVATURE * (1.0 - 1.0 / classes) / classes)

    def _add_block(
        self, rows: slice, fits: slice, weights_GCR: torch.Tensor, gradients_GCR: torch.Tensor
    ) -> torch.Tensor:
        """Adds a block's share to the gradients; returns its share of the losses. One exponential per logit."""
        features_BR, shares_G1B = self.design.features_NR[rows], self._shares(rows, fits)
        logits_OB = weights_GCR.flatten(0, 1) @ features_BR.T
        logits_GCB = logits_OB.view(*weights_GCR.shape[:2], -1)
        logits_GCB -= logits_GCB.amax(dim=1, keepdim=True)
        chosen_G1B = self.answers.chosen(logits_GCB, rows)
        odds_GCB = logits_GCB.exp_()
        total_G1B = odds_GCB.sum(dim=1, keepdim=True)
        residual_GCB = odds_GCB.mul_(shares_G1B / total_G1B)
        self.answers.subtract(residual_GCB, shares_G1B, rows)
        gradients_GCR.flatten(0, 1).addmm_(logits_OB, features_BR)
        return ((total_G1B.log() - chosen_G1B) * shares_G1B).sum(dim=(1, 2))

    def _shares(self, rows: slice, fits: slice) -> torch.Tensor:
        return self.design.shares_GN[fits, rows].to(self.penalty_R.dtype)[:, None]
