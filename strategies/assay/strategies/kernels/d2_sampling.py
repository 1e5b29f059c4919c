"""Exact D^2 sampling (k-means++): each next pick is drawn with probability proportional to D^2, its squared distance
to the nearest of all centres so far.

Distances only fall, so stale ones are upper bounds U >= D^2. Candidates are proposed with probability proportional
to U and accepted with probability D^2 / U, which is the same law; D^2 is worked out for what is proposed only. All
of U is brought up to date, in one matrix product, when rejected proposals have cost about as much.

Points are outer products x = f1 (x) f2 (x) ... of one or more factors, never written out: |x|^2 is the product of the
factors' squared lengths, and x.y that of their inner products. One factor is a plain vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.points import BLOCK_VALUES, CENTRES, Points, Rows
from assay.strategies.kernels.tensors import alone, spread

Factor = Callable[[Rows], torch.Tensor]

# Proposals looked at together: at least, and at most.
_FEWEST, _MOST = 16, 256
# What a rejected proposal and a row of everything cost, in columns of a matrix product, besides the centres that they
# are compared with; and how much dearer the former is, for gathering its rows and being one of few.
_PROPOSAL, _ROW, _DEARER = 512, 32, 8
# Centres given at the start that everybody is compared with; the others matter only to what is proposed.
_GIVEN = 32


@dataclass(frozen=True)
class Batch:
    """Some points: their factors, and their squared lengths."""

    factors: tuple[torch.Tensor, ...]
    norms_B: torch.Tensor

    def __len__(self) -> int:
        return len(self.norms_B)

    def __getitem__(self, part: slice) -> Batch:
        return Batch(tuple(factor[part] for factor in self.factors), self.norms_B[part])


class Space:
    """`size` points as outer products, and their squared distances by blocks of matrix products.

    factors: each gives float32 rows, of one width, for a slice or indices of the points.
    norms_N: squared lengths of the points, float32.
    resolution: rounding error of a squared distance relative to the squared length of a point; less counts as 0.
    """

    def __init__(self, factors: Sequence[Factor], norms_N: torch.Tensor, resolution: float) -> None:
        self._factors = tuple(factors)
        self.norms_N = norms_N
        self.size = len(norms_N)
        self.resolution = resolution
        self._width = max(factor(slice(0, 0)).shape[1] for factor in self._factors)

    @classmethod
    def of(cls, points: Points) -> Space:
        """Embeddings as they are measured."""
        return cls([points.rows], points.norms_N, points.resolution)

    def rows(self, rows: Rows) -> Batch:
        """Some of the points."""
        norms_B = self.norms_N[rows] if isinstance(rows, slice) else self.norms_N[torch.from_numpy(rows)]
        return Batch(tuple(factor(rows) for factor in self._factors), norms_B)

    def squared(self, points: Batch, centres: Batch) -> torch.Tensor:
        """Squared distances, float32, shape (B, M); exactly 0 between copies."""
        norms_B1 = points.norms_B.unsqueeze(1)
        return self._from_zero(self._short(points, centres).add_(norms_B1), norms_B1)

    def nearest(self, points: Batch, centres: Batch) -> torch.Tensor:
        """Squared distance of each point to the nearest of the centres (at least one), float32, shape (B,)."""
        return self._from_zero(self._short(points, centres).amin(1).add_(points.norms_B), points.norms_B)

    def lower(self, bounds_N: torch.Tensor, centres: Batch) -> None:
        """Lower each squared distance in `bounds_N` to that of the nearest centre, where that is smaller."""
        for first in range(0, len(centres), CENTRES):
            chunk = centres[first : first + CENTRES]

            def block(start: int, stop: int, chunk: Batch = chunk) -> None:
                rows = slice(start, stop)
                nearest_B = self.nearest(self.rows(rows), chunk)
                torch.minimum(bounds_N[rows], nearest_B, out=bounds_N[rows])

            spread(block, self.size, max(1, BLOCK_VALUES // max(self._width, len(chunk))))

    def _from_zero(self, squared: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        return squared.masked_fill_(squared <= norms * self.resolution, 0)

    def _short(self, points: Batch, centres: Batch) -> torch.Tensor:
        """Squared distances short of the points' squared lengths, shape (B, M)."""
        *others, (points_BD, centres_MD) = zip(points.factors, centres.factors, strict=True)
        if not others:
            return torch.addmm(centres.norms_B, points_BD, centres_MD.t(), alpha=-2)
        products_BM = points_BD @ centres_MD.t()
        for points_BD, centres_MD in others[1:]:
            products_BM.mul_(points_BD @ centres_MD.t())
        return torch.addcmul(centres.norms_B, products_BM, others[0][0] @ others[0][1].t(), value=-2)


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    indices_K: int64, in order, without repeats.
    squared_K: float32, D^2 of each when it was drawn; of a first pick without any centre, the largest that it left.
    drawn: how many were drawn; the others only fill up, as they are copies of centres (or weigh nothing).
    passes: how many times all points were compared with centres.
    """

    indices_K: NDArray[np.int64]
    squared_K: NDArray[np.float32]
    drawn: int
    passes: int


def sample(
    space: Space,
    size: int,
    rng: np.random.Generator,
    *,
    first: int | None = None,
    given: Batch | None = None,
    weights_N: NDArray[np.float32] | None = None,
) -> Drawn:
    """`min(size, space.size)` points, each drawn by weight times D^2 to all centres: those given and those drawn.

    first: the first pick, where no distance can draw it; needed where no centre is given.
    given: centres that are no candidates, at least one.
    weights_N: at least 0; default 1 for all.
    When all that is left has distance (or weight) 0, the lowest indices fill up, with D^2 as it is.
    """
    size = min(size, space.size)
    if size == 0:
        return Drawn(np.empty(0, np.int64), np.empty(0, np.float32), 0, 0)
    return alone(lambda: _sample(_Sampler(space, rng, given, weights_N), size, first))


def draw(weights_N: NDArray[np.float32], rng: np.random.Generator) -> int:
    """One index with probability proportional to its weight; 0 where all weights are 0."""
    return int(_proposed(np.cumsum(weights_N, dtype=np.float64), 1, rng)[0])


def _sample(sampler: _Sampler, size: int, first: int | None) -> Drawn:
    if first is not None:
        sampler.begin(first)
    while len(sampler.picks) < size and sampler.total > 0:
        sampler.advance(size)
    drawn = len(sampler.picks)
    sampler.fill(size)
    return Drawn(np.array(sampler.picks, np.int64), np.array(sampler.squared, np.float32), drawn, sampler.passes)


class _Sampler:
    """The draw so far.

    bounds_N: upper bounds of D^2; they know all given centres before `given_known` and all picks before `known`.
    """

    def __init__(
        self,
        space: Space,
        rng: np.random.Generator,
        given: Batch | None,
        weights_N: NDArray[np.float32] | None,
    ) -> None:
        self.space = space
        self.rng = rng
        self.weights_N = weights_N
        self.given = given
        self.picks: list[int] = []
        self.squared: list[float] = []
        self.known = 0
        self.wasted = 0
        self.acceptance = 1.0
        self.passes = 0
        self.picked_N = np.zeros(space.size, np.bool_)
        self.bounds_N = torch.full((space.size,), torch.inf)
        if given is not None:
            space.lower(self.bounds_N, given[:_GIVEN])
            self.given = given[_GIVEN:]
            self._accumulate()

    @property
    def total(self) -> float:
        return float(self.cumulated_N[-1])

    def begin(self, first: int) -> None:
        """The first pick, where no distance can draw it."""
        self._pick(first, 0.0)
        self._refresh()
        self.squared[0] = float(self.bounds_N.max())

    def advance(self, size: int) -> None:
        """Look at some proposals, and bring everything up to date where too many were rejected."""
        checkpoint()
        before = len(self.picks)
        # Not by how many are wanted: the picks of a smaller size are to begin those of a larger one.
        count = int(np.clip(before / self.acceptance, _FEWEST, _MOST))
        proposed_M = _proposed(self.cumulated_N, count, self.rng)
        looked_at = self._accept(proposed_M, self.rng.random(count), size)
        accepted = len(self.picks) - before
        self.acceptance = max(accepted / looked_at, 1 / _MOST)
        unknown = len(self.picks) - self.known + (0 if self.given is None else len(self.given))
        self.wasted += _DEARER * (looked_at - accepted) * (unknown + _PROPOSAL)
        if self.wasted > self.space.size * (unknown + _ROW):
            self._refresh()

    def fill(self, size: int) -> None:
        """Pick the lowest indices that are left."""
        missing = size - len(self.picks)
        if missing:
            rest = np.flatnonzero(~self.picked_N)[:missing]
            self._refresh()
            self.squared.extend(self.bounds_N[torch.from_numpy(rest)].tolist())
            self.picks.extend(rest.tolist())

    def _accept(self, proposed_M: NDArray[np.int64], chances_M: NDArray[np.float64], size: int) -> int:
        """Accept or reject the proposals in order, up to `size` picks in all; gives how many were looked at."""
        batch = self.space.rows(proposed_M)
        bounds_M = self.bounds_N[torch.from_numpy(proposed_M)].numpy()
        squared_M = self._squared(batch, bounds_M)
        squared_M[self.picked_N[proposed_M]] = 0
        between_MM = self.space.squared(batch, batch).numpy()
        thresholds_M = chances_M * bounds_M
        place = -1
        while len(hits := np.flatnonzero(squared_M[place + 1 :] > thresholds_M[place + 1 :])):
            place += 1 + int(hits[0])
            self._pick(int(proposed_M[place]), float(squared_M[place]))
            if len(self.picks) == size:
                return place + 1
            np.minimum(squared_M, between_MM[:, place], out=squared_M)
            squared_M[proposed_M == proposed_M[place]] = 0
        return len(proposed_M)

    def _squared(self, batch: Batch, bounds_M: NDArray[np.float32]) -> NDArray[np.float32]:
        """D^2 of some points."""
        squared_M = torch.from_numpy(bounds_M.copy())
        for centres in self._unknown():
            torch.minimum(squared_M, self.space.nearest(batch, centres), out=squared_M)
        return squared_M.numpy()

    def _unknown(self) -> list[Batch]:
        """The centres that the bounds do not know yet."""
        picks = self.space.rows(np.array(self.picks[self.known :], np.int64))
        return [batch for batch in (self.given, picks) if batch is not None and len(batch)]

    def _pick(self, index: int, squared: float) -> None:
        self.picks.append(index)
        self.squared.append(squared)
        self.picked_N[index] = True

    def _refresh(self) -> None:
        """Bring every bound up to date."""
        for centres in self._unknown():
            self.space.lower(self.bounds_N, centres)
        self.bounds_N[torch.from_numpy(self.picked_N)] = 0
        self.given = None
        self.known = len(self.picks)
        self.wasted = 0
        self.acceptance = 1.0
        self.passes += 1
        self._accumulate()

    def _accumulate(self) -> None:
        bounds_N = self.bounds_N.numpy()
        weighted_N = bounds_N if self.weights_N is None else bounds_N * self.weights_N.astype(np.float64)
        self.cumulated_N = np.cumsum(weighted_N, dtype=np.float64)


def _proposed(cumulated_N: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices drawn by the steps of a cumulated sum; never one whose step is 0, unless all are."""
    total = cumulated_N[-1]
    last = int(np.searchsorted(cumulated_N, total))
    indices: NDArray[np.int64] = np.searchsorted(cumulated_N, rng.random(count) * total, side="right")
    return np.minimum(indices, last)
