"""The calls of long-running operations, of the server itself and of its health, and what their answers mean."""

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import duration_pb2
from grpc_health.v1 import health_pb2

from assay.client import _replies, errors, results
from assay.client._names import Named, enum_word, pool_name, resource_name
from assay.client._wire import Pages, Unary, nothing, pages, unary
from assay.v1 import audits_pb2, methods, models_pb2, server_pb2

_ALL_POOLS = "pools/-"


def get_operation(operation: str | Named) -> Unary[operations_pb2.Operation]:
    """Get a long-running operation by its name."""
    request = operations_pb2.GetOperationRequest(name=resource_name(operation))
    return unary(methods.GET_OPERATION, request, same)


def wait_operation(name: str, seconds: float) -> Unary[operations_pb2.Operation]:
    """Ask the server to answer when the operation is done, or after so many seconds."""
    timeout = duration_pb2.Duration()
    timeout.FromNanoseconds(int(seconds * 1e9))
    request = operations_pb2.WaitOperationRequest(name=name, timeout=timeout)
    return unary(methods.WAIT_OPERATION, request, same)


def list_operations(pool: str | None = None) -> Pages[operations_pb2.Operation]:
    """The long-running operations of a pool, or, where None is given, of all pools that the caller may see; fetched
    page by page."""
    request = operations_pb2.ListOperationsRequest(name=_ALL_POOLS if pool is None else pool_name(pool))
    return pages(methods.LIST_OPERATIONS, request, lambda reply: reply.operations)


def cancel_operation(operation: str | Named) -> Unary[None]:
    """Ask a long-running operation to stop at its next block of work."""
    request = operations_pb2.CancelOperationRequest(name=resource_name(operation))
    return unary(methods.CANCEL_OPERATION, request, nothing)


def server_info() -> Unary[results.ServerInfo]:
    """Which version answers, since when, and within which limits."""
    return unary(methods.GET_SERVER_INFO, server_pb2.GetServerInfoRequest(), _replies.server_info)


def health(service: str = "") -> Unary[str]:
    """The server's health: "SERVING" or "NOT_SERVING"."""
    return unary(
        methods.HEALTH_CHECK,
        health_pb2.HealthCheckRequest(service=service),
        lambda reply: enum_word(health_pb2.HealthCheckResponse.ServingStatus, reply.status).upper(),
    )


def same(operation: operations_pb2.Operation) -> operations_pb2.Operation:
    """The operation itself."""
    return operation


def progress_of(operation: operations_pb2.Operation) -> results.Progress:
    """How far an operation is, as far as its metadata says."""
    for kind, metadata in (
        ("train_head", models_pb2.TrainHeadMetadata()),
        ("activate_model", models_pb2.ActivateModelMetadata()),
        ("resolve_labels", audits_pb2.ResolveLabelsMetadata()),
        ("audit_pool", audits_pb2.AuditPoolMetadata()),
    ):
        if operation.metadata.Unpack(metadata):
            return _replies.progress(kind, metadata)
    return results.Progress()  # of a newer server


def outcome(operation: operations_pb2.Operation) -> results.Model | results.ResolveResult | results.AuditResult:
    """The result of an operation that is done.

    Raises:
        AssayError: it failed or was cancelled.
        TypeError: its result is of a type that this client does not know.
    """
    if operation.HasField("error"):
        raise errors.from_status(operation.error)
    if operation.response.Unpack(model := models_pb2.Model()):
        return _replies.model(model)
    if operation.response.Unpack(resolved := audits_pb2.ResolveLabelsResponse()):
        return _replies.resolved(resolved)
    if operation.response.Unpack(audited := audits_pb2.AuditPoolResponse()):
        return _replies.audited(audited)
    raise TypeError(f"{operation.name} gave {operation.response.type_url or 'nothing'}: a newer client is needed")


def still_running(name: str, timeout: float) -> errors.DeadlineExceeded:
    """The error of a wait that ended before the operation did."""
    return errors.DeadlineExceeded(
        f"{name} still runs after {timeout:g} s; wait again, or cancel it", code="DEADLINE_EXCEEDED"
    )
