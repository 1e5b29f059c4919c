"""Screening of pairs: which base rows may be within a reach of which queries, by matrix products of low precision.

Rows are centred, scaled by a power of two and rounded to bfloat16 where the processor multiplies that fast (else they
stay float32). With q', n' the rounded rows and e their rounding errors, a pair at distance d has

    |q' - n'| <= d + e_q + e_n,   so d <= T only where   |q' - n'|^2 - (T + e_q + e_n)^2 <= 0.

Multiplied out this is one inner product of rows with a few more columns, so a product of two blocks gives the whole
test, and the answer is the sign bit of each value. `slack` covers the rounding of the product itself, which sums in
float32: no pair within reach is ever lost, and some beyond it pass. Whoever asks measures those that pass exactly.
"""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.errors import StrategyError
from assay.strategies.kernels.tensors import borrow, spread

SWITCH = "ASSAY_SCREEN_DTYPE"
_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
TILE = 1024
# Rows whose mean and size set the frame.
_FRAME_ROWS = 4096
# Rows of a slab come in multiples of this, so that a tile is a whole number of groups of words.
_PADDING = 64
_GROUPED = 16
# Signed zero is no hit; beside squared lengths around 1 this keeps sums of nothing below zero.
_BELOW_ZERO = 2.0**-60
# Squared lengths, in the frame's scale, from which on sums might overflow.
_TOO_LONG = 2.0**100
_ROUND_UP = 1 + 2.0**-7

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
Bits = np.ndarray[Any, Any]


def screen_dtype() -> torch.dtype:
    """bfloat16 on processors with tiles for it (AMX), where a product takes an eighth of the time; else float32.

    The environment variable ASSAY_SCREEN_DTYPE, `bfloat16` or `float32`, decides instead where it is set: both work on
    every processor. Raises StrategyError INVALID_PARAMETER for another value.
    """
    asked = os.environ.get(SWITCH, "")
    if asked and asked not in _DTYPES:
        raise StrategyError("INVALID_PARAMETER", f"{SWITCH} must be {' or '.join(_DTYPES)}, not {asked!r}")
    return _DTYPES[asked] if asked else _fast_dtype()


@functools.cache
def _fast_dtype() -> torch.dtype:
    able = torch.cpu.get_capabilities()
    has_library = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return torch.bfloat16 if has_library and able.get("amx_tile") and able.get("amx_bf16") else torch.float32


@dataclass(frozen=True)
class Frame:
    """Where rows are screened: centred on `origin_D`, multiplied by `scale` (a power of two), in `dtype`."""

    origin_D: torch.Tensor
    scale: float
    dtype: torch.dtype

    @property
    def parts(self) -> int:
        """Columns that hold a float32 to its last bit."""
        return 3 if self.dtype == torch.bfloat16 else 1

    @property
    def width(self) -> int:
        """Columns of a screened row: its own, two constants, and its rounding error; a multiple of 16."""
        return -(-(len(self.origin_D) + 2 * self.parts + 1) // 16) * 16

    @property
    def slack(self) -> float:
        """Four times the worst rounding error of a float32 sum of `width` terms, relative to their sizes."""
        return (self.width + 16) * 2.0**-22


@dataclass(frozen=True)
class Rounded:
    """Rows in a frame. norms_M: squared lengths of the rounded rows. errors_M: at least what rounding moved them."""

    rows_MD: torch.Tensor
    norms_M: torch.Tensor
    errors_M: torch.Tensor


def frame_of(base_ND: NDArray[np.float32]) -> Frame:
    """A frame in which most rows have a length around 1. Raises StrategyError NOT_FINITE."""
    sample_SD = borrow(base_ND[:: max(1, len(base_ND) // _FRAME_ROWS)])
    origin_D = sample_SD.mean(0) if len(sample_SD) else sample_SD.new_zeros(base_ND.shape[1])
    mean_square = float((sample_SD - origin_D).double().square().sum()) / max(len(sample_SD), 1)
    _require(math.isfinite(mean_square))
    exponent = -round(math.log2(mean_square) / 2) if mean_square > 0 else 0
    return Frame(origin_D, 2.0 ** min(max(exponent, -60), 60), screen_dtype())


def rounded(raw_MD: NDArray[np.float32], frame: Frame) -> Rounded:
    """Rows brought into a frame. Raises StrategyError NOT_FINITE."""
    moved_MD = (borrow(raw_MD) - frame.origin_D).mul_(frame.scale)
    rows_MD = moved_MD.to(frame.dtype)
    exact_MD = rows_MD.float()
    norms_M: torch.Tensor = torch.linalg.vecdot(exact_MD, exact_MD)
    _require(bool((norms_M < min(_TOO_LONG, 2.0**126 * frame.scale**2)).all()))
    errors_M: torch.Tensor = torch.linalg.vector_norm(exact_MD - moved_MD, dim=1)
    # Centring rounds too, by half a unit in the last place of what comes out.
    return Rounded(rows_MD, norms_M, errors_M.add_(norms_M.sqrt(), alpha=2.0**-22))


class Slab:
    """Base rows ready to be screened against. Memory: its rows once more, in the frame's type."""

    def __init__(self, raw_MD: NDArray[np.float32], frame: Frame) -> None:
        self.size, dim = raw_MD.shape
        self.rows_MW = torch.zeros((-(-self.size // _PADDING) * _PADDING, frame.width), dtype=frame.dtype)
        self.norms_M = torch.empty(self.size)
        self.errors_M = torch.empty(self.size)
        parts = frame.parts
        # Padding is out of any reach.
        self.rows_MW[self.size :, dim + parts] = 2.0**110

        def block(start: int, stop: int) -> None:
            part = rounded(raw_MD[start:stop], frame)
            rows_BW = self.rows_MW[start:stop]
            rows_BW[:, :dim] = part.rows_MD
            rows_BW[:, dim : dim + parts] = 1
            constant_B = part.norms_M * (1 - frame.slack) - (part.errors_M * _ROUND_UP).square()
            rows_BW[:, dim + parts : dim + 2 * parts] = _parts(constant_B, frame)
            rows_BW[:, dim + 2 * parts] = part.errors_M * _ROUND_UP
            self.norms_M[start:stop] = part.norms_M
            self.errors_M[start:stop] = part.errors_M

        spread(block, self.size, TILE)


class Screen:
    """A block of queries, each with its own reach, to be held against slabs."""

    def __init__(self, raw_BD: NDArray[np.float32], frame: Frame) -> None:
        part = rounded(raw_BD, frame)
        self._frame = frame
        self._dim = raw_BD.shape[1]
        self._norms_B, self._errors_B = part.norms_M, part.errors_M
        self._rows_BW = torch.zeros((len(raw_BD), frame.width), dtype=frame.dtype)
        self._rows_BW[:, : self._dim] = part.rows_MD.mul_(-2)
        self._rows_BW[:, self._dim + frame.parts : self._dim + 2 * frame.parts] = 1
        self._out = torch.empty(len(raw_BD) * TILE, dtype=frame.dtype)

    def reach(self, distances_B: NDArray[np.float64], slab: Slab) -> None:
        """Look for base rows up to these distances, in the units of the data."""
        scaled_B = torch.from_numpy(distances_B * self._frame.scale).float() * (1 + 2.0**-20)
        # Nothing is farther away than this, and infinity cannot be multiplied.
        longest = math.sqrt(float(slab.norms_M.max())) + float(slab.errors_M.max())
        all_B = (self._norms_B.sqrt() + self._errors_B + longest) * 2
        reach_B = torch.minimum(scaled_B, all_B) + self._errors_B
        self._set_constants(reach_B, self._frame.slack)

    def squared_within(self, sample: Slab, count: int) -> NDArray[np.float64]:
        """For each query a distance within which `count` rows of the sample lie, in the units of the data.

        Of every few columns only the smallest value counts, so it may be a little more than the smallest such distance.
        """
        self._set_constants(torch.zeros(len(self._norms_B)), 0.0)
        smallest = [_fold(self._product(sample, start), count) for start in range(0, len(sample.rows_MW), TILE)]
        values_BG = np.concatenate(smallest, axis=1)
        kth_B = torch.from_numpy(np.partition(values_BG, count - 1, axis=1)[:, count - 1].copy())
        squared_B = kth_B.view(self._frame.dtype).double() * _ROUND_UP
        squared_B += 2 * self._frame.slack * (self._norms_B.double() + float(sample.norms_M.max()))
        distances_B = squared_B.sqrt() + self._errors_B + float(sample.errors_M.max())
        reached: NDArray[np.float64] = distances_B.numpy() / self._frame.scale
        return reached

    def hits(self, slab: Slab, start: int) -> Pairs:
        """Pairs (query, row of the slab) that may be within reach, of one tile of the slab, in that order."""
        product_BT = self._product(slab, start)
        queries_M, columns_M = _negative(product_BT)
        return queries_M, columns_M + start

    def _set_constants(self, reach_B: torch.Tensor, slack: float) -> None:
        parts, dim = self._frame.parts, self._dim
        constant_B = self._norms_B * (1 - slack) - reach_B.square() * (1 + slack) - _BELOW_ZERO
        self._rows_BW[:, dim : dim + parts] = _parts(constant_B, self._frame)
        self._rows_BW[:, dim + 2 * parts] = reach_B * (-2 * _ROUND_UP)

    def _product(self, slab: Slab, start: int) -> torch.Tensor:
        rows_TW = slab.rows_MW[start : start + TILE]
        out_BT = self._out[: len(self._rows_BW) * len(rows_TW)].view(len(self._rows_BW), len(rows_TW))
        return torch.mm(self._rows_BW, rows_TW.t(), out=out_BT)


def _parts(values_M: torch.Tensor, frame: Frame) -> torch.Tensor:
    """Values as sums of as many as the frame needs to hold them, shape (M, parts)."""
    parts = []
    for _ in range(frame.parts):
        parts.append(values_M.to(frame.dtype))
        values_M = values_M - parts[-1].float()
    return torch.stack(parts, dim=1)


def _bits(values: torch.Tensor) -> Bits:
    """Floats as integers of their size: of the same sign, and from zero up in the same order."""
    whole: Bits = values.view(torch.int16 if values.dtype == torch.bfloat16 else torch.int32).numpy()
    return whole


def _fold(product_BT: torch.Tensor, groups: int) -> Bits:
    """The smallest bits, none below 0, of groups of columns: as few as halving gives, but no fewer than `groups`."""
    values_BG = _bits(product_BT)
    while values_BG.shape[1] >= 2 * max(groups, _PADDING // 2):
        left_BG, right_BG = np.split(values_BG, 2, axis=1)
        values_BG = np.minimum(left_BG, right_BG)
    # Bits of negative values do not keep their order, but any of them is below 0.
    return np.maximum(values_BG, 0)


def _negative(values_BT: torch.Tensor) -> Pairs:
    """Places of the negative values, in order. Looks at a group of words at a time: nearly all have none."""
    lanes_BT = _bits(values_BT)
    words_GW = lanes_BT.reshape(-1).view(np.int64).reshape(_GROUPED, -1)
    signs = np.full(8 // lanes_BT.itemsize, np.iinfo(lanes_BT.dtype).min, lanes_BT.dtype).view(np.int64)[0]
    hot_H = np.flatnonzero(np.bitwise_or.reduce(words_GW, axis=0) & signs)
    group_M, place_M = np.nonzero(words_GW[:, hot_H] & signs)
    words_M = group_M * words_GW.shape[1] + hot_H[place_M]
    lanes = 8 // lanes_BT.itemsize
    word_P, lane_P = np.nonzero(lanes_BT.reshape(-1, lanes)[words_M] < 0)
    flat_P = words_M[word_P] * lanes + lane_P
    return np.divmod(flat_P, lanes_BT.shape[1])


def _require(finite: bool) -> None:
    if not finite:
        raise StrategyError("NOT_FINITE", "an embedding holds NaN, infinity, or values beyond float32 when squared")
