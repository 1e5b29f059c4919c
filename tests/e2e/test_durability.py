"""What was acknowledged outlives the server, and the checks that say so would notice a loss. `make crash` does more."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest

from assay.client import Class
from tests.crash.faults import BrokenPromise
from tests.crash.ledger import Held, Ledger
from tests.crash.requests import POOL, RAW
from tests.crash.run import CrashRun
from tests.crash.seen import Seen, look
from tests.crash.verify import verify

T = TypeVar("T")

SEED = 20
TARGETS = ("ingest", "commit", "merging")
NOBODY = "stock-9999999"


@dataclass(frozen=True, slots=True)
class Survivor:
    """A run of kills that was verified after each restart, and the pool at its end."""

    run: CrashRun
    seen: Seen


@pytest.fixture(scope="module")
def survivor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survivor]:
    run = CrashRun(tmp_path_factory.mktemp("durability"), SEED, database=None, clock=None, small=False)
    try:
        run.begin()
        for target in TARGETS:
            run.kill(target)
            run.restart()
        with run.client() as client:
            seen = look(client, POOL, RAW, after_event=run.ledger.opinions.last_event)
        run.end()
        yield Survivor(run, seen)
    finally:
        run.server.kill()


def test_nothing_acknowledged_is_lost(survivor: Survivor) -> None:
    tally, ledger = survivor.run.tally, survivor.run.ledger
    verify(ledger, survivor.seen)
    assert tally.kills == len(tally.restarts) == len(TARGETS)
    assert tally.contents > len(ledger.samples), "all contents were compared at the end"
    assert tally.repeated > 0
    assert ledger.samples
    assert ledger.labels
    assert ledger.leases
    assert ledger.models
    assert ledger.opinions.said
    assert len(ledger.opinions.log) > len(ledger.opinions.said)


def lost_sample(ledger: Ledger) -> Ledger:
    return replace(ledger, samples={**ledger.samples, NOBODY: 1})


def deleted_sample(ledger: Ledger) -> Ledger:
    return replace(ledger, samples=_less_one(ledger.samples))


def older_version(ledger: Ledger) -> Ledger:
    sample, version = next(iter(ledger.samples.items()))
    return replace(ledger, samples={**ledger.samples, sample: version + 1})


def moved_row(ledger: Ledger) -> Ledger:
    key = next((sample, version) for sample, version in ledger.samples.items())
    return replace(ledger, rows={**ledger.rows, key: max(ledger.rows.values()) + 1})


def lost_label(ledger: Ledger) -> Ledger:
    label = next(iter(ledger.labels.values()))
    free = next(sample for sample in ledger.samples if sample not in ledger.labels)
    return replace(ledger, labels={**ledger.labels, free: label})


def made_up_label(ledger: Ledger) -> Ledger:
    return replace(ledger, labels=_less_one(ledger.labels))


def other_class(ledger: Ledger) -> Ledger:
    sample, label = next(iter(ledger.labels.items()))
    return replace(ledger, labels={**ledger.labels, sample: replace(label, class_name="zircon")})


def lost_lease(ledger: Ledger) -> Ledger:
    held = _longest(ledger)
    return replace(ledger, leases={**ledger.leases, "lost": replace(held, lease=replace(held.lease, name="lost"))})


def made_up_lease(ledger: Ledger) -> Ledger:
    name = _longest(ledger).lease.name
    return replace(ledger, leases={other: held for other, held in ledger.leases.items() if other != name})


def other_token(ledger: Ledger) -> Ledger:
    held = _longest(ledger)
    lease = replace(held.lease, fencing_token=held.lease.fencing_token + 1)
    return replace(ledger, leases={**ledger.leases, lease.name: replace(held, lease=lease)})


def leased_twice(ledger: Ledger) -> Ledger:
    held = _longest(ledger)
    twin = replace(held, lease=replace(held.lease, name="twin"), ids=set())
    return replace(ledger, leases={**ledger.leases, "twin": twin})


def sample_not_free(ledger: Ledger) -> Ledger:
    held = _longest(ledger)
    return replace(ledger, leases={**ledger.leases, held.lease.name: replace(held, ids=held.ids | {NOBODY})})


def not_set_aside(ledger: Ledger) -> Ledger:
    held = ledger.held_at(max(held.begins for held in ledger.leases.values()))
    free = next(s for s in ledger.samples if s not in ledger.labels and s not in ledger.excluded and s not in held)
    return replace(ledger, excluded={*ledger.excluded, free})


def lost_model(ledger: Ledger) -> Ledger:
    return replace(ledger, models={**ledger.models, "pools/mine/models/lost": "lost"})


def other_active_head(ledger: Ledger) -> Ledger:
    return replace(ledger, active=next(name for name in ledger.models if name != ledger.active))


def lost_opinion(ledger: Ledger) -> Ledger:
    said = {**ledger.opinions.said, ("o0", "nobody"): 0}
    return replace(ledger, opinions=replace(ledger.opinions, said=said))


def made_up_opinion(ledger: Ledger) -> Ledger:
    said = dict(list(ledger.opinions.said.items())[1:])
    return replace(ledger, opinions=replace(ledger.opinions, said=said))


def other_opinion(ledger: Ledger) -> Ledger:
    pair, class_id = next(iter(ledger.opinions.said.items()))
    said = {**ledger.opinions.said, pair: class_id + 1}
    return replace(ledger, opinions=replace(ledger.opinions, said=said))


def opinion_given_twice(ledger: Ledger) -> Ledger:
    pair, class_id = next(iter(ledger.opinions.said.items()))
    said = {**ledger.opinions.said, (pair[0], "twin"): class_id, (pair[0], "triplet"): class_id}
    return replace(ledger, opinions=replace(ledger.opinions, said=said))


def lost_edit(ledger: Ledger) -> Ledger:
    task = replace(ledger.opinions.task, classes=[*ledger.opinions.task.classes, Class(99, "lost")])
    return replace(ledger, opinions=replace(ledger.opinions, task=task))


FORGERIES: tuple[Callable[[Ledger], Ledger], ...] = (
    lost_sample,
    deleted_sample,
    older_version,
    moved_row,
    lost_label,
    made_up_label,
    other_class,
    lost_lease,
    made_up_lease,
    other_token,
    leased_twice,
    sample_not_free,
    not_set_aside,
    lost_model,
    other_active_head,
    lost_opinion,
    made_up_opinion,
    other_opinion,
    opinion_given_twice,
    lost_edit,
)


@pytest.mark.parametrize("forge", FORGERIES)
def test_a_loss_would_be_noticed(survivor: Survivor, forge: Callable[[Ledger], Ledger]) -> None:
    forged = forge(survivor.run.ledger)
    with pytest.raises(BrokenPromise):
        verify(forged, survivor.seen)


def _less_one(entries: dict[str, T]) -> dict[str, T]:
    return dict(list(entries.items())[1:])


def _longest(ledger: Ledger) -> Held:
    return max((held for held in ledger.leases.values() if held.ids), key=lambda held: held.expires)
