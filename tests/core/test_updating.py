"""A pool's classes, policy and overlap are changed, and its labels follow from what was said."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason, RequestReplayed
from assay.server.core.labeling import resolving
from assay.server.core.labeling.history import reader
from assay.server.core.labeling.standing import told
from assay.server.core.mining.plan.terms import Plan, Quotas, QuotaTerm
from assay.server.core.models.merged import fold, reached
from assay.server.core.models.messages import PredictSpec
from assay.server.core.pools.messages import PoolUpdate, PoolView
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.annotations import EventKind, Policy
from assay.server.core.records.tasks import TaskKind
from assay.server.core.stop import Stop
from assay.server.core.tasks.editing import ClassEdit
from assay.strategies import Interrupted, Need
from tests.core.kit import (
    CLASSES,
    POOL,
    House,
    annotate,
    counts,
    fill,
    key,
    labels_of,
    make_pool,
    names,
    next_batch,
    pool_of,
    refused,
    train,
    withdraw,
)
from tests.core.test_annotation_log import columns_of


def update(core: Assay, request_id: str = "", **changes: Any) -> PoolView:
    request = key(request_id, repr(changes)) if request_id else NO_KEY
    return core.updates.update(POOL, PoolUpdate(**changes), request)


def edited(core: Assay, changes: dict[int, dict[str, Any]], *added: str) -> tuple[ClassEdit, ...]:
    """All classes as they are, with fields of some changed, and new ones."""
    task = pool_of(core).snapshot.pool.task
    edits = [ClassEdit(each.id, each.name, each.retired, each.merged_into) for each in task.classes]
    return (
        *(replace(each, **changes.get(each.class_id or 0, {})) for each in edits),
        *(ClassEdit(None, n) for n in added),
    )


def edit(core: Assay, changes: dict[int, dict[str, Any]], *added: str) -> PoolView:
    return update(core, kind=TaskKind.CLASSIFICATION, classes=edited(core, changes, *added))


def said(core: Assay, sample_id: str) -> list[tuple[int, int]]:
    """(kind, class) of all that was said of a sample, from its last event back to the first."""
    pool = pool_of(core)
    rows = pool.snapshot.require([sample_id])
    found = told(reader(core._ports.catalog, pool), pool.snapshot.last_events.at(rows).astype(np.int64), classes=True)
    return list(zip(found.kinds_A.tolist(), np.asarray(found.values).tolist(), strict=True))


def labels(core: Assay) -> list[str]:
    return [core.samples.get(POOL, name).label or "" for name in names(0, pool_of(core).snapshot.row_count)]


def same_after_reopening(house: House, core: Assay) -> Assay:
    before, record = columns_of(pool_of(core).snapshot), pool_of(core).snapshot.pool
    core = house.open()
    assert columns_of(pool_of(core).snapshot) == before
    assert pool_of(core).snapshot.pool == record
    return core


@pytest.fixture
def zoo(house: House) -> Assay:
    core = house.open()
    make_pool(core)
    fill(core, 6)
    annotate(core, {"s0": "ant", "s1": "bee", "s2": "cow", "s3": "ant"})
    return core


def several(house: House, policy: Policy = Policy.MAJORITY, wanted: int = 2) -> Assay:
    core = house.open()
    make_pool(core, annotations_per_sample=wanted, policy=policy)
    fill(core, 4)
    return core


def test_labels_follow_a_merge_and_come_back_and_what_was_said_stays(house: House, zoo: Assay) -> None:
    view = edit(zoo, {0: {"merged_into": 1}})
    assert [each.retired for each in view.record.task.classes] == [True, False, False]
    assert labels(zoo) == ["bee", "bee", "cow", "bee", "", ""]
    assert said(zoo, "s0") == [(EventKind.ANNOTATE, 0), (EventKind.RESOLVE, -1)]
    assert said(zoo, "s1") == [(EventKind.ANNOTATE, 1)]
    core = same_after_reopening(house, zoo)
    refused(Reason.CLASS_RETIRED, lambda: annotate(core, {"s4": "ant"}))
    (label,) = labels_of(core, limit=1, class_name="bee")
    assert label.worker != "", "the label is still somebody's"
    edit(core, {0: {"retired": False, "merged_into": None}})
    assert labels(core) == ["ant", "bee", "cow", "ant", "", ""]
    same_after_reopening(house, core)


def test_names_order_and_retirement_leave_labels_alone(house: House, zoo: Assay) -> None:
    events = pool_of(zoo).snapshot.pool.next_event
    edit(zoo, {0: {"name": "emu"}, 1: {"retired": True}}, "dog")
    assert labels(zoo) == ["emu", "bee", "cow", "emu", "", ""]
    assert pool_of(zoo).snapshot.pool.next_event == events
    annotate(zoo, {"s4": "dog"})
    refused(Reason.CLASS_RETIRED, lambda: annotate(zoo, {"s5": "bee"}))
    same_after_reopening(house, zoo)


def test_an_edit_that_makes_no_sense_changes_nothing(zoo: Assay) -> None:
    before = pool_of(zoo).snapshot
    refused(Reason.INVALID_TASK, lambda: edit(zoo, {1: {"merged_into": 1}}))
    refused(Reason.UNKNOWN_CLASS, lambda: edit(zoo, {1: {"merged_into": 9}}))
    refused(Reason.INVALID_TASK, lambda: update(zoo, kind=TaskKind.CLASSIFICATION, classes=edited(zoo, {})[1:]))
    refused(Reason.WRONG_TASK, lambda: update(zoo, kind=TaskKind.BOXES, classes=edited(zoo, {})))
    refused(Reason.POLICY_INFEASIBLE, lambda: update(zoo, policy=Policy.MAJORITY))
    for wanted in (0, 101):
        refused(Reason.INVALID_ARGUMENT, lambda wanted=wanted: update(zoo, annotations_per_sample=wanted))
    refused(Reason.TOO_LARGE, lambda: update(zoo, metadata={str(number): "" for number in range(65)}))
    refused(Reason.INVALID_NAME, lambda: update(zoo, metadata={"": "x"}))
    assert pool_of(zoo).snapshot is before


def test_an_update_is_made_once(zoo: Assay) -> None:
    first = update(zoo, "once", metadata={"team": "birds"})
    epoch = pool_of(zoo).snapshot.pool.epoch
    assert first.record.metadata == {"team": "birds"}
    with pytest.raises(RequestReplayed):
        update(zoo, "once", metadata={"team": "birds"})
    assert pool_of(zoo).snapshot.pool.epoch == epoch == first.record.epoch


def test_more_answers_wanted_open_what_was_labeled_and_fewer_settle_it(house: House, zoo: Assay) -> None:
    update(zoo, annotations_per_sample=2)
    assert counts(zoo) == {"ANSWERED": 4, "UNLABELED": 2}
    core = same_after_reopening(house, zoo)
    batch = next_batch(core, 6, "other")
    assert len(batch.picks) == 6
    annotate(core, {"s0": "ant", "s1": "cow"}, batch)
    refused(Reason.ANNOTATIONS_EXIST, lambda: update(core, annotations_per_sample=1))
    annotate(core, {"s0": "ant"}, worker="a third")
    update(core, annotations_per_sample=2, metadata={"as": "it was"})
    withdraw(core, ["s0"], "a third")
    update(core, policy=Policy.MAJORITY)
    assert (labels(core)[:2], counts(core)["DISPUTED"]) == (["ant", ""], 1)
    core = same_after_reopening(house, core)
    update(core, policy=Policy.LATEST)
    assert labels(core)[:2] == ["ant", "cow"]
    same_after_reopening(house, core)


def test_a_merge_settles_a_dispute(house: House) -> None:
    core = several(house)
    for worker, class_name in (("ann", "ant"), ("bob", "bee")):
        annotate(core, {"s0": class_name}, next_batch(core, 4, worker))
    assert counts(core)["DISPUTED"] == 1
    edit(core, {0: {"merged_into": 1}})
    assert labels(core)[0] == "bee"
    edit(core, {0: {"merged_into": None, "retired": False}})
    assert labels(core)[0] == ""
    same_after_reopening(house, core)


def test_what_is_said_while_labels_are_derived_counts(
    house: House, zoo: Assay, monkeypatch: pytest.MonkeyPatch
) -> None:
    derive = resolving.rederive

    def slow(*arguments: Any) -> Any:
        found = derive(*arguments)
        monkeypatch.setattr(resolving, "rederive", derive)
        annotate(zoo, {"s1": "ant"}, correct=True)
        annotate(zoo, {"s4": "ant"})
        return found

    monkeypatch.setattr(resolving, "rederive", slow)
    edit(zoo, {0: {"merged_into": 2}})
    assert labels(zoo) == ["cow", "cow", "cow", "cow", "cow", ""]
    same_after_reopening(house, zoo)


def test_a_caller_that_left_changes_nothing(zoo: Assay) -> None:
    before, stop = pool_of(zoo).snapshot, Stop()
    stop.request(Reason.CANCELLED)
    with stop.scope(), pytest.raises(Interrupted):
        edit(zoo, {0: {"merged_into": 1}})
    assert pool_of(zoo).snapshot is before


def test_a_head_serves_on_after_a_class_was_added_and_says_what_it_has_not_seen(house: House) -> None:
    core = house.open()
    make_pool(core)
    fill(core, 40)
    annotate(core, {name: CLASSES[number % 3] for number, name in enumerate(names(0, 30))})
    train(core)
    assert core.pools.get(POOL).unseen == ()
    view = edit(core, {}, "dog")
    assert view.unseen == (3,)
    picks = next_batch(core, 2, predictions=4).picks
    assert all(dict(pick.predictions)["dog"] < 1e-6 for pick in picks)
    core = house.open()
    assert core.pools.get(POOL).unseen == (3,)


def test_what_an_older_head_says_of_a_merged_class_goes_to_the_one_that_took_its_place(house: House) -> None:
    core = house.open()
    make_pool(core)
    embeddings = fill(core, 40)
    annotate(core, {name: CLASSES[number % 3] for number, name in enumerate(names(0, 30))})
    train(core, members=3)
    stored, fresh = PredictSpec(ids=tuple(names(0, 40))), PredictSpec(embeddings_ND=embeddings)
    before_NC = core.models.predict(POOL, stored).probs_NC
    assert before_NC is not None
    next_batch(core, 2, plan=Plan(preset="bald"))  # keeps predictions as they were before
    edit(core, {0: {"merged_into": 1, "retired": True}})
    expected_NC = np.stack([np.zeros(40), before_NC[:, 0] + before_NC[:, 1], before_NC[:, 2]], axis=1)
    for spec in (stored, fresh):
        after_NC = core.models.predict(POOL, spec).probs_NC
        assert after_NC is not None
        np.testing.assert_allclose(after_NC, expected_NC, atol=1e-6)
    # No model says the class any more, so no quota is for it.
    quotas = Quotas((QuotaTerm("ant", 1),))
    error = refused(Reason.CLASS_RETIRED, lambda: next_batch(core, 3, plan=Plan(preset="margin", quotas=quotas)))
    assert "bee" in error.message
    result = next_batch(core, 3, plan=Plan(preset="margin"), predictions=3)
    for pick in result.picks:
        assert dict(pick.predictions)["ant"] < 1e-6
        assert pick.score == pytest.approx(1 - abs(pick.predictions[0][1] - pick.predictions[1][1]), abs=1e-5)
    picked = next_batch(core, 3, plan=Plan(preset="bald"), worker="bob")
    assert all(pick.score <= np.log(2) + 1e-6 for pick in picked.picks)
    same_after_reopening(house, core)


def test_columns_of_merged_classes_are_folded_as_what_they_are() -> None:
    merges_C = np.array([2, 1, 2], np.int32)
    probs_NC = np.array([[0.2, 0.3, 0.5]], np.float32)
    logits_NC, sets_KNC = np.log(probs_NC), np.stack([probs_NC, probs_NC[:, ::-1]])
    fold(merges_C, Need.LOGITS, logits_NC)
    np.testing.assert_allclose(np.exp(logits_NC), [[0, 0.3, 0.7]], atol=1e-6)
    folded_NC = probs_NC.copy()
    fold(merges_C, Need.PROBS, folded_NC)
    np.testing.assert_allclose(folded_NC, [[0, 0.3, 0.7]], atol=1e-6)
    fold(merges_C, Need.LABEL_PROBS, sets_KNC)
    np.testing.assert_allclose(sets_KNC, [[[0, 0.3, 0.5]], [[0, 0.3, 0.5]]], atol=1e-6)
    np.testing.assert_allclose(reached(merges_C, np.array([0.2, 0.6, 0.4], np.float32)), [0.2, 0.6, 0.2])
    numbers_NT = probs_NC.copy()
    fold(merges_C, None, numbers_NT)
    np.testing.assert_array_equal(numbers_NT, probs_NC)


events = st.lists(
    st.tuples(st.sampled_from(["ann", "bob", "cy"]), st.integers(0, 3), st.sampled_from(CLASSES)), max_size=12
)


@given(events, st.sampled_from(sorted(Policy)), st.booleans())
@settings(deadline=None, max_examples=10)
def test_one_pass_over_the_log_says_what_a_walk_says(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, int, str]], policy: Policy, merged: bool
) -> None:
    house = House(tmp_path_factory.mktemp("house"))
    core = several(house, Policy.LATEST)
    for worker, sample, class_name in said:
        annotate(core, {f"s{sample}": class_name}, worker=worker, correct=True)
    if merged:
        edit(core, {0: {"merged_into": 1}})
    pool, snapshot = pool_of(core), pool_of(core).snapshot
    record = replace(snapshot.pool, policy=policy)
    rows = resolving.affected(snapshot, record)
    arguments = (house.catalog, reader(house.catalog, pool), snapshot, snapshot.task, record, rows)
    with pytest.MonkeyPatch.context() as patch:
        walked = resolving.rederive(*arguments)
        patch.setattr(resolving, "FEW_ROWS", 0)
        patch.setattr(resolving, "DECIDED_AT_ONCE", 2)
        passed = resolving.rederive(*arguments)
    assert np.asarray(passed.derived.labels).tolist() == np.asarray(walked.derived.labels).tolist()
    assert np.array_equal(passed.derived.confidences_N, walked.derived.confidences_N, equal_nan=True)
    house.close()
