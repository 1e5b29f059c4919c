"""A pool of which each sample wants two opinions, while its classes are edited: what its clients count on, and what the
server shows.

It is judged by what the clients noted, and by the log as the server tells it: nothing in it is lost or changed, and no
worker speaks twice of a sample.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from assay.client import AnnotationEvent, Class, Classification, Client, Lease, Pool, Sample
from tests.crash.faults import require, require_same

if TYPE_CHECKING:
    from tests.crash.ledger import Ledger
    from tests.crash.seen import Seen

OPINIONS = "opinions"
WANTED = 2
SAMPLES = 120

# Of a sample and a worker.
Pair = tuple[str, str]


@dataclass
class Opinions:
    """The pool as its clients may count on it.

    Attributes:
        task: its classes, as last acknowledged.
        said: class id that a worker says of a sample.
        skipped: samples that a worker does not want to be asked of.
        leases: live ones by name, with what they hold.
        log: the events that were seen, in order, by number: sample, worker and verb.
        replayed: what they come to.
    """

    task: Classification = field(default_factory=Classification)
    said: dict[Pair, int] = field(default_factory=dict)
    skipped: set[Pair] = field(default_factory=set)
    leases: dict[str, tuple[Lease, set[str]]] = field(default_factory=dict)
    log: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    replayed: dict[Pair, int] = field(default_factory=dict)

    @property
    def last_event(self) -> int:
        """The last event that was seen."""
        return max(self.log, default=-1)

    def note(self, seen: "SeenOpinions") -> None:
        """Notes what was seen, and held to all promises."""
        self.replayed = seen.standing(self)
        for event in seen.fresh:
            self.log[event.event] = (event.sample_id, event.worker or "", event.verb)

    def of(self, worker: str) -> list[str]:
        """Samples that a worker has spoken of."""
        return sorted(sample for sample, name in self.said if name == worker)

    def lease_of(self, worker: str, time: datetime) -> tuple[Lease, set[str]] | None:
        """A lease of a worker that holds something at a time."""
        for lease, held in self.leases.values():
            if lease.worker == worker and held and end_of(lease) > time:
                return lease, held
        return None


@dataclass(frozen=True, slots=True)
class SeenOpinions:
    """What a server shows of the pool; `fresh` are the events since the last that the ledger knows."""

    pool: Pool
    samples: dict[str, Sample]
    leases: dict[str, Lease]
    fresh: tuple[AnnotationEvent, ...]

    @property
    def classes(self) -> tuple[Class, ...]:
        """Its classes by id."""
        return tuple(sorted(self.pool.task.classes, key=lambda each: each.id))  # type: ignore[union-attr]

    def standing(self, opinions: Opinions) -> dict[Pair, int]:
        """What stands, by the events. Raises BrokenPromise where a worker speaks twice of a sample."""
        ids = {each.name: each.id for each in self.classes}
        stands = dict(opinions.replayed)
        for event in self.fresh:
            pair = (event.sample_id, event.worker or "")
            if event.verb == "annotate":
                require(pair not in stands, f"{pair} was annotated twice, by event {event.event}")
                stands[pair] = ids[event.value]
            elif event.verb == "correct":
                require(pair in stands, f"event {event.event} corrects what {pair} did not say")
                stands[pair] = ids[event.value]
            elif event.verb == "withdraw":
                require(pair in stands, f"event {event.event} withdraws what {pair} did not say")
                del stands[pair]
        return stands

    def skipped(self) -> set[Pair]:
        """Samples that were skipped since, and by whom."""
        return {(event.sample_id, event.worker or "") for event in self.fresh if event.verb == "skip"}


def look_at_opinions(client: Client, after_event: int, offset: timedelta) -> SeenOpinions:
    """Reads the pool; of its log, what came after an event."""
    leases = [_real(lease, offset) for lease in client.list_leases(OPINIONS)]
    return SeenOpinions(
        pool=client.get_pool(OPINIONS),
        samples={sample.id: sample for sample in client.list_samples(OPINIONS)},
        leases={lease.name: lease for lease in leases},
        fresh=tuple(client.list_annotations(OPINIONS, after_event=after_event)),
    )


def _real(lease: Lease, offset: timedelta) -> Lease:
    assert lease.expire_time is not None
    return replace(lease, expire_time=lease.expire_time - offset)


def end_of(lease: Lease) -> datetime:
    assert lease.expire_time is not None
    return lease.expire_time


def begin(client: Client, ledger: "Ledger") -> None:
    """Makes the pool."""
    client.create_pool(
        OPINIONS, task=Classification(["yes", "no", "perhaps"]), annotations_per_sample=WANTED, policy="majority"
    )
    vectors_ND = np.random.default_rng(3).standard_normal((SAMPLES, 8), dtype=np.float32)
    client.add_samples(OPINIONS, [f"o{number}" for number in range(SAMPLES)], embeddings=vectors_ND)
    task = client.get_pool(OPINIONS).task
    assert isinstance(task, Classification)
    ledger.opinions.task = task


# --- promises --------------------------------------------------------------------------------------------------------


def opinions_stand(ledger: "Ledger", seen: "Seen") -> None:
    """What the log comes to is what workers were told that they said: nothing is lost, nothing made up."""
    opinions = ledger.opinions
    stands = seen.opinions.standing(opinions)
    require_same(set(stands.items()), set(opinions.said.items()), "opinions")
    unknown = seen.opinions.skipped() - opinions.skipped
    require(not unknown, f"skips that nobody asked for: {sorted(unknown)[:5]}")
    numbers = [opinions.last_event, *(event.event for event in seen.opinions.fresh)]
    require(numbers == sorted(set(numbers)), f"events are told out of order: {numbers}")


def classes_are_there(ledger: "Ledger", seen: "Seen") -> None:
    """The pool has the classes that its editor was told of."""
    require(seen.opinions.pool.task == ledger.opinions.task, f"the classes are {seen.opinions.pool.task}")


def no_sample_has_more_than_wanted(ledger: "Ledger", seen: "Seen") -> None:
    """Opinions and live leases of a sample are two at most, of different workers."""
    who: defaultdict[str, list[str]] = defaultdict(list)
    for sample, worker in ledger.opinions.said:
        who[sample].append(worker)
    for lease in seen.opinions.leases.values():
        for sample in lease.sample_ids:
            who[sample].append(lease.worker)
    for sample, workers in who.items():
        require(len(workers) == len(set(workers)), f"sample {sample} is twice with one worker: {workers}")
        require(len(workers) <= WANTED, f"sample {sample} is with {workers}")


def opinions_decide(ledger: "Ledger", seen: "Seen") -> None:
    """Labels and states are those that follow from the opinions, classes that were merged taken for one."""
    classes = seen.opinions.classes
    require(len(seen.opinions.samples) == SAMPLES, f"the pool of opinions has {len(seen.opinions.samples)} samples")
    said: defaultdict[str, list[int]] = defaultdict(list)
    for (sample, _), class_id in ledger.opinions.said.items():
        said[sample].append(_root(classes, class_id))
    for name, sample in seen.opinions.samples.items():
        ids = said[name]
        label = classes[ids[0]].name if len(ids) == WANTED and ids[0] == ids[1] else None
        states = {0: ("unlabeled", "leased"), 1: ("answered", "leased"), 2: ("labeled" if label else "disputed",)}
        require(sample.label == label, f"the label of {name} is {sample.label}, not {label}, of the classes {ids}")
        require(sample.state in states[len(ids)], f"sample {name} is {sample.state} with {len(ids)} opinions")


def _root(classes: tuple[Class, ...], class_id: int) -> int:
    merged = classes[class_id].merged_into
    return class_id if merged is None else _root(classes, merged)


def whole_log_is_there(client: Client, ledger: "Ledger") -> None:
    """All events that were ever seen are told again, as they were, and no others."""
    found = {
        event.event: (event.sample_id, event.worker or "", event.verb) for event in client.list_annotations(OPINIONS)
    }
    require_same(set(found.items()), set(ledger.opinions.log.items()), "events")
    newest = {sample: event for event, (sample, _, _) in sorted(found.items())}
    for sample, event in sorted(newest.items())[:20]:
        history = list(client.list_annotations(OPINIONS, sample_id=sample))
        require(history[-1].event == event, f"the history of {sample} ends with {history[-1].event}, not {event}")
        count = sum(name == sample for name, _, _ in found.values())
        require(len(history) == count, f"the history of {sample} has {len(history)} events, not {count}")
