"""What can go wrong between a client and a server.

::

    AssayError                  everything below; carries reason, message, metadata and code
    +-- TransportError          no answer came
    |   +-- Unavailable         the server was not reached, or it is shutting down
    |   +-- DeadlineExceeded    the time given to the call ran out
    |   +-- Cancelled           the call or the operation was cancelled
    +-- RequestError            the server refused; the same request will be refused again
    |   +-- InvalidArgument     wrong whatever the state of the server
    |   +-- NotFound
    |   +-- AlreadyExists
    |   +-- FailedPrecondition  the state of the pool does not allow it
    |   |   +-- ChangesForgotten CHANGES_FORGOTTEN: changes of a pool are no longer kept
    |   |   +-- LeaseExpired    LEASE_EXPIRED
    |   |   +-- LeaseForeign    LEASE_FOREIGN
    |   |   +-- NeedMissing     NEED_MISSING: a strategy needs what the model cannot give
    |   |   +-- PoolExhausted   POOL_EXHAUSTED
    |   |   +-- QuotaInfeasible QUOTA_INFEASIBLE: a plan's minima and maxima cannot be met
    |   +-- Aborted             lost a race with another caller
    |   +-- ResourceExhausted   too much at once; see retry_after
    |   +-- Unauthenticated
    |   +-- PermissionDenied
    |   +-- Unimplemented       the server does not know this call
    +-- ServerError             the server's own trouble
        +-- Internal
        +-- DataLoss            stored bytes are damaged

Arguments that are wrong before anything is sent raise ValueError or TypeError.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import NamedTuple, Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

ERROR_DOMAIN = "assay"
_DETAILS_KEY = "grpc-status-details-bin"
_STORED_KEY = "stored"


class AssayError(Exception):
    """A call that failed.

    Attributes:
        message: what is wrong and the way out, in words.
        reason: machine-readable reason, such as "LEASE_EXPIRED"; empty where the server gave none.
        code: canonical status code, such as "NOT_FOUND".
        metadata: facts about the error, such as the offending id.
        retry_after: how long the server asks to wait before another try; None where it does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: str = "UNKNOWN",
        metadata: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(f"{reason or code}: {message}")
        self.message = message
        self.reason = reason
        self.code = code
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after

    @property
    def stored(self) -> int | None:
        """Samples that a failed ingest has stored for good: at least so many, for a server that went away cannot say
        what it stored last. None for other calls."""
        return int(self.metadata[_STORED_KEY]) if _STORED_KEY in self.metadata else None

    @property
    def row(self) -> int | None:
        """The sample of the call that is to blame, counted from 0 over the whole call; None where it is no one sample's
        fault. Its id is `metadata["id"]`."""
        return int(self.metadata["row"]) if "row" in self.metadata else None

    def note_stored(self, known: int) -> int:
        """Tell of an ingest that it stored `known` samples at least, unless the server knows of more; returns what
        holds now."""
        stored = known if self.stored is None else max(known, self.stored)
        self.metadata[_STORED_KEY] = str(stored)
        return stored


class TransportError(AssayError):
    """No answer came."""


class Unavailable(TransportError):
    """The server was not reached, or it is shutting down."""


class DeadlineExceeded(TransportError):
    """The time given to the call ran out. The server may still have done what was asked."""


class Cancelled(TransportError):
    """The call or the operation was cancelled."""


class RequestError(AssayError):
    """The server refused the request."""


class InvalidArgument(RequestError):
    """The request is wrong whatever the state of the server."""


class NotFound(RequestError):
    """Something that the request names is not there."""


class AlreadyExists(RequestError):
    """Something that the request would make is there already."""


class FailedPrecondition(RequestError):
    """The state of the pool does not allow it."""


class ChangesForgotten(FailedPrecondition):
    """Changes of a pool after the cursor or epoch are no longer kept: read the pool anew."""


class LeaseExpired(FailedPrecondition):
    """The lease's time ran out."""


class LeaseForeign(FailedPrecondition):
    """The fencing token or a sample does not belong to the lease."""


class NeedMissing(FailedPrecondition):
    """A strategy needs what the current model cannot give."""


class PoolExhausted(FailedPrecondition):
    """Fewer samples are left than were asked for."""


class Shortfall(NamedTuple):
    """A bound that cannot be met.

    Attributes:
        group: whose bound; empty where it is the batch as a whole.
        bound: "minimum": the group has fewer candidates; "minimums": together they exceed the batch; "maximums":
            together they leave the batch short.
        wanted, available: how many picks the bound asks for, and how many there can be.
    """

    group: str
    bound: str
    wanted: int
    available: int


class QuotaInfeasible(FailedPrecondition):
    """The minima and maxima of a plan's quotas cannot be met."""

    @property
    def shortfalls(self) -> tuple[Shortfall, ...]:
        """The bounds that cannot be met, as far as the server lists them."""
        try:
            told = json.loads(self.metadata.get("shortfalls", "[]"))
        except ValueError:  # cut, to fit beside the error
            return ()
        return tuple(Shortfall(each["group"], each["bound"], each["wanted"], each["available"]) for each in told)


class Aborted(RequestError):
    """Lost a race with another caller; the same request may succeed now."""


class ResourceExhausted(RequestError):
    """Too much at once, or too much for the server's limits."""


class Unauthenticated(RequestError):
    """The API key is missing or wrong."""


class PermissionDenied(RequestError):
    """The caller's key may not do this: its role is too small (ROLE_NEEDED), or the pool is none of its own
    (POOL_DENIED)."""

    @property
    def needed(self) -> str:
        """The role that it takes: "read", "label", "mine" or "admin"; empty where that is not what is missing."""
        return self.metadata.get("needed", "")


class Unimplemented(RequestError):
    """The server does not know this call."""


class ServerError(AssayError):
    """The server's own trouble."""


class Internal(ServerError):
    """The server failed."""


class DataLoss(ServerError):
    """Stored bytes are damaged."""


_BY_CODE: Mapping[grpc.StatusCode, type[AssayError]] = {
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNKNOWN: ServerError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.INTERNAL: Internal,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: DataLoss,
}

_BY_REASON: Mapping[str, type[AssayError]] = {
    "CHANGES_FORGOTTEN": ChangesForgotten,
    "LEASE_EXPIRED": LeaseExpired,
    "LEASE_FOREIGN": LeaseForeign,
    "NEED_MISSING": NeedMissing,
    "POOL_EXHAUSTED": PoolExhausted,
    "QUOTA_INFEASIBLE": QuotaInfeasible,
}

_CODE_BY_NUMBER: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class FailedCall(Protocol):
    """What a failed call, blocking or asyncio, tells of itself."""

    def code(self) -> grpc.StatusCode:
        """The status code."""

    def details(self) -> str | None:
        """The message."""

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """The metadata that came with the status."""


def from_call(call: FailedCall) -> AssayError:
    """The error of a failed call, with the details that the server put into its trailing metadata."""
    return from_status(_status_of(call))


def from_status(status: status_pb2.Status) -> AssayError:
    """The error that a status stands for. Details that are unreadable or of another domain are left out."""
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    retry_after: timedelta | None = None
    for detail in status.details:
        # Unpack leaves alone what is of another type.
        detail.Unpack(info)
        if detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta()
    ours = info.domain == ERROR_DOMAIN
    code = _CODE_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    reason = info.reason if ours else ""
    return _BY_REASON.get(reason, _BY_CODE[code])(
        status.message,
        reason=reason,
        code=code.name,
        metadata=info.metadata if ours else None,
        retry_after=retry_after,
    )


def _status_of(call: FailedCall) -> status_pb2.Status:
    bare = status_pb2.Status(code=call.code().value[0], message=call.details() or "")
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return bare
    return bare
