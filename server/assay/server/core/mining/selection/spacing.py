"""Picks that are no near copies of each other, nor of what is labeled, leased or picked before."""

from collections.abc import Sequence

import numpy as np

from assay.server.core.mining.selection.grouping import reduced
from assay.server.core.mining.selection.pickers import Picked, Picker, portions
from assay.server.core.mining.supply import Supply
from assay.server.core.records.arrays import MaskArray, RowArray
from assay.strategies import checkpoint
from assay.strategies.composition.quotas import Quota, shortfalls
from assay.strategies.composition.spacing import apart

# Candidates looked at for each that is wanted, at first; twice as many in each further round.
LOOKED_AT = 4
LOOKED_AT_LEAST = 512
NOTE = " by samples that are farther apart than near_duplicate_radius"


def pick_apart(picker: Picker, spaced: "Spaced", bounds: Sequence[Quota], size: int, *, final: bool = True) -> Picked:
    """Picks that are farther than the radius from each other and from the known rows; fewer where no more are.

    What is near to a pick that is kept is never looked at again, so this ends. The picker is asked for whole batches a
    few times, each in view of what is kept; after that candidates are looked at one by one in its order of preference.

    Raises:
        AssayError: QUOTA_INFEASIBLE where samples that are apart cannot meet a minimum; unless this is not final, for
        then others fill up what is missing.
    """
    number = 0
    while spaced.left and spaced.open_N.any():
        checkpoint()
        rest, left = _rest(picker, spaced, bounds, size, final)
        if left == 0:
            break
        if number < picker.rounds:
            spaced.offer(picker.batch(spaced.open_N, rest, left, spaced.known), left)
        else:
            for rows, count in portions(picker, spaced.open_N, rest, left):
                looked_at = (LOOKED_AT * count + LOOKED_AT_LEAST) << min(number, 20)
                spaced.offer(picker.first(rows, looked_at), count)
        number += 1
    return spaced.batch


def _rest(
    picker: Picker, spaced: "Spaced", bounds: Sequence[Quota], size: int, final: bool
) -> tuple[Sequence[Quota], int]:
    """The bounds for what is left to pick, and how much of it may be."""
    open_rows = np.flatnonzero(spaced.open_N)
    left = min(spaced.left, len(open_rows))
    if picker.grouping is None:
        return (), left
    available_G = picker.grouping.counts(open_rows)
    rest = reduced(bounds, picker.grouping.counts(spaced.batch[0]), size, spaced.left)
    for short in shortfalls(available_G, rest, left):
        if short.bound == "maximums":
            left = min(left, short.available)
        elif not final:
            return (), 0
    picker.grouping.require(available_G, rest, left, NOTE)
    return rest, left


class Spaced:
    """What is kept so far.

    Attributes:
        open_N: candidates that nobody has looked at.
        known: rows known from the start, and those kept.
        left: how many more are wanted.
    """

    def __init__(
        self, supply: Supply, radius: float, open_N: MaskArray, known: RowArray, apart: RowArray, size: int
    ) -> None:
        """apart: rows that nothing is kept near to either, although the picker does not know them."""
        self._supply = supply
        self._radius = radius
        self.open_N = open_N
        self.known = known
        self.left = size
        self._scores = np.empty(0, np.float32)
        # With room for what will be kept: growing it each time would copy it each time.
        around = np.concatenate([apart, known])
        self._around_MD = np.empty((len(around) + size, supply.snapshot.pool.dimension), np.float32)
        self._around_MD[: len(around)] = supply.embeddings(around)
        self._first, self._apart = len(known), len(apart)

    @property
    def batch(self) -> Picked:
        """Rows kept, in the order in which they were offered, and their scores."""
        return self.known[self._first :], self._scores

    def offer(self, batch: Picked, count: int) -> None:
        """Keeps up to `count` of the offered rows, in their order; all that were looked at are open no more."""
        rows, scores = batch
        embeddings_MD, around = self._supply.embeddings(rows), self._apart + len(self.known)
        kept = apart(embeddings_MD, self._radius, count, self._around_MD[:around])
        looked_at = int(kept[-1]) + 1 if len(kept) == count else len(rows)
        self.open_N[rows[:looked_at]] = False
        self._around_MD[around : around + len(kept)] = embeddings_MD[kept]
        self.known = np.concatenate([self.known, rows[kept]])
        self._scores = np.concatenate([self._scores, scores[kept]])
        self.left -= len(kept)
