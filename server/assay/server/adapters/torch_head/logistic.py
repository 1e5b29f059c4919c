"""Multinomial logistic regression on a basis: weighted mean loss + l2 / 2 |W|^2, the bias not penalised."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.basis import Basis
from assay.strategies.kernels.lbfgs import minimise

_STEPS = 5000  # far more than it takes; where there is no optimum (no penalty, separable classes), an end
_FLOOR = 1e-9  # of the Hessian, for axes without variance or penalty
_BLOCK_LOGITS = 1 << 19  # that a block of samples has: they stay in the cache from one pass to the next
_FEWEST_ROWS = 64  # of a block; fewer would read the weights too often


@dataclass(frozen=True)
class Fit:
    """What a fit is asked for.

    Attributes:
        l2: strength of the penalty on the weights of the basis: that of raw embeddings, divided by their spread.
        tolerance: largest entry of the gradient, in scaled coordinates, at which it is done.
    """

    l2: float
    tolerance: float


def fit(
    basis: Basis,
    classes_N: torch.Tensor,
    weights_N: torch.Tensor,
    start_RC: torch.Tensor,
    asked: Fit,
    check: Callable[[], None],
) -> torch.Tensor:
    """Weights [R, C] (float64, the last row the bias) of the optimum.

    Args:
        basis: features of all samples.
        classes_N: int64 classes, each of 0..C-1 at least once among the samples of positive weight.
        weights_N: float64 weights of the samples, 0 or more; a sample of weight 0 takes no part.
        start_RC: weights to start from.
        asked: strength and precision.
        check: called every tenth of a second or so; raises to stop the fit.
    """
    used = torch.nonzero(weights_N).flatten()
    everything = len(used) == len(weights_N)
    features_MR = basis.features_NR if everything else basis.features_NR[used]
    shares_M = weights_N[used] / weights_N.sum()
    penalty_R1 = torch.full_like(basis.variance_R, asked.l2)[:, None]
    penalty_R1[-1] = 0.0
    scale_R1 = _scale(basis.variance_R, penalty_R1[:, 0], start_RC.shape[1])[:, None]
    loss = _Loss(features_MR, classes_N[used], shares_M, penalty_R1, check)

    def objective(point: torch.Tensor) -> tuple[float, torch.Tensor]:
        value, gradient_RC = loss(point.view_as(start_RC) / scale_R1)
        return value, gradient_RC.div_(scale_R1).flatten()

    start = (start_RC * scale_R1).flatten()
    point = minimise(objective, start, tolerance=asked.tolerance, steps=_STEPS, check=check)
    return point.view_as(start_RC) / scale_R1


def _scale(variance_R: torch.Tensor, penalty_R: torch.Tensor, class_count: int) -> torch.Tensor:
    """Root of the Hessian's diagonal where all classes are equally probable."""
    curvature = (1.0 - 1.0 / class_count) / class_count
    return (curvature * variance_R + penalty_R + _FLOOR).sqrt()


class _Loss:
    """Value and gradient of the objective, block of samples by block."""

    def __init__(
        self,
        features_MR: torch.Tensor,
        classes_M: torch.Tensor,
        shares_M: torch.Tensor,
        penalty_R1: torch.Tensor,
        check: Callable[[], None],
    ) -> None:
        self._features_MR = features_MR
        self._classes_M1 = classes_M[:, None]
        self._shares_M1 = shares_M[:, None]
        self._penalty_R1 = penalty_R1
        self._check = check

    def __call__(self, weights_RC: torch.Tensor) -> tuple[float, torch.Tensor]:
        gradient_RC = self._penalty_R1 * weights_RC
        loss = 0.5 * float((gradient_RC * weights_RC).sum())
        rows = max(_FEWEST_ROWS, _BLOCK_LOGITS // weights_RC.shape[1])
        for start in range(0, len(self._features_MR), rows):
            self._check()
            loss += self._add_block(slice(start, start + rows), weights_RC, gradient_RC)
        return loss, gradient_RC

    def _add_block(self, rows: slice, weights_RC: torch.Tensor, gradient_RC: torch.Tensor) -> float:
        """Adds a block's share to the gradient; returns its share of the loss. One exponential per logit."""
        features_BR, classes_B1, shares_B1 = self._features_MR[rows], self._classes_M1[rows], self._shares_M1[rows]
        logits_BC = features_BR @ weights_RC
        logits_BC -= logits_BC.amax(dim=1, keepdim=True)
        chosen_B1 = logits_BC.gather(1, classes_B1)
        odds_BC = logits_BC.exp_()
        total_B1 = odds_BC.sum(dim=1, keepdim=True)
        residual_BC = odds_BC.mul_(shares_B1 / total_B1).scatter_add_(1, classes_B1, -shares_B1)
        gradient_RC.addmm_(features_BR.T, residual_BC)
        return float(((total_B1.log() - chosen_B1) * shares_B1).sum())


def class_weights(
    classes_N: npt.NDArray[np.int64], multiplicity_N: npt.NDArray[np.float64], balanced: bool
) -> torch.Tensor:
    """Weights of the samples: how often each counts, and if balanced, in inverse proportion to its class's count."""
    if not balanced:
        return torch.from_numpy(multiplicity_N)
    counts_C = np.bincount(classes_N, weights=multiplicity_N)
    weight_C = multiplicity_N.sum() / (np.count_nonzero(counts_C) * np.maximum(counts_C, 1.0))
    return torch.from_numpy(multiplicity_N * weight_C[classes_N])
