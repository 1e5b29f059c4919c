"""Greedy maximisation where a pick lowers the gain of every other candidate by a function of an inner product.

Gains only fall, so old ones are upper bounds: the block of candidates with the largest bounds is brought up to date,
and picks are made inside it for as long as no bound outside can win. Everything else is brought up to date in one
matrix product for all the picks that it does not know yet. All of it in float64; equal gains go to the lower index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.similarity import Similarity
from assay.strategies.kernels.tensors import spread
from assay.strategies.kernels.topk import top_k

_BLOCK = 1024
_BLOCK_VALUES = 1 << 18
# Gains closer than this, relative to the largest, are equal.
_EQUAL = 1e-11


class Objective(Protocol):
    """What a pick does to the gains of the others."""

    def added(self, row_D: torch.Tensor) -> torch.Tensor:
        """The float64 direction that a pick adds, shape (D,)."""

    def drops(self, rows_BD: torch.Tensor, directions_MD: torch.Tensor) -> torch.Tensor:
        """By how much the gains of some candidates fall for some added directions, at least 0, shape (B,)."""


@dataclass(frozen=True)
class Traversal:
    """Picks in order, and the gain of each at its time, never rising."""

    picks: NDArray[np.int64]
    gains: NDArray[np.float64]
    passes: int


def greedy_map(
    similarity: Similarity, gains_N: torch.Tensor, objective: Objective, size: int, first: int | None = None
) -> Traversal:
    """The greedy picks among the rows of a similarity, `size` of them, not more than there are.

    gains_N: float64, of the first pick; consumed. first: the first pick, where all gain the same.
    """
    greedy = _Greedy(similarity, gains_N, objective)
    if first is not None:
        greedy.begin(first)
    while len(greedy.picks) < size:
        greedy.advance(size)
    gains = np.minimum.accumulate(np.array(greedy.gains, np.float64))
    return Traversal(np.array(greedy.picks, np.int64), gains, greedy.passes)


def in_blocks(similarity: Similarity, measure: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """A float64 value for each row, from blocks of rows in float64."""
    values_N = torch.empty(similarity.size, dtype=torch.float64)

    def block(start: int, stop: int) -> None:
        values_N[start:stop] = measure(similarity.exact_rows(slice(start, stop)))

    spread(block, similarity.size, max(1, _BLOCK_VALUES // max(similarity.dim, 1)))
    return values_N


class _Greedy:
    """bounds_N: the gains before the block that picks are being made in; -inf for picks."""

    def __init__(self, similarity: Similarity, bounds_N: torch.Tensor, objective: Objective) -> None:
        self.similarity, self.bounds_N, self.objective = similarity, bounds_N, objective
        self.equal = _EQUAL * max(float(bounds_N.abs().max()), 1.0)
        self.picks: list[int] = []
        self.gains: list[float] = []
        self.passes = 0

    def begin(self, first: int) -> None:
        row_D = self.similarity.exact_rows(torch.tensor([first]))[0]
        self._pick(first, float(self.bounds_N[first]))
        self._lower(self.objective.added(row_D)[None])

    def advance(self, size: int) -> None:
        """At least one more pick, at most up to `size` in all."""
        indices_B, outside = self._block()
        rows_BD, gains_B = self.similarity.exact_rows(indices_B), self.bounds_N[indices_B]
        directions: list[torch.Tensor] = []
        # Nobody is outdated at first, and the block holds the first of the best.
        while len(self.picks) < size and (not directions or float(gains_B.max()) > outside + self.equal):
            checkpoint()
            place = int((gains_B >= gains_B.max() - self.equal).to(torch.uint8).argmax())
            self._pick(int(indices_B[place]), float(gains_B[place]))
            directions.append(self.objective.added(rows_BD[place]))
            gains_B -= self.objective.drops(rows_BD, directions[-1][None])
            gains_B[place] = -torch.inf
        if len(self.picks) < size:
            self._lower(torch.stack(directions))

    def _pick(self, index: int, gain: float) -> None:
        self.picks.append(index)
        self.gains.append(gain)
        self.bounds_N[index] = -torch.inf

    def _lower(self, directions_MD: torch.Tensor) -> None:
        self.bounds_N -= in_blocks(self.similarity, lambda rows_BD: self.objective.drops(rows_BD, directions_MD))
        self.passes += 1

    def _block(self) -> tuple[torch.Tensor, float]:
        """Ascending indices of the candidates with the largest bounds, and the largest bound outside."""
        bounds_N = self.bounds_N
        tied_N = bounds_N >= bounds_N.max() - self.equal
        if int(tied_N.count_nonzero()) >= _BLOCK:
            inside = np.flatnonzero(tied_N.numpy())[:_BLOCK]
        else:
            inside = np.sort(top_k(bounds_N.numpy(), _BLOCK))
        outside_N = bounds_N.index_fill(0, torch.from_numpy(inside), -torch.inf)
        return torch.from_numpy(inside), float(outside_N.max())
