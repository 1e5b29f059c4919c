"""The calls of long-running operations and of health, and what their answers mean."""

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import duration_pb2, empty_pb2
from grpc_health.v1 import health_pb2

from assay.client import _replies, errors, results
from assay.client._names import Named, enum_word, resource_name
from assay.client._wire import Pages, Unary, nothing, pages, unary
from assay.v1 import models_pb2, types_pb2

_SERVICE = "/google.longrunning.Operations/"


def get_operation(operation: str | Named) -> Unary[operations_pb2.Operation]:
    """Get a long-running operation by its name."""
    request = operations_pb2.GetOperationRequest(name=resource_name(operation))
    return unary(_SERVICE + "GetOperation", request, operations_pb2.Operation, same)


def wait_operation(name: str, seconds: float) -> Unary[operations_pb2.Operation]:
    """Ask the server to answer when the operation is done, or after so many seconds."""
    timeout = duration_pb2.Duration()
    timeout.FromNanoseconds(int(seconds * 1e9))
    request = operations_pb2.WaitOperationRequest(name=name, timeout=timeout)
    return unary(_SERVICE + "WaitOperation", request, operations_pb2.Operation, same)


def list_operations() -> Pages[operations_pb2.Operation]:
    """The long-running operations that the server knows, fetched page by page."""
    return pages(
        _SERVICE + "ListOperations",
        operations_pb2.ListOperationsRequest(name="operations"),
        operations_pb2.ListOperationsResponse,
        lambda reply: reply.operations,
    )


def cancel_operation(operation: str | Named) -> Unary[None]:
    """Ask a long-running operation to stop at its next block of work."""
    request = operations_pb2.CancelOperationRequest(name=resource_name(operation))
    return unary(_SERVICE + "CancelOperation", request, empty_pb2.Empty, nothing)


def health(service: str = "") -> Unary[str]:
    """The server's health: "SERVING" or "NOT_SERVING"."""
    return unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest(service=service),
        health_pb2.HealthCheckResponse,
        lambda reply: enum_word(health_pb2.HealthCheckResponse.ServingStatus, reply.status).upper(),
    )


def same(operation: operations_pb2.Operation) -> operations_pb2.Operation:
    """The operation itself."""
    return operation


def progress_of(operation: operations_pb2.Operation) -> results.Progress:
    """How far an operation is, as far as its metadata says."""
    message = types_pb2.OperationProgress()
    operation.metadata.Unpack(message)
    return _replies.progress(message)


def outcome(operation: operations_pb2.Operation) -> results.Model:
    """The result of an operation that is done.

    Raises:
        AssayError: it failed or was cancelled.
        TypeError: its result is of a type that this client does not know.
    """
    if operation.HasField("error"):
        raise errors.from_status(operation.error)
    model = models_pb2.Model()
    if not operation.response.Unpack(model):
        raise TypeError(f"{operation.name} gave {operation.response.type_url or 'nothing'}: a newer client is needed")
    return _replies.model(model)


def still_running(name: str, timeout: float) -> errors.DeadlineExceeded:
    """The error of a wait that ended before the operation did."""
    return errors.DeadlineExceeded(
        f"{name} still runs after {timeout:g} s; wait again, or cancel it", code="DEADLINE_EXCEEDED"
    )
