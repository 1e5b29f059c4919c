"""Samples files: what is written is read, and ids are found."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.server.adapters.arrow import ArrowSegmentStore
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.samples import SampleColumns, SampleRecord
from tests.segments.builders import POOL, attribute, rows, samples

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
IDS = st.lists(TEXT.filter(bool), min_size=1, max_size=20, unique=True)
INT64 = st.integers(-(2**63), 2**63 - 1)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=50)
@given(data=st.data(), ids=IDS)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, ids: list[str]) -> None:
    store = ArrowSegmentStore(tmp_path_factory.mktemp("data"))

    def each(values: st.SearchStrategy) -> list:
        return data.draw(st.lists(values, min_size=len(ids), max_size=len(ids)))

    kinds = {"string": TEXT, "double": DOUBLES, "int64": INT64, "bool": st.booleans()}
    attributes = {f"a {kind} ü": (kind, each(st.none() | values)) for kind, values in kinds.items()}
    uris, payloads = each(TEXT), each(st.binary(max_size=20))
    columns = SampleColumns(
        ids, uris, payloads, "text/plain", {name: attribute(*column) for name, column in attributes.items()}
    )
    segment = samples(store, 5, columns)
    expected = [
        SampleRecord(
            ids[i],
            uris[i],
            payloads[i],
            "text/plain",
            {name: values[i] for name, (_, values) in attributes.items() if values[i] is not None},
        )
        for i in range(len(ids))
    ]
    assert segment.describe(np.arange(len(ids))) == expected
    backwards = np.arange(len(ids))[::-1]
    assert segment.ids(backwards) == ids[::-1]
    assert segment.find([*ids, "nobody's id"]).tolist() == [*range(5, 5 + len(ids)), -1]


def test_columns_that_were_not_given_read_as_empty(store: ArrowSegmentStore) -> None:
    segment = samples(store, 0, SampleColumns(["a", "b"]))
    assert segment.describe(np.array([1])) == [SampleRecord("b")]
    assert segment.predictions_NC is None
    assert segment.input_names == ()
    assert segment.input_runs == ()
    assert segment.inputs(0, 2) is None


def test_describe_leaves_out_what_is_not_asked_for(store: ArrowSegmentStore) -> None:
    columns = SampleColumns(["a"], ["u"], [b"p"], "t/t", {"year": attribute("int64", [1])})
    segment = samples(store, 0, columns)
    assert segment.describe(np.array([0]), payload=False, attributes=False) == [SampleRecord("a", "u")]
    assert segment.describe(np.array([], np.int64)) == []


def test_rows_and_predictions_are_read_only_and_exact(store: ArrowSegmentStore) -> None:
    predictions = np.random.default_rng(0).dirichlet([1, 1, 1], 4).astype(np.float32)
    segment = samples(store, 3, SampleColumns(list("abcd"), predictions_NC=predictions))
    assert segment.rows_N.tolist() == [3, 4, 5, 6]
    assert segment.predictions_NC is not None
    np.testing.assert_array_equal(segment.predictions_NC, predictions)
    assert not segment.predictions_NC.flags.writeable
    assert not segment.rows_N.flags.writeable


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64", ">i4"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
def test_inputs_keep_dtype_shape_and_bits(store: ArrowSegmentStore, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).integers(0, 100, (5, *shape)).astype(dtype)
    segment = samples(store, 0, SampleColumns(list("abcde"), inputs={"x": array, "mask": np.ones((5, 2), np.int64)}))
    assert segment.input_names == ("x", "mask")
    assert segment.input_runs == ((0, 5),)
    block = segment.inputs(1, 4)
    assert block is not None
    np.testing.assert_array_equal(block["x"], array[1:4])
    assert block["x"].dtype == array.dtype.newbyteorder("=")
    assert block["mask"].shape == (3, 2)


def test_an_input_that_is_no_number_is_refused(store: ArrowSegmentStore) -> None:
    with pytest.raises(AssayError) as caught:
        store.write_samples(POOL, rows(0, 1), SampleColumns(["a"], inputs={"x": np.array(["text"])}))
    assert caught.value.reason is Reason.INPUTS_INVALID


def test_find_sees_through_colliding_hashes(data_dir: Path) -> None:
    colliding = ArrowSegmentStore(data_dir, lambda ids: np.array([len(id) % 2 for id in ids], np.uint64))
    ids = [f"{'x' * (i % 4)}{i}" for i in range(50)]
    segment = samples(colliding, 100, SampleColumns(ids))
    assert segment.find([*ids, "y", "yy"]).tolist() == [*range(100, 150), -1, -1]


def test_prepared_ids_are_the_same_ids(store: ArrowSegmentStore) -> None:
    segment = samples(store, 0, SampleColumns([f"id {i}" for i in range(100)]))
    wanted = ["id 99", "none", "id 0", "id 99"]
    prepared = store.prepare_ids(wanted)
    assert list(prepared) == wanted
    assert prepared[1:3] == wanted[1:3]
    assert segment.find(prepared).tolist() == segment.find(wanted).tolist() == [99, -1, 0, 99]


def test_find_all_gives_every_occurrence(store: ArrowSegmentStore) -> None:
    segment = samples(store, 10, SampleColumns(["a", "b", "a", "c", "a"]))
    queries, found = segment.find_all(["c", "none", "a"])
    assert list(zip(queries.tolist(), found.tolist(), strict=True)) == [(0, 13), (2, 10), (2, 12), (2, 14)]
    assert segment.find(["a"]).tolist() == [14]
    assert segment.find([]).tolist() == []


@pytest.mark.parametrize("bad", [[], [3, 3], [4, 2]])
def test_rows_must_ascend(store: ArrowSegmentStore, bad: list[int]) -> None:
    with pytest.raises(ValueError, match="rows ascend"):
        store.write_samples(POOL, np.array(bad, np.int64), SampleColumns(["a"] * len(bad)))


def test_columns_must_be_of_one_length(store: ArrowSegmentStore) -> None:
    with pytest.raises(ValueError, match="lengths"):
        store.write_samples(POOL, rows(0, 2), SampleColumns(["a", "b"], uris=["only one"]))
