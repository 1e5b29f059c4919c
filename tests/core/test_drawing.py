"""One queue of leases for first answers and second looks: plans that draw from suspects and disputed samples, and plans
that want some of their picks from several workers."""

from collections.abc import Sequence

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling.auditing import AuditSpec
from assay.server.core.labeling.messages import BatchResult
from assay.server.core.mining.messages import MineSpec
from assay.server.core.mining.plan.terms import DrawFrom, Plan, ScoreTerm
from assay.server.core.pools.messages import PoolUpdate
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.annotations import Policy
from assay.server.core.records.pools import State
from assay.server.core.records.suspects import SuspectKind
from tests.core.kit import (
    CLASSES,
    POOL,
    House,
    add,
    annotate,
    counts,
    done,
    fill,
    make_pool,
    names,
    next_batch,
    pool_of,
    refused,
    train,
)
from tests.core.test_annotation_log import columns_of
from tests.core.test_overlap import same_after_reopening

PAIRS = 10


def random(source: DrawFrom, **more: object) -> Plan:
    return Plan(preset="random", draw_from=source, **more)  # type: ignore[arg-type]


def doubted(house: House, **spec: object) -> Assay:
    """Ten samples of which each has a copy; of the first three the copy has another label. Ten more have no label."""
    core = house.open()
    make_pool(core, **spec)
    rng = np.random.default_rng(0)
    once = rng.standard_normal((PAIRS, 4)).astype(np.float32)
    add(core, names(0, 2 * PAIRS), np.concatenate([once, once]))
    add(core, names(20, 30), rng.standard_normal((10, 4)).astype(np.float32))
    for worker in ("ann", "bob")[: pool_of(core).snapshot.pool.annotations_per_sample]:
        annotate(core, {f"s{i}": "ant" if i < 5 or i in (13, 14) else "bee" for i in range(2 * PAIRS)}, worker=worker)
    done(core, core.audits.audit(POOL, AuditSpec((SuspectKind.DUPLICATES,)), lambda _: b"", NO_KEY))
    return core


SUSPECTS = {"s0", "s1", "s2", "s10", "s11", "s12"}


def ids(taken: BatchResult) -> set[str]:
    return set(taken.lease.sample_ids)


def states(core: Assay, sample_ids: Sequence[str]) -> list[State]:
    snapshot = pool_of(core).snapshot
    return [State(state) for state in snapshot.states.at(snapshot.find(sample_ids)).tolist()]


def label(core: Assay, sample_id: str) -> str:
    snapshot = pool_of(core).snapshot
    code = int(snapshot.labels.at(snapshot.find([sample_id]))[0])
    return snapshot.pool.class_names[code] if code >= 0 else ""


def test_suspects_go_to_somebody_else_one_at_a_time_and_the_answer_counts(house: House) -> None:
    core = doubted(house)
    plan = random(DrawFrom.SUSPECTS)
    refused(Reason.POOL_EXHAUSTED, lambda: next_batch(core, 1, "ann", plan=plan))
    first = next_batch(core, 4, "bob", plan=plan)
    assert ids(first) < SUSPECTS
    assert set(states(core, list(ids(first)))) == {State.LABELED}, "they keep their labels meanwhile"
    second = next_batch(core, 10, "cy", plan=plan)
    assert ids(first) | ids(second) == SUSPECTS
    refused(Reason.POOL_EXHAUSTED, lambda: next_batch(core, 1, "dan", plan=plan))
    core = house.open()
    refused(Reason.POOL_EXHAUSTED, lambda: next_batch(core, 1, "dan", plan=plan))
    given, *rest = sorted(ids(first))
    refused(Reason.SAMPLE_LEASED, lambda: annotate(core, {given: "cow"}, worker="bob"))
    annotate(core, {given: "cow"}, first)
    assert (label(core, given), states(core, [given])) == ("cow", [State.LABELED])
    assert pool_of(core).snapshot.answered.at(pool_of(core).snapshot.find([given])).tolist() == [2]
    lease = first.lease.record
    core.labeling.release(POOL, lease.lease_id, lease.fencing_token, [rest[0]], "", False, NO_KEY)
    assert ids(next_batch(core, 10, "dan", plan=plan)) == {rest[0]}, "a skip says nothing"
    refused(Reason.POOL_EXHAUSTED, lambda: next_batch(core, 1, "bob", plan=plan))
    house.clock.advance(1e6)
    core.tick()
    left = ids(next_batch(core, 10, "bob", plan=plan))
    assert left == SUSPECTS - {given, rest[0]}, "what was given back is not offered again, what was answered is settled"


def test_a_second_answer_that_differs_is_disputed_and_a_third_decides(house: House) -> None:
    core = doubted(house, annotations_per_sample=2, policy=Policy.MAJORITY)
    taken = next_batch(core, 1, "cy", plan=random(DrawFrom.SUSPECTS))
    (given,) = ids(taken)
    annotate(core, {given: "cow"}, taken)
    assert states(core, [given]) == [State.LABELED], "two against one"
    for worker, said in (("ann", "ant"), ("bob", "bee")):
        annotate(core, {"s20": said}, worker=worker)
    assert states(core, ["s20"]) == [State.DISPUTED]
    plan = random(DrawFrom.DISPUTED)
    refused(Reason.POOL_EXHAUSTED, lambda: next_batch(core, 1, "ann", plan=plan))
    taken = next_batch(core, 1, "cy", plan=plan)
    assert (ids(taken), states(core, ["s20"])) == ({"s20"}, [State.LEASED])
    annotate(core, {"s20": "bee"}, taken)
    assert (label(core, "s20"), states(core, ["s20"])) == ("bee", [State.LABELED])


def test_all_are_drawn_by_the_same_scores(house: House) -> None:
    core = doubted(house)
    train(core)
    plan = Plan(scores=(ScoreTerm("margin"),), draw_from=DrawFrom.ALL)
    open_ones = set(names(20, 30))
    everyone = core.mining.mine(POOL, MineSpec(size=16, plan=plan), NO_KEY).picks
    assert {pick.sample.record.id for pick in everyone} == SUSPECTS | open_ones
    scores = [pick.score for pick in everyone]
    assert scores == sorted(scores, reverse=True)
    batch = next_batch(core, 16, "bob", plan=plan)
    assert [pick.sample.record.id for pick in batch.picks] == [pick.sample.record.id for pick in everyone]


def test_a_plan_that_says_only_from_where_ranks_by_what_an_answer_is_worth(house: House) -> None:
    core = house.open()
    make_pool(core)
    rng = np.random.default_rng(0)
    truth = np.arange(90) % 3
    embeddings = (4 * np.eye(4)[truth] + 0.3 * rng.standard_normal((90, 4))).astype(np.float32)
    between = (2 * (np.eye(4)[0] + np.eye(4)[1]))[None].repeat(2, 0).astype(np.float32)
    add(core, names(0, 92), np.concatenate([embeddings, between]))
    said = {f"s{i}": CLASSES[truth[i]] for i in range(60)}
    annotate(core, {**said, "s0": CLASSES[1], "s1": CLASSES[0]})
    train(core)
    done(core, core.audits.audit(POOL, AuditSpec((SuspectKind.MODEL,)), lambda _: b"", NO_KEY))
    result = core.mining.mine(POOL, MineSpec(size=6, plan=Plan(draw_from=DrawFrom.ALL)), NO_KEY)
    assert (result.plan.preset, result.provenance.source) == ("worth", "head")
    picked = [pick.sample.record.id for pick in result.picks]
    assert set(picked[:2]) == {"s0", "s1"}, "wrong labels first"
    assert set(picked[2:4]) == {"s90", "s91"}, "then what the model is unsure of"
    worth = [pick.score for pick in result.picks]
    assert 1 >= worth[0] > worth[2] > 1.5 * worth[4] > 0, "and what it is sure of last"
    batch = next_batch(core, 1, "bob", plan=Plan(draw_from=DrawFrom.SUSPECTS))
    annotate(core, {batch.lease.sample_ids[0]: CLASSES[2]}, batch)
    again = core.mining.mine(POOL, MineSpec(size=1, plan=Plan(draw_from=DrawFrom.SUSPECTS)), NO_KEY)
    assert [pick.sample.record.id for pick in again.picks] != list(batch.lease.sample_ids)


def test_what_annotators_dispute_is_rated_with_what_nobody_has_seen(house: House) -> None:
    core = doubted(house, annotations_per_sample=2, policy=Policy.MAJORITY)
    for worker, said in (("ann", "ant"), ("bob", "bee")):
        annotate(core, {"s20": said, "s21": said}, worker=worker)
    train(core)
    done(core, core.audits.audit(POOL, AuditSpec(), lambda _: b"", NO_KEY))
    core = house.open()
    rating = pool_of(core).snapshot.suspects.record.rating  # type: ignore[union-attr]
    assert {20, 21} <= set(rating.rows_R.tolist())
    everything = core.mining.mine(POOL, MineSpec(size=16, plan=Plan(draw_from=DrawFrom.ALL)), NO_KEY)
    scores = {pick.sample.record.id: pick.score for pick in everything.picks}
    rated = dict(zip(rating.rows_R.tolist(), rating.worth_R.tolist(), strict=True))
    assert scores["s20"] == pytest.approx(rated[20])
    annotate(core, {"s20": "bee"}, worker="cy")
    annotate(core, {"s21": "cow"}, worker="cy")
    disputed = core.mining.mine(POOL, MineSpec(size=1, plan=Plan(draw_from=DrawFrom.DISPUTED)), NO_KEY)
    assert [pick.sample.record.id for pick in disputed.picks] == ["s21"]
    assert disputed.picks[0].score == pytest.approx(2 / 3), "the audit knew nothing of the third"


def test_who_is_labeled_is_not_kept_away_by_its_own_label(house: House) -> None:
    core = doubted(house)
    for plan in (
        random(DrawFrom.SUSPECTS, near_duplicate_radius=1e-3),
        Plan(preset="k_center", draw_from=DrawFrom.ALL),
    ):
        picks = core.mining.mine(POOL, MineSpec(size=3, plan=plan), NO_KEY).picks
        assert len({pick.sample.record.id for pick in picks}) == 3


def test_without_an_audit_there_are_no_suspects(core: Assay) -> None:
    fill(core, 10)
    error = refused(Reason.POOL_EXHAUSTED, lambda: next_batch(core, 1, plan=random(DrawFrom.SUSPECTS)))
    assert "AuditPool" in error.message
    assert len(ids(next_batch(core, 20, plan=random(DrawFrom.ALL)))) == 10


def test_a_share_of_the_picks_is_wanted_from_several(house: House) -> None:
    core = house.open()
    make_pool(core)
    fill(core, 400)
    plan = Plan(preset="random", overlap_share=0.25, overlap_annotations=3)
    once = [next_batch(core, 1, "ann", plan=plan) for _ in range(40)]
    taken = [next_batch(core, 160, "ann", plan=plan), *once]
    wanted = {row for row in range(400) if pool_of(core).snapshot.wanted(np.array([row]))[0] == 3}
    assert len(wanted) == pytest.approx(50, abs=20), "a quarter, in batches of one as in others"
    assert wanted < {row for batch in taken for row in batch.lease.record.rows}
    core = house.open()
    held = pool_of(core).snapshot
    assert {row for row in range(400) if held.wanted(np.array([row]))[0] == 3} == wanted
    for batch in taken:
        annotate(core, dict.fromkeys(batch.lease.sample_ids, "ant"), batch)
    everything = Plan(preset="random")
    others = next_batch(core, 400, "bob", plan=everything)
    assert set(others.lease.record.rows) == wanted | (set(range(400)) - {r for b in taken for r in b.lease.record.rows})
    third = next_batch(core, 400, "cy", plan=everything)
    assert set(third.lease.record.rows) == wanted
    refused(Reason.POOL_EXHAUSTED, lambda: next_batch(core, 1, "dan", plan=everything))


def test_answers_that_an_overlap_asked_for_are_none_too_many(house: House) -> None:
    core = house.open()
    make_pool(core, annotations_per_sample=2)
    fill(core, 3)
    batch = next_batch(core, 2, "ann", plan=Plan(preset="random", overlap_share=1.0, overlap_annotations=3))
    first, second = ids(batch)
    annotate(core, {first: "ant", second: "ant"}, batch)
    annotate(core, {first: "ant"}, worker="bob")
    core.updates.update(POOL, PoolUpdate(annotations_per_sample=1), NO_KEY)
    assert counts(core) == {"ANSWERED": 2, "UNLABELED": 1}, "three of them are wanted still"
    core.samples.delete(POOL, [first], False, NO_KEY)
    same_after_reopening(house, core)


@pytest.mark.parametrize(("share", "wanted"), [(-0.1, 2), (1.1, 2), (float("nan"), 2), (0.5, 1), (0.5, 1000), (0.0, 2)])
def test_an_overlap_that_makes_no_sense_is_refused(core: Assay, share: float, wanted: int) -> None:
    fill(core, 3)
    plan = Plan(preset="random", overlap_share=share, overlap_annotations=wanted)
    refused(Reason.INVALID_PLAN, lambda: next_batch(core, 1, plan=plan))


@pytest.mark.parametrize("seed", range(3))
def test_any_course_of_second_looks_is_sound_and_outlives_a_restart(house: House, seed: int) -> None:
    core = doubted(house, annotations_per_sample=1 + seed % 2, policy=Policy.MAJORITY if seed % 2 else Policy.LATEST)
    rng = np.random.default_rng(seed)
    live: list[BatchResult] = []
    for step in range(60):
        worker = ("ann", "bob", "cy")[rng.integers(3)]
        match rng.integers(6):
            case 0 | 1 | 2:
                plan = random(list(DrawFrom)[rng.integers(4)], overlap_share=0.3, overlap_annotations=2)
                try:
                    live.append(next_batch(core, int(rng.integers(1, 5)), worker, plan=plan, ttl=100.0))
                except AssayError as error:
                    assert error.reason is Reason.POOL_EXHAUSTED  # noqa: PT017 - what else it may be is the point
            case 3 if live:
                taken = live.pop(int(rng.integers(len(live))))
                lease = taken.lease.record
                some = list(taken.lease.sample_ids)[: int(rng.integers(1, 5))]
                if rng.random() < 0.3:
                    core.labeling.release(POOL, lease.lease_id, lease.fencing_token, some, "", False, NO_KEY)
                else:
                    annotate(core, {sample_id: CLASSES[rng.integers(3)] for sample_id in some}, taken)
            case 4:
                house.clock.advance(60.0)
                core.tick()
                live = [each for each in live if each.lease.record.lease_id in pool_of(core).snapshot.leases]
            case 5 if step % 3 == 0:
                done(core, core.audits.audit(POOL, AuditSpec((SuspectKind.DUPLICATES,)), lambda _: b"", NO_KEY))
        snapshot = pool_of(core).snapshot
        held = [(row, lease.worker) for lease in snapshot.leases.values() for row in lease.rows]
        assert len(set(held)) == len(held), "nobody holds a sample twice"
        for row, holder in held:
            assert not snapshot.workers.of(holder).answered.holds(np.array([row]))[0], "nor one that they answered"
        rows, counts = np.unique([row for row, _ in held] or [0], return_counts=True)
        if held:
            assert (snapshot.held.at(rows) == counts).all()
            labeled = snapshot.states.at(rows) == State.LABELED
            assert (counts[labeled] == 1).all(), "one second look at a time"
    before = columns_of(pool_of(core).snapshot), suspicious(core)
    core = house.open()
    assert (columns_of(pool_of(core).snapshot), suspicious(core)) == before


def suspicious(core: Assay) -> list[int]:
    found = pool_of(core).snapshot.suspects
    assert found is not None
    return found.rows.tolist()
