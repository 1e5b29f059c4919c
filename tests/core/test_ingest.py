"""Ingest: whole or not at all, each id once."""

from functools import partial

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason, RequestReplayed
from assay.server.core.records.filters import Compare
from assay.server.core.records.pools import Metric, State
from assay.server.core.records.samples import AttributeColumn, OnConflict
from tests.core.kit import (
    CLASSES,
    POOL,
    House,
    Turnstile,
    add,
    annotate,
    batch,
    counts,
    fill,
    in_threads,
    key,
    labels_of,
    make_pool,
    names,
    next_batch,
    numbers,
    pool_of,
    probabilities,
    refused,
    standing,
    vectors,
)


def test_everything_of_a_sample_comes_back(core: Assay) -> None:
    add(
        core,
        ["a", "b"],
        np.array([[1, 2], [3, 4]], np.float32),
        uris=["file:a", ""],
        payloads=[b"A", b""],
        payload_media_type="text/plain",
        attributes={
            "n": numbers([5, 6]),
            "word": AttributeColumn("string", ["x", ""], np.array([True, False])),
            "share": AttributeColumn("double", np.array([0.5, np.nan]), np.array([True, False])),
        },
        labels=["bee", None],
        predictions_NC=probabilities(2),
    )
    view = core.samples.get(POOL, "a")
    assert (view.row, view.state, view.label) == (0, State.LABELED, "bee")
    assert (view.record.uri, view.record.payload, view.record.payload_media_type) == ("file:a", b"A", "text/plain")
    assert view.record.attributes == {"n": 5, "word": "x", "share": 0.5}
    other = core.samples.get(POOL, "b")
    assert (other.state, other.label, other.record.attributes) == (State.UNLABELED, None, {"n": 6})
    pool = core.pools.get(POOL)
    assert pool.attributes == {"n": "int64", "word": "string", "share": "double"}
    assert (pool.record.dimension, pool.record.space, pool.record.next_row) == (2, "space-1", 2)
    snapshot = pool_of(core).snapshot
    np.testing.assert_array_equal(snapshot.gather(np.array([1, 0])), np.array([[3, 4], [1, 2]], np.float32))


def test_the_first_batch_fixes_the_dimension(core: Assay) -> None:
    add(core, ["a"], vectors(1, dimension=3))
    before = standing(core)
    error = refused(Reason.DIMENSION_MISMATCH, lambda: add(core, ["b"], vectors(1, dimension=4)))
    assert error.metadata == {"expected": "3", "got": "4"}
    assert standing(core) == before


def test_error_on_conflict_names_the_id_and_stores_nothing(house: House, core: Assay) -> None:
    add(core, ["a", "b"])
    before, files = standing(core), house.files()
    error = refused(Reason.SAMPLE_EXISTS, lambda: add(core, ["c", "b"]))
    assert error.metadata["id"] == "b"
    assert (standing(core), house.files()) == (before, files)


def test_skip_on_conflict_keeps_the_old_and_adds_the_new(core: Assay) -> None:
    add(core, ["a", "b"], payloads=[b"old", b"old"])
    result = add(
        core,
        ["b", "c", "d"],
        vectors(3, seed=5),
        OnConflict.SKIP,
        payloads=[b"new"] * 3,
        attributes={"n": numbers([1, 2, 3])},
        labels=["ant", "bee", None],
        predictions_NC=probabilities(3),
        uris=["x", "y", "z"],
    )
    assert (result.added, result.skipped, result.replaced) == (2, 1, 0)
    assert core.samples.get(POOL, "b").record.payload == b"old"
    found = core.samples.get(POOL, "c")
    assert (found.record.payload, found.record.attributes, found.label, found.record.uri) == (
        b"new",
        {"n": 2},
        "bee",
        "y",
    )
    np.testing.assert_array_equal(pool_of(core).snapshot.gather(np.array([found.row]))[0], vectors(3, seed=5)[1])


def test_a_batch_of_known_ids_only_is_skipped_whole(house: House, core: Assay) -> None:
    add(core, ["a", "b"])
    files = house.files()
    result = add(core, ["b", "a"], on_conflict=OnConflict.SKIP)
    assert (result.added, result.skipped) == (0, 2)
    assert house.files() == files


def test_replace_gives_a_new_row_and_drops_the_label(core: Assay) -> None:
    add(core, ["a", "b"], payloads=[b"old", b"old"], labels=["ant", "bee"])
    result = add(core, ["b"], vectors(1, seed=9), OnConflict.REPLACE, payloads=[b"new"])
    assert (result.added, result.replaced) == (0, 1)
    view = core.samples.get(POOL, "b")
    assert (view.row, view.state, view.label, view.record.payload) == (2, State.UNLABELED, None, b"new")
    assert counts(core) == {"LABELED": 1, "UNLABELED": 1, "DELETED": 1}
    assert [label.sample_id for label in labels_of(core)] == ["a"]


def test_what_replacing_drops_is_counted(core: Assay) -> None:
    both = {"n": numbers([1, 2, 3]), "word": AttributeColumn("string", ["x", "", "z"], np.array([True, False, True]))}
    add(core, ["a", "b", "c"], attributes=both, labels=["ant", "bee", None])
    again = {"n": numbers([4, 5])}
    kept = add(core, ["b", "new"], on_conflict=OnConflict.REPLACE, attributes=again, labels=["bee", "ant"])
    assert (kept.replaced, kept.labels_dropped, kept.attributes_dropped) == (1, 0, 0)
    lost = add(core, ["a", "c"], on_conflict=OnConflict.REPLACE, attributes=again, labels=[None, None])
    assert (lost.replaced, lost.labels_dropped, lost.attributes_dropped) == (2, 1, 2)
    bare = add(core, ["a", "b", "c"], on_conflict=OnConflict.REPLACE)
    assert (bare.replaced, bare.labels_dropped, bare.attributes_dropped) == (3, 1, 3)


def test_replace_refuses_leased_samples(core: Assay) -> None:
    fill(core, 3)
    next_batch(core, 3)
    before = standing(core)
    refused(Reason.SAMPLE_LEASED, lambda: add(core, ["s1", "new"], on_conflict=OnConflict.REPLACE))
    assert standing(core) == before


def test_a_deleted_id_may_come_again(core: Assay) -> None:
    fill(core, 3)
    core.samples.delete(POOL, ["s1"], False, key(""))
    refused(Reason.SAMPLE_NOT_FOUND, lambda: core.samples.get(POOL, "s1"))
    assert add(core, ["s1"]).added == 1
    assert core.samples.get(POOL, "s1").row == 3


def test_the_same_request_is_answered_with_the_same_bytes(house: House, core: Assay) -> None:
    result = add(core, ["a"], request=key("r1", "body"))
    before, files = standing(core), house.files()
    with pytest.raises(RequestReplayed) as replayed:
        add(core, ["a"], request=key("r1", "body"))
    replies = replayed.value.response.decode()
    assert replies.startswith(f"AddResult(added=1, skipped=0, replaced=0, epoch={result.epoch}")
    refused(Reason.REQUEST_ID_REUSED, lambda: add(core, ["b"], request=key("r1", "other body")))
    assert (standing(core), house.files()) == (before, files)


def test_a_request_that_waited_for_its_own_first_try_is_answered_as_that_was(core: Assay) -> None:
    """The client gave up waiting and sent it again while the first was still on its way."""
    gate = pool_of(core).ingest_lock = Turnstile()  # type: ignore[assignment]
    start, join = in_threads([lambda: add(core, ["a", "b"], request=key("r1"))] * 2)
    gate.held_until(2, start)
    results = join()
    assert sorted(type(result).__name__ for result in results) == ["AddResult", "RequestReplayed"]
    assert counts(core) == {"UNLABELED": 2}


def test_threads_that_add_the_same_ids_store_each_once(core: Assay) -> None:
    def send(more: int) -> None:
        for first in range(0, 40, 10):
            add(core, names(first, first + 10 + more), on_conflict=OnConflict.SKIP)

    start, join = in_threads([partial(send, more) for more in range(4)])
    start()
    assert join() == [None] * 4
    views, after = core.samples.list(POOL, None, (), -1, 1000, False)
    assert after == -1
    assert sorted(view.record.id for view in views) == sorted(names(0, 43))
    assert [view.row for view in views] == list(range(43))


def test_first_batches_of_two_dimensions_do_not_both_enter(core: Assay) -> None:
    """Both were checked against the empty pool."""
    gate = pool_of(core).ingest_lock = Turnstile()  # type: ignore[assignment]
    start, join = in_threads([partial(add, core, [f"s{width}"], vectors(1, dimension=width)) for width in (3, 4)])
    gate.held_until(2, start)
    assert [getattr(result, "reason", "stored") for result in join()].count("stored") == 1
    assert counts(core) == {"UNLABELED": 1}
    snapshot = pool_of(core).snapshot
    assert snapshot.gather(np.array([0])).shape == (1, snapshot.pool.dimension)


def test_first_batches_of_two_attribute_types_do_not_both_enter(core: Assay) -> None:
    gate = pool_of(core).ingest_lock = Turnstile()  # type: ignore[assignment]
    columns = {"number": numbers([1]), "word": AttributeColumn("string", ["x"])}
    start, join = in_threads([partial(add, core, [name], attributes={"n": column}) for name, column in columns.items()])
    gate.held_until(2, start)
    results = join()
    assert sorted(getattr(result, "reason", "stored") for result in results) == ["ATTRIBUTE_TYPE_MISMATCH", "stored"]
    kind = core.pools.get(POOL).attributes["n"]
    value = 0 if kind == "int64" else ""
    assert len(core.samples.list(POOL, Compare("n", "!=", value), (), -1, 10, False)[0]) == 1


def test_cosine_pools_store_unit_vectors_whatever_their_length(core: Assay) -> None:
    make_pool(core, "sphere", metric=Metric.COSINE)
    given = vectors(5) * np.array([[1e-22], [1e-3], [1], [1e3], [1e19]], np.float32)
    add(core, names(0, 5), given, pool="sphere")
    stored = pool_of(core, "sphere").snapshot.gather(np.arange(5)).astype(np.float64)
    wide = given.astype(np.float64)
    np.testing.assert_allclose(stored, wide / np.linalg.norm(wide, axis=1, keepdims=True), atol=1e-6)


def test_labels_of_a_batch_count_and_export(core: Assay) -> None:
    add(core, ["a", "b", "c"], labels=["cow", None, "ant"])
    assert counts(core) == {"LABELED": 2, "UNLABELED": 1}
    labels = labels_of(core)
    assert [(label.sample_id, label.value, label.worker) for label in labels] == [
        ("a", "cow", "import"),
        ("c", "ant", "import"),
    ]


def test_ids_are_told_apart_byte_by_byte(core: Assay) -> None:
    ids = ["é", "e\u0301", "E", "e", " e", "e ", "漢字" * 40]
    add(core, ids)
    assert [core.samples.get(POOL, sample_id).row for sample_id in ids] == list(range(len(ids)))


def test_submitting_for_a_replaced_sample_labels_the_new_row(core: Assay) -> None:
    add(core, ["a"], labels=["ant"])
    add(core, ["a"], on_conflict=OnConflict.REPLACE)
    annotate(core, {"a": "cow"})
    assert core.samples.get(POOL, "a").label == CLASSES[2]


def test_inputs_without_a_backbone_are_refused(core: Assay) -> None:
    inputs = {"features": np.zeros((1, 4), np.float32)}
    refused(Reason.NO_BACKBONE, lambda: core.samples.add(POOL, batch(["a"], inputs=inputs), OnConflict.ERROR, key("")))
    assert counts(core) == {}
