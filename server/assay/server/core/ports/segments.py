"""Immutable files of samples, vectors and models."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.filters import Filter
from assay.server.core.records.predictions import PredictionColumns
from assay.server.core.records.samples import SampleColumns, SampleRecord, SegmentFile


class Overlay(Protocol):
    """An open overlay: what of some samples was changed after their file was written. Memory-mapped."""

    @property
    def file(self) -> SegmentFile: ...
    @property
    def rows_N(self) -> RowArray:
        """Rows, ascending."""


class SampleSegment(Protocol):
    """An open samples file, memory-mapped, with the overlays that lie over it."""

    @property
    def file(self) -> SegmentFile: ...
    def overlaid(self, overlay: Overlay) -> "SampleSegment":
        """The file with one overlay more, which tells what is new; itself if the overlay has none of its rows. What
        was changed is kept in memory: O(changed rows)."""

    @property
    def bare(self) -> "SampleSegment":
        """The file without overlays."""

    @property
    def overlays(self) -> Sequence[Overlay]:
        """Those that change some of its samples, in order."""

    @property
    def changed(self) -> int:
        """How many of its samples they change."""

    @property
    def rows_N(self) -> RowArray:
        """Rows, ascending."""

    @property
    def predictions_NC(self) -> FloatArray | None:
        """Pushed class probabilities; rows of NaN where a sample of a merged file has none. None if no sample has."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the stored model inputs; empty where none."""

    @property
    def input_runs(self) -> tuple[tuple[int, int], ...]:
        """Position ranges (start, stop) within which the inputs have one shape, ascending; samples outside them have
        none. A merged file has several where its parts were padded to different lengths."""

    def find(self, ids: Sequence[str]) -> RowArray:
        """Row of each id, the newest where an id occurs twice, -1 where it does not."""

    def find_all(self, ids: Sequence[str]) -> tuple[npt.NDArray[np.int64], RowArray]:
        """(position in ids, row) of every occurrence."""

    def ids(self, positions: npt.NDArray[np.int64]) -> list[str]:
        """Ids at positions (0..count-1) of the file."""

    def describe(
        self, positions: npt.NDArray[np.int64], *, payload: bool = True, attributes: bool = True
    ) -> list[SampleRecord]:
        """Records at positions of the file."""

    def matches(self, filter: Filter) -> MaskArray:
        """Which samples of the file match; an attribute that the file lacks matches nothing."""

    def inputs(self, start: int, stop: int) -> Mapping[str, npt.NDArray[Any]] | None:
        """Stored model inputs of positions start..stop, which lie within one of input_runs; None where the file has
        none."""


class VectorSegment(Protocol):
    """An open vectors file, memory-mapped."""

    @property
    def file(self) -> SegmentFile: ...
    @property
    def rows_N(self) -> RowArray:
        """Rows, ascending."""

    @property
    def embeddings_ND(self) -> FloatArray:
        """Embeddings: read-only, zero copy."""

    @property
    def logits_NC(self) -> FloatArray | None:
        """The backbone's own logits: read-only, zero copy; None where it has none."""


class PredictionFile(Protocol):
    """An open predictions file: what one source says of some samples. Memory-mapped."""

    @property
    def file(self) -> SegmentFile: ...
    @property
    def rows_N(self) -> RowArray:
        """Rows, ascending."""

    @property
    def columns(self) -> PredictionColumns:
        """What is predicted of them: read-only, zero copy."""


class IncomingModel(Protocol):
    """A model file that is being received. Not safe to call from several threads at once."""

    def write(self, chunk: bytes) -> None:
        """Adds bytes. Raises AssayError(STORAGE_FULL | STORAGE_FAILED), leaving nothing behind."""

    def finish(self) -> tuple[str, str]:
        """Makes it durable; gives (file, sha256 hexadecimal). Raises as write."""

    def abandon(self) -> None:
        """Leaves nothing behind."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a data directory is: the id of its catalog, and its own id, "" where it was never given one."""

    catalog: str
    directory: str


class SegmentStore(Protocol):
    """Immutable files below the data directory. A write is complete and on disk when it returns, under its final name,
    but part of no pool until the catalog says so."""

    def write_samples(self, pool_uid: int, rows_N: RowArray, columns: SampleColumns) -> SegmentFile:
        """Writes a samples file. Raises AssayError(STORAGE_FULL | STORAGE_FAILED), leaving nothing behind."""

    def write_vectors(
        self, pool_uid: int, space: str, rows_N: RowArray, embeddings_ND: FloatArray, logits_NC: FloatArray | None
    ) -> SegmentFile:
        """Writes a vectors file. Raises as write_samples."""

    def write_overlay(self, pool_uid: int, rows_N: RowArray, columns: SampleColumns) -> SegmentFile:
        """Writes new values of samples, by row: uris, payloads and attributes, those that are given; an attribute that
        is not present is taken away. Raises as write_samples."""

    def open_overlay(self, file: SegmentFile, *, verify: bool) -> Overlay:
        """Maps an overlay; with verify, checks its checksum first. Raises AssayError(SEGMENT_DAMAGED)."""

    def write_predictions(
        self, pool_uid: int, source: str, rows_N: RowArray, columns: PredictionColumns
    ) -> SegmentFile:
        """Writes what a source says of rows. Raises as write_samples."""

    def open_predictions(self, file: SegmentFile, *, verify: bool) -> PredictionFile:
        """Maps a predictions file; with verify, checks its checksum first. Raises AssayError(SEGMENT_DAMAGED)."""

    def prepare_ids(self, ids: Sequence[str]) -> Sequence[str]:
        """The same ids with what find() computes of them: worth it where several files are asked."""

    def open_samples(self, file: SegmentFile, *, verify: bool) -> SampleSegment:
        """Maps a samples file; with verify, checks its checksum first. Raises AssayError(SEGMENT_DAMAGED)."""

    def open_vectors(self, file: SegmentFile, *, verify: bool) -> VectorSegment:
        """Maps a vectors file; with verify, checks its checksum first. Raises AssayError(SEGMENT_DAMAGED)."""

    def verify(self, file: SegmentFile) -> None:
        """Reads a whole file against its checksum. Raises AssayError(SEGMENT_DAMAGED), or STORAGE_FAILED where it could
        not be read this time: that says nothing of what is in it."""

    def mergeable(self, segments: Sequence[SampleSegment]) -> bool:
        """Whether merge_samples can make one file of these: columns of one name have one type in all."""

    def merge_samples(
        self, pool_uid: int, segments: Sequence[SampleSegment], keep: Callable[[RowArray], MaskArray]
    ) -> SegmentFile | None:
        """Writes adjacent samples files as one, without the rows that keep() refuses, and with what their overlays
        changed; None if no row is left. Raises as write_samples, and AssayError(SEGMENT_DAMAGED) for a damaged source,
        an overlay among them."""

    def merge_vectors(
        self, pool_uid: int, segments: Sequence[VectorSegment], keep: Callable[[RowArray], MaskArray]
    ) -> SegmentFile | None:
        """Writes adjacent vectors files of one space as one; None if no row is left. Raises as merge_samples."""

    def receive_model(self, pool_uid: int, model_id: str) -> IncomingModel:
        """Begins a model file whose bytes come bit by bit. Raises as write_samples."""

    def write_model(self, pool_uid: int, model_id: str, chunks: Iterable[bytes]) -> tuple[str, int, str]:
        """Writes a model file; returns (file, size, sha256 hexadecimal). Raises as write_samples."""

    def open_model(self, file: str) -> BinaryIO:
        """Opens a model file for reading."""

    def model_path(self, file: str) -> str:
        """Path of a model file for libraries that map it themselves."""

    def discard(self, files: Iterable[str]) -> None:
        """Deletes files; those mapped stay readable until they are closed. Missing files are ignored."""

    def owner(self) -> Owner | None:
        """What the data directory says of itself; None if it does not."""

    def join(self, owner: Owner) -> None:
        """Writes whose directory it is, durably, in place of what it said before. Raises as write_samples."""

    def files(self) -> set[str]:
        """All files of the store, as segments and models name them."""

    def ahead(self, next_rows: Mapping[int, int], last_pool: int) -> list[str]:
        """Files that were written later than a catalog of this state knows, sorted: of rows that a pool has not given
        out, or of pools newer than all it has.

        Args:
            next_rows: the next row that each pool gives out, by the pool's uid.
            last_pool: the last uid that was given to a pool.
        """

    def sweep(self, keep: set[str], *, aside: bool = False) -> "Swept":
        """Deletes all files of the store that are not named; derived files (the index) excepted. They are moved aside
        instead if asked to, and while a file that is named is missing: the catalog may be the wrong one, or of another
        moment."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did.

    Attributes:
        files: those that were not named, sorted.
        missing: those that are named and not there, sorted.
        moved_to: where the files are now; empty if they were deleted.
    """

    files: list[str]
    missing: list[str]
    moved_to: str = ""
