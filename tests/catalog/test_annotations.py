"""The log of annotation events: what is added comes back as it was, in order, and damage is never taken for a label."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from assay.server.adapters.sql import SqlCatalog, blocks
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.annotations import Blobs, EventBlock, EventKind, Origin
from assay.server.core.records.pools import PoolRecord
from tests.catalog.records import block, direct, pool_record


def stored(given: EventBlock) -> blocks.Stored:
    """A block as it lies in the table."""
    packed = blocks.pack(given)
    shared = (packed.first_number, packed.count, packed.worker, packed.create_time, packed.lease_id)
    return *shared, packed.origin.value, packed.columns


def same(one: EventBlock, other: EventBlock) -> bool:
    return all(_alike(getattr(one, field.name), getattr(other, field.name)) for field in fields(EventBlock))


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Blobs):
        return isinstance(other, Blobs) and one.data == other.data and _alike(one.lengths_N, other.lengths_N)
    if isinstance(one, np.ndarray):
        floats = one.dtype.kind == "f"
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=floats)
    return bool(one == other)


numbers = st.integers(-1, 2**40)
texts = st.sampled_from(["", "a", "ä" * 40, "nul\0"]) | st.text(max_size=8)


@st.composite
def event_blocks(draw: st.DrawFn) -> EventBlock:
    """Any block: columns that are all alike, differ, or are not there."""
    count = draw(st.sampled_from([1, 2, 7, 300]))

    def ints(low: int, high: int, kind: type) -> np.ndarray:
        some = draw(st.lists(st.integers(low, high), min_size=1, max_size=4))
        return np.resize(np.array(some, kind), count)

    def blobs() -> Blobs:
        some = draw(st.lists(st.none() | st.binary(max_size=6), min_size=1, max_size=4))
        return Blobs.of([some[i % len(some)] for i in range(count)])

    def maybe(make: Any) -> Any:
        return make() if draw(st.booleans()) else None

    def floats() -> np.ndarray:
        some = draw(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4))
        return np.resize(np.array(some, np.float32), count)

    steps = ints(1, draw(st.sampled_from([1, 100, 2**34])), np.int64)
    classes = draw(st.booleans())
    return EventBlock(
        draw(st.integers(0, 2**50)),
        draw(texts),
        draw(st.floats(0, 2e9)),
        draw(texts),
        draw(st.sampled_from(Origin)),
        rows_N=np.cumsum(steps) + draw(st.integers(0, 2**34)),
        kinds_N=ints(0, 7, np.uint8),
        values=maybe(lambda: ints(-1, 2**31 - 1, np.int32) if classes else blobs()),
        labels_after=maybe(lambda: ints(-1, 300, np.int32) if classes else blobs()),
        answered_after_N=ints(0, 255, np.uint8),
        previous_N=ints(-1, 2**45, np.int64),
        supersedes_N=maybe(lambda: ints(-1, 2**45, np.int64)),
        durations_N=maybe(lambda: ints(-1, 10**7, np.int64)),
        confidences_N=maybe(floats),
        comments=maybe(blobs),
        external_ids=maybe(lambda: Blobs.of_texts([f"e{i}" for i in range(count)])),
        agreements_after_N=maybe(floats),
        confidences_after_N=maybe(floats),
        by=draw(texts),
        action=draw(st.integers(-1, 2**50)),
        undoes=draw(st.integers(-1, 2**50)),
    )


@given(event_blocks())
@settings(max_examples=60, deadline=None)
def test_a_block_comes_back_as_it_was(given: EventBlock) -> None:
    assert same(blocks.unpack(stored(given)), given)


@given(st.lists(event_blocks().filter(lambda one: not isinstance(one.labels, Blobs)), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_columns_for_opening_are_those_of_the_blocks(given: list[EventBlock]) -> None:
    (piece,) = blocks.event_columns(map(stored, given), classes=True)
    np.testing.assert_array_equal(piece.numbers_N, np.concatenate([one.numbers_N for one in given]))
    np.testing.assert_array_equal(piece.rows_N, np.concatenate([one.rows_N for one in given]))
    np.testing.assert_array_equal(piece.kinds_N, np.concatenate([one.kinds_N for one in given]))
    np.testing.assert_array_equal(piece.answered_N, np.concatenate([one.answered_after_N for one in given]))
    labels = [np.full(len(one), -1) if one.labels is None else one.labels for one in given]
    np.testing.assert_array_equal(piece.labels, np.concatenate(labels))  # type: ignore[arg-type]
    workers = [worker for worker, count in piece.workers for _ in range(count)]
    assert workers == [one.worker for one in given for _ in range(len(one))]


@given(st.lists(event_blocks().filter(lambda one: not isinstance(one.labels, np.ndarray)), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_labels_for_opening_may_be_bytes(given: list[EventBlock]) -> None:
    (piece,) = blocks.event_columns(map(stored, given), classes=False)
    assert isinstance(piece.labels, Blobs)
    told = [
        value
        for one in given
        for value in ([None] * len(one) if one.labels is None else one.labels.at(np.arange(len(one))))  # type: ignore[union-attr]
    ]
    assert piece.labels.at(np.arange(len(piece.labels))) == told


@given(event_blocks(), st.integers(0, 10**6), st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_damage_is_named_and_never_a_label(given: EventBlock, place: int, bit: int) -> None:
    *shared, blob = stored(given)
    flipped = bytearray(blob)
    flipped[place % len(blob)] ^= 1 << bit
    harmed = [
        (*shared, bytes(flipped)),
        (*shared, blob[: place % len(blob)]),
        (shared[0], shared[1], shared[2] + "x", *shared[3:], blob),
        (shared[0] + 1, *shared[1:], blob),
    ]
    for one in harmed:
        for read in (blocks.unpack, lambda one: list(blocks.event_columns([one], classes=True))):
            with pytest.raises(AssayError, match="damaged") as refused:
                read(one)  # type: ignore[arg-type]
            assert refused.value.reason is Reason.STORAGE_FAILED


def test_a_million_labels_are_about_a_byte_each() -> None:
    classes = np.random.default_rng(0).integers(0, 20, 1_000_000)
    assert len(blocks.pack(block(0, range(1_000_000), classes)).columns) < 1_000_200
    assert len(blocks.pack(block(10**6, [10**6], [3])).columns) < 40


def test_the_log_is_read_in_order_and_by_pool(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        for given in (block(5, [9], [1]), block(0, [1, 2, 3, 4, 8], [0, 0, 1, 1, 0]), block(6, [1], [1], worker="bob")):
            tx.append_events(pool.uid, catalog.pack(given))
        tx.append_events(other.uid, catalog.pack(block(0, [7], [1])))
    with catalog.reading() as tx:
        (piece,) = tx.event_columns(pool.uid, classes=True)
        assert piece.numbers_N.tolist() == list(range(7))
        assert piece.rows_N.tolist() == [1, 2, 3, 4, 8, 9, 1]
        assert piece.labels.tolist() == [0, 0, 1, 1, 0, 1, 1]
        assert piece.workers == (("ann", 6), ("bob", 1))
        assert list(tx.event_columns(pool.uid + 99, classes=True)) == []


def test_events_are_found_by_number(catalog: SqlCatalog, pool: PoolRecord) -> None:
    given = [block(first, [first, first + 1, first + 2], [0, 1, 0]) for first in range(0, 30, 3)]
    with catalog.transaction() as tx:
        for one in given:
            tx.append_events(pool.uid, catalog.pack(one))
    with catalog.reading() as tx:
        found = tx.blocks_of_events(pool.uid, np.array([28, 5, 3, 4, 0]))
        assert [one.first_number for one in found] == [0, 3, 27]
        assert same(found[2], given[9])
        assert tx.blocks_of_events(pool.uid, np.empty(0, np.int64)) == []


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [0, 2, 4, 6, 8]),
        ({"limit": 2}, [0, 2]),
        ({"from_number": 3}, [2, 4, 6, 8]),
        ({"from_number": 4, "limit": 1}, [4]),
        ({"from_number": 10}, []),
        ({"worker": "bob"}, [2, 6]),
        ({"worker": "bob", "from_number": 3}, [2, 6]),
        ({"start_time": 2.0, "end_time": 6.0}, [2, 4]),
        ({"start_time": 3.0, "worker": "bob"}, [6]),
    ],
)
def test_blocks_are_listed(catalog: SqlCatalog, pool: PoolRecord, asked: dict[str, Any], expected: list[int]) -> None:
    with catalog.transaction() as tx:
        for first in range(0, 10, 2):
            worker = ("ann", "bob")[first // 2 % 2]
            one = block(first, [1, 2], [0, 0], worker=worker, create_time=float(first))
            tx.append_events(pool.uid, catalog.pack(one))
    with catalog.reading() as tx:
        assert [one.first_number for one in tx.event_blocks(pool.uid, **asked)] == expected


def test_external_ids_are_found_and_unique(catalog: SqlCatalog, pool: PoolRecord) -> None:
    named = replace(block(0, [1, 2, 3], [0, 0, 0]), external_ids=Blobs.of([b"a", None, "ä".encode()]))
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        tx.append_events(pool.uid, catalog.pack(named))
        tx.append_events(other.uid, catalog.pack(named))
        assert tx.external_events(pool.uid, ["ä", "b", "a"]) == {"a": 0, "ä": 2}
        assert tx.external_events(pool.uid, []) == {}
    with pytest.raises(AssayError) as refused, catalog.transaction() as tx:
        tx.append_events(pool.uid, catalog.pack(replace(named, first_number=3)))
    assert refused.value.reason is Reason.CONFLICT
    with catalog.transaction() as tx:
        tx.free_external_ids(pool.uid, ["ä", "a", "b"])
        tx.append_events(pool.uid, catalog.pack(replace(named, first_number=3)))
        assert tx.external_events(pool.uid, ["ä", "a"]) == {"a": 3, "ä": 5}
        assert tx.external_events(other.uid, ["ä", "a"]) == {"a": 0, "ä": 2}, "those of another pool stay"


def test_the_last_blocks_are_those_of_who_acted(catalog: SqlCatalog, pool: PoolRecord) -> None:
    acted = (("ann", ""), ("bob", "ann"), ("bob", ""), ("ann", "bob"), ("ann", ""))
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        for first, (worker, by) in enumerate(acted):
            one = replace(block(first, [1], [0], worker=worker), by=by)
            tx.append_events(pool.uid, catalog.pack(one))
            tx.append_events(other.uid, catalog.pack(one))
    with catalog.reading() as tx:
        assert [one.first_number for one in tx.last_blocks(pool.uid, "ann", 2)] == [4, 1]
        assert [one.first_number for one in tx.last_blocks(pool.uid, "bob", 9)] == [3, 2]
        assert tx.last_blocks(pool.uid, "cy", 9) == []


def test_numbers_are_not_given_twice(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.append_events(pool.uid, catalog.pack(block(0, [1], [0])))
    with pytest.raises(AssayError) as refused, catalog.transaction() as tx:
        tx.append_events(pool.uid, catalog.pack(block(0, [2], [0])))
    assert refused.value.reason is Reason.CONFLICT


def test_a_damaged_block_in_the_database_is_named(catalog: SqlCatalog, pool: PoolRecord, url: str) -> None:
    with catalog.transaction() as tx:
        tx.append_events(pool.uid, catalog.pack(block(0, [1, 2], [0, 1])))
    with direct(url) as connection:
        connection.execute(text("UPDATE annotation_blocks SET create_time = create_time + 1"))
    with catalog.reading() as tx:
        for read in (lambda: list(tx.event_columns(pool.uid, classes=True)), lambda: tx.event_blocks(pool.uid)):
            with pytest.raises(AssayError, match="events 0 to 1 of worker 'ann'") as refused:
                read()
            assert refused.value.reason is Reason.STORAGE_FAILED


def test_kinds_have_the_numbers_that_are_stored() -> None:
    assert [(kind.name, kind.value) for kind in EventKind] == [
        ("ANNOTATE", 0), ("CORRECT", 1), ("WITHDRAW", 2), ("SKIP", 3), ("VERDICT", 4), ("RESOLVE", 5),
        ("RETRACT", 6), ("RESUME", 7),
    ]  # fmt: skip
