"""Leases, batches and labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

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
class StateResult:
    """How many samples were set aside, taken back or reopened, and how many were so already."""

    changed: int
    unchanged: int
    epoch: int
    last_event: int


@dataclass(frozen=True, slots=True)
class SkipResult:
    """What became of skips.

    Attributes:
        skipped, unchanged: new ones, and samples that the worker had skipped already.
        lease_remaining: samples that the lease still holds.
        last_event: number of the last event of the pool's log.
    """

    skipped: int
    unchanged: int
    lease_remaining: int
    epoch: int
    last_event: int


@dataclass(frozen=True, slots=True)
class WithdrawResult:
    """What became of withdrawals.

    Attributes:
        withdrawn: annotations taken back.
        labeled: of their samples, those that have a label still.
        last_event: number of the last event of the pool's log.
    """

    withdrawn: int
    labeled: int
    epoch: int
    last_event: int


@dataclass(frozen=True, slots=True)
class AnnotateResult:
    """What became of annotations; every counted one is durable.

    Attributes:
        stored, unchanged: new ones, and those that were there already.
        lease_remaining: samples that the lease still holds.
        labeled, disputed: of the samples, those that have a label now, and those whose annotations do not decide.
        last_event: number of the last event of the pool's log.
    """

    stored: int
    unchanged: int
    lease_remaining: int
    labeled: int
    disputed: int
    epoch: int
    last_event: int


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of the annotations of a file or a table.

    Attributes:
        stored, unchanged: new ones, and those that were there already.
        left_out: events of a history that are not said again: what the server derives itself, and what was undone.
        lease_remaining: samples that the lease still holds.
    """

    stored: int
    unchanged: int
    left_out: int
    lease_remaining: int


@dataclass(frozen=True, slots=True)
class ReviewResult:
    """What became of verdicts.

    Attributes:
        decided: samples decided.
        unchanged: samples of which the reviewer had decided so already, and rejected ones of which nothing stood.
        labeled: of the samples, those that have a label now.
        last_event: number of the last event of the pool's log.
    """

    decided: int
    unchanged: int
    labeled: int
    epoch: int
    last_event: int


@dataclass(frozen=True, slots=True)
class UndoResult:
    """What was undone.

    Attributes:
        undone: how many events.
        verbs: what they said; see `AnnotationEvent.verb`.
        sample_ids: the first 100 of their samples.
        last_event: number of the last event of the pool's log.
    """

    undone: int
    verbs: tuple[str, ...]
    sample_ids: tuple[str, ...]
    epoch: int
    last_event: int


@dataclass(frozen=True, slots=True)
class AnnotationEvent:
    """One event of a pool's log, which is never changed.

    Attributes:
        name: resource name "pools/{pool}/annotations/{event}".
        event: its number in the log; they grow with time.
        verb: "annotate", "correct", "withdraw", "skip", "verdict" (a reviewer's value), "resolve" (the server derived
            the label anew), "retract" (a verdict is taken back) or "resume" (a skip is taken back).
        value: in the natural type of the pool's task; None where it has none.
        worker: whose it is; None for what the server derived.
        by: who did it in the worker's place; None for the worker.
        create_time, time: when it was stored, and when it was said, which differs for imports.
        duration: seconds that the worker took; None where it is not known.
        comment: what the worker had to say; the reason of a skip or a withdrawal.
        confidence: how sure the worker is, 0 to 1.
        supersedes: name of the annotation that it takes the place of, or takes back.
        undoes: name of the first annotation of the action that it undoes.
        standing: whether it counts now: a value that nobody took back or put another in the place of.
    """

    name: str
    event: int
    sample_id: str
    verb: str
    value: Any
    worker: str | None
    by: str | None
    create_time: datetime | None
    time: datetime | None
    duration: float | None
    lease: str | None
    origin: str
    external_id: str | None
    comment: str
    confidence: float | None
    supersedes: str | None
    undoes: str | None
    standing: bool


@dataclass(frozen=True, slots=True)
class Label:
    """A label, which follows from annotations by the pool's policy.

    Attributes:
        value: in the natural type of the pool's task (see `assay.client.values`); None where nothing is decided.
        state: of the sample: "labeled", "answered", "disputed", ...
        annotations: workers with a standing annotation.
        agreement: of these with each other, 0 to 1; None where there is none.
        confidence: share of the weight behind the label, 0 to 1; None where there is none.
        decided_by: the pool's policy, or "verdict"; "" where nothing is decided.
        worker, update_time, lease: of the last that was said and counted; `lease` is None where it came without one.
    """

    sample_id: str
    value: Any
    state: str
    annotations: int
    agreement: float | None
    confidence: float | None
    decided_by: str
    worker: str
    update_time: datetime | None
    lease: str | None
