"""How far an operation is."""

from dataclasses import dataclass

from assay.server.core.records.operations import OperationRecord


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation is; total 0 and eta None where unknown."""

    stage: str = ""
    done: int = 0
    total: int = 0
    eta: float | None = None
    cancel_requested: bool = False


@dataclass(frozen=True, slots=True)
class OperationView:
    """An operation as it is now."""

    record: OperationRecord
    progress: Progress
