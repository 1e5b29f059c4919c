"""Multinomial logistic regression on a basis: weighted mean loss + l2 / 2 |W|^2, the bias not penalised."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.basis import Basis
from assay.server.adapters.torch_head.lbfgs import minimise

_STEPS = 200
_FLOOR = 1e-9  # of the Hessian, for axes without variance or penalty


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
        weights_N: float32 weights of the samples, 0 or more; a sample of weight 0 takes no part.
        start_RC: weights to start from.
        asked: strength and precision.
        check: called at each evaluation; raises to stop the fit.
    """
    used = torch.nonzero(weights_N).flatten()
    everything = len(used) == len(weights_N)
    features_MR = basis.features_NR if everything else basis.features_NR[used]
    shares_M = weights_N[used] / weights_N.sum()
    penalty_R1 = torch.full_like(basis.variance_R, asked.l2)[:, None]
    penalty_R1[-1] = 0.0
    scale_R1 = _scale(basis.variance_R, penalty_R1[:, 0], start_RC.shape[1])[:, None]
    loss = _Loss(features_MR, classes_N[used], shares_M, penalty_R1)

    def objective(point: torch.Tensor) -> tuple[float, torch.Tensor]:
        check()
        value, gradient_RC = loss(point.view_as(start_RC) / scale_R1)
        return value, (gradient_RC / scale_R1).flatten()

    point = minimise(objective, (start_RC * scale_R1).flatten(), tolerance=asked.tolerance, steps=_STEPS)
    return point.view_as(start_RC) / scale_R1


def _scale(variance_R: torch.Tensor, penalty_R: torch.Tensor, class_count: int) -> torch.Tensor:
    """Root of the Hessian's diagonal where all classes are equally probable."""
    curvature = (1.0 - 1.0 / class_count) / class_count
    return (curvature * variance_R + penalty_R + _FLOOR).sqrt()


class _Loss:
    """Value and gradient of the objective; logits in float32, sums in float64."""

    def __init__(
        self, features_MR: torch.Tensor, classes_M: torch.Tensor, shares_M: torch.Tensor, penalty_R1: torch.Tensor
    ) -> None:
        self._features_MR = features_MR
        self._classes_M1 = classes_M[:, None]
        self._shares_M1 = shares_M[:, None]
        self._penalty_R1 = penalty_R1

    def __call__(self, weights_RC: torch.Tensor) -> tuple[float, torch.Tensor]:
        log_probs_MC = torch.log_softmax(self._features_MR @ weights_RC.to(torch.float32), dim=1)
        chosen_M1 = log_probs_MC.gather(1, self._classes_M1)
        loss = -float((chosen_M1 * self._shares_M1).sum(dtype=torch.float64))
        shrink_RC = self._penalty_R1 * weights_RC
        residual_MC = log_probs_MC.exp_()
        residual_MC.scatter_add_(1, self._classes_M1, torch.full_like(chosen_M1, -1.0))
        residual_MC *= self._shares_M1
        gradient_RC = (self._features_MR.T @ residual_MC).to(torch.float64) + shrink_RC
        return loss + 0.5 * float((shrink_RC * weights_RC).sum()), gradient_RC


def class_weights(
    classes_N: npt.NDArray[np.int64], multiplicity_N: npt.NDArray[np.float64], balanced: bool
) -> torch.Tensor:
    """Weights of the samples: how often each counts, and if balanced, in inverse proportion to its class's count."""
    if not balanced:
        return torch.from_numpy(multiplicity_N.astype(np.float32))
    counts_C = np.bincount(classes_N, weights=multiplicity_N)
    weight_C = multiplicity_N.sum() / (np.count_nonzero(counts_C) * np.maximum(counts_C, 1.0))
    return torch.from_numpy((multiplicity_N * weight_C[classes_N]).astype(np.float32))
