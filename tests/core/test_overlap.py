"""Several workers on one sample: as many as answers are wanted, nobody twice, and nothing of what they said is lost."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling import annotating
from assay.server.core.labeling.history import own_answers
from assay.server.core.labeling.messages import BatchResult
from assay.server.core.labeling.standing import Told, standing, told
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.pools.values import ValueTable
from assay.server.core.records.annotations import Blobs, EventKind, Policy
from assay.server.core.records.pools import State
from assay.server.core.records.tasks import TargetRecord, TaskKind, TaskRecord
from assay.server.core.tasks.registry import task_of
from tests.core.kit import (
    POOL,
    House,
    annotate,
    counts,
    fill,
    in_threads,
    make_pool,
    names,
    next_batch,
    pool_of,
    refused,
)
from tests.core.test_annotation_log import columns_of

RANDOM = Plan(preset="random")


def overlapping(house: House, wanted: int, policy: Policy = Policy.MAJORITY, samples: int = 4) -> Assay:
    core = house.open()
    make_pool(core, annotations_per_sample=wanted, policy=policy)
    fill(core, samples)
    return core


def taken_by(core: Assay, worker: str, size: int = 100, **spec: object) -> BatchResult:
    return next_batch(core, size, worker, plan=RANDOM, **spec)


def state(core: Assay, sample_id: str) -> str:
    return core.samples.get(POOL, sample_id).state.name


def same_after_reopening(house: House, core: Assay) -> Assay:
    before = columns_of(pool_of(core).snapshot)
    core = house.open()
    assert columns_of(pool_of(core).snapshot) == before
    return core


def test_a_sample_is_with_as_many_as_are_wanted(house: House) -> None:
    core = overlapping(house, 2)
    first = taken_by(core, "ann")
    assert counts(core) == {"UNLABELED": 4}
    refused(Reason.POOL_EXHAUSTED, lambda: taken_by(core, "ann"))
    second = taken_by(core, "bob")
    assert set(first.lease.sample_ids) == set(second.lease.sample_ids) == set(names(0, 4))
    assert counts(core) == {"LEASED": 4}
    refused(Reason.POOL_EXHAUSTED, lambda: taken_by(core, "cy"))
    annotate(core, {"s0": "ant", "s1": "ant"}, first)
    assert counts(core) == {"LEASED": 4}, "one answer is there, the other in hands"
    core = same_after_reopening(house, core)
    record = second.lease.record
    core.labeling.release(POOL, record.lease_id, record.fencing_token, ["s1"], "", False, NO_KEY)
    assert (state(core, "s0"), state(core, "s1")) == ("LEASED", "ANSWERED")
    for worker in ("ann", "bob"):
        refused(Reason.POOL_EXHAUSTED, lambda worker=worker: taken_by(core, worker))
    third = taken_by(core, "cy")
    assert third.lease.sample_ids == ("s1",)
    annotate(core, {"s0": "ant", "s2": "bee"}, second)
    annotate(core, {"s1": "bee"}, third)
    assert [state(core, name) for name in names(0, 4)] == ["LABELED", "DISPUTED", "LEASED", "LEASED"]
    assert [core.samples.get(POOL, name).label for name in ("s0", "s1")] == ["ant", None]
    same_after_reopening(house, core)


def test_an_expired_lease_frees_its_own_place_only(house: House) -> None:
    core = overlapping(house, 3)
    taken_by(core, "ann", ttl=60.0)
    taken_by(core, "bob", ttl=600.0)
    taken_by(core, "cy", ttl=60.0)
    assert counts(core) == {"LEASED": 4}
    house.clock.advance(61)
    core.tick()
    assert pool_of(core).snapshot.held.array.tolist() == [1] * 4
    assert counts(core) == {"UNLABELED": 4}
    refused(Reason.POOL_EXHAUSTED, lambda: taken_by(core, "bob"))
    assert len(taken_by(core, "ann").picks) == 4
    same_after_reopening(house, core)


def test_an_answer_is_given_once_and_corrected_by_overwriting(house: House) -> None:
    core = overlapping(house, 2)
    first = taken_by(core, "ann")
    annotate(core, {"s0": "ant"}, first)
    again = annotate(core, {"s0": "ant"}, first)
    assert (again.stored, again.unchanged) == (0, 1)
    refused(Reason.ANNOTATION_EXISTS, lambda: annotate(core, {"s0": "bee"}, first))
    assert annotate(core, {"s0": "bee"}, first, correct=True).stored == 1
    assert pool_of(core).snapshot.answered.array.tolist() == [1, 0, 0, 0]
    assert annotate(core, {"s0": "bee"}, taken_by(core, "bob")).stored == 1
    assert core.samples.get(POOL, "s0").label == "bee"
    same_after_reopening(house, core)


def test_what_a_worker_holds_takes_no_label_from_it_elsewhere(house: House) -> None:
    core = overlapping(house, 2)
    taken_by(core, "ann", 1)
    (held,) = core.labeling.leases(POOL, "", 0, 10)[0].sample_ids
    refused(Reason.SAMPLE_LEASED, lambda: annotate(core, {held: "ant"}, worker="ann"))
    assert annotate(core, {held: "ant"}, worker="bob").stored == 1
    refused(Reason.SAMPLE_LEASED, lambda: annotate(core, {held: "ant"}, worker="cy"))
    refused(Reason.SAMPLE_LEASED, lambda: core.samples.delete(POOL, [held], False, NO_KEY))


@pytest.mark.parametrize("wanted", [2, 3])
def test_of_many_workers_nobody_gets_a_sample_twice(house: House, wanted: int) -> None:
    core = overlapping(house, wanted, Policy.LATEST, 30)

    def work(worker: int) -> list[int]:
        rows: list[int] = []
        while True:
            try:
                result = taken_by(core, f"w{worker % 4}", 4)
            except AssayError as error:
                if error.reason == Reason.CONFLICT:
                    continue
                if error.reason == Reason.POOL_EXHAUSTED:
                    return rows
                raise
            rows.extend(result.lease.record.rows)
            annotate(core, dict.fromkeys(result.lease.sample_ids, "ant"), result)

    # Each worker asks twice at a time.
    start, join = in_threads([partial(work, worker) for worker in range(8)])
    start()
    given = join()
    each = [Counter(given[worker] + given[worker + 4]) for worker in range(4)]  # type: ignore[operator]
    assert all(count == 1 for rows in each for count in rows.values())
    assert Counter(row for rows in each for row in rows) == dict.fromkeys(range(30), wanted)
    assert counts(core) == {"LABELED": 30}


def test_more_answers_are_wanted_of_some(house: House) -> None:
    core = house.open()
    make_pool(core)
    fill(core, 3)
    pool = pool_of(core)
    with pool.change() as change:
        change.want(np.array([1]), 2)
        change.tx.raise_rows(pool.snapshot.pool.uid, np.array([1]), 2)
    with house.catalog.transaction() as tx:
        tx.raise_rows(pool.snapshot.pool.uid, np.array([1]), 1)
        assert [column.tolist() for column in tx.raised_rows(pool.snapshot.pool.uid)] == [[1], [2]]
    annotate(core, {"s0": "ant", "s1": "ant"})
    core = same_after_reopening(house, core)
    assert [state(core, name) for name in names(0, 3)] == ["LABELED", "ANSWERED", "UNLABELED"]
    assert set(taken_by(core, "bob").lease.sample_ids) == {"s1", "s2"}


def say(core: Assay, house: House, worker: str, row: int, kind: EventKind, value: int = -1, of: int = -1) -> None:
    """Appends one event, as the verbs to come do."""
    pool = pool_of(core)

    def read(numbers: np.ndarray) -> list:  # type: ignore[type-arg]
        with house.catalog.reading() as tx:
            return tx.blocks_of_events(pool.snapshot.pool.uid, numbers)

    with pool.change() as change:
        superseded = None if of < 0 else np.array([of])
        values = np.array([value], np.int32)
        statement = annotating.Statement(
            worker, 1.0, np.array([row]), np.array([kind], np.uint8), values, supersedes_N=superseded
        )
        annotating.append(change, read, statement)


def test_withdrawals_verdicts_and_corrections_are_derived_from(house: House) -> None:
    core = overlapping(house, 3)

    def seen() -> tuple[str, str, int]:
        view = core.samples.get(POOL, "s0")
        return view.state.name, view.label or "", int(pool_of(core).snapshot.answered.array[0])

    for number, (worker, kind, value, of, expected) in enumerate([
        ("ann", EventKind.ANNOTATE, 0, -1, ("ANSWERED", "", 1)),
        ("bob", EventKind.ANNOTATE, 1, -1, ("ANSWERED", "", 2)),
        ("cy", EventKind.SKIP, -1, -1, ("ANSWERED", "", 2)),
        ("dee", EventKind.ANNOTATE, 2, -1, ("DISPUTED", "", 3)),
        ("bob", EventKind.CORRECT, 0, 1, ("LABELED", "ant", 3)),
        ("ann", EventKind.WITHDRAW, -1, 0, ("ANSWERED", "", 2)),
        ("eve", EventKind.VERDICT, 2, -1, ("LABELED", "cow", 2)),
        ("cy", EventKind.ANNOTATE, 1, -1, ("LABELED", "cow", 3)),
        ("eve", EventKind.WITHDRAW, -1, 6, ("DISPUTED", "", 3)),
        ("ann", EventKind.ANNOTATE, 0, -1, ("LABELED", "ant", 4)),
    ]):  # fmt: skip
        say(core, house, worker, 0, kind, value, of)
        assert seen() == expected, number
    core = same_after_reopening(house, core)
    assert seen() == ("LABELED", "ant", 4)
    snapshot = pool_of(core).snapshot
    with house.catalog.reading() as tx:
        read = partial(tx.blocks_of_events, snapshot.pool.uid)
        events = told(read, snapshot.last_events.at(np.arange(2)), classes=True)
        assert events.numbers_A.tolist() == list(range(10))
        assert events.offsets(2).tolist() == [0, 10, 10]
        stands = standing(events)
        workers = [stands.names[worker] for worker in stands.workers_A]
        assert dict(zip(workers, stands.values, strict=True)) == {"dee": 2, "bob": 0, "cy": 1, "ann": 0}
        own = own_answers(read, snapshot.last_events.at(np.arange(1)), "bob", like=np.empty(0, np.int32))
        assert np.asarray(own.values).tolist() == [0]
        (block,) = tx.blocks_of_events(snapshot.pool.uid, np.array([9]))
        assert block.agreements_after_N.tolist() == pytest.approx([1 / 6])  # type: ignore[union-attr]
        assert block.confidences_after_N.tolist() == [0.5]  # type: ignore[union-attr]


ANY_EVENT = st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([0, 1, 2, 4]), st.integers(0, 9))


@given(st.lists(ANY_EVENT, max_size=15))
@settings(deadline=None)
def test_what_stands_is_what_nobody_took_back(said: list[tuple[int, int, int, int]]) -> None:
    """Against a dictionary of what each worker says; a withdrawal and a correction name what they are of."""
    now: dict[tuple[int, int, bool], int] = {}
    columns: list[tuple[int, int, int, int, int, int]] = []
    for number, (chain, worker, kind, value) in enumerate(said):
        key = (chain, worker, kind == EventKind.VERDICT)
        of = now.get(key, -1)
        if kind == EventKind.WITHDRAW:
            if of < 0:
                continue
            del now[key]
        else:
            now[key] = number
        columns.append((chain, number, kind, of, worker, value))
    chains, numbers, kinds, supersedes, workers, values = np.array(columns, np.int64).reshape(-1, 6).T
    order = np.lexsort((numbers, chains))
    undoing = np.zeros(len(columns), np.bool_)
    events = Told(
        chains, numbers, kinds.astype(np.uint8), supersedes, workers, ("a", "b", "c"), values.astype(np.int32), undoing
    ).take(order)
    assert sorted(standing(events).numbers_A.tolist()) == sorted(now.values())


@pytest.mark.parametrize("kind", [TaskKind.MULTILABEL, TaskKind.REGRESSION])
def test_labels_that_are_no_classes_have_codes(house: House, kind: TaskKind) -> None:
    record = TaskRecord.of_classes(kind, ["a", "b", "c"])
    values: list[object] = [(0, 2), (), (0, 2), (1,)]
    if kind is TaskKind.REGRESSION:
        record = TaskRecord(kind, targets=(TargetRecord("x"), TargetRecord("y")))
        values = [(0.5, 1.0), (2.0, -3.0), (0.5, 1.0), (9.0, 9.0)]
    task = task_of(record)
    core = house.open()
    make_pool(core)
    fill(core, 4)
    pool = pool_of(core)
    # As a pool of the task would be made.
    with pool.change() as change:
        change.replace_pool(task=record)
    core = house.open()
    pool = pool_of(core)
    for worker, rows in (("ann", [0, 1]), ("bob", [2, 3]), ("cy", [1])):
        with pool.change() as change:
            given = Blobs.of([task.encode(values[row if worker != "cy" else 3]) for row in rows])
            kinds = np.full(len(rows), EventKind.ANNOTATE, np.uint8)
            statement = annotating.Statement(worker, 1.0, np.array(rows), kinds, given)
            annotating.append(change, lambda numbers: [], statement)
    expected = [values[0], values[3], values[2], values[3]]

    def seen() -> list[object]:
        snapshot = pool_of(core).snapshot
        assert snapshot.values is not None
        codes = snapshot.labels.at(np.arange(4)).astype(np.int32)
        return [task.decode(value or b"") for value in snapshot.values.at(codes).at(np.arange(4))]

    assert seen() == expected
    assert counts(core) == {"LABELED": 4}
    codes = pool_of(core).snapshot.labels.array.tolist()
    assert (codes[0] == codes[2]) == (kind is TaskKind.MULTILABEL), "sets are kept once"
    core = house.open()
    assert seen() == expected


@given(st.lists(st.lists(st.none() | st.binary(max_size=3), max_size=6), max_size=5), st.booleans())
@settings(deadline=None)
def test_a_table_of_values_gives_back_what_it_took(parts: list[list[bytes | None]], interned: bool) -> None:
    table = ValueTable(interned=interned)
    codes = [table.codes(Blobs.of(part)) for part in parts]
    for part, found in zip(parts, codes, strict=True):
        assert table.at(found).at(np.arange(len(part))) == part
    if interned:
        assert len(table) == len({value for part in parts for value in part if value is not None})


def test_states_are_counted_apart(house: House) -> None:
    core = overlapping(house, 2)
    annotate(core, {"s0": "ant", "s1": "ant"}, worker="ann")
    annotate(core, {"s1": "bee"}, worker="bob")
    assert counts(core) == {"UNLABELED": 2, "ANSWERED": 1, "DISPUTED": 1}
    assert State.ANSWERED in core.pools.get(POOL).counts
