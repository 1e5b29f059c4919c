"""The samples of several fits on one basis: shares of the loss, and in which stretches of rows each fit has any."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.blocks import blocks

TOGETHER_AT_MOST = 1 << 18  # weights that are found in one go; the optimiser holds two dozen times as many numbers


@dataclass(frozen=True)
class Design:
    """Features of all samples, and what G fits make of them.

    Attributes:
        features_NR: of the type that the fits compute in.
        shares_GN: float64 shares of the loss, which sum to 1 in each fit; a sample without a share takes no part.
        skipped: first and last + 1 of the rows in which a fit has no share, one stretch each; an empty one for none.
    """

    features_NR: torch.Tensor
    shares_GN: torch.Tensor
    skipped: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, features_NR: torch.Tensor, weights_GN: npt.NDArray[np.float64]) -> "Design":
        """Fits in which samples have weights, 0 or more."""
        shares_GN = torch.from_numpy(weights_GN / weights_GN.sum(axis=1, keepdims=True))
        return cls(features_NR, shares_GN, tuple(_stretch(np.flatnonzero(weights_N == 0)) for weights_N in weights_GN))

    def narrowed(self, kept_A: torch.Tensor) -> "Design":
        """That of some of the fits."""
        return Design(self.features_NR, self.shares_GN[kept_A], tuple(self.skipped[g] for g in kept_A.tolist()))

    def parts(self, outputs: int) -> Iterator[tuple[slice, slice]]:
        """Blocks of rows, and the fits (of so many outputs each) that have shares in them, in runs of neighbours: every
        row with a share comes once for every fit.

        Raises:
            Interrupted: if the computation is to stop.
        """
        count, width = self.features_NR.shape
        edges = sorted({0, count, *(edge for stretch in self.skipped for edge in stretch)})
        for first, end in pairwise(edges):
            for fits in _runs([not start <= first < stop for start, stop in self.skipped]):
                columns = (fits.stop - fits.start) * outputs
                for rows in blocks(end - first, max(width, columns), width * columns):
                    yield slice(first + rows.start, first + rows.stop), fits


def _stretch(rows: npt.NDArray[np.int64]) -> tuple[int, int]:
    """First and last + 1 of rows that are neighbours; else an empty stretch."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return int(rows[0]), int(rows[-1]) + 1
    return 0, 0


def _runs(flags: list[bool]) -> list[slice]:
    """Where flags are set, as slices."""
    edges = np.flatnonzero(np.diff([False, *flags, False])).tolist()
    return [slice(first, end) for first, end in zip(edges[::2], edges[1::2], strict=True)]
