"""Facility location over the pairs of a neighbour graph: each column's similarities to its nearest candidates."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.search import nearest
from assay.strategies.kernels.similarity import Similarity

# Pairs that are summed at a time: what a core's cache holds.
_BLOCK_PAIRS = 1 << 16
# Pairs that are sorted at a time.
_SORTED_PAIRS = 1 << 20


class NeighbourPairs:
    """The similarities of each column to itself and its nearest candidates; all others raise nothing."""

    def __init__(self, similarity: Similarity, neighbours: int) -> None:
        self.similarity, self.size, self.resolution = similarity, similarity.size, similarity.resolution
        self._values_CK, self._candidates_CK = most_similar(similarity, neighbours)
        self._columns_P, self._offsets = _by_candidate(self._candidates_CK.numpy(), self.size)

    def gains(self, best_C: torch.Tensor, weights_C: torch.Tensor) -> torch.Tensor:
        return self.losses(torch.arange(self.size), best_C, None, weights_C)

    def losses(
        self, columns: torch.Tensor, best_J: torch.Tensor, rise_J: torch.Tensor | None, weights_J: torch.Tensor
    ) -> torch.Tensor:
        """Without rises: `gains`."""
        sums_N = torch.zeros(self.size, dtype=torch.float64)
        step = max(1, _BLOCK_PAIRS // self._values_CK.shape[1])
        for first in range(0, len(columns), step):
            checkpoint()
            part = slice(first, first + step)
            over_JK = self._values_CK[columns[part]].sub_(best_J[part, None]).clamp_min_(0)
            if rise_J is not None:
                torch.minimum(over_JK, rise_J[part, None], out=over_JK)
            over_JK.mul_(weights_J[part, None])
            sums_N.index_add_(0, self._candidates_CK[columns[part]].flatten(), over_JK.flatten().double())
        return sums_N

    def reached(self, picks: torch.Tensor, best_C: torch.Tensor, gains_N: torch.Tensor) -> torch.Tensor:
        lists = [self._lists_with(pick) for pick in picks.tolist()]
        return torch.from_numpy(lists[0] if len(lists) == 1 else np.unique(np.concatenate(lists)))

    def exact(self, columns: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
        values_JR = self.similarity.exact(columns, picks)
        for place, pick in enumerate(picks.tolist()):
            absent_J = np.isin(columns.numpy(), self._lists_with(pick), assume_unique=True, invert=True)
            values_JR[torch.from_numpy(absent_J), place] = -torch.inf
        return values_JR

    def name(self, pick: int) -> bytes:
        """Copies may be in different lists."""
        return pick.to_bytes(8, "little")

    def _lists_with(self, pick: int) -> NDArray[np.int64]:
        """The columns, ascending, whose lists hold a candidate."""
        return self._columns_P[self._offsets[pick] : self._offsets[pick + 1]]


def most_similar(similarity: Similarity, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row, then its k most similar others (k below N): (values_NK, indices_NK), K = k + 1."""
    rows_ND = similarity.rows_ND.numpy()
    squared_NK, indices_NK = nearest(rows_ND, rows_ND, k, exclude_self=True)
    own_N = np.arange(similarity.size)
    indices = torch.from_numpy(np.column_stack([own_N, indices_NK]))
    squared = torch.from_numpy(np.column_stack([np.zeros_like(own_N, np.float32), squared_NK]))
    return similarity.at(squared, indices), indices


def _by_candidate(candidates_CK: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each of `size` candidates the columns that list it, ascending: columns_P[offsets[i] : offsets[i + 1]].

    A counting sort, by parts between which it can be stopped.
    """
    columns, length = candidates_CK.shape
    counts_N = np.zeros(size, np.int64)
    step = max(1, _SORTED_PAIRS // length)
    parts = [slice(start, min(start + step, columns)) for start in range(0, columns, step)]
    for part in parts:
        checkpoint()
        counts_N += np.bincount(candidates_CK[part].ravel(), minlength=size)
    offsets = np.append(0, counts_N.cumsum())
    columns_P = np.empty(candidates_CK.size, np.int64)
    places_N = offsets[:-1].copy()
    for part in parts:
        checkpoint()
        listed = candidates_CK[part].ravel()
        order = np.argsort(listed, kind="stable")
        counts = np.bincount(listed, minlength=size)
        earlier = np.repeat(places_N - (counts.cumsum() - counts), counts)
        columns_P[earlier + np.arange(len(order))] = part.start + order // length
        places_N += counts
    return columns_P, offsets
