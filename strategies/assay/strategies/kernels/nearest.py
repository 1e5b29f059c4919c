"""Squared distances of all points to the nearest of a growing list of centres, each known as well as it has to be."""

from __future__ import annotations

import torch

from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.coarse import Coarse
from assay.strategies.kernels.points import Points
from assay.strategies.kernels.tensors import spread

# Points that are measured together, those that are not worth more than one thread, and the most centres at a time.
_PIECE = 128
_ALONE = 1024
_CENTRES = 4096


class Nearest:
    """Upper bounds of all squared distances, made exact (in float32) where that is asked for.

    bounds_N: never below the squared distance to the nearest of all centres flushed so far; -inf for points taken.
    known_N: how many of the centres, from the first, went into the exact distance of each point.
    """

    def __init__(self, points: Points, centres_LD: torch.Tensor, room: int) -> None:
        """room: how many centres may still be added."""
        self.points = points
        self.count = len(centres_LD)
        self.flushed = 0
        self.bounds_N = torch.full((points.size,), torch.inf)
        self.known_N = torch.zeros(points.size, dtype=torch.int64)
        self._coarse = Coarse.of(points, len(centres_LD) + room)
        # Without coarse bounds every bound is exact, and there is nothing else to keep.
        self._exact_N = self.bounds_N if self._coarse is None else self.bounds_N.clone()
        self._centres_KD = torch.empty((self.count + room, points.dim))
        self._centres_KD[: self.count] = centres_LD
        self.flush()

    @property
    def centres_MD(self) -> torch.Tensor:
        """All centres so far."""
        return self._centres_KD[: self.count]

    @property
    def pending(self) -> int:
        """How many centres the bounds do not know yet."""
        return self.count - self.flushed

    def take(self, index: int, point_D: torch.Tensor) -> None:
        """Make a point a centre."""
        self._centres_KD[self.count] = point_D
        self.count += 1
        self.bounds_N[index] = self._exact_N[index] = -torch.inf

    def flush(self) -> None:
        """Bring every bound up to date."""
        centres_MD = self._centres_KD[self.flushed : self.count]
        if self._coarse is None:
            self.points.lower(self.bounds_N, centres_MD)
            self.known_N.fill_(self.count)
        else:
            self._coarse.lower(self.bounds_N, centres_MD)
        self.flushed = self.count

    def refine(self, indices_M: torch.Tensor) -> None:
        """Make the bounds of some points their exact squared distances to all centres."""
        # Those that know equally many centres stand together.
        ordered_M = indices_M[torch.argsort(self.known_N[indices_M])]
        if len(ordered_M) > _ALONE:
            spread(lambda start, stop: self._refine(ordered_M[start:stop]), len(ordered_M), _PIECE)
            return
        for indices_B in torch.split(ordered_M, _PIECE):
            self._refine(indices_B)

    def _refine(self, indices_B: torch.Tensor) -> None:
        first = int(self.known_N[indices_B[0]]) if len(indices_B) else self.count
        if first == self.count:
            return
        points_BD, norms_B = self.points.rows(indices_B.numpy()), self.points.norms_N[indices_B]
        exact_B = self._exact_N[indices_B]
        for centres_MD in torch.split(self._centres_KD[first : self.count], _CENTRES):
            checkpoint()
            torch.minimum(exact_B, self.points.nearest(points_BD, norms_B, centres_MD), out=exact_B)
        self._exact_N[indices_B] = exact_B
        self.bounds_N[indices_B] = exact_B
        self.known_N[indices_B] = self.count

    def set_exact(self, indices_B: torch.Tensor, squared_B: torch.Tensor) -> None:
        """Take over exact squared distances to all centres from who kept them up to date."""
        self._exact_N[indices_B] = squared_B
        self.bounds_N[indices_B] = squared_B
        self.known_N[indices_B] = self.count

    def stale(self, floor: float) -> torch.Tensor:
        """Indices of the points whose bound is at least `floor` and not exact as of the last flush."""
        return torch.nonzero((self.bounds_N >= floor) & (self.known_N < self.flushed)).flatten()
