"""Coordinates of the weights in which the loss curves about equally in all directions, so that few steps reach its end.

The Hessian of the loss at some weights is about curvature x correlation of the features for every output, plus the
penalty; the curvature of an output is the mean over samples of p (1 - p).
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
    """A linear map between weights [G, C, R] of G fits and the points [G, C, R] at which the optimiser looks."""

    def weights(self, point_GCR: torch.Tensor) -> torch.Tensor:
        """The weights at a point."""

    def point(self, weights_GCR: torch.Tensor) -> torch.Tensor:
        """The point of some weights."""

    def gradient(self, gradient_GCR: torch.Tensor) -> torch.Tensor:
        """The gradient by the point, from that by the weights, which may be overwritten."""

    def narrowed(self, fits_A: torch.Tensor) -> "Scaling":
        """That of some of the fits."""


def penalty(basis: Basis, l2: float) -> torch.Tensor:
    """The penalty [R] on the square of each weight; the bias has none."""
    penalty_R = torch.full_like(basis.variance_R, l2)
    penalty_R[-1] = 0.0
    return penalty_R


def scaling(basis: Basis, penalty_R: torch.Tensor, curvature_GC: torch.Tensor) -> Scaling:
    """The scaling that fits a basis, where the losses of outputs curve so much; of the type of the curvatures."""
    if basis.correlation_RR is None:
        hessian_GCR = curvature_GC.double()[:, :, None] * basis.variance_R
        return _Diagonal(hessian_GCR.add_(penalty_R + _FLOOR).sqrt_().to(curvature_GC.dtype))
    hessian_RR = float(curvature_GC.mean()) * basis.correlation_RR
    hessian_RR.diagonal().add_(penalty_R + _FLOOR)
    return _Triangular(factored(hessian_RR).to(curvature_GC.dtype))


class _Diagonal:
    """Each weight by a factor: the root of the Hessian's diagonal."""

    def __init__(self, roots_GCR: torch.Tensor) -> None:
        self._roots_GCR = roots_GCR

    def weights(self, point_GCR: torch.Tensor) -> torch.Tensor:
        return point_GCR / self._roots_GCR

    def point(self, weights_GCR: torch.Tensor) -> torch.Tensor:
        return weights_GCR * self._roots_GCR

    def gradient(self, gradient_GCR: torch.Tensor) -> torch.Tensor:
        return gradient_GCR.div_(self._roots_GCR)

    def narrowed(self, fits_A: torch.Tensor) -> "_Diagonal":
        return _Diagonal(self._roots_GCR[fits_A])


class _Triangular:
    """By the Cholesky factor L of the Hessian: points are weights L."""

    def __init__(self, lower_RR: torch.Tensor) -> None:
        self._lower_RR = lower_RR

    def weights(self, point_GCR: torch.Tensor) -> torch.Tensor:
        return self._solved(self._lower_RR, point_GCR, upper=False)

    def point(self, weights_GCR: torch.Tensor) -> torch.Tensor:
        weights_OR = weights_GCR.flatten(0, 1)
        point_OR = torch.empty_like(weights_OR)
        for outputs in self._outputs(weights_OR):
            point_OR[outputs] = weights_OR[outputs] @ self._lower_RR
        return point_OR.view_as(weights_GCR)

    def gradient(self, gradient_GCR: torch.Tensor) -> torch.Tensor:
        return self._solved(self._lower_RR.T, gradient_GCR, upper=True)

    def narrowed(self, fits_A: torch.Tensor) -> "_Triangular":
        return self

    def _solved(self, triangle_RR: torch.Tensor, left_GCR: torch.Tensor, *, upper: bool) -> torch.Tensor:
        left_OR = left_GCR.flatten(0, 1)
        solved_OR = torch.empty_like(left_OR)
        for outputs in self._outputs(left_OR):
            solved_OR[outputs] = torch.linalg.solve_triangular(triangle_RR, left_OR[outputs], upper=upper, left=False)
        return solved_OR.view_as(left_GCR)

    def _outputs(self, matrix_OR: torch.Tensor) -> Iterator[slice]:
        return blocks(len(matrix_OR), matrix_OR.shape[1], self._lower_RR.numel())


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
