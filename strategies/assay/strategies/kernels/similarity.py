"""Similarities between embeddings: float32 tiles by matrix products, and float64 values for a few pairs.

cosine is kept as x.y of unit rows, in [-1, 1]; rbf is exp(-gamma |x - y|^2), in [0, 1]. `floor` is the least value
either can have, so that what lies above it is never negative; `unit` makes its range [0, 1].
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.points import Points
from assay.strategies.kernels.tensors import borrow, spread

Kernel = Literal["cosine", "rbf"]
Rows = slice | torch.Tensor

# float32 values in a block of rows, and the labeled rows in one product.
_BLOCK_VALUES = 1 << 20
_LABELED = 512
# Rows that are compared in float64 at a time.
_COMPARED = 1 << 14


class Similarity:
    """The similarity of every two rows of `embeddings_ND`.

    linear: whether a similarity is an inner product, bar a constant.
    gamma: of rbf; 0 means 1 / the mean squared distance between two rows.
    resolution: rounding error of a float32 similarity, five standard deviations.
    Raises StrategyError NOT_FINITE for NaN, infinity, and squared lengths beyond float32.
    """

    def __init__(self, embeddings_ND: NDArray[np.float32], kernel: Kernel, gamma: float = 0.0) -> None:
        self._raw_ND = borrow(embeddings_ND)
        self._points = Points(embeddings_ND, "cosine" if kernel == "cosine" else "l2")
        self._rbf = kernel == "rbf"
        self.linear = not self._rbf
        self.size: int = self._points.size
        self.dim: int = self._points.dim
        self.floor, self.unit = (0.0, 1.0) if self._rbf else (-1.0, 0.5)
        self.gamma = gamma or _inverse_mean_square(self._points)
        self.rows_ND = self._measured()
        self.norms_N = self._points.norms_N
        self.resolution = self._points.resolution * (self._blur() if self._rbf else 1.0)
        # Without a direction a row is like no other, nor like itself.
        self.own_N = (
            (self._points.raw_norms_N > 0).double() if self.linear else torch.ones(self.size, dtype=torch.float64)
        )

    def tile(self, left: Rows, right: Rows, out: torch.Tensor | None = None) -> torch.Tensor:
        """float32 similarities of some rows to some others, shape (left, right)."""
        return self.tile_of(self.rows_ND[left], self.norms_N[left], right, out)

    def tile_of(
        self, rows_AD: torch.Tensor, norms_A: torch.Tensor, right: Rows, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As `tile`, for rows and their squared lengths that were gathered before."""
        dots_AB = torch.mm(rows_AD, self.rows_ND[right].t(), out=out)
        if not self._rbf:
            return dots_AB
        dots_AB.mul_(2).sub_(norms_A[:, None]).sub_(self.norms_N[right])
        return dots_AB.mul_(self.gamma).clamp_max_(0).exp_()

    def at(self, squared_NK: torch.Tensor, indices_NK: torch.Tensor) -> torch.Tensor:
        """float32 similarities of rows to some others, from the squared distances of `rows_ND`."""
        if self._rbf:
            return torch.exp(squared_NK * -self.gamma)
        return (self.norms_N[:, None] + self.norms_N[indices_NK]).sub_(squared_NK).mul_(0.5)

    def exact(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """float64 similarities of a few rows to a few others, shape (left, right), to decide between close ones."""
        right_BD = self.exact_rows(right)
        values_AB = torch.empty((len(left), len(right)), dtype=torch.float64)
        for start in range(0, len(left), _COMPARED):
            checkpoint()
            part = slice(start, start + _COMPARED)
            values_AB[part] = self._valued(self.exact_rows(left[part]), right_BD)
        return values_AB

    def exact_rows(self, rows: Rows) -> torch.Tensor:
        """Some rows in float64, of unit length for cosine."""
        return self.exact_others(self._raw_ND[rows])

    def exact_others(self, others_MD: torch.Tensor) -> torch.Tensor:
        """Other embeddings of the same space in float64, of unit length for cosine."""
        others = others_MD.double()
        if self._rbf:
            return others
        lengths_M = torch.linalg.vector_norm(others, dim=1, keepdim=True)
        return others.div_(lengths_M.clamp_min_(torch.finfo(torch.float64).tiny))

    def nearest(self, others_MD: NDArray[np.float32]) -> torch.Tensor:
        """float64 similarity of each row to the most similar of other embeddings; `floor` where there are none."""
        measured_MD = self._points.centres(others_MD)
        parted = [torch.split(every_MD, _LABELED) for every_MD in (measured_MD, borrow(others_MD))]
        best_N = torch.full((self.size,), self.floor, dtype=torch.float64)

        def block(start: int, stop: int) -> None:
            rows_BD = self.rows_ND[start:stop]
            for chunk_MD, raw_MD in zip(*parted, strict=True):
                checkpoint()
                lengths_M = torch.linalg.vecdot(chunk_MD, chunk_MD) if self._rbf else torch.zeros(len(chunk_MD))
                first_B = torch.addmm(lengths_M, rows_BD, chunk_MD.t(), alpha=-2).argmin(1)
                others_BD = self.exact_others(raw_MD[first_B])
                values_B = self._paired(self.exact_rows(slice(start, stop)), others_BD)
                torch.maximum(best_N[start:stop], values_B, out=best_N[start:stop])

        if len(measured_MD):
            spread(block, self.size, max(1, _BLOCK_VALUES // max(self.dim, _LABELED)))
        return best_N

    def totals(self, weights_N: torch.Tensor) -> torch.Tensor:
        """float64 sum of (similarity - floor) of each row to all rows, weighted. Only where `linear`."""
        step = max(1, _BLOCK_VALUES // max(self.dim, 1))
        sums_BD = torch.zeros((max(1, -(-self.size // step)), self.dim), dtype=torch.float64)
        totals_N = torch.empty(self.size, dtype=torch.float64)

        def add(start: int, stop: int) -> None:
            sums_BD[start // step] = weights_N[start:stop].double() @ self.exact_rows(slice(start, stop))

        def measure(start: int, stop: int) -> None:
            totals_N[start:stop] = self.exact_rows(slice(start, stop)) @ sum_D

        spread(add, self.size, step)
        sum_D = sums_BD.sum(0)
        spread(measure, self.size, step)
        return totals_N.add_(weights_N.double().sum() * -self.floor)

    def _measured(self) -> torch.Tensor:
        rows_ND = torch.empty((self.size, self.dim))

        def block(start: int, stop: int) -> None:
            rows_ND[start:stop] = self._points.rows(slice(start, stop))

        spread(block, self.size, max(1, _BLOCK_VALUES // max(self.dim, 1)))
        return rows_ND

    def _valued(self, left_AD: torch.Tensor, right_BD: torch.Tensor) -> torch.Tensor:
        dots_AB = left_AD @ right_BD.t()
        if not self._rbf:
            return dots_AB
        left_A, right_B = torch.linalg.vecdot(left_AD, left_AD), torch.linalg.vecdot(right_BD, right_BD)
        return _rbf(left_A[:, None] - 2 * dots_AB + right_B, self.gamma)

    def _paired(self, left_AD: torch.Tensor, right_AD: torch.Tensor) -> torch.Tensor:
        if not self._rbf:
            dots_A: torch.Tensor = torch.linalg.vecdot(left_AD, right_AD)
            return dots_A
        return _rbf((left_AD - right_AD).square_().sum(1), self.gamma)

    def _blur(self) -> float:
        """What a relative error of the squared length becomes in rbf, for the longest row."""
        longest = float(self.norms_N.max()) if self.size else 0.0
        return 1.0 + self.gamma * longest


def _rbf(squared: torch.Tensor, gamma: float) -> torch.Tensor:
    return torch.exp(squared.clamp_min_(0).mul_(-gamma))


def _inverse_mean_square(points: Points) -> float:
    """1 / the mean squared distance of two rows: |x|^2 + |y|^2 - 2 x.y on average. 1 where all rows are alike."""
    if not points.size:
        return 1.0
    squared = float(points.norms_N.double().mean()) - float(points.mean_D.square().sum())
    # Rows that are alike leave rounding behind, which is no distance.
    alike = squared <= points.resolution * float(points.norms_N.max())
    return 1.0 if alike or not math.isfinite(squared) else 1 / (2 * squared)
