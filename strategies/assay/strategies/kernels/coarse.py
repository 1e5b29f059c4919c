"""Upper bounds of squared distances by matrix products in bfloat16, where the processor has tiles for that.

Points x and centres s are rounded to x' and s', by known lengths: |x - s| <= |x' - s'| + |x - x'| + |s - s'|. The
lengths |x'|^2 and |s'|^2 are three more columns each (their parts of eight bits), so that one product gives
|x' - s'|^2 itself, summed in float32, and what rounds it to bfloat16 at the end is relative to the distance, not to
the lengths. Nothing here is ever below the true distance.
"""

from __future__ import annotations

import torch

from assay.strategies.kernels.points import CENTRES, Points
from assay.strategies.kernels.screen import screen_dtype
from assay.strategies.kernels.tensors import spread

# bfloat16 values in a block of points.
_VALUES = 1 << 19
# bfloat16 values that are kept.
_KEPT = 1 << 29
# Columns that hold a float32 in bfloat16, and what widths are a multiple of.
_PARTS, _MULTIPLE = 3, 32
# Below so many dims, or centres in all, what goes on around the products costs more than they save.
_FEWEST_DIMS, _FEWEST_CENTRES = 48, 400
# Between these, squared lengths neither overflow nor vanish on the way; and more than all that vanishes.
_SHORTEST, _LONGEST, _VANISHING = 2.0**-80, 2.0**100, 2.0**-100
# Half a unit in the last place of bfloat16 is 2^-9; these leave room for the float32 steps beside it.
_ROUNDED = 1 + 2.0**-8
_MEASURED = 1 + 2.0**-10

Rounded = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Coarse:
    """The same points as `points`, rounded: kept where they take at most 1 GiB, else rounded anew at every look."""

    def __init__(self, points: Points) -> None:
        self._points = points
        self._width = -(-(points.dim + 2 * _PARTS) // _MULTIPLE) * _MULTIPLE
        self._step = max(1, _VALUES // self._width)
        self._norms_N, self._errors_N = torch.empty(points.size), torch.empty(points.size)
        kept = points.size if points.size * self._width <= _KEPT else 0
        self._kept_NW = torch.empty((kept, self._width), dtype=torch.bfloat16)

        def block(start: int, stop: int) -> None:
            rows = slice(start, stop)
            low_BD, self._norms_N[rows], self._errors_N[rows] = _rounded(points.rows(rows))
            if kept:
                self._set_columns(self._kept_NW[rows], low_BD, self._norms_N[rows], points.dim)

        spread(block, points.size, self._step)

    @staticmethod
    def of(points: Points, centres: int) -> Coarse | None:
        """None where it would not be faster for so many centres, or lengths are out of its range."""
        few = points.dim < _FEWEST_DIMS or centres < _FEWEST_CENTRES or not points.size
        if few or screen_dtype() != torch.bfloat16:
            return None
        return Coarse(points) if _SHORTEST < float(points.norms_N.max()) < _LONGEST else None

    def lower(self, bounds_N: torch.Tensor, centres_MD: torch.Tensor) -> None:
        """Lower each bound to one of the squared distance to the nearest of the centres, where that is smaller."""
        for chunk_MD in torch.split(centres_MD, CENTRES) if len(centres_MD) else ():
            self._lower(bounds_N, chunk_MD)

    def _lower(self, bounds_N: torch.Tensor, centres_MD: torch.Tensor) -> None:
        low_MD, norms_M, errors_M = _rounded(centres_MD)
        columns_MW = torch.empty((len(low_MD), self._width), dtype=torch.bfloat16)
        self._set_columns(columns_MW, low_MD.mul_(-2), norms_M, self._points.dim + _PARTS)
        longest, error = norms_M.max(), errors_M.max()
        # Worst case of a float32 sum: (|x'| + |s'|)^2 <= 2 (|x'|^2 + |s'|^2).
        slack = self._width * 2.0**-23

        def block(start: int, stop: int) -> None:
            rows = slice(start, stop)
            squared_B = _smallest(self._rows(rows) @ columns_MW.t()).mul_(_ROUNDED)
            squared_B.add_(self._norms_N[rows] + longest, alpha=slack).add_(_VANISHING)
            upper_B = squared_B.sqrt_().add_(self._errors_N[rows]).add_(error).square_().mul_(_MEASURED)
            torch.minimum(bounds_N[rows], upper_B, out=bounds_N[rows])

        spread(block, self._points.size, self._step)

    def _rows(self, rows: slice) -> torch.Tensor:
        if len(self._kept_NW):
            return self._kept_NW[rows]
        norms_B = self._norms_N[rows]
        rows_BW = torch.empty((len(norms_B), self._width), dtype=torch.bfloat16)
        self._set_columns(rows_BW, self._points.rows(rows), norms_B, self._points.dim)
        return rows_BW

    def _set_columns(self, out_MW: torch.Tensor, rows_MD: torch.Tensor, norms_M: torch.Tensor, place: int) -> None:
        """Rows, and after them the parts of their lengths from `place` on beside ones."""
        dim = self._points.dim
        out_MW[:, :dim] = rows_MD
        out_MW[:, dim : dim + 2 * _PARTS] = 1
        out_MW[:, dim + 2 * _PARTS :] = 0
        for part in range(_PARTS):
            out_MW[:, place + part] = norms_M
            norms_M = norms_M - out_MW[:, place + part].float()


def _rounded(rows_MD: torch.Tensor) -> Rounded:
    """Rows in bfloat16, their squared lengths, and how far rounding moved them."""
    low_MD = rows_MD.bfloat16()
    back_MD = low_MD.float()
    norms_M = torch.linalg.vecdot(back_MD, back_MD)
    errors_M = torch.linalg.vector_norm(back_MD.sub_(rows_MD), dim=1)
    return low_MD, norms_M, errors_M.mul_(_MEASURED)


def _smallest(squared_BM: torch.Tensor) -> torch.Tensor:
    """The smallest value of each row, at least 0, in float32."""
    # From zero up bfloat16 is ordered as its bits are, and below zero it does not matter; whole numbers are faster.
    bits_B = torch.from_numpy(squared_BM.view(torch.int16).numpy().min(axis=1))
    return bits_B.clamp_min_(0).view(torch.bfloat16).float()
