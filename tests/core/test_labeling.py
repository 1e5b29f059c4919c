"""Leases and labels: nobody gets what somebody else has, and nothing is lost."""

from functools import partial

import numpy as np
import pytest

import assay.strategies
from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason, RequestReplayed
from assay.server.core.labeling.messages import AnnotateResult, BatchResult, BatchSpec
from assay.server.core.mining.messages import MineSpec
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.filters import HasId
from assay.server.core.records.pools import State
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.samples import OnConflict
from assay.strategies import Strategy
from tests.core.kit import (
    POOL,
    House,
    Turnstile,
    add,
    annotate,
    counts,
    fill,
    in_threads,
    key,
    labels_of,
    make_pool,
    names,
    next_batch,
    pool_of,
    refused,
    set_state,
    standing,
)

RANDOM = Plan(preset="random")
SPREAD = Plan(preset="k_center")


def renew(core: Assay, taken: BatchResult, ttl: float, token: int = 0) -> float:
    record = taken.lease.record
    view = core.labeling.renew(POOL, record.lease_id, token or record.fencing_token, ttl, NO_KEY)
    return view.record.expire_time


def release(core: Assay, taken: BatchResult, ids: list[str], exclude: bool = False, token: int = 0) -> tuple[str, ...]:
    record = taken.lease.record
    held = core.labeling.release(POOL, record.lease_id, token or record.fencing_token, ids, "too dark", exclude, NO_KEY)
    return held.sample_ids


def state_of(core: Assay, sample_id: str) -> State:
    return core.samples.get(POOL, sample_id).state


def test_a_batch_is_leased_to_one_worker(core: Assay) -> None:
    fill(core, 10)
    taken = next_batch(core, 4, ttl=60.0)
    record = taken.lease.record
    assert record.rows == tuple(sorted(pick.sample.row for pick in taken.picks))
    assert taken.lease.sample_ids == tuple(f"s{row}" for row in record.rows)
    assert (record.worker, record.fencing_token, record.state) == ("ada", 1, "live")
    assert record.expire_time == record.create_time + 60
    assert counts(core) == {"UNLABELED": 6, "LEASED": 4}
    assert {pick.sample.record.payload.decode() for pick in taken.picks} == set(taken.lease.sample_ids)
    assert core.labeling.lease(POOL, record.lease_id) == taken.lease
    other = next_batch(core, 100, "bob")
    assert len(other.picks) == 6, "fewer are left than were asked for"
    assert other.lease.record.fencing_token == 2
    assert not set(other.lease.sample_ids) & set(taken.lease.sample_ids)
    refused(Reason.POOL_EXHAUSTED, lambda: next_batch(core, 1))
    assert [view.record.worker for view in core.labeling.leases(POOL, "", 0, 10)] == ["ada", "bob"]
    assert core.labeling.leases(POOL, "bob", 0, 10) == [other.lease]
    assert core.labeling.leases(POOL, "", 1, 10) == [other.lease]


def test_eight_workers_share_a_pool_without_overlap(core: Assay) -> None:
    """All pick by the same seed, so all want the same samples first."""
    fill(core, 200, step=25)

    def work(worker: int) -> list[int]:
        taken: list[int] = []
        while True:
            try:
                result = next_batch(core, 7, f"w{worker}", plan=RANDOM)
            except Exception as error:
                if getattr(error, "reason", "") == Reason.POOL_EXHAUSTED:
                    return taken
                if getattr(error, "reason", "") != Reason.CONFLICT:
                    raise
            else:
                taken.extend(result.lease.record.rows)

    start, join = in_threads([partial(work, worker) for worker in range(8)])
    start()
    results = join()
    assert all(isinstance(rows, list) for rows in results), results
    handed_out = [row for rows in results for row in rows]  # type: ignore[attr-defined]
    assert sorted(handed_out) == list(range(200)), "each exactly once"
    held = [row for lease in core.labeling.leases(POOL, "", 0, 1000) for row in lease.record.rows]
    assert sorted(held) == list(range(200))
    tokens = [lease.record.fencing_token for lease in core.labeling.leases(POOL, "", 0, 1000)]
    assert tokens == list(range(1, len(tokens) + 1))


def test_a_selection_that_lost_its_samples_chooses_again(core: Assay) -> None:
    """Both choose from one snapshot before either reserves."""
    fill(core, 6)
    gate = pool_of(core)._lock = Turnstile()  # type: ignore[assignment]
    start, join = in_threads([partial(next_batch, core, 3, worker, plan=SPREAD) for worker in ("ada", "bob")])
    gate.held_until(2, start)
    rows = [row for result in join() for row in result.lease.record.rows]  # type: ignore[attr-defined]
    assert sorted(rows) == list(range(6))


def test_an_expired_lease_frees_its_samples(house: House, core: Assay) -> None:
    fill(core, 5)
    taken = next_batch(core, 5, ttl=60.0)
    house.clock.advance(59)
    core.tick()
    assert counts(core) == {"LEASED": 5}
    house.clock.advance(1)
    core.tick()
    assert counts(core) == {"UNLABELED": 5}
    assert core.labeling.leases(POOL, "", 0, 10) == []
    assert core.labeling.lease(POOL, taken.lease.record.lease_id).record.state == "expired"
    again = next_batch(core, 5, "bob")
    assert again.lease.record.fencing_token > taken.lease.record.fencing_token


def test_the_next_worker_does_not_wait_for_a_tick(house: House, core: Assay) -> None:
    fill(core, 2)
    next_batch(core, 2, ttl=60.0)
    house.clock.advance(61)
    assert len(next_batch(core, 2, "bob").picks) == 2


def test_a_late_token_loses_nothing(house: House, core: Assay) -> None:
    fill(core, 3)
    taken = next_batch(core, 3, ttl=60.0)
    house.clock.advance(61)
    refused(Reason.LEASE_EXPIRED, lambda: renew(core, taken, 60.0))
    refused(Reason.LEASE_EXPIRED, lambda: release(core, taken, []))
    refused(Reason.LEASE_EXPIRED, lambda: annotate(core, {"s0": "ant"}, taken))
    core.tick()
    before = standing(core)
    for call in (
        lambda: annotate(core, {"s0": "ant"}, taken),
        lambda: renew(core, taken, 60.0),
        lambda: release(core, taken, []),
    ):
        refused(Reason.LEASE_EXPIRED, call)
    assert standing(core) == before
    other = next_batch(core, 1, "bob", plan=RANDOM)
    mine = [sample_id for sample_id in names(0, 3) if sample_id not in other.lease.sample_ids]
    refused(Reason.SAMPLE_LEASED, lambda: annotate(core, {other.lease.sample_ids[0]: "ant"}))
    assert annotate(core, dict.fromkeys(mine, "ant")).stored == 2, "what is still free can be kept"


def test_samples_of_a_lease_that_ran_out_take_labels_from_elsewhere_at_once(house: House, core: Assay) -> None:
    fill(core, 1)
    next_batch(core, 1, ttl=60.0)
    refused(Reason.SAMPLE_LEASED, lambda: annotate(core, {"s0": "ant"}))
    house.clock.advance(60)
    assert annotate(core, {"s0": "ant"}).stored == 1


def test_renewing_moves_the_end(house: House, core: Assay) -> None:
    fill(core, 2)
    taken = next_batch(core, 2, ttl=60.0)
    house.clock.advance(50)
    assert renew(core, taken, 100.0) == house.clock.now() + 100
    house.clock.advance(99)
    core.tick()
    assert counts(core) == {"LEASED": 2}
    house.clock.advance(1)
    core.tick()
    assert counts(core) == {"UNLABELED": 2}


def test_a_foreign_token_is_told_apart_from_a_late_one(core: Assay) -> None:
    fill(core, 6)
    taken, other = next_batch(core, 3), next_batch(core, 3, "bob")
    token = other.lease.record.fencing_token
    before = standing(core)
    refused(Reason.LEASE_FOREIGN, lambda: renew(core, taken, 60.0, token))
    refused(Reason.LEASE_FOREIGN, lambda: release(core, taken, [], token=token))
    refused(
        Reason.LEASE_FOREIGN, lambda: annotate(core, {taken.lease.sample_ids[0]: "ant"}, taken, fencing_token=token)
    )
    refused(Reason.LEASE_FOREIGN, lambda: annotate(core, {taken.lease.sample_ids[0]: "ant"}, taken, worker="bob"))
    refused(Reason.LEASE_FOREIGN, lambda: annotate(core, {other.lease.sample_ids[0]: "ant"}, taken))
    refused(Reason.LEASE_FOREIGN, lambda: release(core, taken, [other.lease.sample_ids[0]]))
    assert standing(core) == before


def test_a_lease_is_submitted_part_by_part(core: Assay) -> None:
    fill(core, 3)
    taken = next_batch(core, 3)
    first = annotate(core, {"s0": "ant"}, taken)
    assert (first.stored, first.unchanged, first.lease_remaining) == (1, 0, 2)
    assert core.labeling.lease(POOL, taken.lease.record.lease_id).sample_ids == ("s1", "s2")
    rest = annotate(core, {"s1": "bee", "s2": "cow"}, taken)
    assert (rest.stored, rest.lease_remaining) == (2, 0)
    assert core.labeling.lease(POOL, taken.lease.record.lease_id).record.state == "done"
    assert core.labeling.leases(POOL, "", 0, 10) == []
    refused(Reason.LEASE_DONE, lambda: renew(core, taken, 60.0))
    refused(Reason.LEASE_DONE, lambda: release(core, taken, []))
    labels = labels_of(core)
    assert [(label.sample_id, label.value, label.worker, label.lease) for label in labels] == [
        ("s0", "ant", "ada", taken.lease.record.lease_id),
        ("s1", "bee", "ada", taken.lease.record.lease_id),
        ("s2", "cow", "ada", taken.lease.record.lease_id),
    ]


def test_submitting_again_changes_nothing(core: Assay) -> None:
    fill(core, 2)
    taken = next_batch(core, 2)
    annotate(core, {"s0": "ant", "s1": "bee"}, taken)
    again = annotate(core, {"s0": "ant", "s1": "bee"}, taken)
    assert (again.stored, again.unchanged, again.lease_remaining) == (0, 2, 0)
    refused(Reason.ANNOTATION_EXISTS, lambda: annotate(core, {"s0": "bee"}, taken))
    changed = annotate(core, {"s0": "cow", "s1": "bee"}, correct=True, worker="bob")
    assert (changed.stored, changed.unchanged) == (2, 0), "another worker's are its own"
    assert [label.worker for label in labels_of(core)] == ["bob", "bob"]
    assert [label.sample_id for label in core.annotations.labels(POOL, "", "bee", -1, 10)] == ["s1"]
    assert [label.sample_id for label in core.annotations.labels(POOL, "bob", "", -1, 10)] == ["s0", "s1"]


def test_a_label_may_be_corrected_under_the_lease_it_came_with(core: Assay) -> None:
    fill(core, 2)
    taken = next_batch(core, 2)
    annotate(core, {"s0": "ant"}, taken)
    both = annotate(core, {"s0": "bee", "s1": "cow"}, taken, correct=True)
    assert (both.stored, both.lease_remaining) == (2, 0)
    assert core.samples.get(POOL, "s0").label == "bee"


def test_labels_without_a_lease(core: Assay) -> None:
    fill(core, 3)
    result = annotate(core, {"s0": "ant", "s2": "cow"})
    assert (result.stored, result.lease_remaining) == (2, 0)
    assert counts(core) == {"UNLABELED": 1, "LABELED": 2}
    assert [pick.sample.record.id for pick in next_batch(core, 5).picks] == ["s1"]


def test_labels_come_by_pages(core: Assay) -> None:
    fill(core, 7)
    annotate(core, dict.fromkeys(names(0, 7), "ant"))
    first = core.annotations.labels(POOL, "", "", -1, 4)
    rest = core.annotations.labels(POOL, "", "", first[-1].row, 4)
    assert [label.sample_id for label in [*first, *rest]] == names(0, 7)


def test_released_samples_go_to_the_next_worker(core: Assay) -> None:
    fill(core, 4)
    taken = next_batch(core, 4)
    assert release(core, taken, ["s1", "s3"]) == ("s0", "s2")
    assert set(next_batch(core, 4, "bob").lease.sample_ids) == {"s1", "s3"}
    assert release(core, taken, []) == ()
    assert core.labeling.lease(POOL, taken.lease.record.lease_id).record.state == "done"


def test_excluded_samples_go_to_nobody(core: Assay) -> None:
    fill(core, 3)
    taken = next_batch(core, 3)
    release(core, taken, ["s1"], exclude=True)
    release(core, taken, [])
    assert state_of(core, "s1") is State.EXCLUDED
    assert set(next_batch(core, 3, worker="bob").lease.sample_ids) == {"s0", "s2"}
    refused(Reason.SAMPLE_EXCLUDED, lambda: annotate(core, {"s0": "ant", "s1": "ant"}))
    assert state_of(core, "s0") is State.LEASED


def test_leased_samples_are_not_deleted(core: Assay) -> None:
    fill(core, 3)
    next_batch(core, 3)
    before = standing(core)
    refused(Reason.SAMPLE_LEASED, lambda: core.samples.delete(POOL, ["s1"], False, NO_KEY))
    refused(Reason.SAMPLE_LEASED, lambda: core.samples.delete(POOL, ["s1", "none"], True, NO_KEY))
    assert standing(core) == before


def test_a_repeated_request_gets_the_same_lease(core: Assay) -> None:
    fill(core, 4)
    taken = next_batch(core, 2, request=key("r1"))
    with pytest.raises(RequestReplayed) as replayed:
        next_batch(core, 2, request=key("r1"))
    assert taken.lease.record.lease_id in replayed.value.response.decode()
    assert counts(core) == {"UNLABELED": 2, "LEASED": 2}
    annotate(core, dict.fromkeys(taken.lease.sample_ids, "ant"), taken, request=key("r2"))
    with pytest.raises(RequestReplayed) as replayed:
        annotate(core, dict.fromkeys(taken.lease.sample_ids, "ant"), taken, request=key("r2"))
    assert replayed.value.response.decode().startswith("AnnotateResult(stored=2")


def test_a_request_repeated_while_it_runs_gets_the_lease_that_took_the_last_samples(core: Assay) -> None:
    fill(core, 3)
    pool = pool_of(core)
    start, join = in_threads([lambda: next_batch(core, 3, request=key("r1"), plan=RANDOM)] * 6)
    start()
    kinds = sorted(type(result).__name__ for result in join())
    assert kinds == ["BatchResult"] + ["RequestReplayed"] * 5
    assert len(pool.snapshot.leases) == 1


def test_the_default_plan_is_random_until_all_that_may_be_picked_is_predicted(core: Assay) -> None:
    fill(core, 5)
    assert next_batch(core, 1).plan.preset == "random"
    add(core, ["p", "q"], predictions_NC=np.array([[0.2, 0.3, 0.5], [0.4, 0.3, 0.3]], np.float32))
    assert next_batch(core, 1).plan.preset == "random"
    while any(sample_id.startswith("s") for sample_id in unlabeled(core)):
        next_batch(core, 1, plan=Plan(preset="random", filter=HasId(tuple(names(0, 5)))))
    assert next_batch(core, 1).plan.preset == "margin"


def unlabeled(core: Assay) -> list[str]:
    views, _ = core.samples.list(POOL, None, (State.UNLABELED,), -1, 100, False)
    return [view.record.id for view in views]


def test_threads_that_submit_to_one_lease_store_each_label_once(core: Assay) -> None:
    fill(core, 40)
    taken = next_batch(core, 40)
    parts = [dict.fromkeys(names(first, first + 10), "ant") for first in range(0, 40, 10)] * 2
    start, join = in_threads([partial(annotate, core, part, taken) for part in parts])
    start()
    results = join()
    assert all(isinstance(result, AnnotateResult) for result in results), results
    assert sum(result.stored for result in results) == 40  # type: ignore[attr-defined]
    assert sum(result.unchanged for result in results) == 40  # type: ignore[attr-defined]
    assert counts(core) == {"LABELED": 40}


def test_a_lease_survives_a_restart_and_expires_after_it(house: House, core: Assay) -> None:
    fill(core, 3)
    taken = next_batch(core, 2, ttl=60.0)
    core = house.open()
    assert core.labeling.leases(POOL, "", 0, 10) == [taken.lease]
    assert annotate(core, {taken.lease.sample_ids[0]: "ant"}, taken).lease_remaining == 1
    house.clock.advance(61)
    core = house.open()
    assert counts(core) == {"UNLABELED": 2, "LABELED": 1}
    assert next_batch(core, 2).lease.record.fencing_token == 2


def test_replacing_and_deleting_free_samples_only(core: Assay) -> None:
    fill(core, 3)
    annotate(core, {"s0": "ant", "s1": "bee"})
    add(core, ["s0"], on_conflict=OnConflict.REPLACE)
    result = core.samples.delete(POOL, ["s1", "none"], True, NO_KEY)
    assert result.deleted == 1
    assert counts(core) == {"UNLABELED": 2, "DELETED": 2}
    assert labels_of(core) == []


def test_batches_carry_predictions_when_asked(core: Assay) -> None:
    add(core, ["a"], predictions_NC=np.array([[0.2, 0.7, 0.1]], np.float32))
    taken = core.labeling.next_batch(POOL, BatchSpec("ada", 1, predictions=2, payload=False), NO_KEY)
    assert [(name, round(share, 6)) for name, share in taken.picks[0].predictions] == [("bee", 0.7), ("ant", 0.2)]


def test_a_reply_that_no_caller_could_receive_leases_nothing(core: Assay) -> None:
    fill(core, 3)
    before = standing(core)

    def too_large(_result: object) -> bytes:
        raise AssayError(Reason.TOO_LARGE, "Too large.")

    for request_id in ("r1", ""):
        large = RequestKey(request_id, "test", "", too_large)
        refused(Reason.TOO_LARGE, lambda large=large: next_batch(core, 3, request=large))
        refused(Reason.TOO_LARGE, lambda large=large: core.mining.mine(POOL, MineSpec(3, RANDOM), large))
        assert standing(core) == before
    assert len(next_batch(core, 3, request=key("r1")).picks) == 3


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
def test_setting_the_clock_neither_ends_nor_keeps_a_lease(house: House, core: Assay, jump: float) -> None:
    fill(core, 4)
    taken = next_batch(core, 2, ttl=60.0)
    house.clock.set(jump)
    core.tick()
    assert counts(core) == {"LEASED": 2, "UNLABELED": 2}
    shown = core.labeling.lease(POOL, taken.lease.record.lease_id).expire_time
    assert shown == house.clock.now() + 60
    core = house.open()
    assert counts(core) == {"LEASED": 2, "UNLABELED": 2}
    annotate(core, {taken.picks[0].sample.record.id: "ant"}, taken)
    house.clock.advance(61)
    core.tick()
    assert counts(core) == {"LABELED": 1, "UNLABELED": 3}


def ids_of(taken: BatchResult) -> set[str]:
    return {pick.sample.record.id for pick in taken.picks}


@pytest.mark.parametrize("plan", [RANDOM, SPREAD, None])
def test_what_a_worker_gave_back_does_not_come_back_to_it(house: House, core: Assay, plan: Plan | None) -> None:
    fill(core, 6)
    seen: set[str] = set()
    for count in range(1, 7):
        taken = next_batch(core, 1, plan=plan)
        seen |= ids_of(taken)
        assert len(seen) == count, "another one each time"
        release(core, taken, [])
    error = refused(Reason.POOL_EXHAUSTED, lambda: next_batch(core, 1, plan=plan))
    assert error.metadata["released"] == "6"
    assert ids_of(next_batch(core, 6, worker="bob", plan=plan)) == seen, "others are offered them"
    core = house.open()
    house.clock.advance(901)
    refused(Reason.POOL_EXHAUSTED, lambda: next_batch(core, 1, plan=plan))
    assert ids_of(next_batch(core, 6, plan=plan, released=True)) == seen


def test_only_what_was_given_back_stays_away(core: Assay) -> None:
    fill(core, 4)
    taken = next_batch(core, 4)
    release(core, taken, ["s1", "s3"])
    release(core, taken, ["s0"])
    record = taken.lease.record
    core.labeling.release(POOL, record.lease_id, record.fencing_token, [], "", True, NO_KEY)
    assert counts(core) == {"UNLABELED": 3, "EXCLUDED": 1}
    set_state(core, "include", ["s2"])
    assert ids_of(next_batch(core, 4)) == {"s2"}, "what was set aside was not given back"


def test_samples_are_set_aside_and_taken_back_without_a_lease(house: House, core: Assay) -> None:
    fill(core, 5)
    result = set_state(core, "exclude", ["s1", "s2"], reason="blurred")
    assert (result.changed, result.unchanged) == (2, 0)
    result = set_state(core, "exclude", ["s2", "s3"])
    assert (result.changed, result.unchanged) == (1, 1)
    core = house.open()
    assert counts(core) == {"UNLABELED": 2, "EXCLUDED": 3}
    result = set_state(core, "include", ["s1", "s3", "s4"])
    assert (result.changed, result.unchanged) == (2, 1)
    core = house.open()
    assert counts(core) == {"UNLABELED": 4, "EXCLUDED": 1}
    assert ids_of(next_batch(core, 5)) == {"s0", "s1", "s3", "s4"}


def test_setting_aside_is_all_or_none(core: Assay) -> None:
    fill(core, 5)
    taken = next_batch(core, 1, plan=RANDOM)
    (leased,) = ids_of(taken)
    before = standing(core)
    free = next(name for name in names(1, 5) if name != leased)
    refused(Reason.SAMPLE_LEASED, lambda: set_state(core, "exclude", [free, leased]))
    refused(Reason.SAMPLE_NOT_FOUND, lambda: set_state(core, "exclude", [free, "nope"]))
    refused(Reason.SAMPLE_NOT_FOUND, lambda: set_state(core, "include", [free, "nope"]))
    refused(Reason.INVALID_ID, lambda: set_state(core, "exclude", [free], worker=""))
    assert standing(core) == before


def test_a_label_waits_while_its_sample_is_set_aside(house: House, core: Assay) -> None:
    fill(core, 2)
    annotate(core, {"s1": "ant"})
    set_state(core, "exclude", ["s1"])
    assert (counts(core), labels_of(core)) == ({"UNLABELED": 1, "EXCLUDED": 1}, [])
    core = house.open()
    set_state(core, "include", ["s1"])
    assert [(label.sample_id, label.value) for label in labels_of(core)] == [("s1", "ant")]
    assert counts(core) == {"UNLABELED": 1, "LABELED": 1}


def test_setting_aside_is_remembered_by_request(core: Assay) -> None:
    fill(core, 3)
    first = set_state(core, "exclude", ["s1"], request=key("once"))
    set_state(core, "include", ["s1"])
    with pytest.raises(RequestReplayed) as again:
        set_state(core, "exclude", ["s1"], request=key("once"))
    assert again.value.response == repr(first).encode()
    assert counts(core) == {"UNLABELED": 3}


class Asked:
    """The shipped strategies, and how often they were asked for one."""

    def __init__(self) -> None:
        self.count = 0

    def names(self) -> tuple[str, ...]:
        return assay.strategies.names()

    def get(self, name: str) -> Strategy:
        self.count += 1
        return assay.strategies.get(name)


def test_a_repeated_request_computes_nothing(house: House) -> None:
    house.registry = asked = Asked()
    core = house.open()
    make_pool(core)
    fill(core, 40)
    plan = Plan(preset="k_center", near_duplicate_radius=0.01)
    for mutation in (
        lambda: next_batch(core, 5, request=key("batch"), plan=plan),
        lambda: core.mining.mine(POOL, MineSpec(5, plan), key("mine")),
    ):
        mutation()
        before = asked.count
        assert before > 0
        with pytest.raises(RequestReplayed):
            mutation()
        assert asked.count == before


def test_a_repeated_request_is_answered_whatever_the_pool_is_by_then(core: Assay) -> None:
    """Also where it would be refused by now."""
    fill(core, 3)
    taken = next_batch(core, 3, request=key("batch"))
    lease = taken.lease.record
    calls = [
        lambda: next_batch(core, 3, request=key("batch")),
        lambda: core.labeling.renew(POOL, lease.lease_id, lease.fencing_token, 60.0, key("renew")),
        lambda: annotate(core, {"s0": "ant"}, taken, request=key("submit")),
        lambda: core.labeling.release(
            POOL, lease.lease_id, lease.fencing_token, ["s1"], "", False, key("release")
        ),
        lambda: set_state(core, "exclude", ["s1"], worker="ada", request=key("exclude")),
        lambda: set_state(core, "include", ["s1"], request=key("include")),
        lambda: core.samples.delete(POOL, ["s1"], False, key("delete")),
    ]  # fmt: skip
    for call in calls[1:]:
        call()
    annotate(core, {"s2": "ant"}, taken)
    for call in calls:
        with pytest.raises(RequestReplayed):
            call()
