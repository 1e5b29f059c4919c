"""Requests for leases and labels."""

from dataclasses import dataclass, replace
from typing import Any

from assay.client import Client, Lease, errors
from assay.client.filters import Filter
from tests.crash.faults import require
from tests.crash.ledger import GivenLabel, Held, Ledger, clock_offset
from tests.crash.requests import POOL, Request, all_or_none, now
from tests.crash.seen import Seen


@dataclass(kw_only=True)
class Next(Request):
    """A batch for a worker. Fact: its lease."""

    phase = "labeling"
    worker: str
    size: int
    ttl: float
    where: Filter
    plan: str | None = None
    seed: int = 0
    floor: int = 0
    again: bool = False

    def begin(self, ledger: Ledger) -> None:
        self.floor = max((held.lease.fencing_token for held in ledger.leases.values()), default=0)

    def send(self, client: Client) -> Any:
        return client.next_batch(
            POOL,
            self.worker,
            self.size,
            plan=self.plan,
            where=self.where,
            ttl=self.ttl,
            seed=self.seed,
            include_released=self.again,
            request_id=self.request_id,
        )

    def fact(self, reply: Any) -> Lease:
        require(set(reply.ids) == set(reply.lease.sample_ids), f"picks and lease of {self} differ")
        lease: Lease = reply.lease
        return lease

    def found(self, ledger: Ledger, seen: Seen) -> Lease | None:
        mine = [lease for lease in seen.leases.values() if lease.worker == self.worker]
        fresh = [lease for lease in mine if lease.name not in ledger.leases]
        require(len(fresh) <= 1, f"{len(fresh)} leases for {self}")
        return fresh[0] if fresh else None

    def apply(self, ledger: Ledger, fact: Lease) -> None:
        if fact.name in ledger.leases:
            return
        assert fact.create_time is not None
        require(fact.worker == self.worker, f"{self} got a lease of {fact.worker}")
        require(len(fact.sample_ids) == self.size, f"{self} got {len(fact.sample_ids)} samples")
        require(fact.fencing_token > self.floor, f"{self} got the token {fact.fencing_token}: an older one is larger")
        # An answer that was long on its way may tell of a lease that is over.
        over = fact.expire_time is not None and fact.expire_time <= now()
        taken = [s for s in fact.sample_ids if not over and (s in ledger.labels or s in ledger.excluded)]
        require(not taken, f"{self} got samples that are labeled or set aside: {taken[:5]}")
        again = set(fact.sample_ids) & ledger.given_back.get(self.worker, set())
        require(self.again or not again, f"{self} got samples that it gave back: {sorted(again)[:5]}")
        ledger.leases[fact.name] = Held(fact, set(fact.sample_ids), fact.sample_ids, clock_offset(fact.create_time))

    def may_fail(self, ledger: Ledger, error: Exception) -> bool:
        return isinstance(error, errors.Aborted | errors.ResourceExhausted | errors.PoolExhausted)


@dataclass(kw_only=True)
class _OfLease(Request):
    phase = "labeling"
    lease: Lease

    def held(self, ledger: Ledger) -> Held:
        """The lease as the ledger knows it."""
        return ledger.leases[self.lease.name]

    def may_fail(self, ledger: Ledger, error: Exception) -> bool:
        return isinstance(error, errors.LeaseExpired) and self.held(ledger).expires <= now()


@dataclass(kw_only=True)
class Submit(_OfLease):
    """Labels of samples of a lease."""

    labels: dict[str, str]

    def begin(self, ledger: Ledger) -> None:
        self.held(ledger).left.update(dict.fromkeys(self.labels, now()))

    def send(self, client: Client) -> Any:
        return client.annotate(POOL, self.labels, self.lease.worker, lease=self.lease, request_id=self.request_id)

    def fact(self, reply: Any) -> bool:
        done = (reply.stored, reply.unchanged)
        require(done == (len(self.labels), 0), f"submitting {len(self.labels)} labels gave {done}")
        return True

    def found(self, ledger: Ledger, seen: Seen) -> bool | None:
        there = [sample in seen.labels and seen.labels[sample].value == c for sample, c in self.labels.items()]
        return all_or_none(there, self) or None

    def apply(self, ledger: Ledger, fact: bool) -> None:
        self.held(ledger).ids -= self.labels.keys()
        for sample, class_name in self.labels.items():
            ledger.labels[sample] = GivenLabel(class_name, self.lease.worker, self.lease.name)

    def undo(self, ledger: Ledger) -> None:
        for sample in self.labels:
            self.held(ledger).left.pop(sample, None)


@dataclass(kw_only=True)
class Correct(Request):
    """Other labels for samples that this worker has labeled before, under no lease."""

    phase = "labeling"
    worker: str
    labels: dict[str, str]

    def send(self, client: Client) -> Any:
        return client.annotate(POOL, self.labels, self.worker, correct=True, request_id=self.request_id)

    def fact(self, reply: Any) -> bool:
        require(reply.stored == len(self.labels), f"correcting {len(self.labels)} labels stored {reply.stored}")
        return True

    def found(self, ledger: Ledger, seen: Seen) -> bool | None:
        there = [sample in seen.labels and seen.labels[sample].value == c for sample, c in self.labels.items()]
        return all_or_none(there, self) or None

    def apply(self, ledger: Ledger, fact: bool) -> None:
        for sample, class_name in self.labels.items():
            ledger.labels[sample] = GivenLabel(class_name, self.worker, None)


@dataclass(kw_only=True)
class Renew(_OfLease):
    """More time for a lease: its end never comes nearer. Fact: the lease."""

    ttl: float

    def send(self, client: Client) -> Any:
        return client.renew_lease(self.lease, self.ttl, request_id=self.request_id)

    def found(self, ledger: Ledger, seen: Seen) -> Lease | None:
        lease = seen.leases.get(self.lease.name)
        return lease if lease is not None and lease.expire_time != self.held(ledger).expires else None

    def apply(self, ledger: Ledger, fact: Lease) -> None:
        held = self.held(ledger)
        held.lease = replace(held.lease, expire_time=fact.expire_time)


@dataclass(kw_only=True)
class Release(_OfLease):
    """Samples of a lease that are given back, or set aside for good."""

    ids: list[str]
    exclude: bool = False

    def begin(self, ledger: Ledger) -> None:
        self.held(ledger).left.update(dict.fromkeys(self.ids, now()))

    def send(self, client: Client) -> Any:
        return client.release_lease(self.lease, self.ids, "too hard", self.exclude, request_id=self.request_id)

    def found(self, ledger: Ledger, seen: Seen) -> bool | None:
        if self.exclude:
            return all_or_none([seen.samples[sample].state == "excluded" for sample in self.ids], self) or None
        if self.held(ledger).expires <= seen.ended:
            return None  # free either way
        lease = seen.leases.get(self.lease.name)
        left = set(lease.sample_ids) if lease else set()
        return all_or_none([sample not in left for sample in self.ids], self) or None

    def apply(self, ledger: Ledger, fact: Any) -> None:
        self.held(ledger).ids -= set(self.ids)
        if self.exclude:
            ledger.excluded.update(self.ids)
        else:
            ledger.given_back.setdefault(self.lease.worker, set()).update(self.ids)

    def undo(self, ledger: Ledger) -> None:
        for sample in self.ids:
            self.held(ledger).left.pop(sample, None)
