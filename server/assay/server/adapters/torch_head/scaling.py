"""Coordinates of the weights in which the loss curves about equally in all directions, so that few steps reach its end.

The Hessian of the loss at some weights is about curvature x correlation of the features for every class, plus the
penalty; the curvature is the mean over samples and classes of p (1 - p).
"""

from collections.abc import Iterator
from typing import Protocol

import torch

from assay.server.adapters.torch_head.basis import Basis
from assay.server.adapters.torch_head.blocks import blocks
from assay.strategies import checkpoint

_FLOOR = 1e-9  # of the Hessian, for axes without variance or penalty
_PANEL = 128  # columns that are factored at a time


class Scaling(Protocol):
    """A linear map between weights [R, C] and the points [R, C] at which the optimiser looks."""

    def weights(self, point_RC: torch.Tensor) -> torch.Tensor:
        """The weights at a point."""

    def point(self, weights_RC: torch.Tensor) -> torch.Tensor:
        """The point of some weights."""

    def gradient(self, gradient_RC: torch.Tensor) -> torch.Tensor:
        """The gradient by the point, from that by the weights, which may be overwritten."""


def scaling(basis: Basis, penalty_R1: torch.Tensor, curvature: float) -> Scaling:
    """The scaling that fits a basis."""
    if basis.correlation_RR is None:
        return _Diagonal((curvature * basis.variance_R[:, None] + penalty_R1 + _FLOOR).sqrt())
    hessian_RR = curvature * basis.correlation_RR
    hessian_RR.diagonal().add_(penalty_R1[:, 0] + _FLOOR)
    return _Triangular(factored(hessian_RR))


class _Diagonal:
    """Each row by a factor: the root of the Hessian's diagonal."""

    def __init__(self, roots_R1: torch.Tensor) -> None:
        self._roots_R1 = roots_R1

    def weights(self, point_RC: torch.Tensor) -> torch.Tensor:
        return point_RC / self._roots_R1

    def point(self, weights_RC: torch.Tensor) -> torch.Tensor:
        return weights_RC * self._roots_R1

    def gradient(self, gradient_RC: torch.Tensor) -> torch.Tensor:
        return gradient_RC.div_(self._roots_R1)


class _Triangular:
    """By the Cholesky factor L of the Hessian: points are L^T weights."""

    def __init__(self, lower_RR: torch.Tensor) -> None:
        self._lower_RR = lower_RR

    def weights(self, point_RC: torch.Tensor) -> torch.Tensor:
        return self._solved(self._lower_RR.T, point_RC, upper=True)

    def point(self, weights_RC: torch.Tensor) -> torch.Tensor:
        point_RC = torch.empty_like(weights_RC)
        for columns in self._columns(weights_RC):
            point_RC[:, columns] = self._lower_RR.T @ weights_RC[:, columns]
        return point_RC

    def gradient(self, gradient_RC: torch.Tensor) -> torch.Tensor:
        return self._solved(self._lower_RR, gradient_RC, upper=False)

    def _solved(self, triangle_RR: torch.Tensor, right_RC: torch.Tensor, *, upper: bool) -> torch.Tensor:
        solved_RC = torch.empty_like(right_RC)
        for columns in self._columns(right_RC):
            solved_RC[:, columns] = torch.linalg.solve_triangular(triangle_RR, right_RC[:, columns], upper=upper)
        return solved_RC

    def _columns(self, matrix_RC: torch.Tensor) -> Iterator[slice]:
        return blocks(matrix_RC.shape[1], len(matrix_RC), self._lower_RR.numel())


def factored(matrix_RR: torch.Tensor) -> torch.Tensor:
    """The Cholesky factor of a positive definite matrix, which is overwritten with it; panel by panel.

    Source: Golub and Van Loan, Matrix Computations, 4th edition, algorithm 4.2.2 on blocks.
    """
    for start in range(0, len(matrix_RR), _PANEL):
        checkpoint()
        panel = matrix_RR[start:, start : start + _PANEL]
        width = panel.shape[1]
        panel -= matrix_RR[start:, :start] @ matrix_RR[start : start + width, :start].T
        corner = torch.linalg.cholesky(panel[:width])
        panel[:width] = corner
        if len(panel) > width:
            panel[width:] = torch.linalg.solve_triangular(corner.T, panel[width:], upper=True, left=False)
        matrix_RR[start : start + width, start + width :] = 0.0
    return matrix_RR
