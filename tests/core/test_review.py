"""Verdicts of reviewers, and undoing: what somebody did last is taken back by an event, and samples are as before."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason, RequestReplayed
from assay.server.core.labeling.messages import Deed, ReviewAction
from assay.server.core.pools.messages import PoolUpdate
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.annotations import EventKind, Policy
from assay.server.core.records.tasks import TaskKind, TaskRecord
from assay.server.core.tasks.given import ClassNames
from tests.core.kit import (
    POOL,
    House,
    annotate,
    counts,
    events_of,
    fill,
    key,
    labels_of,
    make_pool,
    names,
    next_batch,
    pool_of,
    refused,
    review,
    set_state,
    skip,
    standing,
    undo,
    withdraw,
)
from tests.core.test_overlap import overlapping, same_after_reopening, state, taken_by

RETRACT, REJECT = ReviewAction.RETRACT, ReviewAction.REJECT


def label(core: Assay, sample_id: str) -> object:
    return core.samples.get(POOL, sample_id).label


def seen(core: Assay) -> list[tuple[str, object, int]]:
    """What counts of each sample of a pool of four."""
    answered = pool_of(core).snapshot.answered.array.tolist()
    return [(state(core, name), label(core, name), answered[row]) for row, name in enumerate(names(0, 4))]


def known(core: Assay) -> list[tuple[str, set[int], set[int]]]:
    """What each worker answered and declined."""
    workers = pool_of(core).snapshot.workers.by_name
    found = {
        name: (set(rows.answered.array.tolist()), set(rows.declined.array.tolist())) for name, rows in workers.items()
    }
    return sorted((name, *sets) for name, sets in found.items() if any(sets))


# --- verdicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", Policy)
def test_a_verdict_settles_whatever_the_policy(house: House, policy: Policy) -> None:
    core = overlapping(house, 2, policy)
    annotate(core, {"s0": "ant", "s1": "ant", "s2": "ant"}, worker="ann")
    annotate(core, {"s0": "bee", "s1": "bee"}, worker="bob")
    result = review(core, {"s0": "cow", "s1": 1, "s3": "bee"}, comments=["neither", "", ""])
    assert (result.decided, result.unchanged, result.labeled) == (3, 0, 3)
    assert [label(core, name) for name in names(0, 4)] == ["cow", "ant", None, "bee"]
    assert {each.decided_by for each in labels_of(core)} == {"verdict"}
    core = same_after_reopening(house, core)
    annotate(core, {"s0": "ant"}, worker="cy")
    assert label(core, "s0") == "cow", "who annotates later does not change it"
    again = review(core, {"s0": "cow", "s1": "bee"})
    assert (again.decided, again.unchanged) == (1, 1)
    assert label(core, "s1") == "bee"
    review(core, {"s0": "ant"}, "otto")
    assert label(core, "s0") == "ant", "the newest of several reviewers"
    review(core, {"s0": RETRACT}, "otto")
    assert label(core, "s0") == "cow"
    review(core, {"s0": RETRACT, "s3": RETRACT})
    assert (state(core, "s3"), label(core, "s3")) == ("UNLABELED", None)
    assert label(core, "s0") != "cow"
    same_after_reopening(house, core)


def test_a_rejected_sample_is_open_again(house: House) -> None:
    core = overlapping(house, 2)
    for worker in ("ann", "bob"):
        annotate(core, dict.fromkeys(names(0, 3), "ant"), worker=worker)
    review(core, {"s1": "bee"})
    result = review(core, {"s0": REJECT, "s1": REJECT, "s2": 2, "s3": REJECT})
    assert (result.decided, result.unchanged, result.labeled) == (3, 1, 1)
    assert seen(core) == [("UNLABELED", None, 0), ("UNLABELED", None, 0), ("LABELED", "ant", 2), ("UNLABELED", None, 0)]
    assert set(taken_by(core, "ann").lease.sample_ids) == {"s0", "s1", "s3"}
    same_after_reopening(house, core)


def test_what_cannot_be_decided_changes_nothing(house: House) -> None:
    core = overlapping(house, 2)
    annotate(core, {"s0": "ant", "s1": "ant"}, worker="ann")  # 0, 1
    annotate(core, {"s0": "bee"}, worker="ann", correct=True)  # 2
    set_state(core, "exclude", ["s3"])
    before = standing(core)
    for reason, decisions in (
        (Reason.ANNOTATION_NOT_FOUND, {"s1": "bee", "s0": 0}),  # corrected since
        (Reason.ANNOTATION_NOT_FOUND, {"s0": 1}),  # of another sample
        (Reason.ANNOTATION_NOT_FOUND, {"s0": 99}),
        (Reason.ANNOTATION_NOT_FOUND, {"s2": 0}),
        (Reason.ANNOTATION_NOT_FOUND, {"s1": "bee", "s0": RETRACT}),
        (Reason.UNKNOWN_CLASS, {"s1": 1, "s0": "dog"}),
        (Reason.WRONG_TASK, {"s0": ClassNames(["ant"])}),
        (Reason.SAMPLE_NOT_FOUND, {"s0": "ant", "nope": "ant"}),
        (Reason.SAMPLE_EXCLUDED, {"s0": "ant", "s3": "ant"}),
        (Reason.INVALID_ARGUMENT, {}),
    ):
        error = refused(reason, lambda decisions=decisions: review(core, decisions))
        if reason is Reason.UNKNOWN_CLASS:
            assert (error.metadata["row"], error.metadata["id"]) == ("1", "s0")
    refused(Reason.INVALID_ID, lambda: review(core, {"s0": "ant"}, ""))
    assert standing(core) == before


def test_verdicts_of_other_tasks(house: House) -> None:
    core = house.open()
    task = TaskRecord.of_classes(TaskKind.MULTILABEL, ["a", "b"])
    make_pool(core, task=task, annotations_per_sample=2, policy=Policy.UNANIMOUS)
    fill(core, 3)
    annotate(core, {"s0": ClassNames(["a"]), "s1": ClassNames(["a"])}, worker="ann")
    annotate(core, {"s0": ClassNames([]), "s1": ClassNames(["b"])}, worker="bob")
    review(core, {"s0": 0, "s1": ClassNames([])})
    assert [label(core, name) for name in names(0, 2)] == [ClassNames(["a"]), ClassNames([])]
    undo(core, "rita")
    assert [label(core, name) for name in names(0, 2)] == [None, None]
    undo(core, "bob")
    assert pool_of(core).snapshot.answered.array.tolist() == [1, 1, 0]


# --- undo ------------------------------------------------------------------------------------------------------------

ACTIONS = st.sampled_from(["annotate", "correct", "withdraw", "skip", "verdict", "retract", "reject", "reopen"])
STEPS = st.lists(
    st.tuples(
        ACTIONS,
        st.sampled_from(["ann", "bob", "rita"]),
        st.lists(st.sampled_from(names(0, 4)), min_size=1, max_size=3, unique=True),
        st.sampled_from(["ant", "bee"]),
    ),
    max_size=8,
)


def act(core: Assay, action: str, worker: str, ids: list[str], value: str) -> None:
    """Does something, where it can be done."""
    try:
        match action:
            case "annotate" | "correct":
                annotate(core, dict.fromkeys(ids, value), worker=worker, correct=action == "correct")
            case "withdraw":
                withdraw(core, ids, worker)
            case "skip":
                skip(core, ids, worker=worker)
            case "reopen":
                set_state(core, "reopen", ids, worker)
            case "verdict":
                review(core, dict.fromkeys(ids, value), worker)
            case _:
                review(core, dict.fromkeys(ids, RETRACT if action == "retract" else REJECT), worker)
    except AssayError as error:
        if error.reason not in (Reason.ANNOTATION_EXISTS, Reason.ANNOTATION_NOT_FOUND):
            raise


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Assay]:
    house = House(tmp_path_factory.mktemp("undo"))
    yield house.open()
    house.close()


LAST = st.tuples(ACTIONS, st.sampled_from(["ann", "bob", "rita"]), st.just(names(0, 3)), st.just("cow"))


@given(STEPS, LAST, st.sampled_from([Policy.LATEST, Policy.MAJORITY]))
@settings(deadline=None, max_examples=25)
def test_after_an_undo_all_is_as_before(shared, steps, last, policy) -> None:  # type: ignore[no-untyped-def]
    core = shared
    if any(view.record.pool_id == POOL for view in core.pools.list("", 10)):
        core.pools.delete(POOL, NO_KEY)
    make_pool(core, annotations_per_sample=2, policy=policy)
    fill(core, 4)
    for step in steps:
        act(core, *step)
    before, next_event = (seen(core), known(core)), pool_of(core).snapshot.pool.next_event
    act(core, *last)
    if pool_of(core).snapshot.pool.next_event == next_event:
        return
    done = undo(core, last[1])
    assert done.undone == len(events_of(core, next_event - 1)) / 2
    assert (seen(core), known(core)) == before
    refused(Reason.ALREADY_UNDONE, lambda: undo(core, last[1]))
    refused(Reason.ALREADY_UNDONE, lambda: undo(core, last[1], next_event))


def test_what_comes_back_is_as_old_as_it_was(house: House) -> None:
    core = overlapping(house, 2, Policy.LATEST)
    annotate(core, dict.fromkeys(names(0, 4), "ant"), worker="ann")
    annotate(core, dict.fromkeys(names(0, 4), "bee"), worker="bob")
    review(core, {"s2": "ant", "s3": "ant"}, "rita")
    review(core, {"s2": "bee", "s3": "bee"}, "otto")
    before = seen(core)
    assert [value for _, value, _ in before] == ["bee"] * 4, "the newest counts"
    for act_again in (
        lambda: annotate(core, {"s0": "cow"}, worker="ann", correct=True),
        lambda: withdraw(core, ["s1"], "ann"),
        lambda: set_state(core, "reopen", ["s1"], "ann"),
    ):
        # Twice, for what was brought back once can be taken back again.
        for _ in range(2):
            act_again()
            undo(core, "ann")
            assert seen(core) == before
    for decision in ("cow", RETRACT):
        review(core, dict.fromkeys(["s2", "s3"], decision), "rita")
        undo(core, "rita")
        assert seen(core) == before
    core.updates.update(POOL, PoolUpdate(annotations_per_sample=3), NO_KEY)
    core.updates.update(POOL, PoolUpdate(annotations_per_sample=2), NO_KEY)
    assert seen(core) == before, "derived anew as well"
    same_after_reopening(house, core)


def test_several_actions_are_undone_one_by_one_by_naming_them(house: House, core: Assay) -> None:
    fill(core, 4)
    batch = next_batch(core, 3, "ann")
    ids = batch.lease.sample_ids
    first = annotate(core, {ids[0]: "ant"}, batch).last_event
    second = annotate(core, {ids[1]: "ant"}, batch).last_event
    third = skip(core, [ids[2]], batch).last_event
    done = undo(core, "ann")
    assert (done.undone, done.kinds, done.sample_ids) == (1, (EventKind.SKIP,), (ids[2],))
    refused(Reason.ALREADY_UNDONE, lambda: undo(core, "ann"))
    refused(Reason.ALREADY_UNDONE, lambda: undo(core, "ann", third))
    undo(core, "ann", second)
    undo(core, "ann", first)
    assert counts(core) == {"UNLABELED": 4}
    refused(Reason.NOTHING_TO_UNDO, lambda: undo(core, "bob"))
    refused(Reason.NOTHING_TO_UNDO, lambda: undo(core, "bob", first))
    refused(Reason.NOTHING_TO_UNDO, lambda: undo(core, "ann", 99))
    core = same_after_reopening(house, core)
    assert len(taken_by(core, "ann").lease.sample_ids) == 4
    assert len(events_of(core)) == 6, "nothing is deleted"


def test_what_others_built_on_is_not_undone(house: House) -> None:
    core = overlapping(house, 2)
    annotate(core, {"s0": "ant", "s1": "ant"}, worker="ann")
    annotate(core, {"s0": "ant"}, worker="bob")
    undo(core, "ann")
    assert seen(core)[0] == ("ANSWERED", None, 1), "what bob said is bob's"
    annotate(core, {"s0": "ant", "s1": "ant"}, worker="ann")
    review(core, {"s1": "bee"})
    error = refused(Reason.ACTION_OVERTAKEN, lambda: undo(core, "ann"))
    assert (error.metadata["id"], error.metadata["worker"]) == ("s1", "rita")
    undo(core, "rita")
    annotate(core, {"s0": "bee"}, worker="ann", correct=True)
    annotate(core, {"s0": "bee"}, worker="bob", correct=True)
    refused(Reason.ACTION_OVERTAKEN, lambda: undo(core, "ann"))
    withdraw(core, ["s1"], "ann")
    core.samples.delete(POOL, ["s1"], False, NO_KEY)
    refused(Reason.ACTION_OVERTAKEN, lambda: undo(core, "ann"))


def test_an_undo_needs_what_the_action_needed(core: Assay) -> None:
    fill(core, 3)
    annotate(core, {"s0": "ant", "s1": "ant"}, worker="ann")
    asked: list[set[Deed]] = []
    undo(core, "ann", permit=asked.append)
    annotate(core, {"s0": "ant", "s1": "ant"}, worker="ann")
    withdraw(core, ["s0"], "root", annotator="ann")
    undo(core, "root", permit=asked.append)
    review(core, {"s2": "bee"})
    undo(core, "rita", permit=asked.append)
    assert asked == [set(), {Deed.OTHERS}, {Deed.VERDICT}]

    def deny(deeds: set[Deed]) -> None:
        raise AssayError(Reason.CONFLICT, "no")

    review(core, {"s2": "bee"})
    before = standing(core)
    refused(Reason.CONFLICT, lambda: undo(core, "rita", permit=deny))
    assert standing(core) == before


def test_an_undo_is_remembered_by_request(core: Assay) -> None:
    fill(core, 2)
    annotate(core, {"s0": "ant"}, worker="ann")
    annotate(core, {"s1": "ant"}, worker="ann")
    undo(core, "ann", request=key("once"))
    with pytest.raises(RequestReplayed):
        undo(core, "ann", request=key("once"))
    assert [each.sample_id for each in labels_of(core)] == ["s0"]
