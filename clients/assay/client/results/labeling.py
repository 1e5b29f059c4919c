"""Leases, batches and labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from assay.client.plans import Plan
from assay.client.results.mining import Pick, Provenance, QuotaReport


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's claim on samples; name and fencing token prove it.

    Attributes:
        state: "live", "done" or "expired".
        sample_ids: samples that it still holds.
    """

    name: str
    fencing_token: int
    worker: str = ""
    state: str = "live"
    create_time: datetime | None = None
    expire_time: datetime | None = None
    sample_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples to label, best first, under a lease, and what became of the plan's quotas."""

    lease: Lease
    picks: tuple[Pick, ...]
    plan: Plan
    provenance: Provenance
    timings: Mapping[str, float]
    quotas: tuple[QuotaReport, ...] = ()

    @property
    def ids(self) -> list[str]:
        """Ids of the picks, best first."""
        return [pick.id for pick in self.picks]


@dataclass(frozen=True, slots=True)
class AsideResult:
    """How many samples were set aside or taken back, and how many were so already."""

    changed: int
    unchanged: int
    epoch: int


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """What a submission did; every counted label is durable. `lease_remaining` counts what the lease still holds."""

    stored: int
    unchanged: int
    lease_remaining: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Label:
    """A stored label. `lease` is None where it came without one."""

    sample_id: str
    class_name: str
    class_index: int
    worker: str
    create_time: datetime | None
    lease: str | None
