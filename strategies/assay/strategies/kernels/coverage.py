"""Greedy facility location: the picks S that maximise sum_j w_j max_{i in S} s_ij, one after the other, exactly.

With best_j the similarity of column j to what covers it so far, candidate i gains sum_j w_j max(0, s_ij - best_j).
A pick raises best_j only for the columns that are more similar to it, and those alone change the gains:

    loss_i = sum over raised j of w_j min(max(0, s_ij - best_j), rise_j)

so all gains stay up to date for the price of each column's raises, which grow with the logarithm of the picks.
Where gains are too close for float32 to order, float64 decides; what covers each column is float64 anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.similarity import Similarity
from assay.strategies.kernels.tensors import spread

# A tile of similarities: 1 MB, half a core's second-level cache.
_COLUMNS = 256
_CANDIDATES = 1024
# Rows of the triangle of a matrix that one thread computes at a time.
_TRIANGLE = 512
# Rows of likely picks that are computed together.
_ROWS = 64
# Candidates too close for float32: how many are looked at, and how many different ones float64 decides between.
_CLOSE = 512
_RIVALS = 64
# Gains in float64 closer than this, relative to the sum of weights, are equal.
_EQUAL = 1e-12
# Gains are summed anew where that lowers their rounding to this part of what it was.
_RENEW = 1 / 16


class Source(Protocol):
    """Similarities of candidates to the columns that they cover."""

    @property
    def resolution(self) -> float:
        """Rounding error of the similarities behind `gains` and `losses`."""

    def gains(self, best_C: torch.Tensor, weights_C: torch.Tensor) -> torch.Tensor:
        """float64 sum_j w_j max(0, s_ij - best_j) of every candidate."""

    def losses(
        self, columns: torch.Tensor, best_J: torch.Tensor, rise_J: torch.Tensor, weights_J: torch.Tensor
    ) -> torch.Tensor:
        """float64 sum over the columns of w_j min(max(0, s_ij - best_j), rise_j) of every candidate."""

    def reached(self, picks: torch.Tensor, best_C: torch.Tensor, gains_N: torch.Tensor) -> torch.Tensor:
        """Ascending columns: all that any of the picks could raise, perhaps others."""

    def exact(self, columns: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
        """float64 similarities of columns to picks, shape (columns, picks); so low that they raise nothing if none."""

    def name(self, pick: int) -> bytes:
        """Equal for candidates that are equally similar to everything."""


@dataclass
class Cover:
    """What covers each column, and how well.

    best_C: float64 similarity to it. top_C: the most it can ever be.
    """

    best_C: torch.Tensor
    top_C: torch.Tensor
    weights_C: torch.Tensor

    def __post_init__(self) -> None:
        self.near_C = self.best_C.float()
        self.total = float(self.weights_C.double().sum())

    def complete(self) -> bool:
        """Whether no pick can add anything."""
        return float((self.top_C - self.best_C).mul_(self.weights_C).max()) <= _EQUAL

    def gains(self, columns: torch.Tensor, values_JR: torch.Tensor) -> torch.Tensor:
        """float64 gains of a few candidates from their exact similarities to the columns that they reach."""
        rises_JR = values_JR.sub(self.best_C[columns, None]).clamp_min_(0)
        return self.weights_C[columns].double() @ rises_JR

    def raise_to(self, columns: torch.Tensor, values_J: torch.Tensor) -> None:
        self.best_C[columns] = values_J
        self.near_C[columns] = values_J.float()


@dataclass(frozen=True)
class Covering:
    """Picks in order, and the float64 gain of each at its time, as a part of the sum of weights."""

    picks: NDArray[np.int64]
    gains: NDArray[np.float64]


def greedy_cover(
    source: Source, cover: Cover, size: int, bonus_N: torch.Tensor | None = None, first_N: torch.Tensor | None = None
) -> Covering:
    """The greedy picks, `size` of them, not more than there are candidates; ties go to the lower index.

    bonus_N: float64, not negative: what a candidate gains besides.
    first_N: the gains to begin with, where they are known.
    """
    greedy = _Greedy(source, cover, bonus_N, first_N)
    while len(greedy.picks) < size and not (bonus_N is None and cover.complete()):
        greedy.advance()
    rest = torch.nonzero(greedy.open_N).flatten()[: size - len(greedy.picks)].tolist()
    gains = np.array(greedy.added + [0.0] * len(rest)) / (cover.total or 1.0)
    return Covering(np.array(greedy.picks + rest, np.int64), gains)


class _Greedy:
    """The picks so far and the gains of the rest; those of picks are -inf."""

    def __init__(
        self, source: Source, cover: Cover, bonus_N: torch.Tensor | None, first_N: torch.Tensor | None
    ) -> None:
        self.source, self.cover, self.bonus_N = source, cover, bonus_N
        self.picks: list[int] = []
        self.added: list[float] = []
        self._spread = math.sqrt(float(cover.weights_C.double().square().sum()))
        self._set(source.gains(cover.near_C, cover.weights_C) if first_N is None else first_N, None)

    def advance(self) -> None:
        checkpoint()
        pick = self._best()
        pick_1 = torch.tensor([pick])
        columns = self.source.reached(pick_1, self.cover.near_C, self.gains_N)
        values_J = self.source.exact(columns, pick_1).flatten()
        raised = values_J > self.cover.best_C[columns]
        columns, values_J = columns[raised], values_J[raised]
        gain = float(self.cover.gains(columns, values_J[:, None])) + self._bonus(pick)
        self.picks.append(pick)
        self.added.append(min([gain, *self.added[-1:]]))
        self.open_N[pick] = False
        self._cover(columns, values_J)

    def _cover(self, columns: torch.Tensor, values_J: torch.Tensor) -> None:
        """Raise columns, and bring the gains up to date."""
        near_J, weights_J = self.cover.near_C[columns], self.cover.weights_C[columns]
        self.cover.raise_to(columns, values_J)
        if len(columns) == len(self.cover.best_C) or self._spread + self.added[-1] < self._renew_at:
            self._set(self.source.gains(self.cover.near_C, self.cover.weights_C), self.open_N)
        else:
            if len(columns):
                rises_J = self.cover.near_C[columns] - near_J
                self.gains_N -= self.source.losses(columns, near_J, rises_J, weights_J)
            self.gains_N[self.picks[-1]] = -torch.inf

    def _set(self, gains_N: torch.Tensor, open_N: torch.Tensor | None) -> None:
        if self.bonus_N is not None:
            gains_N = gains_N + self.bonus_N
        self.open_N = torch.ones(len(gains_N), dtype=torch.bool) if open_N is None else open_N
        self.gains_N = gains_N.masked_fill_(~self.open_N, -torch.inf)
        scale = self._spread + max(float(gains_N.max()), 0.0)
        self._renew_at = scale * _RENEW
        self._blur = self.source.resolution * scale + _EQUAL * self.cover.total

    def _bonus(self, pick: int) -> float:
        return 0.0 if self.bonus_N is None else float(self.bonus_N[pick])

    def _best(self) -> int:
        """The candidate that gains most; of equals the first."""
        close = torch.nonzero(self.gains_N >= self.gains_N.max() - self._blur).flatten()[:_CLOSE].tolist()
        if len(close) == 1:
            return int(close[0])
        different: dict[bytes, int] = {}
        for candidate in close:
            different.setdefault(self.source.name(candidate), candidate)
        rivals = list(different.values())[:_RIVALS]
        return rivals[0] if len(rivals) == 1 else self._decided(torch.tensor(rivals))

    def _decided(self, rivals: torch.Tensor) -> int:
        columns = self.source.reached(rivals, self.cover.near_C, self.gains_N)
        gains_R = self.cover.gains(columns, self.source.exact(columns, rivals))
        if self.bonus_N is not None:
            gains_R += self.bonus_N[rivals]
        equal = gains_R >= gains_R.max() - _EQUAL * self.cover.total
        return int(rivals[int(equal.to(torch.uint8).argmax())])


class Tiles:
    """All pairs, in tiles: out of a matrix of all, held in memory, or computed as often as they are needed."""

    def __init__(self, similarity: Similarity, *, hold: bool) -> None:
        self.similarity = similarity
        self.size = similarity.size
        self.resolution = similarity.resolution
        self._held_NN = _matrix(similarity) if hold else None
        self._rows = _Rows(similarity)

    def gains(self, best_C: torch.Tensor, weights_C: torch.Tensor) -> torch.Tensor:
        return self._summed(None, best_C, None, weights_C)

    def losses(
        self, columns: torch.Tensor, best_J: torch.Tensor, rise_J: torch.Tensor, weights_J: torch.Tensor
    ) -> torch.Tensor:
        return self._summed(columns, best_J, rise_J, weights_J)

    def reached(self, picks: torch.Tensor, best_C: torch.Tensor, gains_N: torch.Tensor) -> torch.Tensor:
        lowest_C = best_C - self.resolution
        held = self._held_NN
        rows_RC = self._rows.of(picks, gains_N) if held is None else held[picks]
        return torch.nonzero((rows_RC > lowest_C).any(0)).flatten()

    def exact(self, columns: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
        return self.similarity.exact(columns, picks)

    def name(self, pick: int) -> bytes:
        return self.similarity.rows_ND[pick].numpy().tobytes()

    def _summed(
        self, columns: torch.Tensor | None, best_J: torch.Tensor, rise_J: torch.Tensor | None, weights_J: torch.Tensor
    ) -> torch.Tensor:
        """What `gains` (columns None: all) and `losses` (with rises) are."""
        tiles = self._reader(columns)
        sums_N = torch.zeros(self.size, dtype=torch.float64)

        def block(start: int, stop: int) -> None:
            buffer_JB = torch.empty((_COLUMNS, stop - start))
            for first in range(0, len(best_J), _COLUMNS):
                checkpoint()
                part = slice(first, min(first + _COLUMNS, len(best_J)))
                tile_JB = buffer_JB[: part.stop - first]
                torch.sub(tiles(part, start, stop, tile_JB), best_J[part, None], out=tile_JB).clamp_min_(0)
                if rise_J is not None:
                    torch.minimum(tile_JB, rise_J[part, None], out=tile_JB)
                sums_N[start:stop] += torch.mv(tile_JB.t(), weights_J[part])

        spread(block, self.size, _CANDIDATES)
        return sums_N

    def _reader(self, columns: torch.Tensor | None) -> _Reader:
        held_NN = self._held_NN
        if held_NN is not None:
            return _HeldTiles(held_NN, columns)
        return _ComputedTiles(self.similarity, columns)


class _Reader(Protocol):
    def __call__(self, part: slice, start: int, stop: int, out_JB: torch.Tensor) -> torch.Tensor:
        """A tile, in `out_JB` or held, to be read: a part of the wanted columns, by the candidates start..stop-1."""


class _HeldTiles:
    """Rows of the matrix stand for its columns: it is symmetric."""

    def __init__(self, held_NN: torch.Tensor, columns: torch.Tensor | None) -> None:
        self._held_NN, self._columns = held_NN, columns

    def __call__(self, part: slice, start: int, stop: int, out_JB: torch.Tensor) -> torch.Tensor:
        if self._columns is None:
            return self._held_NN[part, start:stop]
        return torch.index_select(self._held_NN[:, start:stop], 0, self._columns[part], out=out_JB)


class _ComputedTiles:
    def __init__(self, similarity: Similarity, columns: torch.Tensor | None) -> None:
        self._similarity = similarity
        rows = slice(None) if columns is None else columns
        self._rows_JD, self._norms_J = similarity.rows_ND[rows], similarity.norms_N[rows]

    def __call__(self, part: slice, start: int, stop: int, out_JB: torch.Tensor) -> torch.Tensor:
        return self._similarity.tile_of(self._rows_JD[part], self._norms_J[part], slice(start, stop), out_JB)


class _Rows:
    """Rows of similarities, computed with those of the candidates that are likely to be asked for next."""

    def __init__(self, similarity: Similarity) -> None:
        self._similarity = similarity
        self._places: dict[int, int] = {}
        self._rows_MN = torch.empty(0)

    def of(self, picks: torch.Tensor, gains_N: torch.Tensor) -> torch.Tensor:
        wanted = picks.tolist()
        if not all(pick in self._places for pick in wanted):
            self._compute(wanted, gains_N)
        return self._rows_MN[[self._places[pick] for pick in wanted]]

    def _compute(self, wanted: list[int], gains_N: torch.Tensor) -> None:
        likely = torch.topk(gains_N, min(_ROWS, len(gains_N))).indices.tolist()
        chosen = list(dict.fromkeys([*wanted, *likely]))
        self._places = {candidate: place for place, candidate in enumerate(chosen)}
        rows = torch.tensor(chosen)
        left_MD, norms_M = self._similarity.rows_ND[rows], self._similarity.norms_N[rows]
        self._rows_MN = torch.empty((len(chosen), self._similarity.size))

        def block(start: int, stop: int) -> None:
            self._rows_MN[:, start:stop] = self._similarity.tile_of(left_MD, norms_M, slice(start, stop))

        spread(block, self._similarity.size, 4 * _CANDIDATES)


def _matrix(similarity: Similarity) -> torch.Tensor:
    """All similarities: the upper triangle is computed, and mirrored while it is in the cache."""
    size = similarity.size
    held_NN = torch.empty((size, size))

    def block(start: int, stop: int) -> None:
        for first in range(start, size, _TRIANGLE):
            checkpoint()
            others = slice(first, min(first + _TRIANGLE, size))
            tile = similarity.tile(slice(start, stop), others)
            held_NN[start:stop, others] = tile
            if first > start:
                held_NN[others, start:stop] = tile.t()

    spread(block, size, _TRIANGLE)
    return held_NN
