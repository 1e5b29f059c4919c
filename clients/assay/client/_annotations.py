"""The calls of annotations and of the labels that follow from them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from assay.client import _replies, results
from assay.client._labeling import check_lease
from assay.client._names import enum_value, fresh_request_id, pool_name
from assay.client._pools import SampleState, state_values
from assay.client._values import given_text, text
from assay.client._wire import Pages, Unary, pages, unary
from assay.client.results import Lease
from assay.client.values import Annotation, annotation_messages
from assay.v1 import annotations_pb2, methods

Origin: TypeAlias = Literal["worker", "import", "model"]


def annotate(
    pool: str,
    annotations: Mapping[Any, Any] | Iterable[Annotation],
    worker: str,
    *,
    lease: Lease | None = None,
    correct: bool = False,
    on_behalf_of: bool = False,
    origin: Origin = "worker",
    request_id: str | None = None,
) -> Unary[results.AnnotateResult]:
    """Store what a worker says of samples, all or none. Each annotation is an event that is never changed.

    Args:
        pool: id or name.
        annotations: value by sample id, as a mapping or a Series of pandas; or a list of `Annotation`, which can carry
            an external id, a comment, confidence, duration and time. A value is of the natural type of the pool's
            task: a class name; a list or set of them; a dict of numbers; a list of `Box` or `Span`; `Json(...)`. Whole
            numbers stand for text: 0 is the class "0".
        worker: who says it.
        lease: the lease that holds the samples; each annotated one leaves it. None for annotations from elsewhere.
        correct: put this in the place of what the worker said before.
        on_behalf_of: an integration hands in a person's work, which leases do not stop; needs the role admin.
        origin: "worker" (a person), "import" or "model".
        request_id: idempotency key; made up if not given.

    Raises:
        AlreadyExists: the worker said something else of a sample before, and this is not to correct it; or an external
            id stands for another annotation.
        LeaseExpired: the lease's time ran out.
        LeaseForeign: the lease does not hold a sample, or the token is another's.
        InvalidArgument: a value that the pool's task does not take; metadata name its `row` and `id`.
        TypeError, ValueError: an id or a value that is missing or of no task's type, by position and id.
    """
    if lease is not None:
        check_lease(lease)
    request = annotations_pb2.AnnotateRequest(
        parent=pool_name(pool),
        worker=text(worker, "worker"),
        annotations=annotation_messages(annotations),
        lease="" if lease is None else lease.name,
        fencing_token=0 if lease is None else lease.fencing_token,
        correct=correct,
        on_behalf_of=on_behalf_of,
        origin=enum_value(annotations_pb2.Origin, origin),
        request_id=fresh_request_id(request_id),
    )
    return unary(methods.ANNOTATE, request, _replies.annotated)


def list_labels(
    pool: str,
    *,
    worker: str | None = None,
    class_name: str | None = None,
    states: Sequence[SampleState] = (),
) -> Pages[results.Label]:
    """Labels by row, fetched page by page: of samples that a worker annotated, or of a class, if given. `states` empty
    means "labeled"; "answered" and "disputed" samples have no value yet."""
    return pages(
        methods.LIST_LABELS,
        annotations_pb2.ListLabelsRequest(
            parent=pool_name(pool),
            worker=given_text(worker, "worker"),
            class_name=given_text(class_name, "class_name"),
            page_size=1000,
            states=state_values(states),
        ),
        lambda reply: map(_replies.label, reply.labels),
    )
