"""Picks that are no near copies of one another, nor of what is labeled."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.errors import StrategyError
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.tensors import borrow

_BLOCK = 512
# Rounding of a float32 sum of products, relative to the lengths that went into it, in parts per sqrt(D).
_ROUNDING = 2.0**-22


def apart(
    embeddings_MD: NDArray[np.float32],
    radius: float,
    size: int,
    around_LD: NDArray[np.float32] | None = None,
) -> NDArray[np.int64]:
    """Positions of the first `size` rows that are farther than `radius` from every row kept before them.

    embeddings_MD: candidates in order of preference, and so are the positions: ascending, fewer than `size` where no
    more are apart. around_LD: what picks must be apart from too. radius: L2 distance, at least 0; at 0 only exact
    copies are left out.
    Distances too close to the radius for float32 are measured again in float64.
    Cost: 2 D (M size + M L) operations at most, in blocks; stops at the size.
    Raises StrategyError INVALID_RADIUS, or NOT_FINITE for NaN and infinity.
    """
    if not (math.isfinite(radius) and radius >= 0):
        raise StrategyError("INVALID_RADIUS", f"a radius is a finite number of at least 0, not {radius}")
    rows_MD = borrow(embeddings_MD)
    around = borrow(around_LD) if around_LD is not None and len(around_LD) else rows_MD[:0]
    _require_finite(around)
    kept: list[int] = []
    for start in range(0, len(rows_MD), _BLOCK):
        if len(kept) >= size:
            break
        checkpoint()
        block_BD = rows_MD[start : start + _BLOCK]
        _require_finite(block_BD)
        free_B = ~(_near_any(block_BD, around, radius) | _near_any(block_BD, rows_MD[kept], radius))
        kept += [start + place for place in _apart_inside(block_BD, free_B, radius)]
    return np.array(kept[:size], np.int64)


def _apart_inside(block_BD: torch.Tensor, free_B: torch.Tensor, radius: float) -> list[int]:
    """Places of a block that are apart from those kept before them in it."""
    near_BB = _near(block_BD, block_BD, radius)
    kept = []
    for place in torch.nonzero(free_B).flatten().tolist():
        if free_B[place]:
            kept.append(place)
            free_B &= ~near_BB[place]
    return kept


def _near_any(points_BD: torch.Tensor, others_MD: torch.Tensor, radius: float) -> torch.Tensor:
    near_B = torch.zeros(len(points_BD), dtype=torch.bool)
    for chunk_MD in torch.split(others_MD, 4 * _BLOCK) if len(others_MD) else ():
        checkpoint()
        near_B |= _near(points_BD, chunk_MD, radius).any(1)
    return near_B


def _near(points_BD: torch.Tensor, others_MD: torch.Tensor, radius: float) -> torch.Tensor:
    """Which pairs are within the radius, shape (B, M)."""
    lengths_BM = torch.linalg.vecdot(points_BD, points_BD)[:, None] + torch.linalg.vecdot(others_MD, others_MD)
    squared_BM = torch.addmm(lengths_BM, points_BD, others_MD.t(), alpha=-2)
    near_BM = squared_BM <= radius * radius
    blur = _ROUNDING * math.sqrt(max(points_BD.shape[1], 1))
    doubtful = torch.nonzero((squared_BM - radius * radius).abs() <= blur * lengths_BM)
    for pairs_P2 in torch.split(doubtful, _BLOCK):
        left_PD, right_PD = points_BD[pairs_P2[:, 0]].double(), others_MD[pairs_P2[:, 1]].double()
        near_P = (left_PD - right_PD).square().sum(1).sqrt() <= radius
        near_BM[pairs_P2[:, 0], pairs_P2[:, 1]] = near_P
    return near_BM


def _require_finite(rows_MD: torch.Tensor) -> None:
    if not bool(torch.isfinite(rows_MD).all()):
        raise StrategyError("NOT_FINITE", "an embedding holds NaN or infinity")
