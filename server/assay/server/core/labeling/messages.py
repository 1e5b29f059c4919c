"""What the labeling service is asked and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from assay.server.core.mining.messages import PickView, Provenance, QuotaView
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.records.annotations import EventKind, Origin
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.filters import Filter
from assay.server.core.records.leases import LeaseRecord
from assay.server.core.records.pools import State
from assay.server.core.stopwatch import Timings
from assay.server.core.tasks.given import Given


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


@dataclass(frozen=True, slots=True, eq=False)
class Details:
    """What is said beside the values: one entry an annotation, or None where nobody says any.

    Attributes:
        external_ids: the caller's own ids, "" for none.
        comments: texts of the worker, "" for none.
        confidences_N: 0 to 1, NaN for none.
        durations_N: milliseconds, -1 for none.
        times_N: microseconds since the Unix epoch at which each was said; -1 for now.
    """

    external_ids: Sequence[str] | None = None
    comments: Sequence[str] | None = None
    confidences_N: FloatArray | None = None
    durations_N: npt.NDArray[np.int64] | None = None
    times_N: npt.NDArray[np.int64] | None = None

    def take(self, places: npt.NDArray[np.int64]) -> "Details":
        """Those of some annotations."""
        return Details(
            None if self.external_ids is None else [self.external_ids[place] for place in places.tolist()],
            None if self.comments is None else [self.comments[place] for place in places.tolist()],
            None if self.confidences_N is None else self.confidences_N[places],
            None if self.durations_N is None else self.durations_N[places],
            None if self.times_N is None else self.times_N[places],
        )


@dataclass(frozen=True, slots=True)
class AnnotateSpec:
    """What a worker says, a value of each sample.

    Attributes:
        lease: that holds the samples, with its token; "" for annotations from elsewhere.
        correct: put it in the place of what the worker said before.
        on_behalf_of: leases do not stop it, and the worker's own end for these samples.
    """

    worker: str
    sample_ids: Sequence[str]
    values: Sequence[Given]
    lease: str = ""
    fencing_token: int = 0
    correct: bool = False
    on_behalf_of: bool = False
    origin: Origin = Origin.WORKER
    details: Details = Details()


@dataclass(frozen=True, slots=True)
class AnnotateResult:
    """What became of annotations; of their samples, how many have a label now and how many are in dispute."""

    stored: int
    unchanged: int
    lease_remaining: int
    labeled: int
    disputed: int
    epoch: int
    last_event: int


@dataclass(frozen=True, slots=True)
class SkipSpec:
    """Samples that a worker does not want to say anything of; under the lease that holds them, or, where none is named,
    samples that the worker does not hold."""

    worker: str
    sample_ids: Sequence[str]
    reason: str = ""
    lease: str = ""
    fencing_token: int = 0


@dataclass(frozen=True, slots=True)
class SkipResult:
    """What became of skips; unchanged: samples that the worker had skipped already."""

    skipped: int
    unchanged: int
    lease_remaining: int
    epoch: int
    last_event: int


@dataclass(frozen=True, slots=True)
class WithdrawSpec:
    """Samples whose standing annotations are taken back.

    Attributes:
        worker: who takes them back.
        annotator: whose they are; "" for the worker's own.
    """

    worker: str
    sample_ids: Sequence[str]
    annotator: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WithdrawResult:
    """What became of withdrawals; of their samples, how many still have a label."""

    withdrawn: int
    labeled: int
    epoch: int
    last_event: int


class StateAction(Enum):
    """What to do with samples, whoever holds them or said something of them. EXCLUDE: set them aside. INCLUDE: take
    them back. REOPEN: take back all that stands of them, so that they are open."""

    EXCLUDE = "exclude"
    INCLUDE = "include"
    REOPEN = "reopen"


@dataclass(frozen=True, slots=True)
class StateSpec:
    """Samples that are set aside, taken back or reopened, by whom and why."""

    worker: str
    sample_ids: Sequence[str]
    action: StateAction
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StateResult:
    """How many samples are in another state now, and how many were so already."""

    changed: int
    unchanged: int
    epoch: int
    last_event: int


class ReviewAction(Enum):
    """What a reviewer decides. VALUE: a value of its own is the label. ACCEPT: what an annotation says is. RETRACT: its
    own verdict is taken back. REJECT: all that stands of the sample is taken back, which is open again."""

    VALUE = "value"
    ACCEPT = "accept"
    RETRACT = "retract"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class ReviewSpec:
    """What a reviewer decides, an entry a sample.

    Attributes:
        values: of ReviewAction.VALUE; None for others.
        accepts: numbers of the annotations of ReviewAction.ACCEPT; -1 for others.
        comments: "" for none; None where there is none at all.
    """

    worker: str
    sample_ids: Sequence[str]
    actions: Sequence[ReviewAction]
    values: Sequence[Given]
    accepts: Sequence[int]
    comments: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class ReviewResult:
    """What became of verdicts; unchanged: samples of which the reviewer had said so already, or nothing stood."""

    decided: int
    unchanged: int
    labeled: int
    epoch: int
    last_event: int


class Deed(Enum):
    """What not everybody may undo. VERDICT: verdicts of a reviewer. OTHERS: what was done to others' annotations."""

    VERDICT = "verdict"
    OTHERS = "others"


@dataclass(frozen=True, slots=True)
class UndoSpec:
    """Whose action is undone.

    Attributes:
        event: any event of the action; None for the last.
        permit: raises where what is to be undone is not the caller's to undo.
    """

    worker: str
    event: int | None = None
    permit: Callable[[set[Deed]], None] = lambda deeds: None


@dataclass(frozen=True, slots=True)
class UndoResult:
    """What was undone: how many events, of which kinds, and of which samples the first."""

    undone: int
    kinds: tuple[EventKind, ...]
    sample_ids: tuple[str, ...]
    epoch: int
    last_event: int


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events of a pool's log are asked for: those to which all that is given applies.

    Attributes:
        sample_id: of this sample; "" for any.
        worker: of this worker; "" for any.
        external_id: with this id of the caller's; "" for any.
        start_time, end_time: stored at or after the one and before the other, in seconds since the Unix epoch.
    """

    sample_id: str = ""
    worker: str = ""
    external_id: str = ""
    start_time: float | None = None
    end_time: float | None = None


@dataclass(frozen=True, slots=True)
class EventView:
    """One event of a pool's log.

    Attributes:
        value: what it says, as a caller gives it; None where it has none.
        by: who did it in the worker's place; "" for the worker.
        create_time, time: when it was stored, and when it was said, in seconds since the Unix epoch.
        duration: seconds that the worker took; None where it is not known.
        confidence: how sure the worker is; NaN where it did not say.
        supersedes: the event that it takes the place of, or takes back; -1 for none.
        undoes: the first event of the action that it undoes; -1 for none.
        standing: whether it counts now: an annotation or verdict that nobody took back or put another in the place of.
    """

    number: int
    sample_id: str
    kind: EventKind
    value: Given
    worker: str
    by: str
    create_time: float
    time: float
    duration: float | None
    lease: str
    origin: Origin
    external_id: str
    comment: str
    confidence: float
    supersedes: int
    undoes: int
    standing: bool


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events by number. read: where the search ended, if it ended before there were enough or none was left; else
    None."""

    events: tuple[EventView, ...]
    read: int | None = None


@dataclass(frozen=True, slots=True)
class LabelView:
    """A label, or what there is in the place of one.

    Attributes:
        value: as a caller gives it; None where nothing is decided.
        class_index: id of its class in a classification, else -1.
        cell: the value as one cell of an export.
        annotations: workers with a standing annotation.
        agreement, confidence: of these, 0 to 1; NaN where there is none.
        decided_by: the pool's policy, or "verdict".
        worker, create_time, lease: of the last that was said and counted.
        time: microseconds since the Unix epoch at which that was said.
    """

    sample_id: str
    row: int
    value: Given
    class_index: int
    cell: object
    state: State
    annotations: int
    agreement: float
    confidence: float
    decided_by: str
    worker: str
    create_time: float
    time: int
    lease: str
    uri: str = ""
