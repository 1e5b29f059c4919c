"""The segment store: immutable files below one data directory."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
import xxhash

from assay.server.adapters.arrow import header as headers
from assay.server.adapters.arrow import layout, merge
from assay.server.adapters.arrow.errors import damaged, storage_error, unread
from assay.server.adapters.arrow.files import TEMPORARY, checksum_of, make_folder, new_file
from assay.server.adapters.arrow.header import Header
from assay.server.adapters.arrow.ids import HashedIds, HashIds, IdLookup, hash_ids
from assay.server.adapters.arrow.incoming import ArrowIncomingModel
from assay.server.adapters.arrow.ipc import read_batch, write_batch
from assay.server.adapters.arrow.overlays import ArrowOverlay, overlay_batch
from assay.server.adapters.arrow.predictions import ArrowPredictions, prediction_batch
from assay.server.adapters.arrow.samples import ArrowSampleSegment, sample_batch
from assay.server.adapters.arrow.vectors import ArrowVectorSegment, vector_batch
from assay.server.core.ports.machine import Alarm, unheard
from assay.server.core.ports.segments import Owner, SampleSegment, Swept, VectorSegment
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.predictions import PredictionColumns
from assay.server.core.records.samples import SampleColumns, SegmentFile

_T = TypeVar("_T")

# Names the catalog that the directory belongs to, and the directory.
OWNER_FILE = "catalog-id"

# What opening bytes that are not a segment can raise: Arrow's own errors are among them.
_NOT_A_SEGMENT = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError)


class ArrowSegmentStore:
    """Arrow IPC files of one record batch each, written whole, mapped for reading. Safe to call from several threads.

    Args:
        data_dir: the data directory; made if missing. Files lie below its folder "pools".
        hash_ids: 64-bit hashes of ids; files are read with the function that wrote them.
        alarm: told when the disk loses what was written.
    """

    def __init__(self, data_dir: Path, hash_ids: HashIds = hash_ids, alarm: Alarm = unheard) -> None:
        self._data_dir = Path(data_dir).absolute()
        self._hash_ids = hash_ids
        self._alarm = alarm
        try:
            make_folder(self._data_dir)
        except OSError as error:
            raise storage_error(error, self._data_dir, 0) from error

    def write_samples(self, pool_uid: int, rows_N: RowArray, columns: SampleColumns) -> SegmentFile:
        """Writes a samples file. Raises AssayError(STORAGE_FULL | STORAGE_FAILED | INPUTS_INVALID), leaving nothing
        behind, and ValueError for rows that do not ascend or columns of unequal lengths."""
        _check_rows(rows_N)
        return self._put_samples(pool_uid, rows_N, sample_batch(rows_N, columns, self._hash_ids))

    def write_vectors(
        self, pool_uid: int, space: str, rows_N: RowArray, embeddings_ND: FloatArray, logits_NC: FloatArray | None
    ) -> SegmentFile:
        """Writes a vectors file. Raises as write_samples."""
        _check_rows(rows_N)
        return self._put_vectors(pool_uid, space, rows_N, vector_batch(rows_N, embeddings_ND, logits_NC))

    def write_overlay(self, pool_uid: int, rows_N: RowArray, columns: SampleColumns) -> SegmentFile:
        """Writes an overlay: the columns that are given. Raises as write_samples."""
        _check_rows(rows_N)
        file = layout.overlay_path(pool_uid, int(rows_N[0]))
        return self._put(file, "overlay", "", rows_N, overlay_batch(rows_N, columns))

    def write_predictions(
        self, pool_uid: int, source: str, rows_N: RowArray, columns: PredictionColumns
    ) -> SegmentFile:
        """Writes what a source says of rows. Raises as write_samples."""
        _check_rows(rows_N)
        file = layout.predictions_path(pool_uid, int(rows_N[0]))
        return self._put(file, "predictions", source, rows_N, prediction_batch(rows_N, columns))

    def prepare_ids(self, ids: Sequence[str]) -> Sequence[str]:
        """The same ids, hashed: find() on many files then hashes nothing."""
        return HashedIds(ids, self._hash_ids(ids))

    def open_samples(self, file: SegmentFile, *, verify: bool) -> ArrowSampleSegment:
        """Maps a samples file. Raises AssayError(SEGMENT_DAMAGED): with verify for any changed byte, without for all
        that reading could stumble over."""
        batch, header = self._open(file, verify)
        segment = _trying(file, lambda: ArrowSampleSegment(file, batch, header, IdLookup(batch, self._hash_ids)))
        if not verify:
            _trying(file, segment.check)
        _check_opened(file, segment.rows_N)
        return segment

    def open_vectors(self, file: SegmentFile, *, verify: bool) -> ArrowVectorSegment:
        """Maps a vectors file. Raises as open_samples."""
        batch, _ = self._open(file, verify)
        segment = _trying(file, lambda: ArrowVectorSegment(file, batch))
        _check_opened(file, segment.rows_N)
        return segment

    def open_overlay(self, file: SegmentFile, *, verify: bool) -> ArrowOverlay:
        """Maps an overlay. Raises as open_samples."""
        batch, _ = self._open(file, verify)
        overlay = ArrowOverlay(file, batch)
        _trying(file, overlay.check)
        _check_opened(file, _trying(file, lambda: overlay.rows_N))
        return overlay

    def open_predictions(self, file: SegmentFile, *, verify: bool) -> ArrowPredictions:
        """Maps a predictions file. Raises as open_samples."""
        batch, _ = self._open(file, verify)
        opened = _trying(file, lambda: ArrowPredictions(file, batch))
        _check_opened(file, opened.rows_N)
        return opened

    def verify(self, file: SegmentFile) -> None:
        """Reads a whole file against its checksum. Raises AssayError(SEGMENT_DAMAGED), or STORAGE_FAILED where it could
        not be read this time: that says nothing of what is in it."""
        path = self._path_of(file)
        try:
            with open(path, "rb", buffering=0) as stream:
                checksum = checksum_of(stream)
        except OSError as error:
            raise unread(file.file, error) from error
        if checksum != file.checksum:
            raise damaged(file.file, "its content does not fit its checksum")

    def mergeable(self, segments: Sequence[SampleSegment]) -> bool:
        """Whether samples files fit into one: attributes, predictions and inputs have the same types in all."""
        return merge.mergeable([_ours(segment) for segment in segments])

    def merge_samples(
        self, pool_uid: int, segments: Sequence[SampleSegment], keep: Callable[[RowArray], MaskArray]
    ) -> SegmentFile | None:
        """Writes adjacent samples files as one, with what was changed since. Raises as write_samples, and
        AssayError(SEGMENT_DAMAGED) for a source that is damaged: a merge must not give it a new checksum; ValueError
        for files that are not mergeable."""
        self._verify_all(segments)
        for overlay in {overlay.file: overlay for segment in segments for overlay in segment.overlays}:
            self.verify(overlay)
        merged = merge.merged_samples([_ours(segment) for segment in segments], keep)
        return None if merged is None else self._put_samples(pool_uid, *merged)

    def merge_vectors(
        self, pool_uid: int, segments: Sequence[VectorSegment], keep: Callable[[RowArray], MaskArray]
    ) -> SegmentFile | None:
        """Writes adjacent vectors files of one space as one. Raises as merge_samples."""
        self._verify_all(segments)
        merged = merge.merged_vectors(segments, keep)
        return None if merged is None else self._put_vectors(pool_uid, segments[0].file.space, *merged)

    def receive_model(self, pool_uid: int, model_id: str) -> ArrowIncomingModel:
        """Begins a model file whose bytes come bit by bit. Raises as write_samples."""
        return ArrowIncomingModel(self._data_dir, layout.model_path(pool_uid, model_id), self._alarm)

    def write_model(self, pool_uid: int, model_id: str, chunks: Iterable[bytes]) -> tuple[str, int, str]:
        """Writes a model file as its chunks come; returns (file, size, sha256 hexadecimal)."""
        file = layout.model_path(pool_uid, model_id)
        with new_file(self._data_dir / file, hashlib.sha256(), self._alarm) as sink:
            for chunk in chunks:
                sink.write(chunk)
        return file, sink.size, sink.digest.hexdigest()

    def open_model(self, file: str) -> BinaryIO:
        """Opens a model file for reading. Raises AssayError(SEGMENT_DAMAGED) if it is not there."""
        try:
            return open(layout.locate(self._data_dir, file), "rb")
        except OSError as error:
            raise damaged(file, f"it cannot be opened ({error.strerror})") from error

    def model_path(self, file: str) -> str:
        """Path of a model file for libraries that map it themselves."""
        return str(layout.locate(self._data_dir, file))

    def discard(self, files: Iterable[str]) -> None:
        """Deletes files; those mapped stay readable. Missing files are ignored."""
        for file in files:
            _delete(layout.locate(self._data_dir, file))

    def owner(self) -> Owner | None:
        """What the data directory says of itself; None if it does not."""
        path = self._data_dir / OWNER_FILE
        try:
            lines = path.read_text(encoding="ascii", errors="replace").split()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error, path, 0) from error
        return Owner(*[*lines, "", ""][:2])

    def join(self, owner: Owner) -> None:
        """Writes whose directory it is, in place of what it said before."""
        path = self._data_dir / OWNER_FILE
        # What a crash left over would be in the way.
        _delete(path.with_name(path.name + TEMPORARY))
        with new_file(path, xxhash.xxh3_128(), self._alarm) as sink:
            sink.write(f"{owner.catalog}\n{owner.directory}\n".encode())

    def files(self) -> set[str]:
        """All files of the store."""
        return {file for file, _ in layout.stored_files(self._data_dir)}

    def ahead(self, next_rows: Mapping[int, int], last_pool: int) -> list[str]:
        """Files that a catalog with these pools cannot know of yet. One that begins with the next row of its pool is
        not among them: it may be of a batch that a crash cut off."""
        return sorted(file for file, _ in layout.stored_files(self._data_dir) if _is_ahead(file, next_rows, last_pool))

    def sweep(self, keep: set[str], *, aside: bool = False) -> Swept:
        """Deletes all files of the store that are not named, and folders left empty; moves them to the folder "swept"
        if asked to, and while a file that is named is missing."""
        found = dict(layout.stored_files(self._data_dir))
        missing = sorted(keep - found.keys())
        unwanted = sorted(found.keys() - keep)
        for file in unwanted:
            if aside or missing:
                _move(found[file], layout.swept_path(self._data_dir, file))
            else:
                _delete(found[file])
        for folder in list(layout.stored_folders(self._data_dir)):
            _delete_if_empty(folder)
        return Swept(unwanted, missing, str(self._data_dir / layout.SWEPT) if (aside or missing) and unwanted else "")

    def _put_samples(self, pool_uid: int, rows_N: RowArray, batch: pa.RecordBatch) -> SegmentFile:
        return self._put(layout.samples_path(pool_uid, int(rows_N[0])), "samples", "", rows_N, batch)

    def _put_vectors(self, pool_uid: int, space: str, rows_N: RowArray, batch: pa.RecordBatch) -> SegmentFile:
        return self._put(layout.vectors_path(pool_uid, space, int(rows_N[0])), "vectors", space, rows_N, batch)

    def _put(self, file: str, kind: str, space: str, rows_N: RowArray, batch: pa.RecordBatch) -> SegmentFile:
        size, checksum = write_batch(self._data_dir / file, batch, self._alarm)
        return SegmentFile(file, kind, space, int(rows_N[0]), int(rows_N[-1]), len(rows_N), size, checksum)

    def _open(self, file: SegmentFile, verify: bool) -> tuple[pa.RecordBatch, Header]:
        path = self._path_of(file)
        if verify:
            self.verify(file)
        batch = _trying(file, lambda: read_batch(path))
        header = _trying(file, lambda: headers.decode(batch.schema))
        if header.kind != file.kind or batch.num_rows != file.count:
            raise damaged(file.file, f"it holds {batch.num_rows} {header.kind}, not {file.count} {file.kind}")
        # Offsets and indices that point nowhere would crash the process, not raise.
        _trying(file, lambda: batch.validate(full=not verify))
        return batch, header

    def _path_of(self, file: SegmentFile) -> Path:
        """Path of a segment that has its size on disk."""
        path = layout.locate(self._data_dir, file.file)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise unread(file.file, error) from error
        if size != file.size:
            raise damaged(file.file, f"it has {size} bytes instead of {file.size}")
        return path

    def _verify_all(self, segments: Sequence[SampleSegment] | Sequence[VectorSegment]) -> None:
        for segment in segments:
            self.verify(segment.file)


def _is_ahead(file: str, next_rows: Mapping[int, int], last_pool: int) -> bool:
    pool_uid, first_row = layout.pool_of(file), layout.first_row_of(file)
    if pool_uid is None:
        return False
    if pool_uid not in next_rows:
        return pool_uid > last_pool
    return first_row is not None and first_row > next_rows[pool_uid]


def _trying(file: SegmentFile, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except _NOT_A_SEGMENT as error:
        raise damaged(file.file, f"it cannot be read as a segment ({error})") from error


def _check_rows(rows_N: RowArray) -> None:
    if not len(rows_N) or np.any(rows_N[1:] <= rows_N[:-1]):
        raise ValueError("a segment has at least one row, and its rows ascend")


def _check_opened(file: SegmentFile, rows_N: RowArray) -> None:
    ascend = bool(np.all(rows_N[1:] > rows_N[:-1]))
    if not ascend or rows_N[0] != file.first_row or rows_N[-1] != file.last_row:
        raise damaged(file.file, "its rows are garbled")


def _ours(segment: SampleSegment) -> ArrowSampleSegment:
    if not isinstance(segment, ArrowSampleSegment):
        raise TypeError(f"{type(segment).__name__} was not opened by this store")
    return segment


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path, 0) from error


def _move(path: Path, target: Path) -> None:
    try:
        make_folder(target.parent)
        path.rename(target)
    except OSError as error:
        raise storage_error(error, path, 0) from error


def _delete_if_empty(folder: Path) -> None:
    try:
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise storage_error(error, folder, 0) from error
