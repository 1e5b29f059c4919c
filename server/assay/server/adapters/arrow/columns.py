"""Columns of samples files and overlays: their names and types."""

import numpy as np
import pyarrow as pa

from assay.server.adapters.arrow.ids import HASHES, ORDER
from assay.server.adapters.arrow.inputs import INPUT
from assay.server.core.records.samples import AttributeColumn, SampleColumns

ATTRIBUTE = "attribute:"
ROW, ID, URI = "row", "id", "uri"
PAYLOAD, MEDIA_TYPE = "payload", "payload_media_type"
PREDICTION = "prediction"

_TYPES = {
    ROW: pa.int64(),
    ID: pa.large_string(),
    HASHES: pa.uint64(),
    ORDER: pa.uint32(),
    URI: pa.large_string(),
    PAYLOAD: pa.large_binary(),
    MEDIA_TYPE: pa.dictionary(pa.int16(), pa.string()),
}
_KINDS = {"string": pa.large_string(), "double": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}


def is_ours(field: pa.Field) -> bool:
    """Whether a column of this name has a type that sample_batch gives it."""
    if field.name.startswith(ATTRIBUTE):
        return field.type in _KINDS.values()
    if field.name.startswith(INPUT):
        return bool(pa.types.is_large_list(field.type))
    if field.name == PREDICTION:
        return bool(pa.types.is_fixed_size_list(field.type) and field.type.value_type == pa.float32())
    return bool(field.type == _TYPES.get(field.name))


def text_columns(columns: SampleColumns) -> dict[str, pa.Array]:
    """The columns of uris and payloads, those that are given."""
    content = {}
    if columns.uris is not None:
        content[URI] = pa.array(columns.uris, pa.large_string())
    if columns.payloads is not None:
        content[PAYLOAD] = pa.array(columns.payloads, pa.large_binary())
        media_types = pa.array([columns.payload_media_type])
        codes = pa.array(np.zeros(len(columns.ids), np.int16))
        content[MEDIA_TYPE] = pa.DictionaryArray.from_arrays(codes, media_types)
    return content


def attribute_column(column: AttributeColumn) -> pa.Array:
    """The column of an attribute; null where a sample lacks it."""
    missing = None if column.present_N is None else ~np.asarray(column.present_N, np.bool_)
    return pa.array(column.values, _KINDS[column.kind], mask=missing)
