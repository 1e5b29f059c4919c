"""What the labeling service is asked and what it answers."""

from dataclasses import dataclass
from enum import Enum

from assay.server.core.mining.messages import PickView, Provenance, QuotaView
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.records.filters import Filter
from assay.server.core.records.leases import LeaseRecord
from assay.server.core.stopwatch import Timings


class Attempt(Enum):
    """Ways to lease a batch, in the order in which they are tried.

    QUICK: only a plan that ranks kept scores, one of a pool at a time, for it would lose more by choosing what another
    worker is about to take. BESIDE: a longer one, chosen while others choose, for they must not wait for it. IN_TURN:
    the same again where somebody else was faster, one of a pool at a time.
    """

    QUICK = "quick"
    BESIDE = "beside"
    IN_TURN = "in_turn"


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """A batch to lease, for ttl seconds. released: offer the worker what it gave back before, too. plan None means
    "margin", or "random" where not every sample that may be picked has a prediction yet."""

    worker: str
    size: int
    plan: Plan | None = None
    filter: Filter | None = None
    ttl: float = 900.0
    seed: int = 0
    payload: bool = True
    predictions: int = 0
    released: bool = False


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease with the ids of the samples it still holds; expire_time in seconds since the Unix epoch."""

    record: LeaseRecord
    sample_ids: tuple[str, ...]
    expire_time: float


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A leased batch."""

    lease: LeaseView
    picks: tuple[PickView, ...]
    plan: Plan
    provenance: Provenance
    timings: Timings
    quotas: tuple[QuotaView, ...] = ()


@dataclass(frozen=True, slots=True)
class SubmitSpec:
    """Labels handed in: (sample id, class name). lease "" for labels from elsewhere."""

    worker: str
    labels: tuple[tuple[str, str], ...]
    lease: str = ""
    fencing_token: int = 0
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """What became of labels."""

    stored: int
    unchanged: int
    lease_remaining: int
    epoch: int


@dataclass(frozen=True, slots=True)
class AsideResult:
    """How many samples were set aside or taken back, and how many were so already."""

    changed: int
    unchanged: int
    epoch: int


@dataclass(frozen=True, slots=True)
class LabelView:
    """A stored label."""

    sample_id: str
    row: int
    class_name: str
    class_index: int
    worker: str
    create_time: float
    lease: str
    uri: str = ""
