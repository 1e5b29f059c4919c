"""A pool that is opened from its log is the pool that was closed."""

from functools import partial

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.labeling import history
from assay.server.core.pools.log import read_log
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.pools.row_sets import RowSet
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.states import states_after
from assay.server.core.records.annotations import EventBlock, EventColumns, EventKind
from assay.server.core.records.pools import State
from assay.server.core.records.samples import OnConflict
from tests.catalog.records import direct
from tests.core.kit import POOL, House, add, annotate, fill, labels_of, names, next_batch, pool_of, refused, set_state

rows = st.lists(st.integers(0, 11), min_size=1, max_size=6, unique=True).map(sorted)
events = st.lists(
    st.tuples(st.sampled_from(["ann", "bob", "cy"]), rows, st.lists(st.integers(0, 7), min_size=6, max_size=6)),
    max_size=12,
)


@given(events, st.integers(1, 4))
@settings(deadline=None)
def test_a_log_comes_to_what_its_events_come_to_one_by_one(
    said: list[tuple[str, list[int], list[int]]], pieces: int
) -> None:
    answered: dict[str, set[int]] = {}
    declined: dict[str, set[int]] = {}
    labels, last = [-1] * 12, [-1] * 12
    columns: list[list[int]] = []
    for number, (worker, given_rows, kinds) in enumerate(said):
        for place, (row, kind) in enumerate(zip(given_rows, kinds, strict=False)):
            at = number * 12 + place
            columns.append([at, row, kind, at % 7, at % 3, ["ann", "bob", "cy"].index(worker)])
            labels[row], last[row] = at % 7, at
            answered.setdefault(worker, set())
            declined.setdefault(worker, set())
            match EventKind(kind):
                case EventKind.ANNOTATE | EventKind.CORRECT:
                    answered[worker].add(row)
                case EventKind.WITHDRAW:
                    answered[worker].discard(row)
                case EventKind.SKIP:
                    declined[worker].add(row)
                case EventKind.RESUME:
                    declined[worker].discard(row)
    parts = np.array_split(np.array(columns, np.int64).reshape(-1, 6), pieces)
    found = read_log((_piece(part) for part in parts if len(part)), 12)
    assert found.labels_N.tolist() == labels
    assert found.last_events_N.tolist() == last
    for worker, its_rows in answered.items():
        assert set(found.workers.of(worker).answered.array.tolist()) == its_rows
        assert set(found.workers.of(worker).declined.array.tolist()) == declined[worker]


def _piece(columns: np.ndarray) -> EventColumns:
    numbers, rows_N, kinds, labels, answered, workers = columns.T
    runs = tuple((["ann", "bob", "cy"][worker], 1) for worker in workers.tolist())
    return EventColumns(
        numbers, rows_N, kinds.astype(np.uint8), labels.astype(np.int32), answered.astype(np.uint8), runs
    )


@given(st.sets(st.integers(0, 2**33), max_size=200), st.lists(st.integers(0, 2**33), max_size=200), st.booleans())
@settings(deadline=None)
def test_a_set_of_rows_is_a_set(held: set[int], asked: list[int], among: bool) -> None:
    rows_N = np.array(sorted(held), np.int64)
    others = np.array([*asked, *(sorted(held)[::2] if among else [])], np.int64)
    found = RowSet.of(rows_N)
    assert len(found) == len(held)
    assert found.array.tolist() == sorted(held)
    assert found.holds(others).tolist() == [row in held for row in others.tolist()]
    assert set(found.with_rows(others).array.tolist()) == held | set(others.tolist())
    assert set(found.without_rows(others).array.tolist()) == held - set(others.tolist())
    assert found.array.tolist() == sorted(held), "it stays as it was"


def test_states_follow_from_what_is_known() -> None:
    cases = [
        # excluded, wanted, answered, leases, resolved
        (False, 1, 0, 0, False, State.UNLABELED),
        (False, 1, 0, 1, False, State.LEASED),
        (False, 1, 1, 0, True, State.LABELED),
        (False, 1, 1, 0, False, State.DISPUTED),
        (False, 3, 0, 2, False, State.UNLABELED),
        (False, 3, 0, 3, False, State.LEASED),
        (False, 3, 1, 1, False, State.ANSWERED),
        (False, 3, 1, 2, False, State.LEASED),
        (False, 3, 3, 0, False, State.DISPUTED),
        (False, 3, 4, 1, False, State.LEASED),
        (False, 3, 1, 1, True, State.LABELED),
        (False, 255, 255, 255, False, State.LEASED),
        (True, 1, 0, 0, False, State.EXCLUDED),
        (True, 3, 2, 1, True, State.EXCLUDED),
    ]
    excluded, wanted, answered, leases, resolved, states = zip(*cases, strict=True)
    found = states_after(
        excluded_N=np.array(excluded),
        wanted_N=np.array(wanted, np.uint8),
        answered_N=np.array(answered, np.uint8),
        leases_N=np.array(leases, np.uint8),
        resolved_N=np.array(resolved),
    )
    assert [State(state) for state in found] == list(states)


def columns_of(snapshot: Snapshot) -> dict[str, object]:
    """What a snapshot knows of its rows."""
    columns = (
        snapshot.states,
        snapshot.labels,
        snapshot.answered,
        snapshot.held,
        snapshot.raised,
        snapshot.last_events,
    )
    workers = {
        name: (rows.answered.array.tolist(), rows.declined.array.tolist())
        for name, rows in snapshot.workers.by_name.items()
    }
    judged = snapshot.workers.judged.array.tolist()
    found = [column.array.tolist() for column in (*columns, snapshot.last_events)]
    return {"columns": found, "workers": workers, "judged": judged, "pool": snapshot.pool}


def test_the_pool_that_is_opened_is_the_pool_that_was_closed(house: House, core: Assay) -> None:
    fill(core, 30, step=10)
    add(core, ["a", "b"], labels=["ant", None])
    taken = next_batch(core, 8)
    first, second, third, *rest = taken.lease.sample_ids
    annotate(core, {first: "ant", second: "bee"}, taken)
    annotate(core, {first: "cow"}, correct=True, worker="bob")
    annotate(core, {first: "bee", second: "ant"}, correct=True)
    record = taken.lease.record
    core.labeling.release(POOL, record.lease_id, record.fencing_token, [third], "too dark", False, NO_KEY)
    core.labeling.release(POOL, record.lease_id, record.fencing_token, [rest[0]], "", True, NO_KEY)
    free = [name for name in names(0, 30) if name not in taken.lease.sample_ids]
    set_state(core, "exclude", free[:3])
    annotate(core, {free[3]: "ant", free[4]: "ant", free[5]: "cow"}, worker="cy")
    add(core, [free[4]], on_conflict=OnConflict.REPLACE, labels=["bee"])
    core.samples.delete(POOL, [free[5]], False, NO_KEY)
    before = columns_of(pool_of(core).snapshot)
    core = house.open()
    assert columns_of(pool_of(core).snapshot) == before


def test_nothing_of_what_was_said_is_lost(core: Assay, house: House) -> None:
    fill(core, 3)
    taken = next_batch(core, 3)
    annotate(core, {"s0": "ant", "s1": "ant", "s2": "ant"}, taken)
    annotate(core, {"s1": "bee"}, correct=True, worker="bob")
    annotate(core, {"s1": "cow", "s2": "cow"}, correct=True)
    snapshot = pool_of(core).snapshot
    done = np.zeros(3, np.bool_)
    with house.catalog.reading() as tx:
        read = partial(tx.blocks_of_events, snapshot.pool.uid)
        found = list(history.walk(read, snapshot.last_events.at(np.arange(3)), done))
        told = [
            (row, number, one.block.worker, EventKind(kind).name, int(value), int(superseded))
            for one in found
            for row, number, kind, value, superseded in zip(
                one.chains.tolist(), one.numbers.tolist(), one.kinds.tolist(),
                one.block.values[one.positions], _superseded(one.block)[one.positions], strict=True,  # type: ignore[index]
            )
        ]  # fmt: skip
        own = history.own_answers(read, snapshot.last_events.at(np.arange(3)), "bob", like=np.empty(0, np.int32))
        assert own.numbers_N.tolist() == [-1, 3, -1]
    lease = taken.lease.record.lease_id
    assert sorted(told) == [
        (0, 0, "ada", "ANNOTATE", 0, -1),
        (1, 1, "ada", "ANNOTATE", 0, -1),
        (1, 3, "bob", "ANNOTATE", 1, -1),
        (1, 4, "ada", "CORRECT", 2, 1),
        (2, 2, "ada", "ANNOTATE", 0, -1),
        (2, 5, "ada", "CORRECT", 2, 2),
    ]
    assert snapshot.answered.array.tolist() == [1, 2, 1]
    labels = labels_of(core)
    assert [(label.worker, label.value, label.lease) for label in labels] == [
        ("ada", "ant", lease), ("ada", "cow", ""), ("ada", "cow", ""),
    ]  # fmt: skip


def _superseded(block: EventBlock) -> np.ndarray:
    return np.full(len(block), -1) if block.supersedes_N is None else block.supersedes_N


def test_a_damaged_block_stops_the_start_and_is_named(house: House, core: Assay) -> None:
    fill(core, 3)
    annotate(core, {"s1": "bee"})
    core.close()
    with direct(house.url) as connection:
        connection.execute(text("UPDATE annotation_blocks SET columns = substr(columns, 1, 12)"))
    error = refused(Reason.STORAGE_FAILED, house.open)
    assert "events 0 to 0 of worker 'ada'" in error.message
