"""Samples that are set apart to measure heads by: those whose attribute `split` is "test" or "validation"."""

from collections.abc import Iterable
from weakref import WeakKeyDictionary

import numpy as np

from assay.server.core.ports.segments import SampleSegment
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.filters import Compare

SPLIT = "split"
SET_APART = ("test", "validation")


class Splits:
    """Rows that are set apart. They are looked up once a file: all snapshots of a pool share what was found."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[SampleSegment, dict[str, RowArray]] = WeakKeyDictionary()

    def rows(self, segments: Iterable[SampleSegment], split: str) -> RowArray:
        """Rows of a split in some files, ascending within each. Raises Interrupted."""
        parts = [self._rows(segment)[split] for segment in segments]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _rows(self, segment: SampleSegment) -> dict[str, RowArray]:
        found = self._known.get(segment)
        if found is None:
            found = {split: segment.rows_N[segment.matches(Compare(SPLIT, "==", split))] for split in SET_APART}
            self._known[segment] = found
        return found
