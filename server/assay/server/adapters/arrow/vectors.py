"""Vectors files: the embeddings of samples in one space, and the backbone's logits."""

import numpy as np
import pyarrow as pa

from assay.server.adapters.arrow import header as headers
from assay.server.adapters.arrow.header import Header
from assay.server.adapters.arrow.ipc import list_array, matrix, numbers, record_batch
from assay.server.core.records.arrays import FloatArray, RowArray
from assay.server.core.records.samples import SegmentFile

ROW, EMBEDDING, LOGITS = "row", "embedding", "logits"


def vector_batch(rows_N: RowArray, embeddings_ND: FloatArray, logits_NC: FloatArray | None) -> pa.RecordBatch:
    """The content of a vectors file; the embeddings come first, where the alignment is. Raises ValueError where
    arrays differ in length."""
    content = {EMBEDDING: list_array(np.ascontiguousarray(embeddings_ND, np.float32))}
    if logits_NC is not None:
        content[LOGITS] = list_array(np.ascontiguousarray(logits_NC, np.float32))
    content[ROW] = pa.array(np.ascontiguousarray(rows_N, np.int64))
    if len({len(column) for column in content.values()}) > 1:
        raise ValueError("rows, embeddings and logits differ in length")
    return record_batch(content, headers.encode(Header("vectors", {})))


class ArrowVectorSegment:
    """An open vectors file."""

    def __init__(self, file: SegmentFile, batch: pa.RecordBatch) -> None:
        self._file = file
        self._rows_N: RowArray = numbers(batch.column(ROW))
        self._embeddings_ND: FloatArray = matrix(batch.column(EMBEDDING))
        has_logits = batch.schema.get_field_index(LOGITS) >= 0
        self._logits_NC: FloatArray | None = matrix(batch.column(LOGITS)) if has_logits else None

    @property
    def file(self) -> SegmentFile:
        """The file as the catalog knows it."""
        return self._file

    @property
    def rows_N(self) -> RowArray:
        """Rows, ascending: read-only, zero copy."""
        return self._rows_N

    @property
    def embeddings_ND(self) -> FloatArray:
        """Embeddings: read-only, zero copy, 64-byte aligned."""
        return self._embeddings_ND

    @property
    def logits_NC(self) -> FloatArray | None:
        """The backbone's own logits: read-only, zero copy."""
        return self._logits_NC
