"""Coordinates in which a linear head trains fast.

The L2 penalty does not see a rotation, and the free bias does not mind a shift: centred embeddings turned into their
principal axes have the same optimum, but their axes are uncorrelated and can be scaled one by one for the optimiser.
With fewer labels than dimensions the optimum lies in the span of the labeled embeddings, so that span is enough.

Finding the axes of a matrix is one call that cannot be stopped, so only what takes a tenth of a second is turned. Where
there are more axes, the centred embeddings stay as they are, and the scaling sees to their correlations.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.blocks import blocks, product
from assay.server.adapters.torch_head.tensors import as_tensor
from assay.server.core.errors import AssayError, Reason

_TURN_AT_MOST = 768  # axes: 0.14 s on one thread of an AMD EPYC
CORRELATE_AT_MOST = 4096  # axes: their correlations take 134 MB
_FLAT = 1e-10  # of the largest variance: axes with less are rounding, and no penalty worth the name lets them matter
_LARGEST = 1e15  # sums of squares stay finite below in float32, in which the head is applied


@dataclass(frozen=True)
class Basis:
    """Centred, turned embeddings, scaled to a total variance of 1, with a last column of ones for the bias; float64.

    Attributes:
        features_NR: coordinates, the last column 1.
        variance_R: mean square of each column.
        correlation_RR: means of the products of every two columns; None where the columns are uncorrelated, and where
            there are too many.
        centre_D: mean embedding.
        spread: total variance of the embeddings, 1 where there is none: the unit of an L2 strength.
        axes_DR: orthonormal axes; None where the coordinates are the centred embeddings themselves.
    """

    features_NR: torch.Tensor
    variance_R: torch.Tensor
    correlation_RR: torch.Tensor | None
    centre_D: torch.Tensor
    spread: float
    axes_DR: torch.Tensor | None

    def unfold(self, weights_RC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights [D, C] and biases [C] for raw embeddings, from weights for the features."""
        weights = weights_RC[:-1] / self.spread**0.5
        if self.axes_DR is not None:
            weights = product(self.axes_DR, weights)
        return weights, weights_RC[-1] - self.centre_D @ weights


def make_basis(embeddings_ND: npt.NDArray[np.float32], order_N: npt.NDArray[np.int64]) -> Basis:
    """The basis of a set of labeled embeddings, whose features are in another order. Raises AssayError(NOT_FINITE) if
    their squares are not."""
    features_NR, centre_D, spread = _centred(as_tensor(embeddings_ND), torch.from_numpy(order_N))
    centred_ND = features_NR[:, :-1]
    axes_DR = None
    if min(centred_ND.shape) <= _TURN_AT_MOST:
        axes_DR = _principal_axes(centred_ND)
        features_NR = _turned(centred_ND, axes_DR)
    correlation_RR = None
    if axes_DR is None and features_NR.shape[1] <= CORRELATE_AT_MOST:
        correlation_RR = _products(features_NR).div_(len(features_NR))
    return Basis(features_NR, _mean_squares(features_NR), correlation_RR, centre_D, spread, axes_DR)


def _centred(rows_ND: torch.Tensor, order_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Centred rows scaled to a total variance of 1, with a column of ones; their centre, and the variance they had."""
    count, dimension = rows_ND.shape
    centre_D = torch.zeros(dimension, dtype=torch.float64)
    for rows in blocks(count, dimension):
        centre_D += rows_ND[rows].sum(dim=0, dtype=torch.float64)
    centre_D /= count
    features_NR = torch.ones(count, dimension + 1, dtype=torch.float64)
    largest = total = 0.0
    for rows in blocks(count, dimension):
        centred_BD = features_NR[rows, :-1].copy_(rows_ND[order_N[rows]]).sub_(centre_D)
        largest = max(largest, float(centred_BD.abs().max()))
        total += float(centred_BD.square().sum())
    if not largest < _LARGEST:
        raise AssayError(
            Reason.NOT_FINITE,
            f"Embeddings with entries of {_LARGEST:g} and more cannot be trained on. Scale them before they are added.",
        )
    spread = total / count or 1.0
    for rows in blocks(count, dimension):
        features_NR[rows, :-1] /= spread**0.5
    return features_NR, centre_D, spread


def _principal_axes(centred_ND: torch.Tensor) -> torch.Tensor:
    """Orthonormal axes [D, R] along which the rows are uncorrelated; those along which they vary, if rows are fewer."""
    count, dimension = centred_ND.shape
    if count >= dimension:
        return _eigen(_products(centred_ND))[1]
    power_M, vectors_NM = _eigen(_products(centred_ND.T))
    varies_M = power_M > _FLAT * power_M[-1]
    return product(centred_ND.T, vectors_NM[:, varies_M] / power_M[varies_M].sqrt())


def _eigen(matrix_MM: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues, ascending, and eigenvectors as columns."""
    power_M, vectors_MM = torch.linalg.eigh(matrix_MM)
    return power_M, vectors_MM


def _products(rows_NR: torch.Tensor) -> torch.Tensor:
    """Sums over all rows of the products of every two columns."""
    width = rows_NR.shape[1]
    sums_RR = rows_NR.new_zeros(width, width)
    for rows in blocks(len(rows_NR), width, width * width):
        sums_RR.addmm_(rows_NR[rows].T, rows_NR[rows])
    return sums_RR


def _turned(centred_ND: torch.Tensor, axes_DR: torch.Tensor) -> torch.Tensor:
    """Coordinates of rows along the axes, with a column of ones."""
    features_NR = torch.ones(len(centred_ND), axes_DR.shape[1] + 1, dtype=torch.float64)
    product(centred_ND, axes_DR, out=features_NR[:, :-1])
    return features_NR


def _mean_squares(features_NR: torch.Tensor) -> torch.Tensor:
    total_R = torch.zeros(features_NR.shape[1], dtype=torch.float64)
    for rows in blocks(*features_NR.shape):
        total_R += features_NR[rows].square().sum(dim=0)
    return total_R / len(features_NR)
