"""Updates of samples: new values of what is known of them."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from assay.client import _replies, results
from assay.client._attributes import attribute_columns, named_columns
from assay.client._ingest import MAX_ROWS
from assay.client._names import fresh_request_id, pool_name
from assay.client._payloads import payload_column
from assay.client._values import Place, optional_texts, texts
from assay.client._wire import Unary, unary
from assay.v1 import methods, pools_pb2


def update_samples(
    pool: str,
    ids: Any,
    *,
    attributes: Any = None,
    uris: Any = None,
    payloads: Any = None,
    media_type: str | None = None,
    request_id: str | None = None,
) -> Unary[results.UpdateSamplesResult]:
    """Change what is known of samples, all of them or none: durable when it returns. What is not given stays, and so do
    rows, embeddings, states, leases and annotations.

    Columns are as `add_samples` takes them, with one entry per id. None takes away what a sample has.

    Args:
        pool: id or name.
        ids: distinct, up to 65,536.
        attributes: columns of scalars by name, or a data frame. Other attributes of the samples stay. The attribute
            "split" with "test" or "validation" sets samples apart, and None takes them back.
        uris: where each raw sample lives.
        payloads: what a person looks at to label it.
        media_type: of all payloads; text and JSON are recognised.
        request_id: idempotency key; made up if not given.

    Raises:
        NotFound: the pool lacks one of the ids, which the error names.
        InvalidArgument: a column that does not fit its attribute.
        TypeError, ValueError: a column that cannot be read, named with the row and id; nothing was sent.
    """
    names = texts(ids, Place("ids"))
    if not 1 <= len(names) <= MAX_ROWS:
        raise ValueError(f"an update is of 1 to {MAX_ROWS:,} samples, not {len(names):,}: send several")
    batch = pools_pb2.SampleBatch(ids=names)
    paths = [f"attributes.{name}" for name in named_columns(attributes)]
    for column in attribute_columns(attributes, names):
        _same_length(f"attribute {column.name!r}", column.values, names)
        batch.attributes.append(column.message(slice(None)))
    if uris is not None:
        given = optional_texts(uris, Place("uris", names), empty=True)
        _same_length("uris", given, names)
        batch.uris.extend("" if uri is None else uri for uri in given)
        paths.append("uris")
    encoded, batch.payload_media_type = payload_column(payloads, media_type, Place("payloads", names))
    if encoded is not None:
        _same_length("payloads", encoded, names)
        batch.payloads.extend(encoded)
        paths.append("payloads")
    if not paths:
        raise ValueError("nothing is to be updated: give attributes, uris or payloads")
    request = pools_pb2.UpdateSamplesRequest(
        parent=pool_name(pool),
        batch=batch,
        update_mask=FieldMask(paths=paths),
        request_id=fresh_request_id(request_id),
    )
    return unary(methods.UPDATE_SAMPLES, request, _replies.updated_samples)


def _same_length(what: str, values: Sequence[Any], ids: Sequence[str]) -> None:
    if len(values) != len(ids):
        raise ValueError(f"{what} has {len(values)} entries for {len(ids)} ids")
