"""What people do beside annotating: skip, withdraw, set aside and reopen; each is an event, and nothing is deleted."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason, RequestReplayed
from assay.server.core.labeling import events
from assay.server.core.labeling.messages import Details, EventQuery, EventView
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.annotations import EventBlock, EventKind
from assay.server.core.records.pools import State
from assay.server.core.records.samples import OnConflict
from assay.server.core.records.tasks import TaskKind, TaskRecord
from assay.server.core.tasks.given import ClassNames, Given, JsonText
from tests.core.kit import (
    POOL,
    House,
    add,
    annotate,
    counts,
    events_of,
    fill,
    key,
    labels_of,
    make_pool,
    names,
    pool_of,
    refused,
    set_state,
    skip,
    standing,
    withdraw,
)
from tests.core.test_overlap import overlapping, same_after_reopening, state, taken_by


def log_of(house: House, core: Assay) -> list[EventBlock]:
    with house.catalog.reading() as tx:
        return tx.event_blocks(pool_of(core).snapshot.pool.uid)


# --- skips -----------------------------------------------------------------------------------------------------------


def test_who_skips_is_not_asked_again_and_others_are(house: House, core: Assay) -> None:
    fill(core, 3)
    batch = taken_by(core, "ann")
    result = skip(core, ["s2", "s0"], batch, reason="too dark")
    assert (result.skipped, result.unchanged, result.lease_remaining) == (2, 0, 1)
    assert counts(core) == {"UNLABELED": 2, "LEASED": 1}
    refused(Reason.POOL_EXHAUSTED, lambda: taken_by(core, "ann"))
    assert set(taken_by(core, "bob").lease.sample_ids) == {"s0", "s2"}
    (block,) = log_of(house, core)
    assert (block.worker, block.rows_N.tolist(), block.comments.texts(block.rows_N[:1])) == (  # type: ignore[union-attr]
        "ann",
        [0, 2],
        ["too dark"],
    )
    same_after_reopening(house, core)


def test_a_skip_without_a_lease_is_of_what_the_worker_does_not_hold(house: House, core: Assay) -> None:
    fill(core, 3)
    batch = taken_by(core, "ann", 1)
    (held,) = batch.lease.sample_ids
    free = [name for name in names(0, 3) if name != held]
    before = standing(core)
    refused(Reason.SAMPLE_LEASED, lambda: skip(core, [held, free[0]], worker="ann"))
    assert standing(core) == before
    assert skip(core, [held, free[0]], worker="bob").skipped == 2, "what others hold is skipped for later"
    assert skip(core, [*free, held], worker="bob").unchanged == 2
    annotate(core, {free[0]: "ant"}, worker="cy")
    refused(Reason.ANNOTATION_EXISTS, lambda: skip(core, [free[0]], worker="cy"))
    core = same_after_reopening(house, core)
    assert set(taken_by(core, "dee").lease.sample_ids) == {free[1]}


def test_a_skip_under_a_lease_is_of_that_lease(core: Assay) -> None:
    fill(core, 4)
    batch, other = taken_by(core, "ann", 2), taken_by(core, "bob", 2)
    mine, theirs = batch.lease.sample_ids, other.lease.sample_ids
    before = standing(core)
    refused(Reason.LEASE_FOREIGN, lambda: skip(core, [mine[0], theirs[0]], batch))
    refused(Reason.LEASE_FOREIGN, lambda: skip(core, [mine[0]], batch, worker="bob"))
    refused(Reason.LEASE_FOREIGN, lambda: skip(core, [mine[0]], batch, fencing_token=99))
    refused(Reason.LEASE_NOT_FOUND, lambda: skip(core, [mine[0]], batch, lease="l-none"))
    refused(Reason.SAMPLE_NOT_FOUND, lambda: skip(core, [mine[0], "nope"], batch))
    refused(Reason.TOO_LARGE, lambda: skip(core, [mine[0]], batch, reason="x" * 2000))
    refused(Reason.INVALID_ARGUMENT, lambda: skip(core, [], batch))
    assert standing(core) == before
    skip(core, mine, batch)
    assert skip(core, mine, batch).unchanged == 2, "said again under a lease that is done"


def test_who_only_leaves_may_be_offered_the_samples_again(core: Assay) -> None:
    fill(core, 3)
    batch = taken_by(core, "ann")
    lease = batch.lease.record
    skip(core, ["s1"], batch)
    core.labeling.release(POOL, lease.lease_id, lease.fencing_token, [], "", False, NO_KEY, offer_again=True)
    assert counts(core) == {"UNLABELED": 3}
    assert set(taken_by(core, "ann").lease.sample_ids) == {"s0", "s2"}


def test_what_was_said_is_corrected_while_another_holds_the_sample(house: House) -> None:
    core = overlapping(house, 2)
    annotate(core, {"s0": "ant"}, worker="ann")
    taken_by(core, "bob")
    assert state(core, "s0") == "LEASED"
    refused(Reason.SAMPLE_LEASED, lambda: annotate(core, {"s0": "ant"}, worker="cy"))
    assert annotate(core, {"s0": "bee"}, worker="ann", correct=True).stored == 1
    assert withdraw(core, ["s0"], "ann").withdrawn == 1
    same_after_reopening(house, core)


# --- withdrawals -----------------------------------------------------------------------------------------------------


def test_a_withdrawn_annotation_counts_no_more_and_stays_in_the_log(house: House) -> None:
    core = overlapping(house, 2)
    annotate(core, {"s0": "ant", "s1": "ant"}, worker="ann")
    annotate(core, {"s0": "ant", "s1": "bee"}, worker="bob")
    assert [state(core, name) for name in names(0, 2)] == ["LABELED", "DISPUTED"]
    result = withdraw(core, ["s1", "s0"], "bob", reason="tired")
    assert (result.withdrawn, result.labeled) == (2, 0)
    assert [state(core, name) for name in names(0, 2)] == ["ANSWERED", "ANSWERED"]
    core = same_after_reopening(house, core)
    assert "s0" in taken_by(core, "bob").lease.sample_ids, "who withdrew may be asked again"
    blocks = log_of(house, core)
    assert [block.kinds_N.tolist() for block in blocks] == [[0, 0], [0, 0], [2, 2]]
    assert blocks[2].supersedes_N is not None
    assert blocks[2].supersedes_N.tolist() == [2, 3]


def test_an_annotation_of_somebody_else_is_withdrawn_in_their_name(house: House, core: Assay) -> None:
    fill(core, 2, labels=["ant", "bee"])
    assert len(labels_of(core)) == 2
    withdraw(core, ["s1"], "root", annotator="import")
    assert [label.sample_id for label in labels_of(core)] == ["s0"]
    block = log_of(house, core)[-1]
    assert (block.worker, block.by, block.actor) == ("import", "root", "root")
    same_after_reopening(house, core)


def test_what_does_not_stand_is_not_withdrawn(core: Assay) -> None:
    fill(core, 3)
    annotate(core, {"s0": "ant"}, worker="ann")
    annotate(core, {"s1": "ant"}, worker="bob")
    before = standing(core)
    error = refused(Reason.ANNOTATION_NOT_FOUND, lambda: withdraw(core, ["s0", "s1"], "ann"))
    assert (error.metadata["id"], error.metadata["worker"]) == ("s1", "ann")
    refused(Reason.ANNOTATION_NOT_FOUND, lambda: withdraw(core, ["s2"], "ann"))
    refused(Reason.SAMPLE_NOT_FOUND, lambda: withdraw(core, ["s0", "nope"], "ann"))
    refused(Reason.INVALID_ID, lambda: withdraw(core, ["s0"], "a\n"))
    refused(Reason.INVALID_ID, lambda: withdraw(core, ["s0"], "ann", annotator="a\n"))
    assert standing(core) == before
    withdraw(core, ["s0"], "ann", request=key("once"))
    with pytest.raises(RequestReplayed):
        withdraw(core, ["s0"], "ann", request=key("once"))
    refused(Reason.ANNOTATION_NOT_FOUND, lambda: withdraw(core, ["s0"], "ann"))


# --- states ----------------------------------------------------------------------------------------------------------


def test_a_reopened_sample_is_open_to_all(house: House) -> None:
    core = overlapping(house, 2)
    add(core, ["given"], labels=["cow"])
    annotate(core, {"s0": "ant", "s1": "ant", "given": "cow"}, worker="ann")
    annotate(core, {"s0": "ant", "s1": "bee"}, worker="bob")
    annotate(core, {"s1": "cow"}, worker="ann", correct=True)
    result = set_state(core, "reopen", ["s1", "given", "s0", "s3"], "eve", reason="wrong guide")
    assert (result.changed, result.unchanged) == (3, 1)
    assert counts(core) == {"UNLABELED": 5}
    blocks = log_of(house, core)[-3:]
    assert {(block.worker, block.actor) for block in blocks} == {("ann", "eve"), ("bob", "eve"), ("import", "eve")}
    assert {block.action_number for block in blocks} == {blocks[0].first_number}, "they are one action"
    core = same_after_reopening(house, core)
    assert len(taken_by(core, "ann").lease.sample_ids) == 5


def test_reopening_is_of_what_is_served(core: Assay) -> None:
    fill(core, 3)
    annotate(core, {"s0": "ant", "s1": "bee"})
    set_state(core, "exclude", ["s1"])
    before = standing(core)
    refused(Reason.SAMPLE_EXCLUDED, lambda: set_state(core, "reopen", ["s0", "s1"]))
    refused(Reason.SAMPLE_NOT_FOUND, lambda: set_state(core, "reopen", ["s0", "nope"]))
    assert standing(core) == before
    set_state(core, "include", ["s1"])
    assert set_state(core, "reopen", ["s0", "s1", "s2"]).changed == 2
    assert (counts(core), labels_of(core)) == ({"UNLABELED": 3}, [])


def test_what_was_only_skipped_has_no_label_to_show(house: House) -> None:
    core = overlapping(house, 2)
    skip(core, ["s0"], worker="ann")
    annotate(core, {"s1": "ant"}, worker="ann")
    withdraw(core, ["s1"], "ann")
    (shown,) = labels_of(core, states=(State.UNLABELED,))
    assert (shown.sample_id, shown.value, shown.annotations) == ("s1", None, 0)


# --- lists -----------------------------------------------------------------------------------------------------------


def numbers_of(events: Sequence[EventView]) -> list[int]:
    return [event.number for event in events]


def test_the_log_is_listed_by_what_is_asked(house: House) -> None:
    core = overlapping(house, 2)
    add(core, ["given"], labels=["cow"])  # 0
    annotate(core, {"s0": "ant", "s1": "ant"}, worker="ann")  # 1, 2
    house.clock.advance(10.0)
    start = house.clock.now()
    details = Details(external_ids=["x1"], comments=["dim"], confidences_N=np.array([0.5], np.float32))
    annotate(core, {"s1": "bee"}, worker="bob", details=details)  # 3
    skip(core, ["s0"], worker="bob", reason="dark")  # 4
    house.clock.advance(10.0)
    end = house.clock.now()
    annotate(core, {"s1": "cow"}, worker="ann", correct=True)  # 5
    withdraw(core, ["s1"], "root", annotator="bob", reason="a bot")  # 6
    core = house.open()
    assert numbers_of(events_of(core)) == list(range(7))
    assert numbers_of(events_of(core, 2, 2)) == [3, 4]
    assert numbers_of(events_of(core, worker="bob")) == [3, 4, 6]
    assert numbers_of(events_of(core, 3, worker="bob")) == [4, 6]
    assert numbers_of(events_of(core, start_time=start, end_time=end)) == [3, 4]
    assert numbers_of(events_of(core, external_id="x1")) == [3]
    assert numbers_of(events_of(core, 3, external_id="x1")) == []
    assert numbers_of(events_of(core, external_id="x1", worker="ann")) == []
    assert numbers_of(events_of(core, external_id="x2")) == []
    assert numbers_of(events_of(core, sample_id="s1")) == [2, 3, 5, 6]
    assert numbers_of(events_of(core, 2, 2, sample_id="s1")) == [3, 5]
    assert numbers_of(events_of(core, sample_id="s1", worker="bob", start_time=end)) == [6]
    refused(Reason.SAMPLE_NOT_FOUND, lambda: events_of(core, sample_id="nope"))
    given, first, said, skipped, corrected, taken = (events_of(core)[number] for number in (0, 2, 3, 4, 5, 6))
    assert (given.worker, given.origin, given.value) == ("import", "import", "cow")
    assert (said.external_id, said.comment, said.confidence, said.value) == ("x1", "dim", 0.5, "bee")
    assert (skipped.kind, skipped.value, skipped.comment) == (EventKind.SKIP, None, "dark")
    assert (corrected.kind, corrected.supersedes, corrected.value) == (EventKind.CORRECT, 2, "cow")
    assert (taken.kind, taken.supersedes, taken.worker, taken.by) == (EventKind.WITHDRAW, 3, "bob", "root")
    stands = [event.number for event in (given, first, said, skipped, corrected, taken) if event.standing]
    assert stands == [0, 5]


def test_events_of_deleted_samples_are_left_out_and_pages_go_on(house: House, core: Assay) -> None:
    fill(core, 6)
    for name in names(0, 6):
        annotate(core, {name: "ant"})
    core.samples.delete(POOL, names(0, 4), False, NO_KEY)
    assert numbers_of(events_of(core)) == [4, 5]
    refused(Reason.SAMPLE_NOT_FOUND, lambda: events_of(core, sample_id="s0"))
    core = house.open()
    assert numbers_of(events_of(core, limit=1)) == [4]


def test_a_page_that_finds_little_ends_early_and_says_where(core: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BLOCKS_AT_ONCE", 2)
    monkeypatch.setattr(events, "BLOCKS_A_PAGE", 4)
    fill(core, 12)
    for name in names(0, 12):
        annotate(core, {name: "ant"})
    core.samples.delete(POOL, names(0, 10), False, NO_KEY)
    after, found, pages = -1, [], 0
    while True:
        page = core.annotations.events(POOL, EventQuery(), after, 10)
        found += numbers_of(page.events)
        pages += 1
        if page.read is None:
            break
        assert page.read > after
        after = page.read
    assert (found, pages) == ([10, 11], 3)


def test_the_history_of_a_sample_reads_its_own_blocks_only(house: House, core: Assay) -> None:
    fill(core, 40)
    for name in names(0, 40):
        annotate(core, {name: "ant"})
    annotate(core, {"s7": "bee"}, correct=True)
    snapshot, asked = pool_of(core).snapshot, []

    def read(numbers: npt.NDArray[np.int64]) -> list[EventBlock]:
        asked.extend(numbers.tolist())
        with house.catalog.reading() as tx:
            return tx.blocks_of_events(snapshot.pool.uid, numbers)

    page = events.page(snapshot, house.catalog, read, EventQuery(sample_id="s7"), -1, 10)
    assert numbers_of(page.events) == [7, 40]
    assert set(asked) == {7, 40}


@pytest.mark.parametrize("kind", [TaskKind.MULTILABEL, TaskKind.FREEFORM])
def test_values_of_other_tasks_are_told_as_they_were_given(house: House, kind: TaskKind) -> None:
    task = TaskRecord.of_classes(kind, ["a", "b"]) if kind is TaskKind.MULTILABEL else TaskRecord(kind)
    value: Given = ClassNames(["a", "b"]) if kind is TaskKind.MULTILABEL else JsonText("null")
    core = house.open()
    make_pool(core, task=task)
    fill(core, 2)
    annotate(core, {"s0": value})
    skip(core, ["s1"], worker="bob")
    withdraw(core, ["s0"])
    said, skipped, taken = events_of(core)
    assert (said.value, skipped.value, taken.value) == (value, None, None)
    assert not said.standing


def test_external_ids_of_samples_that_are_gone_are_free(house: House, core: Assay) -> None:
    fill(core, 3)
    labels, details = {"s0": "ant", "s1": "bee", "s2": "cow"}, Details(external_ids=["x0", "x1", "x2"])
    annotate(core, labels, details=details)
    core.samples.delete(POOL, ["s0"], False, NO_KEY)
    add(core, ["s0", "s1"], on_conflict=OnConflict.REPLACE)
    again = annotate(core, labels, details=details)
    assert (again.stored, again.unchanged) == (2, 1)
    core = house.open()
    assert annotate(core, labels, details=details).unchanged == 3
    assert numbers_of(events_of(core, external_id="x0")) == [3]
    refused(
        Reason.EXTERNAL_ID_EXISTS,
        lambda: annotate(core, {"s2": "ant"}, worker="bob", details=Details(external_ids=["x0"])),
    )
