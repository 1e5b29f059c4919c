"""Requests of annotators of the pool of opinions, and of who edits its classes."""

from abc import abstractmethod
from dataclasses import dataclass
from random import Random
from typing import Any

from assay.client import Class, Classification, Client, Lease, edit_classes, errors
from tests.crash.faults import require
from tests.crash.ledger import Ledger
from tests.crash.opinions import OPINIONS, Opinions, Pair, SeenOpinions, end_of
from tests.crash.requests import Request, all_or_none, now
from tests.crash.seen import Seen

MOST_CLASSES = 24
# Who says a class that was renamed or merged a moment ago is told so.
EDITED = ("UNKNOWN_CLASS", "CLASS_RETIRED")


@dataclass(kw_only=True)
class _OfWorker(Request):
    phase = "opinions"
    worker: str

    @abstractmethod
    def shows(self, opinions: Opinions, seen: SeenOpinions) -> list[bool]:
        """Of each sample, whether the request shows in the server."""

    def fact(self, reply: Any) -> bool:
        return True

    def found(self, ledger: Ledger, seen: Seen) -> Any | None:
        return all_or_none(self.shows(ledger.opinions, seen.opinions), self) or None


@dataclass(kw_only=True)
class Take(Request):
    """A batch for a worker. Fact: its lease."""

    phase = "opinions"
    worker: str
    size: int
    ttl: float
    seed: int

    def send(self, client: Client) -> Any:
        return client.next_batch(
            OPINIONS, self.worker, self.size, plan="random", ttl=self.ttl, seed=self.seed, request_id=self.request_id
        )

    def fact(self, reply: Any) -> Lease:
        lease: Lease = reply.lease
        return lease

    def found(self, ledger: Ledger, seen: Seen) -> Lease | None:
        known = ledger.opinions.leases
        fresh = [
            each for each in seen.opinions.leases.values() if each.worker == self.worker and each.name not in known
        ]
        require(len(fresh) <= 1, f"{len(fresh)} leases for {self}")
        return fresh[0] if fresh else None

    def apply(self, ledger: Ledger, fact: Lease) -> None:
        opinions = ledger.opinions
        if fact.name in opinions.leases:
            return
        pairs = {(sample, self.worker) for sample in fact.sample_ids}
        again = pairs & (opinions.said.keys() | opinions.skipped)
        require(not again, f"{self.worker} got samples that it has annotated or skipped: {sorted(again)[:5]}")
        held = opinions.lease_of(self.worker, now())
        twice = set(fact.sample_ids) & held[1] if held else set()
        require(not twice, f"{self.worker} got samples that it holds: {sorted(twice)[:5]}")
        opinions.leases[fact.name] = (fact, set(fact.sample_ids))

    def may_fail(self, ledger: Ledger, error: Exception) -> bool:
        return isinstance(error, errors.Aborted | errors.ResourceExhausted | errors.PoolExhausted)


@dataclass(kw_only=True)
class _Under(_OfWorker):
    lease: Lease

    def leave(self, opinions: Opinions, ids: list[str]) -> None:
        """Notes that samples are no longer in the lease."""
        opinions.leases[self.lease.name][1].difference_update(ids)

    def may_fail(self, ledger: Ledger, error: Exception) -> bool:
        return isinstance(error, errors.LeaseExpired) and end_of(self.lease) <= now()


@dataclass(kw_only=True)
class Say(_Under):
    """What a worker says of samples of a lease, by class."""

    classes: dict[str, Class]

    def send(self, client: Client) -> Any:
        values = {sample: each.name for sample, each in self.classes.items()}
        return client.annotate(OPINIONS, values, self.worker, lease=self.lease, request_id=self.request_id)

    def fact(self, reply: Any) -> bool:
        require((reply.stored, reply.unchanged) == (len(self.classes), 0), f"{self} stored {reply.stored}")
        return True

    def shows(self, opinions: Opinions, seen: SeenOpinions) -> list[bool]:
        stands = seen.standing(opinions)
        return [stands.get((sample, self.worker)) == each.id for sample, each in self.classes.items()]

    def apply(self, ledger: Ledger, fact: Any) -> None:
        self.leave(ledger.opinions, list(self.classes))
        for sample, each in self.classes.items():
            ledger.opinions.said[sample, self.worker] = each.id

    def may_fail(self, ledger: Ledger, error: Exception) -> bool:
        return super().may_fail(ledger, error) or getattr(error, "reason", "") in EDITED


@dataclass(kw_only=True)
class Pass(_Under):
    """Samples of a lease that a worker skips."""

    ids: list[str]

    def send(self, client: Client) -> Any:
        return client.skip_samples(
            OPINIONS, self.ids, self.worker, "no opinion", lease=self.lease, request_id=self.request_id
        )

    def shows(self, opinions: Opinions, seen: SeenOpinions) -> list[bool]:
        skipped = opinions.skipped | seen.skipped()
        return [(sample, self.worker) in skipped for sample in self.ids]

    def apply(self, ledger: Ledger, fact: Any) -> None:
        self.leave(ledger.opinions, self.ids)
        ledger.opinions.skipped.update((sample, self.worker) for sample in self.ids)


@dataclass(kw_only=True)
class Change(_OfWorker):
    """Another class in the place of what a worker said."""

    classes: dict[str, Class]

    def send(self, client: Client) -> Any:
        values = {sample: each.name for sample, each in self.classes.items()}
        return client.annotate(OPINIONS, values, self.worker, correct=True, request_id=self.request_id)

    def shows(self, opinions: Opinions, seen: SeenOpinions) -> list[bool]:
        stands = seen.standing(opinions)
        return [stands.get((sample, self.worker)) == each.id for sample, each in self.classes.items()]

    def apply(self, ledger: Ledger, fact: Any) -> None:
        for sample, each in self.classes.items():
            ledger.opinions.said[sample, self.worker] = each.id

    def may_fail(self, ledger: Ledger, error: Exception) -> bool:
        return getattr(error, "reason", "") in EDITED


@dataclass(kw_only=True)
class TakeBack(_OfWorker):
    """What a worker said, taken back."""

    ids: list[str]

    def send(self, client: Client) -> Any:
        return client.withdraw_annotations(OPINIONS, self.ids, self.worker, "a slip", request_id=self.request_id)

    def fact(self, reply: Any) -> bool:
        require(reply.withdrawn == len(self.ids), f"{self} withdrew {reply.withdrawn}")
        return True

    def shows(self, opinions: Opinions, seen: SeenOpinions) -> list[bool]:
        stands = seen.standing(opinions)
        return [(sample, self.worker) not in stands for sample in self.ids]

    def apply(self, ledger: Ledger, fact: Any) -> None:
        for sample in self.ids:
            ledger.opinions.said.pop((sample, self.worker), None)


@dataclass(kw_only=True)
class Edit(Request):
    """Other classes: one more, another name for one, or one that is counted as another. Fact: the task."""

    phase = "opinions"
    task: Classification

    def send(self, client: Client) -> Any:
        return client.update_pool(OPINIONS, task=self.task, request_id=self.request_id)

    def fact(self, reply: Any) -> Classification:
        task: Classification = reply.task
        return task

    def found(self, ledger: Ledger, seen: Seen) -> Classification | None:
        task = seen.opinions.pool.task
        assert isinstance(task, Classification)
        return task if task != ledger.opinions.task else None

    def apply(self, ledger: Ledger, fact: Classification) -> None:
        ledger.opinions.task = fact


def next_edit(task: Classification, rng: Random, number: int) -> Edit:
    """An edit of the classes."""
    used = [each.name for each in _in_use(task)]
    if len(task.classes) < MOST_CLASSES and rng.random() < 0.4:
        return Edit(task=_of(edit_classes(task, add=[f"class {number}"])))
    if len(used) > 3 and rng.random() < 0.3:
        gone, kept = rng.sample(used, 2)
        return Edit(task=_of(edit_classes(task, merge={gone: kept})))
    return Edit(task=_of(edit_classes(task, rename={rng.choice(used): f"class {number}"})))


def next_opinion(opinions: Opinions, worker: str, rng: Random) -> Request:
    """What a worker does next."""
    held, mine = opinions.lease_of(worker, now()), opinions.of(worker)
    if held is None or rng.random() < 0.2:
        if mine and rng.random() < 0.5:
            ids = rng.sample(mine, min(len(mine), rng.randint(1, 4)))
            if rng.random() < 0.6:
                return TakeBack(worker=worker, ids=ids)
            return Change(worker=worker, classes={sample: _another(opinions, (sample, worker), rng) for sample in ids})
        if held is None:
            seed = rng.randrange(1 << 30)
            return Take(worker=worker, size=rng.randint(1, 6), ttl=rng.choice((1.0, 3.0, 60.0)), seed=seed)
    assert held is not None
    lease, samples = held
    ids = rng.sample(sorted(samples), rng.randint(1, len(samples)))
    if rng.random() < 0.15:
        return Pass(worker=worker, lease=lease, ids=ids[:1])
    used = _in_use(opinions.task)
    return Say(worker=worker, lease=lease, classes={sample: rng.choice(used) for sample in ids})


def _another(opinions: Opinions, pair: Pair, rng: Random) -> Class:
    return rng.choice([each for each in _in_use(opinions.task) if each.id != opinions.said[pair]])


def _in_use(task: Classification) -> list[Class]:
    return [each for each in task.classes if not each.retired and each.merged_into is None]


def _of(task: Any) -> Classification:
    assert isinstance(task, Classification)
    return task
