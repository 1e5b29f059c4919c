"""Errors on the wire: one table from reasons to canonical status codes, and what is said beside the code."""

import errno
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.trailers import REASON_CHARACTERS, fitting_facts, fitting_message
from assay.strategies import StrategyError

DOMAIN = "assay"
STATUS_DETAILS_KEY = "grpc-status-details-bin"
Code = grpc.StatusCode


class EdgeReason(StrEnum):
    """Reasons that only the edge knows."""

    UNAUTHENTICATED = "UNAUTHENTICATED"
    RPC_DENIED = "RPC_DENIED"
    ROLE_NEEDED = "ROLE_NEEDED"
    POOL_DENIED = "POOL_DENIED"
    TOO_MANY_CALLS = "TOO_MANY_CALLS"
    REQUEST_INCOMPLETE = "REQUEST_INCOMPLETE"
    UNKNOWN_SERVICE = "UNKNOWN_SERVICE"
    STARTING = "STARTING"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    OUT_OF_FILES = "OUT_OF_FILES"
    INTERNAL = "INTERNAL"


class EdgeError(Exception):
    """An error of the edge itself, told to the caller like an AssayError."""

    def __init__(self, reason: EdgeReason, message: str, **metadata: object) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.metadata = {key: str(value) for key, value in metadata.items()}


class Annotated(Exception):
    """Carries facts about an error whose kind its raiser does not know; the error itself is the cause."""

    def __init__(self, cause: Exception, **metadata: object) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.metadata = {key: str(value) for key, value in metadata.items()}


CODES: Mapping[StrEnum, grpc.StatusCode] = {
    Reason.INVALID_ARGUMENT: Code.INVALID_ARGUMENT,
    Reason.INVALID_NAME: Code.INVALID_ARGUMENT,
    Reason.INVALID_ID: Code.INVALID_ARGUMENT,
    Reason.DUPLICATE_ID: Code.INVALID_ARGUMENT,
    Reason.TOO_LARGE: Code.INVALID_ARGUMENT,
    Reason.INVALID_MATRIX: Code.INVALID_ARGUMENT,
    Reason.NOT_FINITE: Code.INVALID_ARGUMENT,
    Reason.PROBABILITIES_INVALID: Code.INVALID_ARGUMENT,
    Reason.INVALID_FILTER: Code.INVALID_ARGUMENT,
    Reason.INVALID_PLAN: Code.INVALID_ARGUMENT,
    Reason.INVALID_PARAMETER: Code.INVALID_ARGUMENT,
    Reason.INVALID_PAGE_TOKEN: Code.INVALID_ARGUMENT,
    Reason.UNKNOWN_STRATEGY: Code.INVALID_ARGUMENT,
    Reason.UNKNOWN_ATTRIBUTE: Code.INVALID_ARGUMENT,
    Reason.UNKNOWN_CLASS: Code.INVALID_ARGUMENT,
    Reason.CLASS_RETIRED: Code.INVALID_ARGUMENT,
    Reason.WRONG_TASK: Code.INVALID_ARGUMENT,
    Reason.INVALID_VALUE: Code.INVALID_ARGUMENT,
    Reason.INVALID_TASK: Code.INVALID_ARGUMENT,
    Reason.POLICY_INFEASIBLE: Code.INVALID_ARGUMENT,
    Reason.ATTRIBUTE_TYPE_MISMATCH: Code.INVALID_ARGUMENT,
    Reason.DIMENSION_MISMATCH: Code.INVALID_ARGUMENT,
    Reason.REQUEST_ID_REUSED: Code.INVALID_ARGUMENT,
    Reason.MODEL_INVALID: Code.INVALID_ARGUMENT,
    Reason.INPUTS_INVALID: Code.INVALID_ARGUMENT,
    Reason.POOL_NOT_FOUND: Code.NOT_FOUND,
    Reason.POOL_EXISTS: Code.ALREADY_EXISTS,
    Reason.SAMPLE_NOT_FOUND: Code.NOT_FOUND,
    Reason.SAMPLE_EXISTS: Code.ALREADY_EXISTS,
    Reason.MODEL_NOT_FOUND: Code.NOT_FOUND,
    Reason.MODEL_EXISTS: Code.ALREADY_EXISTS,
    Reason.SOURCE_NOT_FOUND: Code.NOT_FOUND,
    Reason.LEASE_NOT_FOUND: Code.NOT_FOUND,
    Reason.OPERATION_NOT_FOUND: Code.NOT_FOUND,
    Reason.ANNOTATION_EXISTS: Code.ALREADY_EXISTS,
    Reason.ANNOTATIONS_EXIST: Code.FAILED_PRECONDITION,
    Reason.EXTERNAL_ID_EXISTS: Code.ALREADY_EXISTS,
    Reason.ANNOTATION_NOT_FOUND: Code.NOT_FOUND,
    Reason.POOL_EXHAUSTED: Code.FAILED_PRECONDITION,
    Reason.QUOTA_INFEASIBLE: Code.FAILED_PRECONDITION,
    Reason.NOTHING_TO_UNDO: Code.FAILED_PRECONDITION,
    Reason.ALREADY_UNDONE: Code.FAILED_PRECONDITION,
    Reason.ACTION_OVERTAKEN: Code.FAILED_PRECONDITION,
    Reason.SAMPLE_LEASED: Code.FAILED_PRECONDITION,
    Reason.SAMPLE_EXCLUDED: Code.FAILED_PRECONDITION,
    Reason.LEASE_EXPIRED: Code.FAILED_PRECONDITION,
    Reason.LEASE_FOREIGN: Code.FAILED_PRECONDITION,
    Reason.LEASE_DONE: Code.FAILED_PRECONDITION,
    Reason.NEED_MISSING: Code.FAILED_PRECONDITION,
    Reason.MODEL_NOT_STOCHASTIC: Code.FAILED_PRECONDITION,
    Reason.MODEL_ACTIVE: Code.FAILED_PRECONDITION,
    Reason.MODEL_SPACE_MISMATCH: Code.FAILED_PRECONDITION,
    Reason.NO_BACKBONE: Code.FAILED_PRECONDITION,
    Reason.INFERENCE_FAILED: Code.FAILED_PRECONDITION,
    Reason.INPUTS_NOT_KEPT: Code.FAILED_PRECONDITION,
    Reason.TOO_FEW_CLASSES: Code.FAILED_PRECONDITION,
    Reason.TOO_FEW_LABELS: Code.FAILED_PRECONDITION,
    Reason.INDEX_NOT_READY: Code.FAILED_PRECONDITION,
    Reason.NOTHING_TO_ROLL_BACK: Code.FAILED_PRECONDITION,
    Reason.OPERATION_RUNNING: Code.FAILED_PRECONDITION,
    Reason.CHANGES_FORGOTTEN: Code.FAILED_PRECONDITION,
    Reason.CONFLICT: Code.ABORTED,
    Reason.BUSY: Code.RESOURCE_EXHAUSTED,
    Reason.STORAGE_FULL: Code.RESOURCE_EXHAUSTED,
    Reason.STORAGE_UNAVAILABLE: Code.UNAVAILABLE,
    Reason.OUTCOME_UNKNOWN: Code.UNAVAILABLE,
    Reason.SHUTTING_DOWN: Code.UNAVAILABLE,
    Reason.CANCELLED: Code.CANCELLED,
    Reason.DEADLINE_EXCEEDED: Code.DEADLINE_EXCEEDED,
    Reason.SEGMENT_DAMAGED: Code.DATA_LOSS,
    Reason.DATA_DIRECTORY_LOCKED: Code.FAILED_PRECONDITION,
    Reason.STORAGE_FAILED: Code.INTERNAL,
    EdgeReason.UNAUTHENTICATED: Code.UNAUTHENTICATED,
    EdgeReason.RPC_DENIED: Code.PERMISSION_DENIED,
    EdgeReason.ROLE_NEEDED: Code.PERMISSION_DENIED,
    EdgeReason.POOL_DENIED: Code.PERMISSION_DENIED,
    EdgeReason.TOO_MANY_CALLS: Code.RESOURCE_EXHAUSTED,
    EdgeReason.REQUEST_INCOMPLETE: Code.DEADLINE_EXCEEDED,
    EdgeReason.UNKNOWN_SERVICE: Code.NOT_FOUND,
    EdgeReason.STARTING: Code.UNAVAILABLE,
    EdgeReason.OUT_OF_MEMORY: Code.RESOURCE_EXHAUSTED,
    EdgeReason.OUT_OF_FILES: Code.RESOURCE_EXHAUSTED,
    EdgeReason.INTERNAL: Code.INTERNAL,
}

# Seconds after which a caller may try again.
RETRY_AFTER: Mapping[StrEnum, float] = {
    Reason.CONFLICT: 0.05,
    Reason.BUSY: 0.5,
    Reason.SHUTTING_DOWN: 2.0,
    Reason.STORAGE_FULL: 60.0,
    Reason.STORAGE_UNAVAILABLE: 1.0,
    Reason.OUTCOME_UNKNOWN: 1.0,
    EdgeReason.STARTING: 1.0,
    EdgeReason.TOO_MANY_CALLS: 1.0,
    EdgeReason.OUT_OF_MEMORY: 5.0,
    EdgeReason.OUT_OF_FILES: 5.0,
}
_NO_DESCRIPTOR_LEFT = (errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as the caller is told of it; error_id is set for those that are nobody's fault but ours.

    Message and metadata are cut to what a caller can receive, whatever they quote.
    """

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    error_id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", self.reason[:REASON_CHARACTERS])
        object.__setattr__(self, "message", fitting_message(self.message))
        object.__setattr__(self, "metadata", fitting_facts(self.metadata))

    def status(self) -> status_pb2.Status:
        """The failure as google.rpc.Status with its details."""
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=dict(self.metadata))
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=[_packed(info)])
        if self.retry_after is not None:
            delay = duration_pb2.Duration()
            delay.FromMicroseconds(round(self.retry_after * 1e6))
            status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
        return status


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def describe(error: BaseException) -> Failure:
    """What the caller is told of an error. Of an unexpected one only an id, under which the log has the rest."""
    if isinstance(error, Annotated):
        return _annotated(describe(error.cause), error.metadata)
    if _out_of_files(error):
        message = "The server has no file descriptor left for this request. Try again in a moment."
        return _listed(EdgeReason.OUT_OF_FILES, message, {})
    if isinstance(error, AssayError | EdgeError):
        return _listed(error.reason, error.message, error.metadata)
    if isinstance(error, StrategyError):
        return strategy_failure(error.reason, str(error))
    if isinstance(error, MemoryError):
        return _listed(
            EdgeReason.OUT_OF_MEMORY, "The server ran out of memory for this request. Ask for less at once.", {}
        )
    return _unexpected()


def _out_of_files(error: BaseException) -> bool:
    """Whether an error, or what it came from, is that the process may open no more files or sockets."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, OSError) and cause.errno in _NO_DESCRIPTOR_LEFT:
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def strategy_failure(reason: str, message: str) -> Failure:
    """What a strategy refuses; a reason of a third party's own counts as a refused argument."""
    try:
        return _listed(Reason(reason), message, {})
    except ValueError:
        return Failure(Code.INVALID_ARGUMENT, reason, message)


def operation_failure(reason: str, message: str) -> Failure:
    """Why an operation failed, from what the catalog kept of it."""
    try:
        return _listed(Reason(reason), message, {})
    except ValueError:
        return Failure(Code.INTERNAL, reason or EdgeReason.INTERNAL, message)


def _listed(reason: Reason | EdgeReason, message: str, metadata: Mapping[str, str]) -> Failure:
    return Failure(CODES[reason], reason.value, message, metadata, RETRY_AFTER.get(reason))


def _annotated(failure: Failure, metadata: Mapping[str, str]) -> Failure:
    return Failure(
        failure.code,
        failure.reason,
        failure.message,
        {**failure.metadata, **metadata},
        failure.retry_after,
        failure.error_id,
    )


def _unexpected() -> Failure:
    error_id = uuid.uuid4().hex
    message = f"The server failed. Its log has the cause under error id {error_id}."
    return Failure(Code.INTERNAL, EdgeReason.INTERNAL.value, message, {"error_id": error_id}, error_id=error_id)
