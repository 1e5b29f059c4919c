"""Several files as one. Numbers are copied once, into their place; texts column by column: the peak stays near the
size of the result."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.server.adapters.arrow import header as headers
from assay.server.adapters.arrow.columns import PREDICTION, ROW
from assay.server.adapters.arrow.header import Header
from assay.server.adapters.arrow.ids import HASHES, ORDER, lookup_columns
from assay.server.adapters.arrow.inputs import kept_runs
from assay.server.adapters.arrow.ipc import list_array, record_batch
from assay.server.adapters.arrow.samples import ArrowSampleSegment
from assay.server.adapters.arrow.vectors import vector_batch
from assay.server.core.ports.segments import VectorSegment
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.strategies import checkpoint

Keep = Callable[[RowArray], MaskArray]
Masks = Sequence[MaskArray]


def mergeable(segments: Sequence[ArrowSampleSegment]) -> bool:
    """Whether samples files fit into one: columns of one name have one type, inputs of one name one dtype."""
    columns = {item for segment in segments for item in segment.types.items()}
    dtypes = {item for segment in segments for item in segment.header.dtypes.items()}
    return all(len({name for name, _ in kinds}) == len(kinds) for kinds in (columns, dtypes))


def merged_samples(segments: Sequence[ArrowSampleSegment], keep: Keep) -> tuple[RowArray, pa.RecordBatch] | None:
    """Rows and content of the merged file; None if no row is left. Raises ValueError for files that do not fit."""
    if not mergeable(segments):
        raise ValueError("columns of one name differ in type")
    masks = [keep(segment.rows_N) for segment in segments]
    rows = _rows([segment.rows_N for segment in segments], masks)
    if not len(rows):
        return None
    hashes = np.concatenate([_kept(part.lookup.hashes_by_position(), mask) for part, mask in _pairs(segments, masks)])
    content = {ROW: pa.array(rows), **lookup_columns(hashes)}
    for name, kind in _other_columns(segments).items():
        join = _joined_predictions if name == PREDICTION else partial(_joined, name, kind)
        content[name] = join(segments, masks)
    return rows, record_batch(content, headers.encode(_merged_header(segments, masks)))


def merged_vectors(segments: Sequence[VectorSegment], keep: Keep) -> tuple[RowArray, pa.RecordBatch] | None:
    """Rows and content of the merged file; None if no row is left. Raises ValueError where only some have logits."""
    masks = [keep(segment.rows_N) for segment in segments]
    rows = _rows([segment.rows_N for segment in segments], masks)
    if not len(rows):
        return None
    logits = [segment.logits_NC for segment in segments]
    with_logits = [part for part in logits if part is not None]
    if len(with_logits) not in (0, len(logits)):
        raise ValueError("files of one space either all have logits or none")
    embeddings = _gathered([segment.embeddings_ND for segment in segments], masks)
    return rows, vector_batch(rows, embeddings, _gathered(with_logits, masks) if with_logits else None)


def _pairs(segments: Sequence[ArrowSampleSegment], masks: Masks) -> list[tuple[ArrowSampleSegment, MaskArray]]:
    return list(zip(segments, masks, strict=True))


def _kept(array: npt.NDArray[np.generic], mask: MaskArray) -> npt.NDArray[np.generic]:
    return array if mask.all() else array[mask]


def _rows(parts: Sequence[RowArray], masks: Masks) -> RowArray:
    rows = np.concatenate([part[mask] for part, mask in zip(parts, masks, strict=True)])
    if np.any(rows[1:] <= rows[:-1]):
        raise ValueError("files to merge must be given in the order of their rows")
    return rows


def _gathered(parts: Sequence[FloatArray], masks: Masks) -> FloatArray:
    """Kept rows of matrices, each copied once."""
    counts = [int(np.count_nonzero(mask)) for mask in masks]
    out = np.empty((sum(counts), parts[0].shape[1]), np.float32)
    stop = 0
    for part, mask, count in zip(parts, masks, counts, strict=True):
        checkpoint()
        start, stop = stop, stop + count
        if count == len(part):
            out[start:stop] = part
        else:
            np.compress(mask, part, axis=0, out=out[start:stop])
    return out


def _other_columns(segments: Sequence[ArrowSampleSegment]) -> dict[str, pa.DataType]:
    """Columns that are neither numbered nor looked up anew, with their types."""
    types = (item for segment in segments for item in segment.types.items())
    return {name: kind for name, kind in types if name not in (ROW, HASHES, ORDER)}


def _joined(name: str, kind: pa.DataType, segments: Sequence[ArrowSampleSegment], masks: Masks) -> pa.Array:
    """Kept values of one column; null where a file lacks it."""
    return pa.concat_arrays([_chunk(name, kind, segment, mask) for segment, mask in _pairs(segments, masks)])


def _chunk(name: str, kind: pa.DataType, segment: ArrowSampleSegment, mask: MaskArray) -> pa.Array:
    checkpoint()
    column = segment.column(name, kind)
    return column if mask.all() else column.filter(pa.array(mask))


def _joined_predictions(segments: Sequence[ArrowSampleSegment], masks: Masks) -> pa.Array:
    """Kept predictions; rows of NaN where a file has none."""
    width = next(part.shape[1] for part in (segment.predictions_NC for segment in segments) if part is not None)
    parts = [_predictions(segment, width) for segment in segments]
    return list_array(_gathered(parts, masks))


def _predictions(segment: ArrowSampleSegment, width: int) -> FloatArray:
    predictions = segment.predictions_NC
    if predictions is not None:
        return predictions
    return np.broadcast_to(np.float32(np.nan), (segment.file.count, width))


def _merged_header(segments: Sequence[ArrowSampleSegment], masks: Masks) -> Header:
    runs = kept_runs([(segment.header, mask) for segment, mask in _pairs(segments, masks)])
    stored = {name for run in runs for name in run.shapes}
    dtypes = {name: kind for segment in segments for name, kind in segment.header.dtypes.items() if name in stored}
    return Header("samples", dtypes, runs)
