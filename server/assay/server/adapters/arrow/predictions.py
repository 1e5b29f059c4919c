"""Predictions files: what one source says of some samples, as columns; of objects, their arrays one after the other."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.server.adapters.arrow import header as headers
from assay.server.adapters.arrow.header import Header
from assay.server.adapters.arrow.ipc import list_array, matrix, numbers, record_batch
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.predictions import ObjectColumns, PredictionColumns
from assay.server.core.records.samples import SegmentFile

KIND = "predictions"
# Probabilities, and boxes or spans.
_KINDS = (("float32", "float32", 4), ("float32", "int64", 2))
ROW, VALUE, SPREAD, PROBABILITY, PLACE = "row", "value", "spread", "object_probability", "object_place"


def prediction_batch(rows_N: RowArray, columns: PredictionColumns) -> pa.RecordBatch:
    """The content of a predictions file. Raises ValueError where columns differ in length."""
    content: dict[str, pa.Array] = {}
    if columns.values_NX is not None:
        content[VALUE] = list_array(np.ascontiguousarray(columns.values_NX, np.float32))
    if columns.spread_NX is not None:
        content[SPREAD] = list_array(np.ascontiguousarray(columns.spread_NX, np.float32))
    if columns.objects is not None:
        content[PROBABILITY] = _ragged(columns.objects.offsets_O, columns.objects.probs_PC)
        content[PLACE] = _ragged(columns.objects.offsets_O, columns.objects.places_PX)
    content[ROW] = pa.array(np.ascontiguousarray(rows_N, np.int64))
    lengths = {name: len(column) for name, column in content.items()}
    if set(lengths.values()) != {len(rows_N)}:
        raise ValueError(f"columns of {len(rows_N)} samples have lengths {lengths}")
    return record_batch(content, headers.encode(Header(KIND, {})))


class ArrowPredictions:
    """An open predictions file."""

    def __init__(self, file: SegmentFile, batch: pa.RecordBatch) -> None:
        self._file = file
        self._rows_N: RowArray = numbers(batch.column(ROW))
        self._columns = _columns(batch)

    @property
    def file(self) -> SegmentFile:
        """The file as the catalog knows it."""
        return self._file

    @property
    def rows_N(self) -> RowArray:
        """Rows, ascending: read-only, zero copy."""
        return self._rows_N

    @property
    def columns(self) -> PredictionColumns:
        """What is predicted of the rows: read-only, zero copy."""
        return self._columns


def _columns(batch: pa.RecordBatch) -> PredictionColumns:
    """Raises ValueError, TypeError or KeyError for a batch that is none of ours."""

    def values(name: str) -> npt.NDArray[np.float32] | None:
        if batch.schema.get_field_index(name) < 0:
            return None
        found = matrix(batch.column(name))
        if found.dtype != np.float32:
            raise ValueError(f"column {name} is of {found.dtype}")
        return found

    if batch.schema.get_field_index(PROBABILITY) < 0:
        if batch.schema.get_field_index(VALUE) < 0:
            raise ValueError("it has no predictions")
        return PredictionColumns(values(VALUE), values(SPREAD))
    probs, places = batch.column(PROBABILITY), batch.column(PLACE)
    offsets_O = numbers(probs.offsets)
    if not np.array_equal(offsets_O, numbers(places.offsets)):
        raise ValueError("its objects have other numbers of places than of probabilities")
    objects = ObjectColumns(offsets_O, matrix(probs.values), matrix(places.values))
    if len(objects.probs_PC) != len(objects.places_PX) or offsets_O[-1] != len(objects.probs_PC):
        raise ValueError("its objects are cut short")
    kinds = (objects.probs_PC.dtype.name, objects.places_PX.dtype.name, objects.places_PX.shape[1])
    if kinds not in _KINDS:
        raise ValueError(f"its objects are of {kinds}")
    return PredictionColumns(objects=objects)


def _ragged(offsets_O: npt.NDArray[np.int64], values_PX: npt.NDArray[np.generic]) -> pa.Array:
    """The values of each sample as one list of a column."""
    return pa.LargeListArray.from_arrays(pa.array(offsets_O), list_array(np.ascontiguousarray(values_PX)))
