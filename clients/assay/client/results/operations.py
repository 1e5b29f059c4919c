"""Work that takes longer than a call."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation is: units done of total in this stage (total 0 and eta None where unknown)."""

    stage: str = ""
    done: int = 0
    total: int = 0
    eta: timedelta | None = None
    create_time: datetime | None = None
    target: str = ""
    kind: str = ""
    cancel_requested: bool = False
