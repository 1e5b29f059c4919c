"""What the server has acknowledged, and what was asked of it without an answer."""

import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from assay.client import Batch, Lease
from tests.crash.content import part_of
from tests.crash.faults import require
from tests.crash.opinions import Opinions

if TYPE_CHECKING:
    from tests.crash.requests import Request


NO_ROOM = ("STORAGE_FULL", "STORAGE_FAILED")
DAY = timedelta(days=1)


def clock_offset(shown: datetime) -> timedelta:
    """How far the wall clock was set that showed a time of about now: it is set by whole days, and leases are short."""
    return round((shown - datetime.now(UTC)) / DAY) * DAY


@dataclass
class Held:
    """A lease as last acknowledged.

    Attributes:
        lease: its name, token, worker and the times of its beginning and end.
        ids: samples that it still holds.
        picked: samples that it began with.
        offset: how far the server's wall clock was set when it was given out.
        left: when a request was sent that takes a sample out of it.
    """

    lease: Lease
    ids: set[str]
    picked: tuple[str, ...]
    offset: timedelta = timedelta(0)
    left: dict[str, datetime] = field(default_factory=dict)

    @property
    def expires(self) -> datetime:
        """When it ends by itself."""
        assert self.lease.expire_time is not None
        return self.lease.expire_time

    @property
    def begins(self) -> datetime:
        """When it was given out."""
        assert self.lease.create_time is not None
        return self.lease.create_time - self.offset

    def holds(self, sample: str) -> tuple[datetime, datetime]:
        """From when to when a sample was in it for sure."""
        return self.begins, min(self.expires, self.left.get(sample, self.expires))


@dataclass(frozen=True, slots=True)
class GivenLabel:
    """A label, who gave it and under which lease."""

    class_name: str
    worker: str
    lease: str | None


@dataclass
class Ledger:
    """The pool as a client may count on it; shared by all client threads.

    Attributes:
        samples: version by id.
        rows: row by (id, version), from when it was first seen.
        labels: by sample id.
        excluded: samples set aside for good.
        leases: all ever acknowledged, by name.
        models: display name by name.
        active: name of the active head.
        pending: request in flight by worker.
        answered: requests and their answers, for replays.
        operations: names of the operations that were started.
        given_back: samples that each worker released: not to be offered to it again.
        raw_samples, raw_backbone: samples of the second pool, and the name of its active backbone.
        offset: how far the server's wall clock is set; times of leases are noted in real time.
        opinions: the pool of which each sample wants two.
        half_done: requests that were refused for want of room, after a first part of them was stored perhaps.
        disk_full: whether requests may be refused for want of room.
    """

    samples: dict[str, int] = field(default_factory=dict)
    rows: dict[tuple[str, int], int] = field(default_factory=dict)
    labels: dict[str, GivenLabel] = field(default_factory=dict)
    excluded: set[str] = field(default_factory=set)
    leases: dict[str, Held] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    active: str | None = None
    pending: dict[str, "Request"] = field(default_factory=dict)
    answered: list[tuple["Request", Any]] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    raw_samples: set[str] = field(default_factory=set)
    raw_backbone: str | None = None
    given_back: dict[str, set[str]] = field(default_factory=dict)
    offset: timedelta = timedelta(0)
    half_done: list["Request"] = field(default_factory=list)
    opinions: Opinions = field(default_factory=Opinions)
    disk_full: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _number: int = 0

    @staticmethod
    def real(reply: Any) -> Any:
        """A reply, with the ends of leases in real time. An answer that is given again tells them by the wall clock of
        when it was first given, whatever that is set to now."""
        if isinstance(reply, Batch):
            return replace(reply, lease=Ledger.real(reply.lease))
        if isinstance(reply, Lease) and reply.expire_time is not None:
            return replace(reply, expire_time=reply.expire_time - clock_offset(reply.expire_time))
        return reply

    def fresh_number(self) -> int:
        """A number that no sample has."""
        with self.lock:
            self._number += 1
            return self._number

    def begin(self, worker: str, request: "Request") -> None:
        """Notes a request that is about to be sent."""
        with self.lock:
            request.begin(self)
            self.pending[worker] = request

    def acknowledge(self, worker: str, request: "Request", reply: Any) -> None:
        """Notes a request that was answered well."""
        with self.lock:
            request.apply(self, request.fact(reply))
            self.note_answer(worker, request, reply)

    def note_answer(self, worker: str, request: "Request", reply: Any) -> None:
        """Notes the answer to a request whose effect is noted already."""
        with self.lock:
            self.answered.append((request, reply))
            self.pending.pop(worker, None)

    def refuse(self, worker: str, request: "Request", error: Exception) -> None:
        """Notes a request that was refused, and so changed nothing."""
        with self.lock:
            allowed = self.disk_full and getattr(error, "reason", "") in NO_ROOM
            require(allowed or request.may_fail(self, error), f"{request} was refused: {error}")
            if request.may_be_half_done:
                self.half_done.append(request)
            else:
                request.undo(self)
            self.pending.pop(worker, None)

    def phases(self) -> set[str]:
        """Phases of the requests in flight."""
        with self.lock:
            return {request.phase for request in self.pending.values()}

    def live(self, now: datetime) -> list[Held]:
        """Leases that still hold samples at a time."""
        with self.lock:
            return [held for held in self.leases.values() if held.ids and held.expires > now]

    def samples_of(self, part: str) -> list[str]:
        """Samples of a part of the pool."""
        with self.lock:
            return [sample for sample in self.samples if part_of(sample) == part]

    def labeled_by(self, worker: str) -> list[str]:
        """Samples whose label is a worker's."""
        with self.lock:
            return [sample for sample, label in self.labels.items() if label.worker == worker]

    def idle_models(self, kind: str) -> list[str]:
        """Models that are not active whose ids begin so."""
        with self.lock:
            return [name for name in self.models if f"/models/{kind}-" in name and name != self.active]

    def held_at(self, now: datetime) -> set[str]:
        """Samples under a live lease at a time."""
        return {sample for held in self.live(now) for sample in held.ids}

    def expired_free(self, now: datetime) -> list[str]:
        """Samples that were in a lease when it expired, and may be given out again."""
        lost = {sample for held in self.leases.values() if held.expires <= now for sample in held.ids}
        return sorted(lost - self.held_at(now) - self.labels.keys() - self.excluded)
