"""Embeddings as points to measure distances between, by blocked matrix products and without a copy of them all.

One distance expression everywhere: |x|^2 - 2 x.s + |s|^2 in float32, over points that were centred where that helps
(l2) or scaled to unit length (cosine). Its rounding error stays below `resolution` |x|^2; smaller distances count
as 0. Where an order must be finer than that, `exact` measures a few points in float64.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.candidates import Candidates
from assay.strategies.errors import StrategyError
from assay.strategies.kernels.tensors import borrow, spread
from assay.strategies.needs import Need

Metric = Literal["l2", "cosine"]
Rows = slice | NDArray[np.int64]

# float32 values in a block of points, and the most centres in one product: large enough for full speed.
BLOCK_VALUES = 1 << 20
CENTRES = 512
# Centres per point that `exact` measures: those that float32 calls nearest.
_RIVALS = 4


class Points:
    """The rows of `embeddings_ND` under a metric.

    norms_N: the squared length of each row as it is measured (centred or scaled), float32.
    raw_norms_N: the squared length of each row as it was given.
    resolution: rounding error of a squared distance, relative to the squared length of the point: five standard
    deviations of a float32 sum of D products.
    Raises StrategyError NOT_FINITE for NaN, infinity, and squared lengths beyond float32.
    """

    def __init__(self, embeddings_ND: NDArray[np.float32], metric: Metric) -> None:
        self._rows_ND = embeddings_ND
        self.size, self.dim = embeddings_ND.shape
        self.resolution = resolution(self.dim)
        self._unit = False
        self._origin_D: torch.Tensor | None = None
        self.raw_norms_N, mean_D = self._moments()
        self._unit = metric == "cosine"
        if not self._unit:
            self._origin_D = _origin(mean_D, self.raw_norms_N)
        unchanged = not self._unit and self._origin_D is None
        self.norms_N, self.mean_D = (self.raw_norms_N, mean_D) if unchanged else self._moments()

    def rows(self, rows: Rows) -> torch.Tensor:
        """Some points as they are measured. A slice of points that need no change stays a view."""
        return self.measured(self._rows_ND[rows])

    def every_row(self) -> torch.Tensor:
        """All points as they are measured; a view where they need no change."""
        if not self._unit and self._origin_D is None:
            return self.rows(slice(None))
        rows_ND = torch.empty((self.size, self.dim))

        def block(start: int, stop: int) -> None:
            rows_ND[start:stop] = self.rows(slice(start, stop))

        spread(block, self.size, max(1, BLOCK_VALUES // max(self.dim, 1)))
        return rows_ND

    def measured(self, rows_MD: NDArray[np.float32]) -> torch.Tensor:
        """Any embeddings of the same space, brought to where these points are measured."""
        # Rows that lie in memory otherwise are summed in another order, and round otherwise.
        raw_MD = borrow(rows_MD).contiguous()
        if self._unit:
            # A zero vector has no direction and stays zero.
            lengths_M: torch.Tensor = torch.linalg.vector_norm(raw_MD, dim=1, keepdim=True)
            return raw_MD.div(lengths_M.clamp_min_(torch.finfo(torch.float32).tiny))
        return raw_MD if self._origin_D is None else raw_MD - self._origin_D

    def centres(self, rows_MD: NDArray[np.float32]) -> torch.Tensor:
        """As `measured`, refusing what these points themselves are refused for."""
        _require_finite(torch.linalg.vecdot(borrow(rows_MD), borrow(rows_MD)))
        return self.measured(rows_MD)

    def lower(self, bounds_N: torch.Tensor, centres_MD: torch.Tensor) -> None:
        """Lower each squared distance in `bounds_N` to that of the nearest centre, where that is smaller."""
        for chunk_MD in torch.split(centres_MD, CENTRES) if len(centres_MD) else ():
            step = max(1, BLOCK_VALUES // max(self.dim, len(chunk_MD)))

            def block(start: int, stop: int, chunk_MD: torch.Tensor = chunk_MD) -> None:
                rows = slice(start, stop)
                distances_B = self.nearest(self.rows(rows), self.norms_N[rows], chunk_MD)
                torch.minimum(bounds_N[rows], distances_B, out=bounds_N[rows])

            spread(block, self.size, step)

    def nearest(self, points_BD: torch.Tensor, norms_B: torch.Tensor, centres_MD: torch.Tensor) -> torch.Tensor:
        """Squared distance of each point to the nearest of the centres (at least one), float32, shape (B,)."""
        distances_B = _without_norms(points_BD, centres_MD).amin(1).add_(norms_B)
        return distances_B.masked_fill_(distances_B <= norms_B * self.resolution, 0)

    def _moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The squared length of every point as it is measured now (float32), and their mean (float64)."""
        norms_N = torch.empty(self.size)
        step = max(1, BLOCK_VALUES // max(self.dim, 1))
        totals_BD = torch.zeros((-(-self.size // step), self.dim))

        def block(start: int, stop: int) -> None:
            points_BD = self.rows(slice(start, stop))
            torch.linalg.vecdot(points_BD, points_BD, out=norms_N[start:stop])
            torch.sum(points_BD, 0, out=totals_BD[start // step])

        spread(block, self.size, step)
        _require_finite(norms_N)
        return norms_N, totals_BD.sum(0, dtype=torch.float64) / max(self.size, 1)


def _require_finite(norms_N: torch.Tensor) -> None:
    if not bool(torch.isfinite(norms_N).all()):
        raise StrategyError("NOT_FINITE", "an embedding holds NaN, infinity, or values beyond float32 when squared")


def resolution(dim: int) -> float:
    """Rounding error of an inner product of `dim` float32 values relative to the lengths: five standard deviations."""
    return 2.0**-24 * (8 + 2.5 * math.sqrt(dim))


def labeled_embeddings(candidates: Candidates) -> NDArray[np.float32]:
    """The labeled embeddings, shape (L, D); none where the candidates carry none.

    Raises StrategyError INVALID_ARRAY for dims other than the candidates', NOT_FINITE.
    """
    dim = candidates.unchecked(Need.EMBEDDINGS).shape[1]
    if not candidates.has(Need.LABELED_EMBEDDINGS):
        return np.empty((0, dim), np.float32)
    labeled_LD = candidates.labeled_embeddings_LD
    if len(labeled_LD) and labeled_LD.shape[1] != dim:
        raise StrategyError("INVALID_ARRAY", f"labeled embeddings have {labeled_LD.shape[1]} dims, candidates {dim}")
    return labeled_LD


def exact(points_HD: torch.Tensor, centres_MD: torch.Tensor) -> torch.Tensor:
    """Squared distance of each point to the nearest of the centres (at least one), float64, shape (H,)."""
    rivals_HR = _without_norms(points_HD, centres_MD).topk(min(_RIVALS, len(centres_MD)), largest=False).indices
    differences_HRD = points_HD.unsqueeze(1).double() - centres_MD[rivals_HR].double()
    return differences_HRD.square_().sum(2).amin(1)


def _without_norms(points_BD: torch.Tensor, centres_MD: torch.Tensor) -> torch.Tensor:
    """Squared distances short of |x|^2, shape (B, M): what tells the nearest centre."""
    lengths_M = torch.linalg.vecdot(centres_MD, centres_MD)
    return torch.addmm(lengths_M, points_BD, centres_MD.t(), alpha=-2)


def _origin(mean_D: torch.Tensor, norms_N: torch.Tensor) -> torch.Tensor | None:
    """The mean, where it is farther from 0 than points are from it, and their differences would drown in rounding."""
    if not len(norms_N):
        return None
    squared = float(mean_D.square().sum())
    return mean_D.float() if squared > float(norms_N.double().mean()) - squared else None
