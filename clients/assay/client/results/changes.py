"""What changed in a pool."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changed.

    Attributes:
        kind: "samples", "annotations", "lease", "model", "operation" or "pool".
        action: what happened: of samples "added", "deleted", "excluded", "included", "damaged" or "updated"; of a lease
            "granted", "renewed", "reduced", "done" or "expired"; of a model "added", "deleted", "activated" or
            "deactivated"; of an operation "started" or "ended"; else "".
        count: of how many samples.
        sample_ids: the first 100 of them, less those that are gone by now; lists tell the rest.
        name: of the lease, model or operation; of annotations the lease that they were made under, "" for none.
        worker: who annotated, or holds the lease.
        first_event: number of the first event of annotations, None for other kinds.
        events: how many annotations were "annotated", "corrected", "withdrawn", "skipped", "verdicts", "resolved",
            "retracted" or "resumed".
        error_reason: of an operation that failed.
        fields: of the pool that have other values.
    """

    kind: str
    action: str = ""
    count: int = 0
    sample_ids: tuple[str, ...] = ()
    name: str = ""
    worker: str = ""
    first_event: int | None = None
    events: Mapping[str, int] = field(default_factory=dict)
    error_reason: str = ""
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolChanges:
    """What changed in one step; nothing, in a heartbeat.

    Attributes:
        cursor: where to begin again after it.
        epoch: of the pool, which the change led to; in a heartbeat all up to it has been told.
        time: when it changed; None in a heartbeat.
    """

    cursor: str
    epoch: int
    time: datetime | None
    changes: tuple[Change, ...]
