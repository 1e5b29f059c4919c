"""Work that takes longer than a call."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation is: units done of total in this stage (total 0 and eta None where unknown).

    Attributes:
        pool: the pool that it works on, "pools/{pool}".
        kind: "train_head" or "activate_model"; "" of an operation that this client does not know.
    """

    stage: str = ""
    done: int = 0
    total: int = 0
    eta: timedelta | None = None
    create_time: datetime | None = None
    pool: str = ""
    kind: str = ""
    cancel_requested: bool = False
