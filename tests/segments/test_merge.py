"""Merged files hold what their parts held, less what is not kept."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.server.adapters.arrow import ArrowSegmentStore
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.filters import Compare
from assay.server.core.records.samples import SampleColumns, SampleRecord
from tests.segments.builders import POOL, attribute, embeddings, keep_all, rows, samples, vectors


@settings(max_examples=40)
@given(masks=st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=1, max_size=4))
def test_vectors_keep_their_rows(tmp_path_factory: pytest.TempPathFactory, masks: list[list[bool]]) -> None:
    store = ArrowSegmentStore(tmp_path_factory.mktemp("data"))
    starts = np.cumsum([0, *map(len, masks)])
    parts = [embeddings(len(mask), 3, seed) for seed, mask in enumerate(masks)]
    logits = [embeddings(len(mask), 2, 100 + seed) for seed, mask in enumerate(masks)]
    segments = [vectors(store, int(start), *pair) for start, *pair in zip(starts, parts, logits, strict=False)]
    kept = np.concatenate(masks)
    file = store.merge_vectors(POOL, segments, lambda rows_N: kept[rows_N])
    if not kept.any():
        assert file is None
        return
    assert file is not None
    merged = store.open_vectors(file, verify=True)
    assert merged.rows_N.tolist() == np.flatnonzero(kept).tolist()
    np.testing.assert_array_equal(merged.embeddings_ND, np.concatenate(parts)[kept])
    assert merged.logits_NC is not None
    np.testing.assert_array_equal(merged.logits_NC, np.concatenate(logits)[kept])
    assert file.space == "pushed"


def test_samples_of_different_columns_become_one_file(store: ArrowSegmentStore) -> None:
    year = attribute("int64", [1990, None, 1992])
    parts = [
        SampleColumns(["a", "b", "c"], ["u1", "", "u3"], [b"1", b"2", b"3"], "text/plain", {"year": year}),
        SampleColumns(["d", "e"], payloads=[b"{}", b""], payload_media_type="application/json"),
        SampleColumns(["f"], attributes={"year": attribute("int64", [1995]), "new": attribute("bool", [True])}),
    ]
    segments = [samples(store, start, part) for start, part in zip((0, 10, 20), parts, strict=True)]
    file = store.merge_samples(POOL, segments, lambda rows_N: (rows_N != 1) & (rows_N != 11))
    assert file is not None
    merged = store.open_samples(file, verify=False)
    assert merged.rows_N.tolist() == [0, 2, 10, 20]
    assert merged.describe(np.arange(4)) == [
        SampleRecord("a", "u1", b"1", "text/plain", {"year": 1990}),
        SampleRecord("c", "u3", b"3", "text/plain", {"year": 1992}),
        SampleRecord("d", "", b"{}", "application/json"),
        SampleRecord("f", attributes={"year": 1995, "new": True}),
    ]
    assert merged.find(["a", "b", "c", "d", "e", "f"]).tolist() == [0, -1, 2, 10, -1, 20]
    assert merged.matches(Compare("year", ">", 1990)).tolist() == [False, True, False, True]


def test_a_merged_file_merges_again(store: ArrowSegmentStore) -> None:
    segments = [samples(store, i, SampleColumns([f"id {i}"], payloads=[b"p"])) for i in range(4)]
    halves = [store.merge_samples(POOL, segments[i : i + 2], keep_all) for i in (0, 2)]
    opened = [store.open_samples(half, verify=True) for half in halves if half is not None]
    file = store.merge_samples(POOL, opened, keep_all)
    assert file is not None
    assert store.open_samples(file, verify=True).ids(np.arange(4)) == [f"id {i}" for i in range(4)]
    assert store.open_samples(file, verify=True).find(["id 2"]).tolist() == [2]


def test_predictions_are_nan_where_a_part_has_none(store: ArrowSegmentStore) -> None:
    predictions = np.array([[0.25, 0.75], [1, 0]], np.float32)
    segments = [
        samples(store, 0, SampleColumns(["a"])),
        samples(store, 1, SampleColumns(["b", "c"], predictions_NC=predictions)),
    ]
    file = store.merge_samples(POOL, segments, keep_all)
    assert file is not None
    merged = store.open_samples(file, verify=True).predictions_NC
    np.testing.assert_array_equal(merged, [[np.nan, np.nan], [0.25, 0.75], [1, 0]])


def test_inputs_of_other_lengths_stay_apart_as_runs(store: ArrowSegmentStore) -> None:
    tokens = [np.arange(n * width).reshape(n, width) for n, width in ((3, 4), (2, 4), (2, 6))]
    segments = [
        samples(store, 10 * i, SampleColumns([f"{i} {j}" for j in range(len(block))], inputs={"tokens": block}))
        for i, block in enumerate(tokens)
    ]
    segments.insert(2, samples(store, 15, SampleColumns(["without"])))
    file = store.merge_samples(POOL, segments, lambda rows_N: rows_N != 1)
    assert file is not None
    merged = store.open_samples(file, verify=False)
    assert merged.input_names == ("tokens",)
    assert merged.input_runs == ((0, 4), (5, 7))
    first, last = merged.inputs(0, 4), merged.inputs(5, 7)
    assert first is not None
    assert last is not None
    np.testing.assert_array_equal(first["tokens"], np.concatenate([tokens[0][[0, 2]], tokens[1]]))
    np.testing.assert_array_equal(last["tokens"], tokens[2])
    assert merged.inputs(4, 5) is None
    with pytest.raises(ValueError, match="one run"):
        merged.inputs(3, 6)


def test_inputs_that_are_all_dropped_are_gone(store: ArrowSegmentStore) -> None:
    segments = [
        samples(store, 0, SampleColumns(["a"], inputs={"x": np.ones((1, 2), np.float32)})),
        samples(store, 1, SampleColumns(["b"])),
    ]
    file = store.merge_samples(POOL, segments, lambda rows_N: rows_N == 1)
    assert file is not None
    merged = store.open_samples(file, verify=False)
    assert (merged.input_names, merged.input_runs) == ((), ())


def test_nothing_kept_writes_nothing(store: ArrowSegmentStore, data_dir: Path) -> None:
    segment = samples(store, 0, SampleColumns(["a"]))
    assert store.merge_samples(POOL, [segment], lambda rows_N: rows_N < 0) is None
    assert store.sweep({segment.file.file}).files == []


def test_files_whose_columns_differ_in_type_do_not_merge(store: ArrowSegmentStore) -> None:
    def with_input(first_row: int, dtype: str) -> SampleColumns:
        return SampleColumns([f"id {first_row}"], inputs={"x": np.ones((1, 2), dtype)})

    ints, more_ints = (samples(store, row, with_input(row, "int64")) for row in (0, 1))
    floats = samples(store, 2, with_input(2, "float32"))
    flags = samples(store, 3, with_input(3, "bool"))
    bytes_ = samples(store, 4, with_input(4, "uint8"))
    plain = samples(store, 5, SampleColumns(["plain"]))
    assert store.mergeable([ints, more_ints, plain])
    assert store.mergeable([plain, floats])
    for others in ([ints, floats], [ints, plain, floats], [flags, bytes_]):
        assert not store.mergeable(others)
        with pytest.raises(ValueError, match="type"):
            store.merge_samples(POOL, others, keep_all)


def test_files_out_of_order_are_refused(store: ArrowSegmentStore) -> None:
    later, earlier = (vectors(store, row, embeddings(2, 2)) for row in (5, 0))
    with pytest.raises(ValueError, match="order"):
        store.merge_vectors(POOL, [later, earlier], keep_all)


def test_vectors_with_and_without_logits_are_refused(store: ArrowSegmentStore) -> None:
    parts = [vectors(store, 0, embeddings(2, 2)), vectors(store, 2, embeddings(2, 2), embeddings(2, 2))]
    with pytest.raises(ValueError, match="logits"):
        store.merge_vectors(POOL, parts, keep_all)


def test_a_damaged_part_is_never_given_a_new_checksum(store: ArrowSegmentStore, data_dir: Path) -> None:
    good, bad = (vectors(store, row, embeddings(50, 8)) for row in (0, 50))
    path = data_dir / bad.file.file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(AssayError) as caught:
        store.merge_vectors(POOL, [good, bad], keep_all)
    assert caught.value.reason is Reason.SEGMENT_DAMAGED
    assert caught.value.metadata["file"] == bad.file.file


def test_rows_with_gaps_survive(store: ArrowSegmentStore) -> None:
    file = store.write_samples(POOL, rows(0, 3) * 7, SampleColumns(["a", "b", "c"]))
    merged = store.merge_samples(POOL, [store.open_samples(file, verify=True)], lambda rows_N: rows_N != 0)
    assert merged is not None
    assert (merged.first_row, merged.last_row, merged.count) == (7, 14, 2)
