"""A logistic regression for each class on a basis: weighted mean loss + l2 / 2 |w|^2, the bias not penalised.

The classes have nothing to do with each other but the samples: each ends where it would alone, and they share the
passes over the samples.
"""

from dataclasses import dataclass, replace

import torch

from assay.server.adapters.torch_head.basis import Basis
from assay.server.adapters.torch_head.blocks import blocks
from assay.server.adapters.torch_head.design import Design
from assay.server.adapters.torch_head.scaling import Scaling, penalty, scaling
from assay.server.adapters.torch_head.softmax import LOSS_NOISE, PASSES
from assay.server.adapters.torch_head.training import Fit
from assay.strategies import checkpoint
from assay.strategies.kernels.lbfgs import minimise_many

_LEAST_CURVATURE = 1e-4  # of that where both outcomes are equally probable, however sure the start is


@dataclass(frozen=True)
class Outcomes:
    """Who has which class.

    Attributes:
        has_CN: bool.
        factors_C2: how much a sample without and one with the class counts, of its share; None where all count alike.
    """

    has_CN: torch.Tensor
    factors_C2: torch.Tensor | None

    def narrowed(self, kept_A: torch.Tensor) -> "Outcomes":
        """Those of some of the classes."""
        has_AN = torch.empty(len(kept_A), self.has_CN.shape[1], dtype=torch.bool)
        for place in blocks(len(kept_A), has_AN.shape[1]):
            has_AN[place] = self.has_CN[kept_A[place]]
        return Outcomes(has_AN, None if self.factors_C2 is None else self.factors_C2[kept_A])

    def shares(self, shares_B: torch.Tensor, has_CB: torch.Tensor) -> torch.Tensor:
        """Shares of the loss [C, B] or [B] of a block."""
        if self.factors_C2 is None:
            return shares_B
        without_C1, with_C1 = torch.split(self.factors_C2.to(shares_B.dtype), 1, dim=1)
        return torch.addcmul(without_C1, has_CB, with_C1 - without_C1).mul_(shares_B)


def fit(basis: Basis, design: Design, outcomes: Outcomes, start_CR: torch.Tensor, asked: Fit) -> torch.Tensor:
    """Weights [C, R] (the last feature the bias) of the optima, of the type of the start.

    Args:
        basis: what the samples' features are coordinates in.
        design: features, of the type of the start, and shares of the samples of one fit.
        outcomes: their classes, each with both outcomes.
        start_CR: weights to start from.
        asked: strength and precision.

    Raises:
        Interrupted: if the computation is to stop.
    """
    penalty_R = penalty(basis, asked.l2)
    loss = _Loss(design, outcomes, penalty_R.to(start_CR.dtype))
    # Every class is a fit of its own, with one output.
    scaled = scaling(basis, penalty_R, loss.curvature(start_CR)[:, None])
    points_CR = minimise_many(
        _Scaled(loss, scaled),
        scaled.point(start_CR[:, None])[:, 0],
        tolerance=asked.tolerance,
        passes=PASSES,
        check=checkpoint,
        noise=LOSS_NOISE[start_CR.dtype],
    )
    return scaled.weights(points_CR[:, None])[:, 0]


@dataclass(frozen=True)
class _Scaled:
    """The losses of C classes by their points [C, R]."""

    loss: "_Loss"
    scaled: Scaling

    def __call__(self, points_CR: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values_C, gradients_CR = self.loss(self.scaled.weights(points_CR[:, None])[:, 0])
        return values_C, self.scaled.gradient(gradients_CR[:, None])[:, 0]

    def narrowed(self, kept_A: torch.Tensor) -> "_Scaled":
        return _Scaled(self.loss.narrowed(kept_A), self.scaled.narrowed(kept_A))


@dataclass(frozen=True)
class _Loss:
    """Values and gradients of the objectives of C classes, block of samples by block; samples are columns."""

    design: Design
    outcomes: Outcomes
    penalty_R: torch.Tensor

    def __call__(self, weights_CR: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gradients_CR = self.penalty_R * weights_CR
        values_C = 0.5 * (gradients_CR * weights_CR).sum(dim=1)
        for rows, _ in self.design.parts(len(weights_CR)):
            values_C += self._add_block(rows, weights_CR, gradients_CR)
        return values_C, gradients_CR

    def narrowed(self, kept_A: torch.Tensor) -> "_Loss":
        return replace(self, outcomes=self.outcomes.narrowed(kept_A))

    def curvature(self, weights_CR: torch.Tensor) -> torch.Tensor:
        """Weighted mean over the samples of p (1 - p) of each class [C], but never nothing."""
        curvature_C = weights_CR.new_zeros(len(weights_CR))
        for rows, _ in self.design.parts(len(weights_CR)):
            probs_CB = torch.sigmoid(weights_CR @ self.design.features_NR[rows].T)
            probs_CB -= probs_CB.square()
            curvature_C += (probs_CB * self._shares(rows, self._has(rows))).sum(dim=1)
        return curvature_C.clamp_(min=0.25 * _LEAST_CURVATURE)

    def _add_block(self, rows: slice, weights_CR: torch.Tensor, gradients_CR: torch.Tensor) -> torch.Tensor:
        """Adds a block's share to the gradients; returns its share of the losses. One exponential per logit."""
        features_BR, has_CB = self.design.features_NR[rows], self._has(rows)
        shares_CB = self._shares(rows, has_CB)
        logits_CB = weights_CR @ features_BR.T
        losses_CB = logits_CB.clamp(min=0.0).addcmul_(has_CB, logits_CB, value=-1.0)
        # e^-|z|: the smaller of the odds of both outcomes.
        odds_CB = logits_CB.abs().neg_().exp_()
        losses_CB += torch.log1p(odds_CB)
        probs_CB = torch.where(logits_CB >= 0, 1.0, odds_CB).div_(odds_CB.add_(1.0))
        gradients_CR.addmm_(probs_CB.sub_(has_CB).mul_(shares_CB), features_BR)
        return losses_CB.mul_(shares_CB).sum(dim=1)

    def _has(self, rows: slice) -> torch.Tensor:
        return self.outcomes.has_CN[:, rows].to(self.penalty_R.dtype)

    def _shares(self, rows: slice, has_CB: torch.Tensor) -> torch.Tensor:
        return self.outcomes.shares(self.design.shares_GN[0, rows].to(has_CB.dtype), has_CB)
