"""Coordinates in which a linear head trains fast.

The L2 penalty does not see a rotation, and the free bias does not mind a shift: centred embeddings turned into their
principal axes have the same optimum, but their axes are uncorrelated and can be scaled one by one for the optimiser.
With fewer labels than dimensions the optimum lies in the span of the labeled embeddings, so that span is enough.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.tensors import as_tensor
from assay.server.core.errors import AssayError, Reason
from assay.strategies import checkpoint

_ROTATE_AT_MOST = 2048  # axes; an eigendecomposition of more costs longer than it saves
_WORK = 1 << 30  # multiplications between two checkpoints
_LARGEST = 1e15  # sums of squares stay finite below in float32, in which the head is applied


@dataclass(frozen=True)
class Basis:
    """Centred, turned embeddings, scaled to a total variance of 1, with a last column of ones for the bias; float64.

    Attributes:
        features_NR: coordinates, the last column 1.
        variance_R: mean square of each column.
        centre_D: mean embedding.
        spread: total variance of the embeddings, 1 where there is none: the unit of an L2 strength.
        axes_DR: orthonormal axes; None where the coordinates are the centred embeddings themselves.
    """

    features_NR: torch.Tensor
    variance_R: torch.Tensor
    centre_D: torch.Tensor
    spread: float
    axes_DR: torch.Tensor | None

    def unfold(self, weights_RC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights [D, C] and biases [C] for raw embeddings, from weights for the features."""
        weights = weights_RC[:-1] / self.spread**0.5
        if self.axes_DR is not None:
            weights = self.axes_DR @ weights
        return weights, weights_RC[-1] - self.centre_D @ weights


def make_basis(embeddings_ND: npt.NDArray[np.float32]) -> Basis:
    """The basis of a set of labeled embeddings. Raises AssayError(NOT_FINITE) if their squares are not."""
    embeddings = as_tensor(embeddings_ND)
    centre_D = embeddings.mean(dim=0, dtype=torch.float64)
    centred_ND = embeddings - centre_D
    if not float(centred_ND.abs().max()) < _LARGEST:
        raise AssayError(
            Reason.NOT_FINITE,
            f"Embeddings with entries of {_LARGEST:g} and more cannot be trained on. Scale them before they are added.",
        )
    spread = float(centred_ND.square().sum()) / len(centred_ND) or 1.0
    centred_ND /= spread**0.5
    axes_DR = _principal_axes(centred_ND)
    coordinates = centred_ND if axes_DR is None else _turned(centred_ND, axes_DR)
    features_NR = torch.cat([coordinates, coordinates.new_ones(len(coordinates), 1)], dim=1)
    variance_R = features_NR.square().mean(dim=0)
    return Basis(features_NR, variance_R, centre_D, spread, axes_DR)


def _principal_axes(centred_ND: torch.Tensor) -> torch.Tensor | None:
    count, dimension = centred_ND.shape
    if min(count, dimension) > _ROTATE_AT_MOST:
        return None
    if count >= dimension:
        return _rotation(centred_ND)
    span_DN: torch.Tensor = torch.linalg.qr(centred_ND.T).Q
    return span_DN @ _rotation(centred_ND @ span_DN)


def _rotation(coordinates_NR: torch.Tensor) -> torch.Tensor:
    axes_RR: torch.Tensor = torch.linalg.eigh(_products(coordinates_NR)).eigenvectors
    return axes_RR


def _products(coordinates_NR: torch.Tensor) -> torch.Tensor:
    """Sums over all rows of the products of every two columns."""
    width = coordinates_NR.shape[1]
    sums_RR = coordinates_NR.new_zeros(width, width)
    for block_BR in torch.split(coordinates_NR, max(1, _WORK // (width * width))):
        checkpoint()
        sums_RR.addmm_(block_BR.T, block_BR)
    return sums_RR


def _turned(rows_ND: torch.Tensor, axes_DR: torch.Tensor) -> torch.Tensor:
    """Coordinates of rows along the axes."""
    turned_NR = rows_ND.new_empty(len(rows_ND), axes_DR.shape[1])
    step = max(1, _WORK // axes_DR.numel())
    for rows_BD, out_BR in zip(torch.split(rows_ND, step), torch.split(turned_NR, step), strict=True):
        checkpoint()
        torch.mm(rows_BD, axes_DR, out=out_BR)
    return turned_NR
