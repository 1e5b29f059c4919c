"""The calls of pools and samples, save ingest."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from google.protobuf.field_mask_pb2 import FieldMask
from numpy.typing import NDArray

from assay.client import _replies, results
from assay.client._arrays import float_rows, matrix
from assay.client._names import enum_value, fresh_request_id, id_list, pool_name, sample_name
from assay.client._tables import array_of
from assay.client._values import Place, kind_of, shown, text, texts, whole
from assay.client._wire import Pages, Unary, nothing, pages, unary
from assay.client.filters import Filter
from assay.client.tasks import Task, edited_message, task_message
from assay.v1 import methods, pools_pb2, types_pb2

LabelPolicy: TypeAlias = Literal["latest", "majority", "unanimous", "weighted", "reviewed"]
Metric: TypeAlias = Literal["cosine", "l2", "inner_product"]
SampleState: TypeAlias = Literal["unlabeled", "answered", "leased", "labeled", "disputed", "excluded"]
SearchMode: TypeAlias = Literal["auto", "exact", "approximate"]


def create_pool(
    pool_id: str,
    *,
    task: Task | None = None,
    metric: Metric = "cosine",
    dimension: int = 0,
    discard_inputs: bool = False,
    annotations_per_sample: int = 1,
    policy: LabelPolicy = "latest",
    metadata: Mapping[str, str] | None = None,
    request_id: str | None = None,
) -> Unary[results.Pool]:
    """Create an empty pool.

    Args:
        pool_id: a letter, then up to 62 lower-case letters, digits, "-" or "_".
        task: what people say of its samples, such as Classification(["sport", "science"]); its kind is fixed for the
            pool's life. None is a classification without classes, for a pool without labels.
        metric: of the embeddings; fixed for the pool's life.
        dimension: length of pushed embeddings; 0 lets the first batch or backbone decide.
        discard_inputs: do not keep model inputs once they are embedded; a new backbone then cannot embed them again.
        annotations_per_sample: annotations that are wanted of each sample, by different annotators.
        policy: how labels follow from annotations; "majority", "unanimous" and "weighted" need two or more a sample.
        metadata: your own texts by name.
        request_id: idempotency key; made up if not given.

    Raises:
        AlreadyExists: the pool is there.
        InvalidArgument: a task, a policy or metadata that cannot be.
    """
    pool = pools_pb2.Pool(
        task=None if task is None else task_message(task),
        metric=enum_value(pools_pb2.Metric, metric),
        dimension=whole(dimension, "dimension"),
        discard_inputs=discard_inputs,
        annotations_per_sample=whole(annotations_per_sample, "annotations_per_sample"),
        policy=enum_value(pools_pb2.LabelPolicy, policy),
        metadata=metadata,
    )
    request = pools_pb2.CreatePoolRequest(
        pool_id=text(pool_id, "pool_id"), pool=pool, request_id=fresh_request_id(request_id)
    )
    return unary(methods.CREATE_POOL, request, _replies.pool)


def get_pool(pool: str) -> Unary[results.Pool]:
    """Get a pool with its counts."""
    return unary(methods.GET_POOL, pools_pb2.GetPoolRequest(name=pool_name(pool)), _replies.pool)


def update_pool(
    pool: str,
    *,
    task: Task | None = None,
    annotations_per_sample: int | None = None,
    policy: LabelPolicy | None = None,
    metadata: Mapping[str, str] | None = None,
    request_id: str | None = None,
) -> Unary[results.Pool]:
    """Update what of a pool may change, all of it or nothing; what is not given stays as it is.

    Labels that follow from what changes are derived anew in the same step; what annotators said stays.

    Args:
        pool: its id.
        task: the pool's task with all its classes, new ones by name: `edit_classes(get_pool(pool).task, ...)` makes
            it. A class is known by its id.
        annotations_per_sample: annotations that are wanted of each sample, by different annotators.
        policy: how labels follow from annotations; "majority", "unanimous" and "weighted" need two or more a sample.
        metadata: your own texts by name, in place of all that the pool has.
        request_id: idempotency key; made up if not given.

    Raises:
        FailedPrecondition: a sample has more annotations than are to be wanted, reason ANNOTATIONS_EXIST.
        InvalidArgument: classes that are left out or cannot be merged, a policy that needs several annotators.
        NotFound: there is no such pool.
    """
    message = pools_pb2.Pool(name=pool_name(pool))
    paths: list[str] = []
    if task is not None:
        message.task.CopyFrom(edited_message(task))
        paths.append("task")
    if annotations_per_sample is not None:
        message.annotations_per_sample = whole(annotations_per_sample, "annotations_per_sample")
        paths.append("annotations_per_sample")
    if policy is not None:
        message.policy = enum_value(pools_pb2.LabelPolicy, policy)
        paths.append("policy")
    if metadata is not None:
        message.metadata.update({text(name, "metadata"): text(value, name) for name, value in metadata.items()})
        paths.append("metadata")
    if not paths:
        raise ValueError("nothing is to be updated: give task, annotations_per_sample, policy or metadata")
    request = pools_pb2.UpdatePoolRequest(
        pool=message, update_mask=FieldMask(paths=paths), request_id=fresh_request_id(request_id)
    )
    return unary(methods.UPDATE_POOL, request, _replies.pool)


def list_pools() -> Pages[results.Pool]:
    """All pools by name, fetched page by page."""
    return pages(methods.LIST_POOLS, pools_pb2.ListPoolsRequest(), lambda reply: map(_replies.pool, reply.pools))


def delete_pool(pool: str, *, request_id: str | None = None) -> Unary[None]:
    """Delete a pool with all its samples, labels, leases and models. Cannot be undone."""
    request = pools_pb2.DeletePoolRequest(name=pool_name(pool), request_id=fresh_request_id(request_id))
    return unary(methods.DELETE_POOL, request, nothing)


def get_sample(pool: str, sample_id: Any) -> Unary[results.Sample]:
    """Get one sample with its payload."""
    request = pools_pb2.GetSampleRequest(name=sample_name(pool, text(sample_id, "sample_id")))
    return unary(methods.GET_SAMPLE, request, _replies.sample)


def list_samples(
    pool: str,
    *,
    where: Filter | None = None,
    states: Sequence[SampleState] = (),
    include_payload: bool = False,
) -> Pages[results.Sample]:
    """Samples by row, fetched page by page; `states` empty means all."""
    request = pools_pb2.ListSamplesRequest(
        parent=pool_name(pool),
        filter=filter_message(where),
        states=state_values(states),
        # Payloads can be large: with them the server's own, smaller page.
        page_size=0 if include_payload else 1000,
        include_payload=include_payload,
    )
    return pages(methods.LIST_SAMPLES, request, lambda reply: map(_replies.sample, reply.samples))


def delete_samples(
    pool: str, ids: Iterable[Any], allow_missing: bool = False, *, request_id: str | None = None
) -> Unary[results.DeleteResult]:
    """Delete samples with their labels: all or none. Those under a live lease are refused."""
    request = pools_pb2.DeleteSamplesRequest(
        parent=pool_name(pool),
        ids=id_list(ids),
        allow_missing=allow_missing,
        request_id=fresh_request_id(request_id),
    )
    return unary(methods.DELETE_SAMPLES, request, _replies.deleted)


def search(
    pool: str,
    *,
    vectors: Any = None,
    samples: Iterable[Any] | None = None,
    k: int = 10,
    where: Filter | None = None,
    states: Sequence[SampleState] = (),
    mode: SearchMode = "auto",
    include_payload: bool = False,
) -> Unary[results.SearchResult]:
    """Find the samples nearest to vectors or to samples of the pool.

    Args:
        pool: id or name.
        vectors: one query per row; a single vector will do.
        samples: ids; each is left out of its own result. Either this or vectors.
        k: hits per query.
        where: which samples may be found.
        states: states they may be in; empty means all.
        mode: "exact", "approximate" (refused where no index is ready) or "auto".
        include_payload: whether hits carry payloads.
    """
    if (vectors is None) == (samples is None):
        raise ValueError("search takes either vectors or samples")
    request = pools_pb2.SearchSamplesRequest(
        parent=pool_name(pool),
        k=whole(k, "k"),
        filter=filter_message(where),
        states=state_values(states),
        mode=enum_value(pools_pb2.SearchMode, mode),
        include_payload=include_payload,
    )
    if vectors is not None:
        request.vectors.CopyFrom(matrix(_queries(vectors)))
    if samples is not None:
        request.samples.ids.extend(texts(samples, Place("samples")))
    return unary(methods.SEARCH_SAMPLES, request, _replies.search_result)


def _queries(vectors: Any) -> NDArray[Any]:
    array = array_of(vectors, Place("vectors"))
    return float_rows(array[None, :] if array.ndim == 1 else array, "vectors")


def filter_message(where: Filter | None) -> types_pb2.Filter | None:
    """The message of a filter; None stays unset and matches every sample.

    Raises:
        TypeError: no filter.
    """
    if where is None:
        return None
    if not hasattr(where, "to_proto"):
        raise TypeError(f"where is a filter, such as attribute('lang') == 'en', not {shown(where)}, {kind_of(where)}")
    return where.to_proto()


def state_values(states: Sequence[SampleState]) -> list[types_pb2.SampleState.ValueType]:
    """The enum values of sample states."""
    return [enum_value(types_pb2.SampleState, state) for state in id_list(states)]
