"""Named sources of predictions: what somebody's model says of samples, in files of which a later one overrules the
earlier."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from assay.server.core.pools.row_sets import NO_ROWS, RowSet
from assay.server.core.ports.segments import PredictionFile
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.predictions import ObjectColumns, Positions, PredictionColumns, joined
from assay.server.core.records.samples import SegmentFile

NOT_THERE = -1


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source.

    Attributes:
        file: as the catalog knows it.
        opened: the file, None where it is damaged: of its rows nothing is known then.
        rows: those that it speaks for, because no later file of the source has them.
    """

    file: SegmentFile
    opened: PredictionFile | None
    rows: RowSet


@dataclass(frozen=True)
class Source:
    """A named source at one moment: immutable. A row may have no prediction.

    Attributes:
        name: as its user calls it.
        files: by epoch.
    """

    name: str
    files: tuple[SourceFile, ...]

    @classmethod
    def of(cls, name: str, files: Sequence[tuple[SegmentFile, PredictionFile | None]]) -> "Source":
        """A source as the catalog has it."""
        by_epoch = sorted(files, key=lambda each: each[0].epoch)
        source = cls(name, ())
        for file, opened in by_epoch:
            source = source.with_file(file, opened)
        return source

    @property
    def version(self) -> str:
        """Same version, same predictions."""
        lost = sum(each.opened is None for each in self.files)
        return f"{self.epoch}/{lost}"

    @property
    def epoch(self) -> int:
        """Epoch of its last update."""
        return self.files[-1].file.epoch

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(each.file.size for each in self.files)

    @cached_property
    def has_spread(self) -> bool:
        """Whether it knows how sure it is of its numbers."""
        return any(each.opened is not None and each.opened.columns.spread_NX is not None for each in self.files)

    def with_file(self, file: SegmentFile, opened: PredictionFile | None) -> "Source":
        """The source with predictions that overrule those before. Files that say nothing any more are not in it."""
        rows = RowSet.unpacked(file.rows)
        kept = [replace(each, rows=each.rows.without(rows)) for each in self.files]
        return Source(self.name, (*(each for each in kept if len(each.rows)), SourceFile(file, opened, rows)))

    def rewritten(
        self, run: Sequence[SourceFile], file: SegmentFile | None, opened: PredictionFile | None
    ) -> "Source | None":
        """The source with files that follow each other replaced by one that says the same; None if nothing is left."""
        names = {each.file.file for each in run}
        files: list[SourceFile] = []
        for each in self.files:
            if each.file.file not in names:
                files.append(each)
            elif file is not None and each.file.file == run[-1].file.file:
                # What was overruled while it was made stays so.
                later = self.files[self.files.index(each) + 1 :]
                rows = RowSet.unpacked(file.rows)
                for other in later:
                    rows = rows.without(RowSet.unpacked(other.file.rows))
                if len(rows):
                    files.append(SourceFile(file, opened, rows))
        return Source(self.name, tuple(files)) if files else None

    def without(self, file: str) -> "Source":
        """The source with a file that turned out damaged: what it said is not known, and nothing older comes true."""
        return Source(self.name, tuple(replace(e, opened=None) if e.file.file == file else e for e in self.files))

    def locate(self, rows: RowArray) -> Iterator[tuple[PredictionFile, Positions, Positions]]:
        """(file, positions in rows, places in the file) of each file that speaks for some of the rows."""
        owners_N, places_N = np.full(len(rows), NOT_THERE, np.int64), np.zeros(len(rows), np.int64)
        if not len(rows):
            return
        low, high = int(rows.min()), int(rows.max())
        for number, each in enumerate(self.files):
            if each.file.last_row < low or each.file.first_row > high:
                continue
            if each.opened is None:
                owners_N[each.rows.holds(rows)] = NOT_THERE
                continue
            held = each.opened.rows_N
            places = np.minimum(np.searchsorted(held, rows), len(held) - 1)
            hit_N = held[places] == rows
            owners_N[hit_N], places_N[hit_N] = number, places[hit_N]
        for number in np.unique(owners_N[owners_N != NOT_THERE]).tolist():
            opened = self.files[number].opened
            assert opened is not None
            positions = np.flatnonzero(owners_N == number)
            yield opened, positions, places_N[positions]

    def known(self, rows: RowArray) -> MaskArray:
        """Which of the rows it predicts."""
        known_N = np.zeros(len(rows), np.bool_)
        for _, positions, _ in self.locate(rows):
            known_N[positions] = True
        return known_N

    def spread(self, rows: RowArray, columns: int) -> FloatArray:
        """Standard deviations of the numbers of rows; NaN where none is known. Shape [len(rows), columns]."""
        out_NX = np.full((len(rows), columns), np.nan, np.float32)
        for opened, positions, places in self.locate(rows):
            if opened.columns.spread_NX is not None:
                out_NX[positions] = opened.columns.spread_NX[places]
        return out_NX

    @cached_property
    def objects_each(self) -> int:
        """Objects of a sample on average, rounded up."""
        opened = [each.opened for each in self.files if each.opened is not None]
        counts = [len(each.columns.objects.probs_PC) for each in opened if each.columns.objects is not None]
        return -(-sum(counts) // max(1, sum(len(each.rows_N) for each in opened)))

    def object_offsets(self, rows: RowArray) -> Positions:
        """Offsets of the objects of rows, see ObjectColumns; what they are is not read."""
        counts_N = np.zeros(len(rows), np.int64)
        for opened, positions, places in self.locate(rows):
            assert opened.columns.objects is not None
            counts_N[positions] = np.diff(opened.columns.objects.offsets_O)[places]
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts_N)])

    def objects(self, rows: RowArray, classes: int) -> ObjectColumns:
        """Objects of rows, in their order; none of a row that is not predicted. With probabilities of so many classes:
        those that came after a file are 0 in it."""
        parts: list[PredictionColumns] = []
        order: list[Positions] = []
        for opened, positions, places in self.locate(rows):
            parts.append(opened.columns.taken(places))
            order.append(positions)
        if not parts:
            return ObjectColumns(
                np.zeros(len(rows) + 1, np.int64), np.zeros((0, classes), np.float32), np.zeros((0, 4))
            )
        found = joined(parts).objects
        assert found is not None
        counts_N, positions = np.zeros(len(rows), np.int64), np.concatenate(order)
        counts_N[positions] = np.diff(found.offsets_O)
        sorted_ = found if _ascends(positions) else found.taken(np.argsort(positions))
        probs_PC = np.zeros((len(sorted_.probs_PC), classes), np.float32)
        probs_PC[:, : sorted_.probs_PC.shape[1]] = sorted_.probs_PC
        offsets_O = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts_N)])
        return ObjectColumns(offsets_O, probs_PC, sorted_.places_PX)


def merged(run: Sequence[SourceFile], keep: MaskArray, rows: RowArray) -> tuple[RowArray, PredictionColumns] | None:
    """What files say together of the rows that each speaks for, by row; keep tells which of `rows`, all those rows
    ascending, are still wanted. None if none is."""
    parts: list[PredictionColumns] = []
    held: list[RowArray] = []
    wanted = RowSet.of(rows[keep])
    for each in run:
        assert each.opened is not None
        own = each.opened.rows_N
        places = np.flatnonzero(each.rows.holds(own) & wanted.holds(own))
        parts.append(each.opened.columns.taken(places))
        held.append(own[places])
    together = np.concatenate(held)
    if not len(together):
        return None
    order = np.argsort(together, kind="stable")
    return together[order], joined(parts).taken(order)


def spoken_for(run: Sequence[SourceFile]) -> RowArray:
    """All rows that files speak for, ascending."""
    together = NO_ROWS
    for each in run:
        together = together.with_rows(each.rows.array)
    return together.array


def _ascends(values: Positions) -> bool:
    return bool((values[1:] > values[:-1]).all())
