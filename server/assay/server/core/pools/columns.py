"""Arrays over rows that are changed by copying only what changes."""

from functools import cached_property

import numpy as np
import numpy.typing as npt

from assay.server.core.records.arrays import RowArray

CHUNK_ROWS = 1 << 16
# From here on, one look-up in the whole column is cheaper than sorting the rows by chunk.
MANY_ROWS = 4096


class RowColumn:
    """An immutable array over rows 0..length-1, held in chunks. Setting rows copies only the chunks that hold them, so
    a snapshot of a hundred million rows costs a few chunks per change.

    Args:
        chunks: arrays of CHUNK_ROWS elements each.
        length: number of rows in use.
        fill: value of rows that were never set.
        touched: whether a row was ever set.
    """

    def __init__(
        self, chunks: tuple[npt.NDArray[np.generic], ...], length: int, fill: np.generic, *, touched: bool = True
    ) -> None:
        self._chunks = chunks
        self._fill = fill
        self.length = length
        self.touched = touched

    @classmethod
    def filled(cls, length: int, fill: np.generic) -> "RowColumn":
        """A column of one value."""
        return cls((), 0, fill, touched=False).extended(length)

    @classmethod
    def of(cls, values: npt.NDArray[np.generic], fill: np.generic) -> "RowColumn":
        """The column of some values, one a row."""
        chunks = []
        for start in range(0, len(values), CHUNK_ROWS):
            chunk = np.full(CHUNK_ROWS, fill)
            part = values[start : start + CHUNK_ROWS]
            chunk[: len(part)] = part
            chunks.append(chunk)
        return cls(tuple(chunks), len(values), fill)

    @cached_property
    def array(self) -> npt.NDArray[np.generic]:
        """The whole column, read-only."""
        whole = np.concatenate(self._chunks)[: self.length] if self._chunks else np.empty(0, self._fill.dtype)
        whole.flags.writeable = False
        return whole

    def rest_of_chunk(self, row: int) -> npt.NDArray[np.generic]:
        """Values from a row on, to the end of its chunk or of the column: where to look for some without looking at
        all."""
        chunk, first = divmod(row, CHUNK_ROWS)
        return self._chunks[chunk][first : self.length - chunk * CHUNK_ROWS]

    def extended(self, length: int) -> "RowColumn":
        """The column with more rows, filled."""
        missing = -(-length // CHUNK_ROWS) - len(self._chunks)
        # One for all: a chunk is never written to, only its copies are.
        fresh = (np.full(CHUNK_ROWS, self._fill),) * missing if missing > 0 else ()
        return RowColumn(self._chunks + fresh, max(length, self.length), self._fill, touched=self.touched)

    def at(self, rows: RowArray) -> npt.NDArray[np.generic]:
        """Values of some rows; rows beyond the end have the fill value."""
        values = np.full(len(rows), self._fill)
        if len(rows) > MANY_ROWS and not _ascending(rows):
            inside = rows < self.length
            values[inside] = self.array[rows[inside]]
            return values
        for chunk, positions in self._by_chunk(rows):
            if chunk < len(self._chunks):
                values[positions] = self._chunks[chunk][rows[positions] % CHUNK_ROWS]
        return values

    def with_values(self, rows: RowArray, values: npt.ArrayLike) -> "RowColumn":
        """The column with some rows set to one value, or to one value each."""
        if len(rows) == 0:
            return self
        each = np.broadcast_to(np.asarray(values, self._fill.dtype), rows.shape)
        chunks = list(self._chunks)
        for chunk, positions in self._by_chunk(rows):
            places, fresh = rows[positions] % CHUNK_ROWS, each[positions]
            if (chunks[chunk][places] != fresh).any():
                chunks[chunk] = chunks[chunk].copy()
                chunks[chunk][places] = fresh
        return RowColumn(tuple(chunks), self.length, self._fill)

    @staticmethod
    def _by_chunk(rows: RowArray) -> list[tuple[int, npt.NDArray[np.int64] | slice]]:
        """Chunks, and where among the rows those of each are."""
        if len(rows) == 0:
            return []
        order = None if _ascending(rows) else np.argsort(rows, kind="stable")
        chunk_of = (rows if order is None else rows[order]) // CHUNK_ROWS
        starts = np.flatnonzero(np.diff(chunk_of, prepend=-1)).tolist()
        parts = [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True)]
        chunks = chunk_of[starts].tolist()
        return list(zip(chunks, parts if order is None else [order[part] for part in parts], strict=True))


def _ascending(rows: RowArray) -> bool:
    return bool((rows[1:] >= rows[:-1]).all())
