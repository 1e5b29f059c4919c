"""Three ways to pick among open candidates, within quotas where there are any: by rank, by a selector, at random."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from assay.server.core.mining.plan.binding import BoundPlan
from assay.server.core.mining.selection.grouping import Counts, Grouping
from assay.server.core.mining.shortlists import Cut, by_hash
from assay.server.core.mining.supply import Supply
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.strategies.base import optional_needs
from assay.strategies.composition.quotas import Quota, allocate, top_within
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import LABELED

# From so many quotas on, sorting the candidates costs less than a pass over them for each.
MANY_QUOTAS = 32

Picked = tuple[RowArray, FloatArray]
Portion = tuple[RowArray, int]


class Picker(Protocol):
    """A way to pick. `grouping` gives the candidates' groups, None where the plan has no quotas."""

    @property
    def grouping(self) -> Grouping | None: ...

    @property
    def rounds(self) -> int:
        """How often it is worth asking for a batch again where picks turn out too near to others."""

    @property
    def looks_around(self) -> bool:
        """Whether what is known or picked before has a say in its batches."""

    def batch(self, open_N: MaskArray, bounds: Sequence[Quota], size: int, known: RowArray) -> Picked:
        """Rows in pick order, and their scores: so many of the open candidates, in view of the rows known or picked."""

    def counts(self, open_N: MaskArray, bounds: Sequence[Quota], size: int) -> Counts:
        """How many picks each group gives; for plans with quotas."""

    def first(self, rows: RowArray, count: int) -> Picked:
        """The first of the rows in order of preference, each looked at for itself, and their scores."""


@dataclass(frozen=True, slots=True)
class TopPicker:
    """The candidates of highest utility; within quotas, those of highest total utility."""

    utility_N: FloatArray
    grouping: Grouping | None
    rounds: int = 0
    looks_around: bool = False

    def batch(self, open_N: MaskArray, bounds: Sequence[Quota], size: int, known: RowArray) -> Picked:
        if self.grouping is None:
            rows = top_k(self.utility_N, size, open_N)
        else:
            candidates = self._worth(np.flatnonzero(open_N), len(bounds), size)
            groups = self.grouping.groups_N[candidates]
            rows = candidates[top_within(self.utility_N[candidates], groups, bounds, size)]
        return rows, self.utility_N[rows]

    def _worth(self, rows: RowArray, quotas: int, size: int) -> RowArray:
        """Of many groups the first `size` of each, ascending: no other can be picked, and each quota is a pass over
        them."""
        if quotas < MANY_QUOTAS or self.grouping is None:
            return rows
        groups = self.grouping.groups_N[rows]
        order = np.lexsort((-self.utility_N[rows], groups))
        places = np.arange(len(rows)) - np.searchsorted(groups[order], groups[order])
        return np.sort(rows[order[places < size]])

    def counts(self, open_N: MaskArray, bounds: Sequence[Quota], size: int) -> Counts:
        assert self.grouping is not None
        return self.grouping.counts(self.batch(open_N, bounds, size, np.empty(0, np.int64))[0])

    def first(self, rows: RowArray, count: int) -> Picked:
        best = rows[top_k(self.utility_N[rows], count)]
        return best, self.utility_N[best]


@dataclass(frozen=True, slots=True)
class RandomPicker:
    """Candidates in the random order of a seed; all have score 0."""

    seed: int
    grouping: Grouping | None
    rounds: int = 0
    looks_around: bool = False

    def batch(self, open_N: MaskArray, bounds: Sequence[Quota], size: int, known: RowArray) -> Picked:
        parts = [by_hash(rows, self.seed, count) for rows, count in portions(self, open_N, bounds, size)]
        return self.first(np.concatenate(parts), size)

    def counts(self, open_N: MaskArray, bounds: Sequence[Quota], size: int) -> Counts:
        return _allocated(self.grouping, open_N, bounds, size)

    def first(self, rows: RowArray, count: int) -> Picked:
        drawn = by_hash(rows, self.seed, count)
        return drawn, np.zeros(len(drawn), np.float32)


@dataclass(frozen=True, slots=True)
class SelectorPicker:
    """The plan's selector, over its shortlist; group by group, each in view of what was picked before.

    The selector weighs by the utility itself; `ranking_N`, which may have noise on it, only makes the shortlist and
    the order of preference.
    """

    supply: Supply
    bound: BoundPlan
    seed: int
    utility_N: FloatArray | None
    ranking_N: FloatArray | None
    cut: Cut | None
    grouping: Grouping | None
    rounds: int = 4

    @property
    def looks_around(self) -> bool:
        return bool((self.bound.selector.needs | optional_needs(self.bound.selector)) & LABELED)

    def batch(self, open_N: MaskArray, bounds: Sequence[Quota], size: int, known: RowArray) -> Picked:
        batches: list[Picked] = []
        for rows, count in portions(self, open_N, bounds, size):
            batches.append(self._select(rows, count, known))
            known = np.concatenate([known, batches[-1][0]])
        return _interleaved(batches)

    def counts(self, open_N: MaskArray, bounds: Sequence[Quota], size: int) -> Counts:
        return _allocated(self.grouping, open_N, bounds, size)

    def first(self, rows: RowArray, count: int) -> Picked:
        if self.ranking_N is None or self.utility_N is None:
            return RandomPicker(self.seed, None).first(rows, count)
        best = TopPicker(self.ranking_N, None).first(rows, count)[0]
        return best, self.utility_N[best]

    def _select(self, rows: RowArray, size: int, known: RowArray) -> Picked:
        if self.cut is not None and self.ranking_N is not None:
            rows = self.cut.by_utility(rows, self.ranking_N, size)
        selection = self.bound.selector.select(
            self.supply.candidates(rows, self.bound.selector, known),
            size,
            np.random.default_rng(self.seed),
            None if self.utility_N is None else self.utility_N[rows],
            self.bound.selector_params,
        )
        return rows[selection.indices], selection.scores


def portions(picker: Picker, open_N: MaskArray, bounds: Sequence[Quota], size: int) -> list[Portion]:
    """The open candidates of each group that has picks to give, ascending, and how many it gives."""
    rows = np.flatnonzero(open_N)
    if picker.grouping is None:
        return [(rows, size)]
    groups = picker.grouping.groups_N[rows]
    counts_G = picker.counts(open_N, bounds, size)
    return [(rows[groups == group], int(count)) for group, count in enumerate(counts_G) if count]


def _allocated(grouping: Grouping | None, open_N: MaskArray, bounds: Sequence[Quota], size: int) -> Counts:
    assert grouping is not None
    return allocate(grouping.counts(np.flatnonzero(open_N)), bounds, size)


def _interleaved(batches: Sequence[Picked]) -> Picked:
    """Batches as one in which every beginning has the groups in about the shares of the whole."""
    if len(batches) == 1:
        return batches[0]
    places = np.concatenate([(np.arange(len(rows)) + 0.5) / max(len(rows), 1) for rows, _ in batches])
    order = np.argsort(places, kind="stable")
    return np.concatenate([rows for rows, _ in batches])[order], np.concatenate([s for _, s in batches])[order]
