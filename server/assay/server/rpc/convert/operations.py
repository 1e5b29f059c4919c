"""Messages of google.longrunning and their metadata."""

from collections.abc import Callable, Mapping

from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from assay.server.core.operations.messages import OperationView, Progress
from assay.server.core.records.operations import OperationRecord
from assay.server.rpc.convert import names
from assay.server.rpc.convert.scalars import duration_message, timestamp_message
from assay.server.rpc.errors import operation_failure
from assay.v1 import audits_pb2, models_pb2, types_pb2


def packed(message: Message) -> any_pb2.Any:
    """A message as google.protobuf.Any."""
    wrapped = any_pb2.Any()
    wrapped.Pack(message)
    return wrapped


def operation_message(view: OperationView) -> operations_pb2.Operation:
    """An operation for the wire. Its stored response is a serialised Any."""
    record = view.record
    operation = operations_pb2.Operation(
        name=names.operation_name(record.pool_id, record.operation_id),
        metadata=packed(_METADATA[record.kind](record, view.progress)),
        done=record.done,
    )
    if record.done and record.error_reason:
        operation.error.CopyFrom(operation_failure(record.error_reason, record.error_message).status())
    elif record.done:
        operation.response.CopyFrom(any_pb2.Any.FromString(record.response))
    return operation


def _progress_message(record: OperationRecord, progress: Progress) -> types_pb2.OperationProgress:
    return types_pb2.OperationProgress(
        stage=progress.stage,
        done=progress.done,
        total=progress.total,
        eta=None if progress.eta is None else duration_message(progress.eta),
        create_time=timestamp_message(record.create_time),
        cancel_requested=progress.cancel_requested,
    )


def _of_training(record: OperationRecord, progress: Progress) -> models_pb2.TrainHeadMetadata:
    return models_pb2.TrainHeadMetadata(
        progress=_progress_message(record, progress), pool=names.pool_name(record.pool_id)
    )


def _of_activation(record: OperationRecord, progress: Progress) -> models_pb2.ActivateModelMetadata:
    return models_pb2.ActivateModelMetadata(
        progress=_progress_message(record, progress), pool=names.pool_name(record.pool_id)
    )


def _of_resolving(record: OperationRecord, progress: Progress) -> audits_pb2.ResolveLabelsMetadata:
    return audits_pb2.ResolveLabelsMetadata(
        progress=_progress_message(record, progress), pool=names.pool_name(record.pool_id)
    )


def _of_audit(record: OperationRecord, progress: Progress) -> audits_pb2.AuditPoolMetadata:
    return audits_pb2.AuditPoolMetadata(
        progress=_progress_message(record, progress), pool=names.pool_name(record.pool_id)
    )


# What is told of an operation while it runs, by its kind.
_METADATA: Mapping[str, Callable[[OperationRecord, Progress], Message]] = {
    "train_head": _of_training,
    "activate_model": _of_activation,
    "resolve_labels": _of_resolving,
    "audit_pool": _of_audit,
}
