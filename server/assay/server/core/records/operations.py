"""Long-running operations as the catalog keeps them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """A long-running operation. `response` and `error` are set when done; both are the caller's encodings.

    Attributes:
        operation_id: server-made id.
        kind: "train_head" or "activate_model".
        pool_uid, pool_id: pool that it works on; it goes with the pool.
        done: whether it ended.
        response: encoded result, for a success.
        error_reason, error_message: for a failure.
    """

    operation_id: str
    kind: str
    pool_uid: int
    pool_id: str
    create_time: float
    done: bool = False
    response: bytes = b""
    error_reason: str = ""
    error_message: str = ""
