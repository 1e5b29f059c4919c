"""The suspects of a pool: what its last audit found, less those of whom somebody has spoken since."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from assay.server.core.pools.row_sets import NO_ROWS, RowSet
from assay.server.core.records.annotations import SILENT, ByteArray
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.suspects import SuspectRecord


@dataclass(frozen=True, eq=False)
class Suspects:
    """What an audit found, and what was settled since.

    Attributes:
        record: what it found; never changed.
        settled: rows of which something was said since, skips aside.
    """

    record: SuspectRecord
    settled: RowSet = NO_ROWS

    @cached_property
    def _rows(self) -> RowArray:
        return np.unique(self.record.rows_M)

    @cached_property
    def rows(self) -> RowArray:
        """Rows that are suspects still, ascending, each once."""
        return self._rows[~self.settled.holds(self._rows)]

    def worst(self, rows: RowArray) -> FloatArray:
        """The highest score of each row, of whatever kind; 0 of rows that are no suspects."""
        highest_S = np.zeros(len(self._rows), np.float32)
        np.maximum.at(highest_S, np.searchsorted(self._rows, self.record.rows_M), self.record.scores_M)
        if len(self._rows) == 0:
            return np.zeros(len(rows), np.float32)
        places = np.minimum(np.searchsorted(self._rows, rows), len(self._rows) - 1)
        found: MaskArray = (self._rows[places] == rows) & ~self.settled.holds(rows)
        return np.where(found, highest_S[places], np.float32(0))

    def after(self, rows: RowArray, kinds: ByteArray) -> "Suspects":
        """The same once some events have happened: a skip says nothing."""
        return self.after_rows(rows[~np.isin(kinds, SILENT)])

    def after_rows(self, spoken: RowArray) -> "Suspects":
        """The same once something was said of rows."""
        settled = spoken[np.isin(spoken, self._rows)]
        return self if len(settled) == 0 else replace(self, settled=self.settled.with_rows(settled))
