"""The calls of annotations and of the labels that follow from them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from assay.client import _replies, results
from assay.client._labeling import check_lease
from assay.client._names import enum_value, fresh_request_id, id_list, pool_name
from assay.client._pools import SampleState, state_values
from assay.client._values import given_text, text, whole
from assay.client._wire import Pages, Unary, pages, unary
from assay.client.results import Lease
from assay.client.reviews import Review, review_messages
from assay.client.values import Annotation, annotation_messages, time_message
from assay.v1 import annotations_pb2, methods

Origin: TypeAlias = Literal["worker", "import", "model"]
# Events are numbered in 64 bits.
MOST_EVENTS: Final = (1 << 63) - 2
StateAction: TypeAlias = Literal["exclude", "include", "reopen"]


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


def skip_samples(
    pool: str,
    sample_ids: Iterable[Any],
    worker: str,
    reason: str = "",
    *,
    lease: Lease | None = None,
    request_id: str | None = None,
) -> Unary[results.SkipResult]:
    """Note samples that a worker cannot or does not want to say anything of, all or none: they are not offered to it
    again, unless it asks with `next_batch(..., include_released=True)`; others are offered them.

    Args:
        pool: id or name.
        sample_ids: which.
        worker: who skips them.
        reason: why; kept.
        lease: the lease that holds the samples, which they leave; None for samples that the worker does not hold.
        request_id: idempotency key; made up if not given.

    Raises:
        AlreadyExists: the worker has annotated one of them.
        FailedPrecondition: the worker holds one of them under a lease that is not given.
        LeaseExpired, LeaseForeign: the lease's time ran out; it does not hold a sample, or the token is another's.
    """
    if lease is not None:
        check_lease(lease)
    request = annotations_pb2.SkipSamplesRequest(
        parent=pool_name(pool),
        worker=text(worker, "worker"),
        sample_ids=id_list(sample_ids, "sample_ids"),
        reason=reason,
        lease="" if lease is None else lease.name,
        fencing_token=0 if lease is None else lease.fencing_token,
        request_id=fresh_request_id(request_id),
    )
    return unary(methods.SKIP_SAMPLES, request, _replies.skipped)


def withdraw_annotations(
    pool: str,
    sample_ids: Iterable[Any],
    worker: str,
    reason: str = "",
    *,
    annotator: str | None = None,
    request_id: str | None = None,
) -> Unary[results.WithdrawResult]:
    """Take standing annotations of samples back, all or none. What was said stays in the log.

    Args:
        pool: id or name.
        sample_ids: of which samples.
        worker: who takes them back.
        reason: why; kept.
        annotator: whose annotations; None means the worker's own. Somebody else's need the role admin; "import" is who
            said what came with the samples.
        request_id: idempotency key; made up if not given.

    Raises:
        NotFound: the annotator has no standing annotation of a sample, or there is no such sample.
        PermissionDenied: somebody else's, without the role admin.
    """
    request = annotations_pb2.WithdrawAnnotationsRequest(
        parent=pool_name(pool),
        worker=text(worker, "worker"),
        sample_ids=id_list(sample_ids, "sample_ids"),
        annotator=given_text(annotator, "annotator"),
        reason=reason,
        request_id=fresh_request_id(request_id),
    )
    return unary(methods.WITHDRAW_ANNOTATIONS, request, _replies.withdrawn)


def set_sample_state(
    pool: str,
    sample_ids: Iterable[Any],
    action: StateAction,
    worker: str,
    reason: str = "",
    *,
    request_id: str | None = None,
) -> Unary[results.StateResult]:
    """Set samples aside, take them back or reopen them, all or none, without a lease.

    Args:
        pool: id or name.
        sample_ids: which.
        action: "exclude": nobody is offered them, and nobody can annotate them, until they are included again.
            "include": those that were set aside are as they were. "reopen": all that people and models said of them is
            withdrawn, verdicts too, and they are open again; needs the role admin.
        worker: who does it.
        reason: why; kept.
        request_id: idempotency key; made up if not given.

    Raises:
        FailedPrecondition: one of them is leased (exclude) or set aside (reopen).
        NotFound: there is no such sample.
    """
    request = annotations_pb2.SetSampleStateRequest(
        parent=pool_name(pool),
        worker=text(worker, "worker"),
        sample_ids=id_list(sample_ids, "sample_ids"),
        action=enum_value(annotations_pb2.StateAction, action),
        reason=reason,
        request_id=fresh_request_id(request_id),
    )
    return unary(methods.SET_SAMPLE_STATE, request, _replies.moved)


def review_samples(
    pool: str,
    reviews: Mapping[Any, Any] | Iterable[Review],
    worker: str,
    *,
    request_id: str | None = None,
) -> Unary[results.ReviewResult]:
    """Store what a reviewer decides, all or none: a verdict is the label of its sample, whatever the pool's policy is,
    until it is taken back. Needs the role mine.

    Args:
        pool: id or name.
        reviews: by sample id, a value, as in `annotate`, or what says so in its place: an `AnnotationEvent` to accept,
            or `RETRACT` (the reviewer's own verdict is taken back) or `REJECT` (all that stands of the sample is taken
            back, which is open again; needs the role admin). Or a list of `Review`, which can carry a comment.
        worker: who decides.
        request_id: idempotency key; made up if not given.

    Raises:
        NotFound: an annotation to accept does not stand, or there is no verdict to take back.
        InvalidArgument: a value that the pool's task does not take; metadata name its `row` and `id`.
        FailedPrecondition: a sample is set aside.
    """
    request = annotations_pb2.ReviewSamplesRequest(
        parent=pool_name(pool),
        worker=text(worker, "worker"),
        reviews=review_messages(reviews),
        request_id=fresh_request_id(request_id),
    )
    return unary(methods.REVIEW_SAMPLES, request, _replies.reviewed)


def undo_last_action(
    pool: str, worker: str, *, event: int | None = None, request_id: str | None = None
) -> Unary[results.UndoResult]:
    """Undo what a worker did last: annotate, correct, withdraw, skip, review or reopen. Its samples are as before it,
    but for leases, by events that say the contrary.

    Args:
        pool: id or name.
        worker: whose action.
        event: any event of the action that is meant, such as the `last_event` of its result; None means the last.
        request_id: idempotency key; made up if not given.

    Raises:
        FailedPrecondition: there is none (NOTHING_TO_UNDO), it was undone (ALREADY_UNDONE), or somebody built on it
            (ACTION_OVERTAKEN).
        PermissionDenied: verdicts without the role mine, what others said without the role admin.
    """
    request = annotations_pb2.UndoLastActionRequest(
        parent=pool_name(pool),
        worker=text(worker, "worker"),
        event=None if event is None else whole(event, "event", 0, MOST_EVENTS),
        request_id=fresh_request_id(request_id),
    )
    return unary(methods.UNDO_LAST_ACTION, request, _replies.undone)


def list_annotations(
    pool: str,
    *,
    sample_id: str | None = None,
    worker: str | None = None,
    external_id: str | None = None,
    start_time: datetime | None = None,
    end_time: datetime | None = None,
    after_event: int | None = None,
) -> Pages[results.AnnotationEvent]:
    """What was said, event by event, the oldest first, fetched page by page. All that is given must apply.

    Args:
        pool: id or name.
        sample_id: only of this sample: its history.
        worker: only of this worker.
        external_id: only the one with this id of the caller's.
        start_time, end_time: only those stored at or after the one and before the other; aware datetimes.
        after_event: only those after the event of this number: what came since a list was read, or since the
            `last_event` of a result.

    Raises:
        NotFound: there is no such sample.
    """
    request = annotations_pb2.ListAnnotationsRequest(
        parent=pool_name(pool),
        sample_id="" if sample_id is None else id_list([sample_id], "sample_id")[0],
        worker=given_text(worker, "worker"),
        external_id=given_text(external_id, "external_id"),
        start_time=None if start_time is None else time_message(start_time, "start_time"),
        end_time=None if end_time is None else time_message(end_time, "end_time"),
        after_event=None if after_event is None else whole(after_event, "after_event", -1, MOST_EVENTS),
        page_size=1000,
    )
    return pages(methods.LIST_ANNOTATIONS, request, lambda reply: map(_replies.annotation, reply.annotations))


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
