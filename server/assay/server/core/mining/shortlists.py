"""Shortlists: which candidates reach the selector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.server.core.mining.frontiers import Frontiers
from assay.server.core.mining.plan.terms import Shortlist
from assay.server.core.mining.selection.grouping import Grouping, shares
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.strategies.composition.quotas import Quota
from assay.strategies.kernels.hashing import hash_order
from assay.strategies.kernels.topk import top_k

_SALT = 0x5348_4F52_544C_4953


def by_hash(rows: RowArray, seed: int, k: int | None = None) -> RowArray:
    """The first k rows in the random order of a seed, which no other row has a say in."""
    return rows[hash_order(rows, seed, k)]


@dataclass(frozen=True, slots=True)
class Cut:
    """Cuts candidates so that `picks` can still be made, within quotas where there are any."""

    snapshot: Snapshot
    shortlist: Shortlist
    grouping: Grouping | None
    bounds: Sequence[Quota]
    seed: int
    picks: int

    @property
    def _salted(self) -> int:
        # Of another order than the noise and the exploration of the same seed, which must not favour what it keeps.
        return self.seed ^ _SALT

    def before_scores(self, mask_N: MaskArray, frontiers: Frontiers) -> MaskArray:
        """The candidates that are worth scoring: all, if the shortlist goes by utility."""
        if self.shortlist.by_utility:
            return mask_N
        near = mask_N
        if self.shortlist.neighbors:
            near = np.zeros_like(mask_N)
            near[frontiers.near(self.snapshot, self.shortlist.neighbors)] = True
            near &= mask_N
        kept_N = np.zeros_like(mask_N)
        for rows, count in self._portions(np.flatnonzero(mask_N)):
            kept_N[self._random(rows, near, count)] = True
        return kept_N

    def _random(self, rows: RowArray, near_N: MaskArray, count: int) -> RowArray:
        """So many rows at random; of a frontier all, filled up at random where they are fewer."""
        if not self.shortlist.neighbors:
            return by_hash(rows, self._salted, count)
        inside = rows[near_N[rows]]
        missing = max(0, count - len(inside))
        return np.concatenate([inside, by_hash(rows[~near_N[rows]], self._salted, missing)])

    def by_utility(self, rows: RowArray, utility_N: FloatArray, picks: int) -> RowArray:
        """Of one group's candidates those of highest utility, ascending; all, if the shortlist was cut before."""
        if not self.shortlist.by_utility:
            return rows
        keep = max(picks, self.shortlist.keep(self.picks) * picks // max(self.picks, 1))
        return np.sort(rows[top_k(utility_N[rows], keep)])

    def _portions(self, rows: RowArray) -> list[tuple[RowArray, int]]:
        """The candidates of each group, and how many of them to keep."""
        keep = self.picks if self.shortlist.neighbors else self.shortlist.keep(self.picks)
        if self.grouping is None:
            return [(rows, keep)]
        groups = self.grouping.groups_N[rows]
        kept_G = shares(self.grouping.counts(rows), self.bounds, self.picks, keep)
        return [(rows[groups == group], int(count)) for group, count in enumerate(kept_G[:-1])]
