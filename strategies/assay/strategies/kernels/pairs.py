"""Facility location over some of the pairs: those that can still matter, or those of a neighbour graph.

A pair matters while the candidate is more similar to the column than what covers it. Coverage only grows, so pairs
that do not matter never will, and after a few picks those that do fit in memory: from then on a pick costs the
pairs of the columns that it raises. Lists of nearest candidates per column give the usual approximation instead.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.kernels.coverage import Cover, Source, Tiles
from assay.strategies.kernels.search import nearest
from assay.strategies.kernels.similarity import Similarity
from assay.strategies.kernels.tensors import spread

# float32 similarities in a stripe of columns by all candidates, and the most columns in it.
_STRIPE_VALUES = 1 << 22
_STRIPE_COLUMNS = 128
# Pairs in a block, and the columns whose pairs are counted before all are collected.
_BLOCK_PAIRS = 1 << 18
_SAMPLE = 512
# Bytes of a pair in its list; and of one while lists are joined or pruned.
_PAIR_BYTES = 8
_JOINING = 2
# A listed pair costs as much as this many in tiles.
_TILED_PAIRS = 16
# Lists are pruned when all of their pairs were visited this often.
_VISITS = 2


@dataclass
class Lists:
    """For each column j the pairs offsets[j] to offsets[j + 1] - 1: a candidate and its similarity."""

    offsets: torch.Tensor
    candidates_P: torch.Tensor
    values_P: torch.Tensor

    def above(self, best_C: torch.Tensor) -> Lists:
        """Those pairs that still matter."""
        lengths_C = self.offsets.diff()
        keep_P = self.values_P > torch.repeat_interleave(best_C, lengths_C)
        kept = torch.cat([torch.zeros(1, dtype=torch.int64), keep_P.cumsum(0)])
        return Lists(kept[self.offsets], self.candidates_P[keep_P], self.values_P[keep_P])

    def places(self, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the pairs of some columns are, and how many each has."""
        starts_J = self.offsets[columns]
        lengths_J = self.offsets[columns + 1] - starts_J
        ends_J = lengths_J.cumsum(0)
        total = int(ends_J[-1]) if len(ends_J) else 0
        shifts_P = torch.repeat_interleave(starts_J - ends_J + lengths_J, lengths_J, output_size=total)
        return shifts_P.add_(torch.arange(total)), lengths_J


class _Listed:
    """Gains over lists; which columns a pick reaches is left to those who know."""

    def __init__(self, similarity: Similarity, lists: Lists, size: int) -> None:
        self.similarity, self.lists, self.size = similarity, lists, size
        self.resolution = similarity.resolution
        self._visited = 0

    def gains(self, best_C: torch.Tensor, weights_C: torch.Tensor) -> torch.Tensor:
        """Drops the pairs that no longer matter, too."""
        self.lists = self.lists.above(best_C)
        gains_N = self._summed(torch.arange(len(best_C)), best_C, None, weights_C)
        self._visited = 0
        return gains_N

    def losses(
        self, columns: torch.Tensor, best_J: torch.Tensor, rise_J: torch.Tensor, weights_J: torch.Tensor
    ) -> torch.Tensor:
        return self._summed(columns, best_J, rise_J, weights_J)

    def exact(self, columns: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
        return self.similarity.exact(columns, picks)

    def name(self, pick: int) -> bytes:
        return self.similarity.rows_ND[pick].numpy().tobytes()

    def after_pick(self, cover: Cover) -> Self:
        """A copy, whose gains are yet to be asked for, once the lists hold much that no longer matters."""
        return copy.copy(self) if self._visited > _VISITS * len(self.lists.values_P) else self

    def _summed(
        self, columns: torch.Tensor, best_J: torch.Tensor, rise_J: torch.Tensor | None, weights_J: torch.Tensor
    ) -> torch.Tensor:
        lengths_J = self.lists.offsets[columns + 1] - self.lists.offsets[columns]
        parts = _parts(lengths_J)
        sums_BN = torch.zeros((len(parts), self.size), dtype=torch.float64)

        def block(start: int, stop: int) -> None:
            for number in range(start, stop):
                part = parts[number]
                rises = None if rise_J is None else rise_J[part]
                self._add(sums_BN[number], columns[part], best_J[part], rises, weights_J[part])

        spread(block, len(parts), 1)
        self._visited += int(lengths_J.sum())
        return sums_BN.sum(0)

    def _add(
        self,
        sums_N: torch.Tensor,
        columns: torch.Tensor,
        best_J: torch.Tensor,
        rise_J: torch.Tensor | None,
        weights_J: torch.Tensor,
    ) -> None:
        places_P, lengths_J = self.lists.places(columns)
        total = len(places_P)
        over_P = self.lists.values_P[places_P]
        over_P.sub_(torch.repeat_interleave(best_J, lengths_J, output_size=total)).clamp_min_(0)
        if rise_J is not None:
            torch.minimum(over_P, torch.repeat_interleave(rise_J, lengths_J, output_size=total), out=over_P)
        over_P.mul_(torch.repeat_interleave(weights_J, lengths_J, output_size=total))
        sums_N.index_add_(0, self.lists.candidates_P[places_P], over_P.double())


class LivePairs(_Listed):
    """Exactly what `Tiles` gives, from the pairs that still matter."""

    def __init__(self, tiles: Tiles, lists: Lists) -> None:
        super().__init__(tiles.similarity, lists, tiles.size)
        self._tiles = tiles

    def reached(self, picks: torch.Tensor, best_C: torch.Tensor, gains_N: torch.Tensor) -> torch.Tensor:
        return self._tiles.reached(picks, best_C, gains_N)


class ThinningTiles(Tiles):
    """Tiles that give way to `LivePairs` as soon as these fit in `memory` bytes and are few."""

    def __init__(self, similarity: Similarity, memory: float) -> None:
        super().__init__(similarity, hold=False)
        self._capacity = min(int(memory / (_PAIR_BYTES * _JOINING)), self.size**2 // _TILED_PAIRS)

    def after_pick(self, cover: Cover) -> Source:
        # The last pick had more pairs that matter than most, so asking it first saves most counts.
        if self.size * cover.raised > self._capacity or self._estimated(cover.near_C) > self._capacity:
            return self
        return LivePairs(self, _live(self.similarity, cover.near_C))

    def _estimated(self, best_C: torch.Tensor) -> float:
        """How many pairs matter, from columns evenly apart."""
        columns = torch.arange(0, self.size, max(1, self.size // _SAMPLE))
        counts_J = torch.zeros(len(columns), dtype=torch.int64)

        def block(start: int, stop: int) -> None:
            part = columns[start:stop]
            tile_JN = self.similarity.tile(part, slice(None))
            counts_J[start:stop] = (tile_JN > best_C[part, None]).sum(1)

        spread(block, len(columns), _stripe(self.size))
        mean: float = counts_J.double().mean().item()
        return mean * self.size


class NeighbourPairs(_Listed):
    """The similarities of each column to its nearest candidates; all others raise nothing."""

    def __init__(self, similarity: Similarity, neighbours: int) -> None:
        values_CK, indices_CK = most_similar(similarity, neighbours)
        offsets = torch.arange(0, indices_CK.numel() + 1, indices_CK.shape[1])
        lists = Lists(offsets, indices_CK.flatten(), values_CK.flatten())
        super().__init__(similarity, lists, similarity.size)
        order_P = np.argsort(lists.candidates_P.numpy(), kind="stable")
        self._columns_P = order_P // indices_CK.shape[1]
        counts_N = np.bincount(lists.candidates_P.numpy(), minlength=self.size)
        self._offsets: NDArray[np.int64] = np.append(0, counts_N.cumsum())

    def reached(self, picks: torch.Tensor, best_C: torch.Tensor, gains_N: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.unique(np.concatenate([self._lists_with(pick) for pick in picks.tolist()])))

    def exact(self, columns: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
        values_JR = super().exact(columns, picks)
        for place, pick in enumerate(picks.tolist()):
            absent_J = np.isin(columns.numpy(), self._lists_with(pick), assume_unique=True, invert=True)
            values_JR[torch.from_numpy(absent_J), place] = -torch.inf
        return values_JR

    def name(self, pick: int) -> bytes:
        """Copies may be in different lists."""
        return pick.to_bytes(8, "little")

    def _lists_with(self, pick: int) -> NDArray[np.int64]:
        return self._columns_P[self._offsets[pick] : self._offsets[pick + 1]]


def most_similar(similarity: Similarity, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row, then its k most similar others (k below N): (values_NK, indices_NK), K = k + 1."""
    rows_ND = similarity.rows_ND.numpy()
    squared_NK, indices_NK = nearest(rows_ND, rows_ND, k, exclude_self=True)
    own_N = np.arange(similarity.size)
    indices = torch.from_numpy(np.column_stack([own_N, indices_NK]))
    squared = torch.from_numpy(np.column_stack([np.zeros_like(own_N, np.float32), squared_NK]))
    return similarity.at(squared, indices), indices


def _live(similarity: Similarity, best_C: torch.Tensor) -> Lists:
    """All pairs that still matter."""
    step = _stripe(similarity.size)
    found: list[tuple[torch.Tensor, torch.Tensor]] = [(torch.empty(0), torch.empty(0))] * -(-similarity.size // step)
    lengths_C = torch.zeros(similarity.size, dtype=torch.int64)

    def block(start: int, stop: int) -> None:
        columns = slice(start, stop)
        tile_JN = similarity.tile(columns, slice(None))
        above_JN = tile_JN > best_C[columns, None]
        lengths_C[columns] = above_JN.sum(1)
        found[start // step] = (above_JN.nonzero()[:, 1].int(), tile_JN[above_JN])

    spread(block, similarity.size, step)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths_C.cumsum(0)])
    candidates_P = torch.empty(int(offsets[-1]), dtype=torch.int32)
    values_P = torch.empty(int(offsets[-1]))
    for number, (candidates, values) in enumerate(found):
        place = slice(int(offsets[number * step]), int(offsets[number * step]) + len(values))
        candidates_P[place], values_P[place] = candidates, values
        found[number] = (torch.empty(0), torch.empty(0))
    return Lists(offsets, candidates_P, values_P)


def _stripe(size: int) -> int:
    return max(1, min(_STRIPE_COLUMNS, _STRIPE_VALUES // max(size, 1)))


def _parts(lengths_J: torch.Tensor) -> list[slice]:
    """Consecutive columns with about as many pairs as a block should have."""
    ends_J = lengths_J.cumsum(0)
    total = int(ends_J[-1]) if len(ends_J) else 0
    marks = torch.tensor(range(_BLOCK_PAIRS, total, _BLOCK_PAIRS), dtype=torch.int64)
    cuts = [0, *torch.searchsorted(ends_J, marks).tolist(), len(lengths_J)]
    return [slice(start, stop) for start, stop in pairwise(cuts) if stop > start]
