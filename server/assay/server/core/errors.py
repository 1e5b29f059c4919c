"""What can go wrong in the domain, as one exception with a reason.

The wire's table (`assay.server.rpc.errors`) gives each reason its canonical status code; every reason is listed there.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

# Characters of an id that a message quotes.
_SHOWN = 100


class Reason(StrEnum):
    """Machine-readable reason of an error; sent as `google.rpc.ErrorInfo.reason`."""

    # The request is wrong whatever the state of the server.
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    INVALID_NAME = "INVALID_NAME"
    INVALID_ID = "INVALID_ID"
    DUPLICATE_ID = "DUPLICATE_ID"
    TOO_LARGE = "TOO_LARGE"
    INVALID_MATRIX = "INVALID_MATRIX"
    NOT_FINITE = "NOT_FINITE"
    PROBABILITIES_INVALID = "PROBABILITIES_INVALID"
    INVALID_FILTER = "INVALID_FILTER"
    INVALID_PLAN = "INVALID_PLAN"
    INVALID_PARAMETER = "INVALID_PARAMETER"
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"
    UNKNOWN_STRATEGY = "UNKNOWN_STRATEGY"
    UNKNOWN_ATTRIBUTE = "UNKNOWN_ATTRIBUTE"
    UNKNOWN_CLASS = "UNKNOWN_CLASS"
    CLASS_RETIRED = "CLASS_RETIRED"
    WRONG_TASK = "WRONG_TASK"
    INVALID_VALUE = "INVALID_VALUE"
    INVALID_TASK = "INVALID_TASK"
    POLICY_INFEASIBLE = "POLICY_INFEASIBLE"
    ATTRIBUTE_TYPE_MISMATCH = "ATTRIBUTE_TYPE_MISMATCH"
    DIMENSION_MISMATCH = "DIMENSION_MISMATCH"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    MODEL_INVALID = "MODEL_INVALID"
    INPUTS_INVALID = "INPUTS_INVALID"
    # Something named is not there, or is there already.
    POOL_NOT_FOUND = "POOL_NOT_FOUND"
    POOL_EXISTS = "POOL_EXISTS"
    SAMPLE_NOT_FOUND = "SAMPLE_NOT_FOUND"
    SAMPLE_EXISTS = "SAMPLE_EXISTS"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_EXISTS = "MODEL_EXISTS"
    SOURCE_NOT_FOUND = "SOURCE_NOT_FOUND"
    LEASE_NOT_FOUND = "LEASE_NOT_FOUND"
    OPERATION_NOT_FOUND = "OPERATION_NOT_FOUND"
    ANNOTATION_EXISTS = "ANNOTATION_EXISTS"
    ANNOTATIONS_EXIST = "ANNOTATIONS_EXIST"
    EXTERNAL_ID_EXISTS = "EXTERNAL_ID_EXISTS"
    ANNOTATION_NOT_FOUND = "ANNOTATION_NOT_FOUND"
    # The state of the pool does not allow it.
    POOL_EXHAUSTED = "POOL_EXHAUSTED"
    QUOTA_INFEASIBLE = "QUOTA_INFEASIBLE"
    NOTHING_TO_UNDO = "NOTHING_TO_UNDO"
    ALREADY_UNDONE = "ALREADY_UNDONE"
    ACTION_OVERTAKEN = "ACTION_OVERTAKEN"
    SAMPLE_LEASED = "SAMPLE_LEASED"
    SAMPLE_EXCLUDED = "SAMPLE_EXCLUDED"
    LEASE_EXPIRED = "LEASE_EXPIRED"
    LEASE_FOREIGN = "LEASE_FOREIGN"
    LEASE_DONE = "LEASE_DONE"
    NEED_MISSING = "NEED_MISSING"
    MODEL_NOT_STOCHASTIC = "MODEL_NOT_STOCHASTIC"
    MODEL_ACTIVE = "MODEL_ACTIVE"
    MODEL_SPACE_MISMATCH = "MODEL_SPACE_MISMATCH"
    NO_BACKBONE = "NO_BACKBONE"
    INFERENCE_FAILED = "INFERENCE_FAILED"
    INPUTS_NOT_KEPT = "INPUTS_NOT_KEPT"
    TOO_FEW_CLASSES = "TOO_FEW_CLASSES"
    TOO_FEW_LABELS = "TOO_FEW_LABELS"
    INDEX_NOT_READY = "INDEX_NOT_READY"
    NOTHING_TO_ROLL_BACK = "NOTHING_TO_ROLL_BACK"
    OPERATION_RUNNING = "OPERATION_RUNNING"
    CHANGES_FORGOTTEN = "CHANGES_FORGOTTEN"
    # Try again.
    CONFLICT = "CONFLICT"
    BUSY = "BUSY"
    STORAGE_FULL = "STORAGE_FULL"
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    CANCELLED = "CANCELLED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    # The server's own trouble.
    SEGMENT_DAMAGED = "SEGMENT_DAMAGED"
    DATA_DIRECTORY_LOCKED = "DATA_DIRECTORY_LOCKED"
    STORAGE_FAILED = "STORAGE_FAILED"


class AssayError(Exception):
    """An error that a caller is told of.

    Attributes:
        reason: which kind of error.
        message: one sentence on what is wrong and one on the way out.
        metadata: facts as strings, such as the offending id.
    """

    def __init__(self, reason: Reason, message: str, **metadata: object) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.metadata: Mapping[str, str] = {key: str(value) for key, value in metadata.items()}


class OutcomeUnknown(AssayError):
    """A change that was committed, or was not: its answer was lost. Nothing that belongs to it may be undone."""

    def __init__(self) -> None:
        super().__init__(
            Reason.OUTCOME_UNKNOWN,
            "The catalog was lost while it stored the change, which is now stored whole or not at all. "
            "Send it again under the same request id: it takes effect once.",
        )


class SampleError(AssayError):
    """An error that one sample of a request is to blame for; its metadata name the sample's `row` and, where known, its
    `id`.

    Attributes:
        row: place of the sample in the request, from 0.
        problem: what is wrong with it, without its place.
    """

    def __init__(self, reason: Reason, row: int, problem: str, sample_id: str = "", /, **metadata: object) -> None:
        known = {"id": sample_id} if sample_id else {}
        where = f"Row {row} (id {sample_id[:_SHOWN]!r})" if sample_id else f"Row {row}"
        super().__init__(reason, f"{where}: {problem}", **{**metadata, "row": row, **known})
        self.row = row
        self.problem = problem
        self._sample_id = sample_id
        self._facts = metadata

    def moved(self, row: int) -> "SampleError":
        """The same error of another row."""
        return SampleError(self.reason, row, self.problem, self._sample_id, **self._facts)

    def among(self, ids: Sequence[str], first: int = 0) -> "SampleError":
        """The same error of a request with these ids; in a stream of requests, `first` samples came before them."""
        sample_id = self._sample_id or (ids[self.row] if self.row < len(ids) else "")
        return SampleError(self.reason, first + self.row, self.problem, sample_id, **self._facts)


def first_of(reason: Reason, rows: Sequence[int], problem: str, **metadata: object) -> SampleError:
    """The error of several samples of a request, told of the first of them."""
    others = len(rows) - 1
    more = f" So it is with {others:,} more of its batch." if others else ""
    return SampleError(reason, min(rows), problem + more, "", **metadata)


class RequestReplayed(Exception):
    """Raised when a request id was answered before: carries the first response, and undoes the transaction."""

    def __init__(self, response: bytes) -> None:
        super().__init__("answered before")
        self.response = response
