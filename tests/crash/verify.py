"""Compares what a server shows with what it has acknowledged: one promise each. All raise BrokenPromise."""

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise

from tests.crash.content import Content
from tests.crash.faults import require, require_same
from tests.crash.ledger import Held, Ledger
from tests.crash.opinions import (
    classes_are_there,
    no_sample_has_more_than_wanted,
    opinions_decide,
    opinions_stand,
)
from tests.crash.seen import Seen


def samples_are_there(ledger: Ledger, seen: Seen) -> None:
    """Every acknowledged sample is listed with its attributes, in its last version, and no other."""
    require_same(set(seen.samples), set(ledger.samples), "samples")
    for sample, version in ledger.samples.items():
        expected = Content(sample, version).attributes
        found = dict(seen.samples[sample].attributes)
        require(found == expected, f"sample {sample} has the attributes {found}, not {expected}")


def rows_are_stable(ledger: Ledger, seen: Seen) -> None:
    """A sample keeps its row until it is replaced, and no row is given twice."""
    for sample, version in ledger.samples.items():
        row = seen.samples[sample].row
        first = ledger.rows.setdefault((sample, version), row)
        require(first == row, f"sample {sample} moved from row {first} to {row}")
    require(len(set(ledger.rows.values())) == len(ledger.rows), "a row was given to two samples")


def labels_are_there(ledger: Ledger, seen: Seen) -> None:
    """Every acknowledged label is listed with its class, worker and lease, and no other."""
    require_same(set(seen.labels), set(ledger.labels), "labels")
    for sample, given in ledger.labels.items():
        label = seen.labels[sample]
        found = (label.value, label.worker, label.lease)
        expected = (given.class_name, given.worker, given.lease)
        require(found == expected, f"the label of {sample} is {found}, not {expected}")
        require(seen.samples[sample].label == given.class_name, f"sample {sample} does not show its label")


def leases_are_there(ledger: Ledger, seen: Seen) -> None:
    """Every acknowledged live lease is listed as it was given, and none that ended or was never given."""
    for held in ledger.live(seen.ended):
        require(held.lease.name in seen.leases, f"live lease {held.lease.name} of {held.lease.worker} is lost")
    for name, lease in seen.leases.items():
        require(name in ledger.leases, f"lease {name} of {lease.worker} was never given")
        held = ledger.leases[name]
        require(held.expires > seen.began, f"lease {name} ended at {held.expires} and is listed as live")
        found = (lease.fencing_token, lease.worker, lease.create_time, lease.expire_time, lease.state)
        expected = (held.lease.fencing_token, held.lease.worker, held.lease.create_time, held.expires, "live")
        require(found == expected, f"lease {name} is {found}, not {expected}")
        require(set(lease.sample_ids) == held.ids, f"lease {name} holds other samples than {sorted(held.ids)[:5]}")


def no_sample_was_leased_twice(ledger: Ledger, seen: Seen) -> None:
    """At no time was a sample in two leases."""
    spans: defaultdict[str, list[tuple[datetime, datetime, str]]] = defaultdict(list)
    for held in ledger.leases.values():
        for sample in held.picked:
            spans[sample].append((*held.holds(sample), held.lease.name))
    for sample, times in spans.items():
        times.sort()
        for (_, end, one), (begin, _, other) in pairwise(times):
            require(end <= begin, f"sample {sample} was in {one} until {end} and in {other} from {begin}")


def states_are_right(ledger: Ledger, seen: Seen) -> None:
    """Labeled, set aside, leased or free, as acknowledged; a lease that ended has freed its samples."""
    leased, perhaps = _leased(ledger, seen)
    for sample, shown in seen.samples.items():
        if sample in perhaps and shown.state in ("leased", "unlabeled"):
            continue
        expected = _state(ledger, sample, leased)
        require(shown.state == expected, f"sample {sample} is {shown.state}, not {expected}")


def _leased(ledger: Ledger, seen: Seen) -> tuple[set[str], set[str]]:
    """Samples leased all the while, and those whose lease ended meanwhile."""
    leased = ledger.held_at(seen.ended)
    return leased, ledger.held_at(seen.began) - leased


def _state(ledger: Ledger, sample: str, leased: set[str]) -> str:
    if sample in ledger.labels:
        return "labeled"
    if sample in ledger.excluded:
        return "excluded"
    return "leased" if sample in leased else "unlabeled"


def models_are_there(ledger: Ledger, seen: Seen) -> None:
    """Every acknowledged model is listed, no other, and the right head is active."""
    require_same(set(seen.models), set(ledger.models), "models")
    for name, display_name in ledger.models.items():
        require(seen.models[name].display_name == display_name, f"{name} is not the model {display_name}")
    active = [name for name, model in seen.models.items() if model.active]
    require(seen.pool.active_head == ledger.active, f"{seen.pool.active_head} is active, not {ledger.active}")
    require(active == [ledger.active], f"the models {active} are listed as active, not {ledger.active}")


def pool_is_whole(ledger: Ledger, seen: Seen) -> None:
    """Nothing is damaged, and the counts are those of the samples."""
    pool, counts = seen.pool, seen.pool.counts
    require(pool.state == "open" and not pool.damaged_segments, f"the pool is {pool.state}: {pool.damaged_segments}")
    found = (counts.total, counts.labeled, counts.excluded, counts.unlabeled + counts.leased, counts.damaged)
    free = len(ledger.samples) - len(ledger.labels) - len(ledger.excluded)
    expected = (len(ledger.samples), len(ledger.labels), len(ledger.excluded), free, 0)
    require(found == expected, f"the pool counts {found}, not {expected}")


def raw_pool_is_whole(ledger: Ledger, seen: Seen) -> None:
    """Every acknowledged raw sample is there, no other, and the right backbone is active."""
    pool = seen.raw_pool
    require_same(seen.raw_samples, ledger.raw_samples, "raw samples")
    require(pool.active_backbone == ledger.raw_backbone, f"{pool.active_backbone} is active, not {ledger.raw_backbone}")
    require(pool.state == "open" and not pool.damaged_segments, f"{pool.name} is {pool.state}")
    require(pool.counts.total == len(ledger.raw_samples), f"{pool.name} counts {pool.counts.total} samples")


Promise = Callable[[Ledger, Seen], None]
PROMISES: tuple[Promise, ...] = (
    samples_are_there,
    rows_are_stable,
    labels_are_there,
    leases_are_there,
    no_sample_was_leased_twice,
    states_are_right,
    models_are_there,
    pool_is_whole,
    raw_pool_is_whole,
    classes_are_there,
    no_sample_has_more_than_wanted,
    opinions_decide,
    opinions_stand,
)


def verify(ledger: Ledger, seen: Seen) -> None:
    """Holds a server to all promises."""
    for promise in PROMISES:
        promise(ledger, seen)


def long_lived(held: Held, seen: Seen, seconds: float) -> bool:
    """Whether a lease still lives some time after the pool was read."""
    return bool(held.ids) and (held.expires - seen.ended).total_seconds() > seconds
