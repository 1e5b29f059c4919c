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
    def rows(self) -> RowArray:
        """Rows that are suspects still, ascending, each once."""
        return self.record.rows_S[~self.settled.holds(self.record.rows_S)]

    def holds(self, rows: RowArray) -> MaskArray:
        """Which of the rows are suspects still."""
        return _among(rows, self.record.rows_S) & ~self.settled.holds(rows)

    def worth(self, rows: RowArray, otherwise: FloatArray) -> FloatArray:
        """What one more answer to each row is worth: as it was rated, else the highest score that it was found with;
        `otherwise` where the audit says nothing of it, or somebody has spoken since."""
        rating = self.record.rating
        worth_N = _looked_up(rows, self.record.rows_S, self.record.highest_S, otherwise)
        worth_N = _looked_up(rows, rating.rows_R, rating.worth_R, worth_N)
        return np.where(self.settled.holds(rows), otherwise, worth_N)

    def after(self, rows: RowArray, kinds: ByteArray) -> "Suspects":
        """The same once some events have happened: a skip says nothing."""
        return self.after_rows(rows[~np.isin(kinds, SILENT)])

    def after_rows(self, spoken: RowArray) -> "Suspects":
        """The same once something was said of rows."""
        settled = spoken[_among(spoken, self.record.rows_S) | _among(spoken, self.record.rating.rows_R)]
        return self if len(settled) == 0 else replace(self, settled=self.settled.with_rows(settled))


def _among(rows: RowArray, known: RowArray) -> MaskArray:
    """Which rows are among known, ascending ones; the few are looked up in the many."""
    if len(known) == 0:
        return np.zeros(len(rows), np.bool_)
    found: MaskArray = known[np.minimum(np.searchsorted(known, rows), len(known) - 1)] == rows
    return found


def _looked_up(rows: RowArray, known: RowArray, values: FloatArray, otherwise: FloatArray) -> FloatArray:
    """The value of each row among known, ascending ones."""
    if len(known) == 0:
        return otherwise
    places = np.minimum(np.searchsorted(known, rows), len(known) - 1)
    return np.where(known[places] == rows, values[places], otherwise)
