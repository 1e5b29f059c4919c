"""Messages of pools.proto."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import MAX_ANNOTATIONS, MAX_DIMENSION, MAX_IDS, MAX_K, MAX_QUERIES
from assay.server.core.pools.messages import (
    AddResult,
    DeleteResult,
    IngestBatch,
    PoolSpec,
    PoolUpdate,
    PoolView,
    SampleUpdate,
    SearchMode,
    SearchResult,
    SearchSpec,
    UpdateSamplesResult,
)
from assay.server.core.records.annotations import Policy
from assay.server.core.records.arrays import FloatArray, MaskArray
from assay.server.core.records.pools import Metric, State
from assay.server.core.records.samples import AttributeColumn, OnConflict, SampleColumns
from assay.server.core.tasks.given import Given
from assay.server.rpc.convert import names
from assay.server.rpc.convert.arrays import to_matrix, to_tensors
from assay.server.rpc.convert.scalars import bounded, bounded_or, choice, timestamp_message
from assay.server.rpc.convert.tasks import task_message, to_class_edits, to_task
from assay.server.rpc.convert.types import sample_message, states, timing_messages, to_filter
from assay.server.rpc.convert.values import to_values
from assay.v1 import pools_pb2, types_pb2

_METRICS: Mapping[int, Metric] = {
    pools_pb2.METRIC_UNSPECIFIED: Metric.COSINE,
    pools_pb2.METRIC_COSINE: Metric.COSINE,
    pools_pb2.METRIC_L2: Metric.L2,
    pools_pb2.METRIC_INNER_PRODUCT: Metric.INNER_PRODUCT,
}
_WIRE_METRICS = {metric: pools_pb2.Metric.ValueType(value) for value, metric in _METRICS.items()}
_POLICIES: Mapping[int, Policy] = {
    pools_pb2.LABEL_POLICY_UNSPECIFIED: Policy.LATEST,
    pools_pb2.LABEL_POLICY_LATEST: Policy.LATEST,
    pools_pb2.LABEL_POLICY_MAJORITY: Policy.MAJORITY,
    pools_pb2.LABEL_POLICY_UNANIMOUS: Policy.UNANIMOUS,
    pools_pb2.LABEL_POLICY_WEIGHTED: Policy.WEIGHTED,
    pools_pb2.LABEL_POLICY_REVIEWED: Policy.REVIEWED,
}
_WIRE_POLICIES = {policy: pools_pb2.LabelPolicy.ValueType(value) for value, policy in _POLICIES.items()}
# Fields of a pool that UpdatePool changes.
_UPDATED = ("task", "annotations_per_sample", "policy", "metadata")
_ON_CONFLICT: Mapping[int, OnConflict] = {
    pools_pb2.ON_CONFLICT_UNSPECIFIED: OnConflict.ERROR,
    pools_pb2.ON_CONFLICT_ERROR: OnConflict.ERROR,
    pools_pb2.ON_CONFLICT_SKIP: OnConflict.SKIP,
    pools_pb2.ON_CONFLICT_REPLACE: OnConflict.REPLACE,
}
_SEARCH_MODES: Mapping[int, SearchMode] = {
    pools_pb2.SEARCH_MODE_UNSPECIFIED: SearchMode.AUTO,
    pools_pb2.SEARCH_MODE_AUTO: SearchMode.AUTO,
    pools_pb2.SEARCH_MODE_EXACT: SearchMode.EXACT,
    pools_pb2.SEARCH_MODE_APPROXIMATE: SearchMode.APPROXIMATE,
}
_WIRE_INDEX_KINDS: Mapping[str, pools_pb2.IndexKind.ValueType] = {
    "exact": pools_pb2.INDEX_KIND_EXACT,
    "hnsw": pools_pb2.INDEX_KIND_HNSW,
    "ivf": pools_pb2.INDEX_KIND_IVF,
}
_WIRE_ATTRIBUTE_KINDS: Mapping[str, types_pb2.AttributeKind.ValueType] = {
    "string": types_pb2.ATTRIBUTE_KIND_STRING,
    "double": types_pb2.ATTRIBUTE_KIND_DOUBLE,
    "int64": types_pb2.ATTRIBUTE_KIND_INT64,
    "bool": types_pb2.ATTRIBUTE_KIND_BOOL,
}
MAX_DAMAGED_SHOWN = 100


def to_pool_spec(request: pools_pb2.CreatePoolRequest) -> PoolSpec:
    """A pool to create. Raises AssayError(INVALID_ARGUMENT) for an unknown metric or policy, or a number out of
    bounds."""
    pool = request.pool
    return PoolSpec(
        pool_id=request.pool_id,
        metric=choice(_METRICS, pool.metric, "pool.metric"),
        task=to_task(pool.task),
        dimension=bounded(pool.dimension, 0, MAX_DIMENSION, "pool.dimension"),
        keep_inputs=not pool.discard_inputs,
        annotations_per_sample=bounded(pool.annotations_per_sample, 0, MAX_ANNOTATIONS, "pool.annotations_per_sample")
        or 1,
        policy=choice(_POLICIES, pool.policy, "pool.policy"),
        metadata=dict(pool.metadata),
    )


def to_pool_update(request: pools_pb2.UpdatePoolRequest) -> PoolUpdate:
    """What of a pool is to be otherwise: what the mask names, or without one what is set. Raises AssayError:
    INVALID_ARGUMENT for a field that cannot be updated, or nothing to update; INVALID_TASK."""
    pool, asked = request.pool, _asked(request)
    kind, classes = to_class_edits(pool.task) if "task" in asked else (None, None)
    wanted = bounded(pool.annotations_per_sample, 0, MAX_ANNOTATIONS, "pool.annotations_per_sample")
    return PoolUpdate(
        kind=kind,
        classes=classes,
        annotations_per_sample=(wanted or 1) if "annotations_per_sample" in asked else None,
        policy=choice(_POLICIES, pool.policy, "pool.policy") if "policy" in asked else None,
        metadata=dict(pool.metadata) if "metadata" in asked else None,
    )


def _asked(request: pools_pb2.UpdatePoolRequest) -> set[str]:
    paths = set(request.update_mask.paths)
    if "*" in paths:
        return set(_UPDATED)
    for path in sorted(paths):
        if path not in _UPDATED:
            raise AssayError(
                Reason.INVALID_ARGUMENT,
                f"{path[:100]!r} cannot be updated; what can be is: {', '.join(_UPDATED)}.",
                field="update_mask",
                path=path,
            )
    found = paths or {field.name for field, _ in request.pool.ListFields() if field.name in _UPDATED}
    if not found:
        raise AssayError(
            Reason.INVALID_ARGUMENT, f"Nothing is to be updated. Set one of: {', '.join(_UPDATED)}.", field="pool"
        )
    return found


def _degraded(view: PoolView) -> bool:
    """Whether anything of a pool cannot be served: a sample may be lost without a file that is."""
    return bool(view.damaged) or view.counts[State.DAMAGED] > 0


def pool_message(view: PoolView) -> pools_pb2.Pool:
    """A pool for the wire."""
    record = view.record
    return pools_pb2.Pool(
        name=names.pool_name(record.pool_id),
        metric=_WIRE_METRICS[record.metric],
        task=task_message(record.task),
        dimension=record.dimension,
        embedding_space=record.space,
        discard_inputs=not record.keep_inputs,
        counts=_counts_message(view.counts),
        state=pools_pb2.POOL_STATE_DEGRADED if _degraded(view) else pools_pb2.POOL_STATE_OPEN,
        epoch=record.epoch,
        active_backbone=names.model_name(record.pool_id, record.backbone),
        active_head=names.model_name(record.pool_id, record.head),
        attributes={name: _WIRE_ATTRIBUTE_KINDS[kind] for name, kind in view.attributes.items()},
        index=pools_pb2.IndexStatus(
            kind=_WIRE_INDEX_KINDS[view.index_kind], indexed=view.indexed, building=view.index_building
        ),
        segments=view.segments,
        embedding_bytes=view.embedding_bytes,
        damaged_segments=[
            pools_pb2.DamagedSegment(file=damaged.file, samples=damaged.samples, reason=damaged.reason)
            for damaged in view.damaged[:MAX_DAMAGED_SHOWN]
        ],
        create_time=timestamp_message(record.create_time),
        annotations_per_sample=record.annotations_per_sample,
        policy=_WIRE_POLICIES[record.policy],
        metadata=record.metadata,
        unseen_classes=view.unseen,
    )


def _counts_message(counts: Mapping[State, int]) -> pools_pb2.SampleCounts:
    served = {
        "unlabeled": counts.get(State.UNLABELED, 0),
        "leased": counts.get(State.LEASED, 0),
        "labeled": counts.get(State.LABELED, 0),
        "excluded": counts.get(State.EXCLUDED, 0),
        "answered": counts.get(State.ANSWERED, 0),
        "disputed": counts.get(State.DISPUTED, 0),
    }
    return pools_pb2.SampleCounts(**served, total=sum(served.values()), damaged=counts.get(State.DAMAGED, 0))


def to_on_conflict(request: pools_pb2.AddSamplesRequest | pools_pb2.UploadSamplesHeader) -> OnConflict:
    """What to do with known ids. Raises AssayError(INVALID_ARGUMENT)."""
    return choice(_ON_CONFLICT, request.on_conflict, "on_conflict")


def to_batch(batch: pools_pb2.SampleBatch) -> IngestBatch:
    """A batch of samples, its columns all of one length.

    Raises:
        AssayError: INVALID_ARGUMENT where columns differ in length, or not exactly one of embeddings and inputs is
            given; INVALID_MATRIX, INPUTS_INVALID, NOT_FINITE from the arrays.
    """
    ids = list(batch.ids)
    count = len(ids)
    if batch.HasField("embeddings") == bool(batch.inputs):
        raise AssayError(Reason.INVALID_ARGUMENT, "A batch needs either embeddings or inputs, and not both.")
    columns = SampleColumns(
        ids=ids,
        uris=_column(batch.uris, count, "uris"),
        payloads=_column(batch.payloads, count, "payloads"),
        payload_media_type=batch.payload_media_type,
        attributes=_attributes(batch.attributes, count),
        predictions_NC=_rows(to_matrix(batch.predictions, "predictions"), count, "predictions")
        if batch.HasField("predictions")
        else None,
        inputs=_inputs(batch, count) if batch.inputs else None,
    )
    embeddings_ND = to_matrix(batch.embeddings, "embeddings") if batch.HasField("embeddings") else None
    return IngestBatch(
        columns=columns,
        embeddings_ND=None if embeddings_ND is None else _rows(embeddings_ND, count, "embeddings"),
        labels=_labels(batch, count),
    )


def to_sample_update(request: pools_pb2.UpdateSamplesRequest) -> SampleUpdate:
    """New values of samples: what the mask names, or without one what is given. Raises AssayError(INVALID_ARGUMENT) for
    columns that cannot be updated, and as to_batch."""
    batch, count = request.batch, len(request.batch.ids)
    given = {field.name for field, _ in batch.ListFields()} - {"ids"}
    if refused := sorted(given - {"uris", "payloads", "payload_media_type", "attributes"}):
        raise AssayError(
            Reason.INVALID_ARGUMENT,
            f"UpdateSamples does not change {refused[0]}: give attributes, uris or payloads. To change a vector, add "
            "the sample again with on_conflict REPLACE.",
            field=refused[0],
        )
    attributes = _attributes(batch.attributes, count)
    paths = set(request.update_mask.paths) or {*given, *(f"attributes.{name}" for name in attributes)} - {"attributes"}
    named = {path.removeprefix("attributes.") for path in paths if path.startswith("attributes.")}
    whole = "attributes" in paths or "*" in paths
    _check_update(paths, named)
    return SampleUpdate(
        SampleColumns(
            ids=list(batch.ids),
            uris=(_column(batch.uris, count, "uris") or [""] * count) if paths & {"uris", "*"} else None,
            payloads=(_column(batch.payloads, count, "payloads") or [b""] * count)
            if paths & {"payloads", "*"}
            else None,
            payload_media_type=batch.payload_media_type,
            attributes={name: column for name, column in attributes.items() if whole or name in named},
        ),
        removed=tuple(sorted(named - attributes.keys())),
        all_attributes=whole,
    )


def _check_update(paths: set[str], attributes: set[str]) -> None:
    """Raises AssayError(INVALID_ARGUMENT) for a mask that names nothing, or what cannot be updated."""
    known = {
        "uris",
        "payloads",
        "payload_media_type",
        "attributes",
        "*",
        *(f"attributes.{name}" for name in attributes),
    }
    for path in sorted(paths - known):
        raise AssayError(
            Reason.INVALID_ARGUMENT,
            f"{path[:100]!r} cannot be updated; what can be is: uris, payloads, attributes, attributes.NAME.",
            field="update_mask",
            path=path[:100],
        )
    if not paths - {"payload_media_type"}:
        raise AssayError(
            Reason.INVALID_ARGUMENT, "Nothing is to be updated: give attributes, uris or payloads.", field="batch"
        )


def update_message(result: UpdateSamplesResult) -> pools_pb2.UpdateSamplesResponse:
    """What became of an update, for the wire."""
    return pools_pb2.UpdateSamplesResponse(updated=result.updated, epoch=result.epoch)


def _labels(batch: pools_pb2.SampleBatch, count: int) -> list[Given] | None:
    labels = _column(batch.labels, count, "labels")
    return None if labels is None else to_values(labels)


def _unequal(field: str, got: int, count: int) -> AssayError:
    return AssayError(
        Reason.INVALID_ARGUMENT,
        f"{field} has {got:,} entries for {count:,} ids; give one per id" + (" or none." if count else "."),
        field=field,
    )


def _column(values: Any, count: int, field: str) -> list[Any] | None:
    if not values:
        return None
    if len(values) != count:
        raise _unequal(field, len(values), count)
    return list(values)


def _rows(values_NX: FloatArray, count: int, field: str) -> FloatArray:
    if len(values_NX) != count:
        raise _unequal(field, len(values_NX), count)
    return values_NX


def _inputs(batch: pools_pb2.SampleBatch, count: int) -> dict[str, npt.NDArray[Any]]:
    inputs = to_tensors(batch.inputs)
    samples = len(next(iter(inputs.values())))
    if samples != count:
        raise _unequal("inputs", samples, count)
    return inputs


def _attributes(columns: Sequence[pools_pb2.AttributeColumn], count: int) -> dict[str, AttributeColumn]:
    attributes = {column.name: _attribute(column, count) for column in columns}
    if len(attributes) != len(columns):
        raise AssayError(Reason.INVALID_ARGUMENT, "An attribute comes twice in the batch. Give each one column.")
    return attributes


def _attribute(column: pools_pb2.AttributeColumn, count: int) -> AttributeColumn:
    kind, values = _attribute_values(column)
    field = f"attribute {column.name[:100]!r}"
    if len(values) != count:
        raise _unequal(field, len(values), count)
    if column.present and len(column.present) != count:
        raise _unequal(f"present of {field}", len(column.present), count)
    return AttributeColumn(kind, values, _mask(column.present))


def _mask(present: Sequence[bool]) -> MaskArray | None:
    return np.fromiter(present, np.bool_, len(present)) if present else None


def _attribute_values(column: pools_pb2.AttributeColumn) -> tuple[str, Sequence[str] | npt.NDArray[Any]]:
    match column.WhichOneof("kind"):
        case "strings":
            return "string", list(column.strings.values)
        case "doubles":
            return "double", np.fromiter(column.doubles.values, np.float64, len(column.doubles.values))
        case "int64s":
            return "int64", np.fromiter(column.int64s.values, np.int64, len(column.int64s.values))
        case "bools":
            return "bool", np.fromiter(column.bools.values, np.bool_, len(column.bools.values))
        case _:
            raise AssayError(Reason.INVALID_ARGUMENT, f"Attribute {column.name[:100]!r} has no values.")


def add_message(result: AddResult) -> pools_pb2.AddSamplesResponse:
    """What became of a batch, for the wire."""
    return pools_pb2.AddSamplesResponse(
        added=result.added,
        skipped=result.skipped,
        replaced=result.replaced,
        labels_dropped=result.labels_dropped,
        attributes_dropped=result.attributes_dropped,
        epoch=result.epoch,
        timings=timing_messages(result.timings),
    )


def delete_message(result: DeleteResult) -> pools_pb2.DeleteSamplesResponse:
    """What became of a deletion, for the wire."""
    return pools_pb2.DeleteSamplesResponse(deleted=result.deleted, epoch=result.epoch)


def to_deleted_ids(request: pools_pb2.DeleteSamplesRequest) -> list[str]:
    """Ids to delete. Raises AssayError(INVALID_ARGUMENT) for none or too many."""
    bounded(len(request.ids), 1, MAX_IDS, "number of ids")
    return list(request.ids)


def to_search_spec(request: pools_pb2.SearchSamplesRequest) -> SearchSpec:
    """A search. Raises AssayError: INVALID_ARGUMENT without a query or beyond the bounds, INVALID_MATRIX,
    INVALID_FILTER."""
    vectors_QD: FloatArray | None = None
    ids: tuple[str, ...] = ()
    match request.WhichOneof("query"):
        case "vectors":
            vectors_QD = to_matrix(request.vectors, "vectors")
            bounded(len(vectors_QD), 1, MAX_QUERIES, "number of query vectors")
        case "samples":
            ids = tuple(request.samples.ids)
            bounded(len(ids), 1, MAX_QUERIES, "number of query samples")
        case _:
            raise AssayError(Reason.INVALID_ARGUMENT, "A search needs vectors or samples.")
    return SearchSpec(
        vectors_QD=vectors_QD,
        ids=ids,
        k=bounded_or(request, "k", 1, MAX_K, 10),
        filter=to_filter(request.filter),
        states=states(request.states),
        mode=choice(_SEARCH_MODES, request.mode, "mode"),
        payload=request.include_payload,
    )


def search_message(pool_id: str, result: SearchResult) -> pools_pb2.SearchSamplesResponse:
    """Result of a search for the wire."""
    return pools_pb2.SearchSamplesResponse(
        results=[
            pools_pb2.SearchResult(
                neighbors=[
                    pools_pb2.Neighbor(
                        sample=sample_message(pool_id, hit.sample), distance=hit.distance, similarity=hit.similarity
                    )
                    for hit in hits
                ]
            )
            for hits in result.hits
        ],
        exact=result.exact,
        epoch=result.epoch,
        timings=timing_messages(result.timings),
    )
