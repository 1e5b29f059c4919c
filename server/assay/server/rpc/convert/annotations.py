"""Messages of annotations.proto."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from assay.server.core.checks import CONTROL
from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.labeling.lists import VERDICT
from assay.server.core.labeling.messages import (
    AnnotateResult,
    AnnotateSpec,
    Deed,
    Details,
    EventQuery,
    EventView,
    LabelView,
    ReviewAction,
    ReviewResult,
    ReviewSpec,
    SkipResult,
    SkipSpec,
    StateAction,
    StateResult,
    StateSpec,
    UndoResult,
    UndoSpec,
    WithdrawResult,
    WithdrawSpec,
)
from assay.server.core.limits import MAX_DURATION, MAX_ID_BYTES, MAX_IDS, MAX_TEXT_BYTES
from assay.server.core.records.annotations import NO_EVENT, EventKind, Origin, Policy
from assay.server.rpc.convert import names, paging
from assay.server.rpc.convert.scalars import bounded, bounded_seconds, choice, timestamp_message
from assay.server.rpc.convert.types import state_message
from assay.server.rpc.convert.values import to_values, value_message
from assay.v1 import annotations_pb2

Inputs = Sequence[annotations_pb2.AnnotationInput]

_ORIGINS: Mapping[int, Origin] = {
    annotations_pb2.ORIGIN_UNSPECIFIED: Origin.WORKER,
    annotations_pb2.ORIGIN_WORKER: Origin.WORKER,
    annotations_pb2.ORIGIN_IMPORT: Origin.IMPORT,
    annotations_pb2.ORIGIN_MODEL: Origin.MODEL,
}
_WIRE_ORIGINS: Mapping[Origin, annotations_pb2.Origin.ValueType] = {
    Origin.WORKER: annotations_pb2.ORIGIN_WORKER,
    Origin.IMPORT: annotations_pb2.ORIGIN_IMPORT,
    Origin.MODEL: annotations_pb2.ORIGIN_MODEL,
}
_VERBS: Mapping[EventKind, annotations_pb2.AnnotationVerb.ValueType] = {
    EventKind.ANNOTATE: annotations_pb2.ANNOTATION_VERB_ANNOTATE,
    EventKind.CORRECT: annotations_pb2.ANNOTATION_VERB_CORRECT,
    EventKind.WITHDRAW: annotations_pb2.ANNOTATION_VERB_WITHDRAW,
    EventKind.SKIP: annotations_pb2.ANNOTATION_VERB_SKIP,
    EventKind.VERDICT: annotations_pb2.ANNOTATION_VERB_VERDICT,
    EventKind.RESOLVE: annotations_pb2.ANNOTATION_VERB_RESOLVE,
    EventKind.RETRACT: annotations_pb2.ANNOTATION_VERB_RETRACT,
    EventKind.RESUME: annotations_pb2.ANNOTATION_VERB_RESUME,
}
_ACTIONS: Mapping[int, StateAction] = {
    annotations_pb2.STATE_ACTION_EXCLUDE: StateAction.EXCLUDE,
    annotations_pb2.STATE_ACTION_INCLUDE: StateAction.INCLUDE,
    annotations_pb2.STATE_ACTION_REOPEN: StateAction.REOPEN,
}
# First second of the year 10000, which no timestamp reaches.
_END_OF_TIME = 253_402_300_800


def to_annotate_spec(pool_id: str, request: annotations_pb2.AnnotateRequest) -> AnnotateSpec:
    """What a worker says.

    Raises:
        AssayError: INVALID_ARGUMENT for none or too many, or an unknown origin; INVALID_NAME for a foreign lease.
        SampleError: what is wrong with one of the annotations.
    """
    inputs = request.annotations
    bounded(len(inputs), 1, MAX_IDS, "number of annotations")
    ids = [each.sample_id for each in inputs]
    try:
        return AnnotateSpec(
            worker=request.worker,
            sample_ids=ids,
            values=to_values([each.value for each in inputs]),
            lease=names.lease_within(pool_id, request.lease),
            fencing_token=request.fencing_token,
            correct=request.correct,
            on_behalf_of=request.on_behalf_of,
            origin=choice(_ORIGINS, request.origin, "origin"),
            details=_details(inputs),
        )
    except SampleError as error:
        raise error.among(ids) from None


def _details(inputs: Inputs) -> Details:
    """What is said beside the values; a column that nobody fills is None."""
    return Details(
        external_ids=_texts(inputs, "external_id", MAX_ID_BYTES, one_line=True),
        comments=_texts(inputs, "comment", MAX_TEXT_BYTES),
        confidences_N=_confidences(inputs),
        durations_N=_column(inputs, "duration", lambda each: _milliseconds(each.duration)),
        times_N=_column(inputs, "time", lambda each: _microseconds(each.time)),
    )


def _texts(inputs: Sequence[Message], field: str, most: int, *, one_line: bool = False) -> list[str] | None:
    texts: list[str] = [getattr(each, field) for each in inputs]
    if not any(texts):
        return None
    for row, text in enumerate(texts):
        if len(text.encode()) > most:
            raise SampleError(Reason.TOO_LARGE, row, f"its {field} is longer than {most:,} bytes.", field=field)
        if one_line and CONTROL.search(text):
            raise SampleError(Reason.INVALID_ID, row, f"its {field} has control characters.", field=field)
    return texts


def _confidences(inputs: Inputs) -> npt.NDArray[np.float32] | None:
    given = [each.confidence if each.HasField("confidence") else None for each in inputs]
    if all(value is None for value in given):
        return None
    for row, value in enumerate(given):
        if value is not None and not 0 <= value <= 1:
            reason = Reason.INVALID_VALUE if math.isfinite(value) else Reason.NOT_FINITE
            raise SampleError(reason, row, f"its confidence is {value:g}; it must be from 0 to 1.", field="confidence")
    return np.array([math.nan if value is None else value for value in given], np.float32)


def _column(
    inputs: Inputs, field: Literal["duration", "time"], read: Callable[[annotations_pb2.AnnotationInput], int]
) -> npt.NDArray[np.int64] | None:
    """Whole numbers, -1 where a message has none. Raises SampleError for the first that is refused."""
    given = [each.HasField(field) for each in inputs]
    if not any(given):
        return None
    values = np.full(len(inputs), -1, np.int64)
    for row in np.flatnonzero(given).tolist():
        try:
            values[row] = read(inputs[row])
        except AssayError as error:
            raise SampleError(error.reason, row, error.message, field=field) from None
    return values


def _milliseconds(duration: Duration) -> int:
    return round(bounded_seconds(duration, 0, MAX_DURATION, "its duration") * 1000)


def _microseconds(moment: Timestamp) -> int:
    if not (0 <= moment.seconds < _END_OF_TIME and 0 <= moment.nanos < 1_000_000_000):
        raise AssayError(Reason.INVALID_VALUE, "its time is none from 1970 to the year 9999.")
    return moment.seconds * 1_000_000 + moment.nanos // 1000


def annotate_message(result: AnnotateResult) -> annotations_pb2.AnnotateResponse:
    """What became of annotations, for the wire."""
    return annotations_pb2.AnnotateResponse(
        stored=result.stored,
        unchanged=result.unchanged,
        lease_remaining=result.lease_remaining,
        labeled=result.labeled,
        disputed=result.disputed,
        epoch=result.epoch,
        last_event=result.last_event,
    )


def to_skip_spec(pool_id: str, request: annotations_pb2.SkipSamplesRequest) -> SkipSpec:
    """What a worker skips. Raises AssayError(INVALID_NAME) for a foreign lease."""
    return SkipSpec(
        worker=request.worker,
        sample_ids=list(request.sample_ids),
        reason=request.reason,
        lease=names.lease_within(pool_id, request.lease),
        fencing_token=request.fencing_token,
    )


def skip_message(result: SkipResult) -> annotations_pb2.SkipSamplesResponse:
    """What became of skips, for the wire."""
    return annotations_pb2.SkipSamplesResponse(
        skipped=result.skipped,
        unchanged=result.unchanged,
        lease_remaining=result.lease_remaining,
        epoch=result.epoch,
        last_event=result.last_event,
    )


def to_withdraw_spec(request: annotations_pb2.WithdrawAnnotationsRequest) -> WithdrawSpec:
    """What is taken back."""
    return WithdrawSpec(request.worker, list(request.sample_ids), request.annotator, request.reason)


def withdraw_message(result: WithdrawResult) -> annotations_pb2.WithdrawAnnotationsResponse:
    """What became of withdrawals, for the wire."""
    return annotations_pb2.WithdrawAnnotationsResponse(
        withdrawn=result.withdrawn, labeled=result.labeled, epoch=result.epoch, last_event=result.last_event
    )


def to_state_spec(request: annotations_pb2.SetSampleStateRequest) -> StateSpec:
    """What is done with samples. Raises AssayError(INVALID_ARGUMENT) for an unknown action."""
    action = choice(_ACTIONS, request.action, "action")
    return StateSpec(request.worker, list(request.sample_ids), action, request.reason)


def state_change_message(result: StateResult) -> annotations_pb2.SetSampleStateResponse:
    """What became of samples, for the wire."""
    return annotations_pb2.SetSampleStateResponse(
        changed=result.changed, unchanged=result.unchanged, epoch=result.epoch, last_event=result.last_event
    )


def to_review_spec(pool_id: str, request: annotations_pb2.ReviewSamplesRequest) -> ReviewSpec:
    """What a reviewer decides.

    Raises:
        AssayError: INVALID_ARGUMENT for none or too many, INVALID_NAME for an annotation of another pool.
        SampleError: what is wrong with one of the decisions.
    """
    reviews = request.reviews
    bounded(len(reviews), 1, MAX_IDS, "number of reviews")
    ids = [each.sample_id for each in reviews]
    try:
        return ReviewSpec(
            worker=request.worker,
            sample_ids=ids,
            actions=[_decision(row, each) for row, each in enumerate(reviews)],
            values=to_values([each.value for each in reviews]),
            accepts=[names.annotation_within(pool_id, each.accept) if each.accept else NO_EVENT for each in reviews],
            comments=_texts(reviews, "comment", MAX_TEXT_BYTES),
        )
    except SampleError as error:
        raise error.among(ids) from None


def _decision(row: int, review: annotations_pb2.Review) -> ReviewAction:
    kind = review.WhichOneof("decision")
    # A flag that is not set decides nothing.
    if kind is None or not getattr(review, kind):
        raise SampleError(
            Reason.INVALID_VALUE,
            row,
            "nothing is decided. Give a value, or accept, retract or reject.",
            field="decision",
        )
    return ReviewAction(kind)


def review_message(result: ReviewResult) -> annotations_pb2.ReviewSamplesResponse:
    """What became of verdicts, for the wire."""
    return annotations_pb2.ReviewSamplesResponse(
        decided=result.decided,
        unchanged=result.unchanged,
        labeled=result.labeled,
        epoch=result.epoch,
        last_event=result.last_event,
    )


def to_undo_spec(request: annotations_pb2.UndoLastActionRequest, permit: Callable[[set[Deed]], None]) -> UndoSpec:
    """What is undone. Raises AssayError(INVALID_ARGUMENT) for a number that is none."""
    event = None
    if request.HasField("event"):
        event = bounded(request.event, 0, paging.MAX_INT64 - 1, "event")
    return UndoSpec(request.worker, event, permit)


def undo_message(result: UndoResult) -> annotations_pb2.UndoLastActionResponse:
    """What was undone, for the wire."""
    return annotations_pb2.UndoLastActionResponse(
        undone=result.undone,
        verbs=[_VERBS[kind] for kind in result.kinds],
        sample_ids=result.sample_ids,
        epoch=result.epoch,
        last_event=result.last_event,
    )


def to_event_query(request: annotations_pb2.ListAnnotationsRequest) -> EventQuery:
    """Which events are asked for. Raises AssayError(INVALID_VALUE) for a time that is none."""
    return EventQuery(
        sample_id=request.sample_id,
        worker=request.worker,
        external_id=request.external_id,
        start_time=_seconds(request.start_time) if request.HasField("start_time") else None,
        end_time=_seconds(request.end_time) if request.HasField("end_time") else None,
    )


def to_after_event(request: annotations_pb2.ListAnnotationsRequest) -> int:
    """The event after which a list begins, -1 for none. Raises AssayError(INVALID_ARGUMENT) for a number that is
    none."""
    if not request.HasField("after_event"):
        return NO_EVENT
    return bounded(request.after_event, NO_EVENT, paging.MAX_INT64 - 1, "after_event")


def _seconds(moment: Timestamp) -> float:
    return _microseconds(moment) / 1e6


def annotation_message(pool_id: str, view: EventView) -> annotations_pb2.Annotation:
    """An event for the wire."""
    message = annotations_pb2.Annotation(
        name=names.annotation_name(pool_id, view.number),
        event=view.number,
        sample_id=view.sample_id,
        verb=_VERBS[view.kind],
        worker=view.worker,
        by=view.by,
        value=value_message(view.value),
        create_time=timestamp_message(view.create_time),
        time=timestamp_message(view.time),
        lease=names.lease_name(pool_id, view.lease),
        origin=_WIRE_ORIGINS[view.origin],
        external_id=view.external_id,
        comment=view.comment,
        confidence=None if math.isnan(view.confidence) else view.confidence,
        supersedes=names.annotation_name(pool_id, view.supersedes),
        undoes=names.annotation_name(pool_id, view.undoes),
        standing=view.standing,
    )
    if view.duration is not None:
        message.duration.FromMilliseconds(round(view.duration * 1000))
    return message


# By the policy's word; a verdict decides whatever the policy.
_BASES = {
    word: annotations_pb2.LabelBasis.Value(f"LABEL_BASIS_{word.upper()}") for word in (*map(str, Policy), VERDICT)
}


def label_message(pool_id: str, view: LabelView) -> annotations_pb2.Label:
    """A label for the wire."""
    return annotations_pb2.Label(
        sample_id=view.sample_id,
        value=value_message(view.value),
        state=state_message(view.state),
        annotations=view.annotations,
        agreement=None if math.isnan(view.agreement) else view.agreement,
        confidence=None if math.isnan(view.confidence) else view.confidence,
        decided_by=_BASES[view.decided_by] if view.value is not None else annotations_pb2.LABEL_BASIS_UNSPECIFIED,
        worker=view.worker,
        update_time=timestamp_message(view.create_time),
        lease=names.lease_name(pool_id, view.lease),
    )
