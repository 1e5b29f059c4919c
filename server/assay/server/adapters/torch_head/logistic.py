"""Multinomial logistic regression on a basis: weighted mean loss + l2 / 2 |W|^2, the bias not penalised."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.basis import Basis
from assay.server.adapters.torch_head.blocks import blocks
from assay.server.adapters.torch_head.scaling import scaling
from assay.strategies import checkpoint
from assay.strategies.kernels.lbfgs import minimise

_LEAST_CURVATURE = 1e-4  # of that where all classes are equally probable, however sure the start is
_COPIED_AT_MOST = 1 << 23  # entries of the samples in use that are copied once rather than block by block
_STEPS = 5000  # far more than it takes; where there is no optimum (no penalty, separable classes), an end


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
    basis: Basis, classes_N: torch.Tensor, weights_N: torch.Tensor, start_RC: torch.Tensor, asked: Fit
) -> torch.Tensor:
    """Weights [R, C] (float64, the last row the bias) of the optimum.

    Args:
        basis: features of all samples.
        classes_N: int64 classes, each of 0..C-1 at least once among the samples of positive weight.
        weights_N: float64 weights of the samples, 0 or more; a sample of weight 0 takes no part.
        start_RC: weights to start from.
        asked: strength and precision.

    Raises:
        Interrupted: if the computation is to stop.
    """
    penalty_R1 = torch.full_like(basis.variance_R, asked.l2)[:, None]
    penalty_R1[-1] = 0.0
    loss = _Loss(basis.features_NR, classes_N, weights_N / weights_N.sum(), penalty_R1)
    scaled = scaling(basis, penalty_R1, loss.curvature(start_RC))

    def objective(point: torch.Tensor) -> tuple[float, torch.Tensor]:
        value, gradient_RC = loss(scaled.weights(point.view_as(start_RC)))
        return value, scaled.gradient(gradient_RC).flatten()

    start = scaled.point(start_RC).flatten()
    point = minimise(objective, start, tolerance=asked.tolerance, steps=_STEPS, check=checkpoint)
    return scaled.weights(point.view_as(start_RC))


class _Loss:
    """Value and gradient of the objective, block of samples by block."""

    def __init__(
        self, features_NR: torch.Tensor, classes_N: torch.Tensor, shares_N: torch.Tensor, penalty_R1: torch.Tensor
    ) -> None:
        used_M = torch.nonzero(shares_N).flatten()
        self._features_NR = features_NR
        self._used_M: torch.Tensor | None = used_M
        if len(used_M) == len(shares_N):
            self._used_M = None
        elif len(used_M) * features_NR.shape[1] <= _COPIED_AT_MOST:
            self._features_NR, self._used_M = features_NR[used_M], None
        self._classes_M1 = classes_N[used_M, None]
        self._shares_M1 = shares_N[used_M, None]
        self._penalty_R1 = penalty_R1

    def __call__(self, weights_RC: torch.Tensor) -> tuple[float, torch.Tensor]:
        if weights_RC.shape[1] < weights_RC.shape[0]:
            # By columns in memory: sums over samples for few classes are up to five times faster into such.
            weights_RC = weights_RC.T.contiguous().T
        gradient_RC = self._penalty_R1 * weights_RC
        loss = 0.5 * float((gradient_RC * weights_RC).sum())
        for rows in self._blocks(weights_RC):
            loss += self._add_block(rows, weights_RC, gradient_RC)
        return loss, gradient_RC

    def curvature(self, weights_RC: torch.Tensor) -> float:
        """Weighted mean over the samples, and mean over the classes, of p (1 - p), but never nothing."""
        classes, squares = weights_RC.shape[1], 0.0
        for rows in self._blocks(weights_RC):
            probs_BC = torch.softmax(self._features(rows) @ weights_RC, dim=1)
            squares += float((probs_BC.square_() * self._shares_M1[rows]).sum())
        return max(_LEAST_CURVATURE * (1.0 - 1.0 / classes), 1.0 - squares) / classes

    def _add_block(self, rows: slice, weights_RC: torch.Tensor, gradient_RC: torch.Tensor) -> float:
        """Adds a block's share to the gradient; returns its share of the loss. One exponential per logit."""
        features_BR, classes_B1, shares_B1 = self._features(rows), self._classes_M1[rows], self._shares_M1[rows]
        logits_BC = features_BR @ weights_RC
        logits_BC -= logits_BC.amax(dim=1, keepdim=True)
        chosen_B1 = logits_BC.gather(1, classes_B1)
        odds_BC = logits_BC.exp_()
        total_B1 = odds_BC.sum(dim=1, keepdim=True)
        residual_BC = odds_BC.mul_(shares_B1 / total_B1).scatter_add_(1, classes_B1, -shares_B1)
        gradient_RC.addmm_(features_BR.T, residual_BC)
        return float(((total_B1.log() - chosen_B1) * shares_B1).sum())

    def _blocks(self, weights_RC: torch.Tensor) -> Iterator[slice]:
        return blocks(len(self._classes_M1), max(weights_RC.shape), weights_RC.numel())

    def _features(self, rows: slice) -> torch.Tensor:
        return self._features_NR[rows if self._used_M is None else self._used_M[rows]]


def class_weights(
    classes_N: npt.NDArray[np.int64], multiplicity_N: npt.NDArray[np.float64], balanced: bool
) -> torch.Tensor:
    """Weights of the samples: how often each counts, and if balanced, in inverse proportion to its class's count."""
    if not balanced:
        return torch.from_numpy(multiplicity_N)
    counts_C = np.bincount(classes_N, weights=multiplicity_N)
    weight_C = multiplicity_N.sum() / (np.count_nonzero(counts_C) * np.maximum(counts_C, 1.0))
    return torch.from_numpy(multiplicity_N * weight_C[classes_N])
