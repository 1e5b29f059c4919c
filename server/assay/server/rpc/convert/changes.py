"""Messages of changes.proto."""

import re
from collections.abc import Mapping, Sequence

from assay.server.core.errors import AssayError, Reason
from assay.server.core.pools.feed import ChangesView, PoolFeed
from assay.server.core.records.annotations import EventKind
from assay.server.core.records.changes import (
    AnnotationsChanged,
    ChangeRecord,
    LeaseAction,
    LeaseChanged,
    ModelAction,
    ModelChanged,
    OperationAction,
    OperationChanged,
    Part,
    PoolChanged,
    Position,
    SamplesAction,
    SamplesChanged,
)
from assay.server.rpc.convert import names
from assay.server.rpc.convert.scalars import bounded_seconds, timestamp_message
from assay.v1 import changes_pb2

HEARTBEAT_S = 30.0
_CURSOR = re.compile(r"(\d{1,18})\.(\d{1,18})\.(\d{1,18})", re.ASCII)

_SAMPLES = {
    SamplesAction.ADDED: changes_pb2.SamplesChange.ACTION_ADDED,
    SamplesAction.DELETED: changes_pb2.SamplesChange.ACTION_DELETED,
    SamplesAction.EXCLUDED: changes_pb2.SamplesChange.ACTION_EXCLUDED,
    SamplesAction.INCLUDED: changes_pb2.SamplesChange.ACTION_INCLUDED,
    SamplesAction.DAMAGED: changes_pb2.SamplesChange.ACTION_DAMAGED,
    SamplesAction.UPDATED: changes_pb2.SamplesChange.ACTION_UPDATED,
}
_LEASE = {
    LeaseAction.GRANTED: changes_pb2.LeaseChange.ACTION_GRANTED,
    LeaseAction.RENEWED: changes_pb2.LeaseChange.ACTION_RENEWED,
    LeaseAction.REDUCED: changes_pb2.LeaseChange.ACTION_REDUCED,
    LeaseAction.DONE: changes_pb2.LeaseChange.ACTION_DONE,
    LeaseAction.EXPIRED: changes_pb2.LeaseChange.ACTION_EXPIRED,
}
_MODEL = {
    ModelAction.ADDED: changes_pb2.ModelChange.ACTION_ADDED,
    ModelAction.DELETED: changes_pb2.ModelChange.ACTION_DELETED,
    ModelAction.ACTIVATED: changes_pb2.ModelChange.ACTION_ACTIVATED,
    ModelAction.DEACTIVATED: changes_pb2.ModelChange.ACTION_DEACTIVATED,
}
_OPERATION = {
    OperationAction.STARTED: changes_pb2.OperationChange.ACTION_STARTED,
    OperationAction.ENDED: changes_pb2.OperationChange.ACTION_ENDED,
}
_EVENTS = {
    EventKind.ANNOTATE: "annotated",
    EventKind.CORRECT: "corrected",
    EventKind.WITHDRAW: "withdrawn",
    EventKind.SKIP: "skipped",
    EventKind.VERDICT: "verdicts",
    EventKind.RESOLVE: "resolved",
    EventKind.RETRACT: "retracted",
    EventKind.RESUME: "resumed",
}


def to_start(feed: PoolFeed, request: changes_pb2.WatchPoolRequest) -> Position:
    """Where a request wants to begin. Raises AssayError(INVALID_ARGUMENT | CHANGES_FORGOTTEN)."""
    match request.WhichOneof("start"):
        case "cursor":
            return feed.at(*_to_cursor(request.cursor))
        case "since_epoch":
            return feed.since(request.since_epoch)
        case _:
            return feed.now()


def to_heartbeat(request: changes_pb2.WatchPoolRequest) -> float:
    """Seconds between two messages at most. Raises AssayError(INVALID_ARGUMENT)."""
    if not request.HasField("heartbeat"):
        return HEARTBEAT_S
    return bounded_seconds(request.heartbeat, 1.0, 3600.0, "heartbeat")


def heartbeat_message(feed: PoolFeed, position: Position, epoch: int) -> changes_pb2.WatchPoolResponse:
    """A heartbeat: all up to an epoch was told."""
    return changes_pb2.WatchPoolResponse(cursor=_cursor(feed, position), epoch=max(epoch, position.epoch))


def change_messages(feed: PoolFeed, view: ChangesView) -> list[changes_pb2.WatchPoolResponse]:
    """Changes for the wire."""
    return [_change(feed, record, view.ids) for record in view.records]


def _change(feed: PoolFeed, record: ChangeRecord, ids: Mapping[int, str]) -> changes_pb2.WatchPoolResponse:
    return changes_pb2.WatchPoolResponse(
        cursor=_cursor(feed, record.position),
        epoch=record.position.epoch,
        change_time=timestamp_message(record.create_time),
        changes=[_part(feed.pool_id, part, ids) for part in record.parts],
    )


def _part(pool_id: str, part: Part, ids: Mapping[int, str]) -> changes_pb2.Change:
    match part:
        case SamplesChanged():
            touched = _touched(part.count, part.rows, ids)
            touched.sample_ids.extend(part.ids)
            samples = changes_pb2.SamplesChange(action=_SAMPLES[SamplesAction(part.action)], samples=touched)
            return changes_pb2.Change(samples=samples)
        case AnnotationsChanged():
            return changes_pb2.Change(annotations=_annotations(pool_id, part, ids))
        case LeaseChanged():
            lease = changes_pb2.LeaseChange(
                action=_LEASE[LeaseAction(part.action)],
                lease=names.lease_name(pool_id, part.lease_id),
                worker=part.worker,
                samples=_touched(part.count, part.rows, ids),
            )
            return changes_pb2.Change(lease=lease)
        case ModelChanged():
            model = changes_pb2.ModelChange(
                action=_MODEL[ModelAction(part.action)], model=names.model_name(pool_id, part.model_id)
            )
            return changes_pb2.Change(model=model)
        case OperationChanged():
            operation = changes_pb2.OperationChange(
                action=_OPERATION[OperationAction(part.action)],
                operation=names.operation_name(pool_id, part.operation_id),
                error_reason=part.error_reason,
            )
            return changes_pb2.Change(operation=operation)
        case PoolChanged():
            return changes_pb2.Change(pool=changes_pb2.PoolChange(fields=part.fields))


def _annotations(pool_id: str, part: AnnotationsChanged, ids: Mapping[int, str]) -> changes_pb2.AnnotationsChange:
    message = changes_pb2.AnnotationsChange(
        worker=part.worker,
        lease=names.lease_name(pool_id, part.lease_id),
        samples=_touched(part.count, part.rows, ids),
        first_event=part.first_event,
    )
    for kind, count in part.counts.items():
        setattr(message, _EVENTS[EventKind(int(kind))], count)
    return message


def _touched(count: int, rows: Sequence[int], ids: Mapping[int, str]) -> changes_pb2.TouchedSamples:
    return changes_pb2.TouchedSamples(count=count, sample_ids=[ids[row] for row in rows if row in ids])


def _cursor(feed: PoolFeed, position: Position) -> str:
    return f"{feed.pool_uid}.{position.epoch}.{position.number}"


def _to_cursor(cursor: str) -> tuple[int, Position]:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise AssayError(
            Reason.INVALID_ARGUMENT,
            f"{cursor[:60]!r} is no cursor of WatchPool. Use one that a message of it had, or since_epoch.",
            field="cursor",
        )
    uid, epoch, number = map(int, match.groups())
    return uid, Position(epoch, number)
