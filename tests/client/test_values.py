"""What people keep their data in becomes plain values, or is refused by place, id and type; nothing is lost."""

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.client import Classification, Plan, SampleBatch, attr, ids, scorer
from assay.client._annotations import annotate
from assay.client._arrays import float_rows, from_matrix, named_arrays
from assay.client._attributes import attribute_column
from assay.client._ingest import add_batches, add_samples
from assay.client._labeling import next_batch, release_lease
from assay.client._mining import mine
from assay.client._models import train_head, upload_backbone
from assay.client._payloads import is_json
from assay.client._pools import create_pool, delete_samples, get_sample, search
from assay.client._values import Place, column, json_value, optional_texts, texts, whole
from assay.client.results import Lease
from assay.client.values import Json, annotation_messages

VECTORS_ND = np.arange(6.0).reshape(3, 2)
SOME_UUID = UUID("05b16a01-46c6-56dd-bd6e-c6dfb4a1427a")


class Color(Enum):
    RED = "red"


class Word(StrEnum):
    RED = "red"


def message(**columns: Any) -> Any:
    """The only batch that adding these columns sends."""
    first = next(iter(columns.values()))
    number = len(next(iter(first.values()))) if isinstance(first, dict) else len(first)
    given = {"ids": [f"i{row}" for row in range(number)], "embeddings": np.ones((number, 2)), **columns}
    _, only = add_samples("p", **given).messages()
    return only.batch  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param([0, None, 1], id="ints"),
        pytest.param(["0", None, "1"], id="text"),
        pytest.param(("0", None, "1"), id="tuple"),
        pytest.param([np.int64(0), np.nan, np.str_("1")], id="numpy-scalars"),
        pytest.param(np.array(["0", None, "1"], dtype=object), id="objects"),
        pytest.param(np.ma.array([0, 5, 1], mask=[False, True, False]), id="masked"),
        pytest.param([0, np.ma.masked, 1], id="masked-scalar"),
        pytest.param(pd.Series(["0", None, "1"]), id="series"),
        pytest.param(pd.Series(["x", "0", None, "1"])[1:], id="series-with-another-index"),
        pytest.param(pd.Series(["0", None, "1"]).astype("category"), id="category"),
        pytest.param(pd.Categorical(["0", None, "1"]), id="categorical"),
        pytest.param(pd.array(["0", None, "1"], dtype="string"), id="pandas-string"),
        pytest.param(pd.Series([0, pd.NA, 1], dtype="Int64"), id="nullable-ints"),
        pytest.param(pd.Series([0, None, 1], dtype="int64[pyarrow]"), id="arrow-backed"),
        pytest.param(pd.Index(["0", None, "1"]), id="index"),
        pytest.param(["0", pd.NaT, "1"], id="NaT"),
        pytest.param(["0", Decimal("nan"), "1"], id="decimal-nan"),
        pytest.param(pa.array(["0", None, "1"]), id="arrow"),
        pytest.param(pa.chunked_array([["0"], [None, "1"]]), id="chunks"),
        pytest.param(pa.array(["0", None, "1"]).dictionary_encode(), id="dictionary"),
        pytest.param([pa.scalar("0"), pa.scalar(None), pa.scalar(1)], id="arrow-scalars"),
        pytest.param(pl.Series(["0", None, "1"]), id="polars"),
        pytest.param(pl.Series(["0", None, "1"]).cast(pl.Categorical), id="polars-category"),
        pytest.param((text for text in ("0", None, "1")), id="generator"),
    ],
)
def test_labels_come_in_whatever_holds_them(labels: Any) -> None:
    assert optional_texts(labels, Place("labels")) == ["0", None, "1"]


@pytest.mark.parametrize("labels", [[0] * 3, np.zeros(3, int), np.zeros(3, ">i4"), torch.zeros(3, dtype=torch.int64)])
def test_class_0_is_never_lost(labels: Any) -> None:
    assert [each.class_name for each in message(labels=labels).labels] == ["0"] * 3
    submitted = annotate("p", {"a": labels[0]}, "ann").request.annotations  # type: ignore[attr-defined]
    assert [(each.sample_id, each.value.class_name) for each in submitted] == [("a", "0")]


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (7, "7"),
        (np.int64(7), "7"),
        (np.uint8(7), "7"),
        (np.str_("a"), "a"),
        (b"a", "a"),
        (np.bytes_(b"a"), "a"),
        (SOME_UUID, str(SOME_UUID)),
        (Path("a/b"), "a/b"),
        (pa.scalar("a"), "a"),
        (pa.scalar(7), "7"),
        (np.array(7), "7"),
        (torch.tensor(7), "7"),
        (Color.RED, "red"),
        (Word.RED, "red"),
    ],
)
def test_what_stands_for_one_text_only_is_taken(value: Any, taken: str) -> None:
    assert list(message(ids=[value]).ids) == [taken]
    assert [each.class_name for each in message(labels=[value]).labels] == [taken]
    assert list(message(uris=[value]).uris) == [taken]
    assert get_sample("p", value).request.name == f"pools/p/samples/{taken}"  # type: ignore[attr-defined]
    assert list(delete_samples("p", [value]).request.ids) == [taken]  # type: ignore[attr-defined]
    assert list(search("p", samples=[value]).request.samples.ids) == [taken]  # type: ignore[attr-defined]
    task = create_pool("p", task=Classification([value])).request.pool.task  # type: ignore[attr-defined]
    assert [each.name for each in task.classification.classes] == [taken]
    assert list(ids([value]).to_proto().ids.ids) == [taken]
    (label,) = annotate("p", {"a": value}, "ann").request.annotations  # type: ignore[attr-defined]
    assert label.value.class_name == taken
    if not isinstance(value, np.ndarray | torch.Tensor):
        (label,) = annotate("p", {value: "a"}, "ann").request.annotations  # type: ignore[attr-defined]
        assert label.sample_id == taken


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (False, "False, a bool"),
        (np.False_, "False, a bool"),
        (0.0, "0.0, a float"),
        (1.5, "1.5, a float"),
        (datetime(2026, 1, 1), "a datetime datetime"),
        (pd.Timestamp("2026-01-01"), "Timestamp"),
        (np.datetime64("2026-01-01"), "a numpy datetime64"),
        (Decimal("1"), "a decimal Decimal"),
        (b"\xff", "bytes that are no UTF-8"),
        ("\ud800", "cannot be written as UTF-8"),
        ("", "is empty text"),
        (1j, "a complex"),
        (object, "type"),
    ],
)
def test_anything_else_is_refused_by_place_id_and_type(value: Any, kind: str) -> None:
    with pytest.raises((TypeError, ValueError), match=r"labels\[1\] \(id 'i1'\).*" + kind):
        message(labels=["a", value])
    with pytest.raises((TypeError, ValueError), match=r"ids\[1\].*" + kind):
        message(ids=["a", value])
    with pytest.raises((TypeError, ValueError), match=r"annotations\[1\] \(id 'j'\).*" + kind):
        annotate("p", {"i": "a", "j": value}, "ann")
    with pytest.raises((TypeError, ValueError), match=kind):
        get_sample("p", value)


def test_empty_text_is_told_of_none_only_where_none_may_be() -> None:
    with pytest.raises(ValueError, match="empty text: None says"):
        message(labels=["a", ""])
    with pytest.raises(ValueError, match=r"empty text$"):
        message(ids=["a", ""])
    with pytest.raises(ValueError, match=r"empty text$"):
        annotate("p", {"i": "a"}, "")


@pytest.mark.parametrize(("value", "kind"), [(["a"], "a list"), (("a",), "a tuple"), ({"a": 1}, "a dict")])
def test_a_sample_is_named_by_one_text(value: Any, kind: str) -> None:
    with pytest.raises((TypeError, ValueError), match=r"ids\[1\].*" + kind):
        message(ids=["a", value])
    with pytest.raises((TypeError, ValueError), match=kind):
        get_sample("p", value)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, np.ma.masked, pa.scalar(None), np.datetime64("NaT")])
def test_what_is_needed_cannot_be_missing(missing: Any) -> None:
    with pytest.raises(ValueError, match=r"ids\[1\] is missing"):
        message(ids=["a", missing])
    with pytest.raises(ValueError, match=r"annotations\[0\] \(id 'i'\) is missing"):
        annotate("p", {"i": missing}, "ann")
    assert list(message(uris=[missing, "a"]).uris) == ["", "a"]
    assert list(message(payloads=[missing, "a"]).payloads) == [b"", b"a"]
    (column,) = message(attributes={"n": [missing, 1]}).attributes
    assert list(column.present) == [False, True]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ("abc", "several values, not one string"),
        (b"abc", "several values, not one string"),
        ({"a": 1}, "not a mapping"),
        ({"a", "b"}, "no order"),
        (5, "several values, not an int"),
        (pd.DataFrame({"a": [1]}), "name the column"),
        (pa.table({"a": [1]}), "name the column"),
        (pl.DataFrame({"a": [1]}), "name the column"),
        (np.zeros((2, 2)), "shape \\(2, 2\\)"),
        (np.array(1), "shape \\(\\)"),
        (np.zeros(2, [("a", "i4")]), "structured array of a"),
        (torch.eye(2).to_sparse()[0], "to_dense"),
    ],
)
def test_what_is_no_column_is_refused(values: Any, error: str) -> None:
    with pytest.raises(TypeError, match=error):
        column(values, "labels")


def test_sets_will_do_where_order_does_not_count() -> None:
    assert sorted(delete_samples("p", {"a", "b"}).request.ids) == ["a", "b"]  # type: ignore[attr-defined]


def test_labels_may_be_a_series_by_id() -> None:
    labels = pd.Series([0, 1], index=["a", "b"])
    sent = annotate("p", labels, "ann").request.annotations  # type: ignore[attr-defined, arg-type]
    assert [(each.sample_id, each.value.class_name) for each in sent] == [("a", "0"), ("b", "1")]
    for wrong in (["a"], pd.DataFrame({"a": [1]})):
        with pytest.raises(TypeError, match="a mapping from sample id to value"):
            annotate("p", wrong, "ann")  # type: ignore[arg-type]


# --- attributes and payloads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "field", "sent", "present"),
    [
        (pd.Series(["a", None]), "strings", ["a", ""], [True, False]),
        (pd.Series(["a", None]).astype("category"), "strings", ["a", ""], [True, False]),
        ([0.5, np.nan], "doubles", [0.5, 0.0], [True, False]),
        (np.array([0.5, np.nan], np.float32), "doubles", [0.5, 0.0], [True, False]),
        (pd.Series([1, pd.NA], dtype="Int64"), "int64s", [1, 0], [True, False]),
        (pd.Series([True, pd.NA], dtype="boolean"), "bools", [True, False], [True, False]),
        (pd.Series([True, None], dtype=object), "bools", [True, False], [True, False]),
        (pa.array([1, None]), "int64s", [1, 0], [True, False]),
        (pl.Series([1.5, None]), "doubles", [1.5, 0.0], [True, False]),
        (torch.tensor([1.5, 2.5]).bfloat16(), "doubles", [1.5, 2.5], []),
        (np.array([1, 2], ">i8"), "int64s", [1, 2], []),
        ([False, False], "bools", [False, False], []),
        ([0, 0], "int64s", [0, 0], []),
        (["", "a"], "strings", ["", "a"], []),
        ([SOME_UUID, None], "strings", [str(SOME_UUID), ""], [True, False]),
    ],
)
def test_attributes_keep_what_is_falsy_and_leave_out_what_is_missing(
    values: Any, field: str, sent: list[Any], present: list[bool]
) -> None:
    (told,) = message(attributes={"n": values}).attributes
    assert told.WhichOneof("kind") == field
    assert list(getattr(told, field).values) == sent
    assert list(told.present) == present


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ([1, "a"], r"mixes int, str: attribute 'n'\[1\] \(id 'i1'\) is 'a', a str, after an int"),
        ([None, pd.Timestamp("2026")], r"attribute 'n'\[1\] \(id 'i1'\) is Timestamp.*isoformat"),
        ([1.0, np.inf], r"attribute 'n'\[1\] \(id 'i1'\) is inf"),
        ([1, 2**63], r"attribute 'n'\[1\] \(id 'i1'\).*beyond 64 bits"),
        ([1, ["a"]], r"attribute 'n'\[1\] \(id 'i1'\).*a list"),
        (["a", "\ud800"], r"attribute 'n'\[1\] \(id 'i1'\).*UTF-8"),
    ],
)
def test_attributes_that_cannot_be_are_named(values: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        message(attributes={"n": values})


@pytest.mark.parametrize("library", [pd.DataFrame, pa.table, pl.DataFrame])
def test_attributes_may_be_a_frame(library: Callable[[Any], Any]) -> None:
    sent = message(ids=["a", "b"], attributes=library({"lang": ["en", None], "n": [0, 1]})).attributes
    assert [(each.name, each.WhichOneof("kind")) for each in sent] == [("lang", "strings"), ("n", "int64s")]


def test_attributes_are_named_by_text() -> None:
    with pytest.raises(TypeError, match="names are text"):
        message(attributes=pd.DataFrame([[1], [2]]))
    with pytest.raises(TypeError, match="columns by name"):
        message(ids=["a"], attributes=["a"])


def test_payloads_of_json_take_what_json_has() -> None:
    sent = message(payloads=[{"n": np.int64(1), "x": np.arange(2), "none": pd.NA, "f": False, "z": 0}, None, ["a", 1]])
    assert list(sent.payloads) == [b'{"n":1,"x":[0,1],"none":null,"f":false,"z":0}', b"", b'["a",1]']


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"score": float("nan")}, r"payloads\[1\] \(id 'i1'\)\['score'\] is nan, which JSON does not have"),
        ({"a": {"b": [1, float("inf")]}}, r"\['a'\]\['b'\]\[1\] is inf"),
        ({"a": np.float32("-inf")}, "is -inf"),
        ({"at": datetime(2026, 1, 1)}, r"\['at'\] is datetime.*no word for"),
        ({(1, 2): 3}, "the keys of JSON are text"),
        ({"a": b"x"}, "no word for"),
        (5, "a mapping is needed"),
        ("\ud800", "UTF-8"),
    ],
)
def test_payloads_that_json_cannot_say_are_named(payload: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        message(payloads=[None, payload])


@pytest.mark.parametrize("text", ['{"a": NaN}', "Infinity", "{", "", "[1,]", b"\xff", '{"a": 1}'])
def test_under_the_name_of_json_only_json_travels(text: Any) -> None:
    if text in ("", '{"a": 1}'):
        assert message(payloads=[text], media_type="application/json").payload_media_type == "application/json"
        return
    for media_type in ("application/json", "application/geo+json; charset=utf-8", "Application/JSON"):
        assert is_json(media_type)
        with pytest.raises(ValueError, match=r"payloads\[0\] \(id 'i0'\) is no JSON"):
            message(payloads=[text], media_type=media_type)
    assert not is_json("text/plain")
    with pytest.raises(ValueError, match="is no JSON"):
        message(payloads=["[" * 60_000], media_type="application/json")


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.recursive(st.none() | st.booleans() | FINITE | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_json_stays_as_it_is(value: Any) -> None:
    assert json_value(value, "x") == value
    with pytest.raises(ValueError, match="JSON does not have"):
        json_value([value, np.nan], "x")


# --- vectors ---------------------------------------------------------------------------------------------------------

FLAT = pa.array(VECTORS_ND.ravel())
ROWS = VECTORS_ND.tolist()


@pytest.mark.parametrize(
    "vectors",
    [
        pytest.param(ROWS, id="lists"),
        pytest.param(list(VECTORS_ND), id="list-of-arrays"),
        pytest.param((row for row in ROWS), id="generator"),
        pytest.param([torch.tensor(row, requires_grad=True) for row in ROWS], id="list-of-tensors"),
        pytest.param(np.ma.array(VECTORS_ND), id="nothing-masked"),
        pytest.param(np.matrix(VECTORS_ND), id="matrix"),
        pytest.param(VECTORS_ND.astype(">f4"), id="big-endian"),
        pytest.param(np.asfortranarray(VECTORS_ND), id="fortran"),
        pytest.param(np.array(VECTORS_ND, dtype=object), id="objects"),
        pytest.param(VECTORS_ND.astype(int), id="ints"),
        *(
            pytest.param(pd.DataFrame(VECTORS_ND).astype(dtype), id=f"frame-{dtype}")
            for dtype in ("float16", "float32", "float64", "Float32", "Float64", "float32[pyarrow]", "int64", "object")
        ),
        pytest.param(pd.DataFrame({"a": [0.0, 2.0, 4.0], "b": [1, 3, 5]}), id="frame-mixed"),
        pytest.param(pd.DataFrame(VECTORS_ND, index=["x", "y", "z"], columns=["a", "b"]), id="frame-with-index"),
        pytest.param(pd.DataFrame.sparse.from_spmatrix(scipy.sparse.csr_matrix(VECTORS_ND)), id="frame-sparse"),
        pytest.param(pd.Series(ROWS), id="series-of-lists"),
        pytest.param(pd.Series(list(VECTORS_ND), index=[7, 8, 9]), id="series-of-arrays"),
        pytest.param(pa.array(ROWS), id="arrow-lists"),
        pytest.param(pa.array(ROWS, pa.large_list(pa.float32())), id="arrow-large-lists"),
        pytest.param(pa.array(ROWS, pa.list_(pa.float16(), 2)), id="arrow-half"),
        pytest.param(pa.FixedSizeListArray.from_arrays(FLAT, 2), id="arrow-fixed"),
        pytest.param(pa.chunked_array([pa.array(ROWS[:1]), pa.array(ROWS[1:])]), id="arrow-chunks"),
        pytest.param(pa.array([[9.0, 9.0], *ROWS])[1:], id="arrow-slice"),
        pytest.param(pa.array([[9.0, 9.0], *ROWS], pa.list_(pa.float64(), 2))[1:], id="arrow-fixed-slice"),
        pytest.param(pa.FixedShapeTensorArray.from_numpy_ndarray(VECTORS_ND), id="arrow-tensors"),
        pytest.param(pa.table({"a": VECTORS_ND[:, 0], "b": VECTORS_ND[:, 1]}), id="arrow-table"),
        pytest.param(pl.DataFrame(VECTORS_ND), id="polars-frame"),
        pytest.param(pl.Series(ROWS), id="polars-lists"),
        pytest.param(pl.Series(ROWS, dtype=pl.Array(pl.Float32, 2)), id="polars-array"),
        pytest.param(torch.tensor(VECTORS_ND), id="tensor"),
        pytest.param(torch.tensor(VECTORS_ND, requires_grad=True), id="tensor-with-graph"),
        pytest.param(torch.nn.Parameter(torch.tensor(VECTORS_ND)), id="parameter"),
        pytest.param(torch.tensor(VECTORS_ND).bfloat16(), id="bfloat16"),
        pytest.param(torch.tensor(VECTORS_ND).half(), id="half"),
        pytest.param([row.bfloat16() for row in torch.tensor(VECTORS_ND)], id="list-of-bfloat16"),
        pytest.param(torch.tensor(VECTORS_ND).T.contiguous().T, id="tensor-strided"),
    ],
)
def test_vectors_come_in_whatever_holds_them(vectors: Any) -> None:
    rows = float_rows(vectors, "embeddings")
    np.testing.assert_array_equal(rows, VECTORS_ND)
    np.testing.assert_array_equal(from_matrix(message(ids=["a", "b", "c"], embeddings=rows).embeddings), VECTORS_ND)


HOLES = [[1.0, 2.0], None, [3.0, 4.0]]


@pytest.mark.parametrize(
    ("vectors", "error"),
    [
        (scipy.sparse.csr_matrix(VECTORS_ND), r"sparse, a scipy csr_matrix: give embeddings.toarray\(\)"),
        (scipy.sparse.coo_array(VECTORS_ND), r"give embeddings.toarray\(\)"),
        (torch.tensor(VECTORS_ND).to_sparse(), r"give embeddings.to_dense\(\)"),
        (np.zeros(3, [("a", "f4"), ("b", "f4")]), "structured_to_unstructured"),
        (VECTORS_ND > 1, r"not bool: give embeddings.astype\(numpy.float32\)"),
        (VECTORS_ND.astype(np.longdouble), r"give embeddings.astype\(numpy.float32\)"),
        (VECTORS_ND + 1j, "complex"),
        ([["1", "2"]], r"embeddings\[0\]\[0\] \(id 'i0'\) is '1', a str; numbers are needed"),
        (np.array([["1", "2"]]), "astype"),
        (HOLES, r"embeddings\[1\] \(id 'i1'\) is missing"),
        (pd.Series(HOLES), r"embeddings\[1\] \(id 'i1'\) is missing"),
        (pa.array(HOLES), r"embeddings\[1\] \(id 'i1'\) is missing"),
        (pa.array(HOLES, pa.list_(pa.float32(), 2)), r"embeddings\[1\] \(id 'i1'\) is missing"),
        (pl.Series(HOLES), r"embeddings\[1\] \(id 'i1'\) is missing"),
        (pa.array([[1.0, 2.0], [3.0, None]]), r"embeddings\[1\]\[1\] \(id 'i1'\) is missing"),
        (pd.DataFrame([[1, 2], [3, pd.NA]], dtype="Float64"), r"embeddings\[1\]\[1\] \(id 'i1'\) is missing"),
        (np.ma.array(VECTORS_ND, mask=[[0, 0], [0, 1], [0, 0]]), r"embeddings\[1\] \(id 'i1'\) has masked"),
        ([np.ma.array([1.0, 2.0]), np.ma.array([1.0, 2.0], mask=[0, 1])], r"embeddings\[1\]\[1\] .*masked"),
        ([[1.0, 2.0], [3.0]], r"embeddings\[1\] \(id 'i1'\) has the shape \(1,\), the rows before it \(2,\)"),
        (pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}), r"embeddings\[0\]\[1\] \(id 'i0'\) is 'x', a str"),
        ("abc", "not one string"),
        (5, "must be a matrix"),
        ({"a": 1}, "takes an array"),
    ],
)
def test_vectors_that_cannot_be_read_are_named_with_what_converts_them(vectors: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        float_rows(vectors, "embeddings", ["i0", "i1", "i2"])


def test_model_inputs_and_queries_come_the_same_way() -> None:
    inputs = named_arrays({"x": torch.ones(2, 3, dtype=torch.int64), "y": pa.array([[1.0], [2.0]])})
    assert (inputs["x"].dtype, inputs["y"].shape) == (np.int64, (2, 1))
    with pytest.raises(ValueError, match="input 'mask': uint64 does not travel"):
        named_arrays({"mask": np.zeros((2, 2), np.uint64)})
    with pytest.raises(ValueError, match="inputs is empty"):
        named_arrays({})
    queries = search("p", vectors=torch.ones(4).bfloat16()).request.vectors  # type: ignore[attr-defined]
    assert (queries.rows, queries.cols) == (1, 4)


def test_errors_of_a_stream_count_rows_over_all_batches() -> None:
    good = SampleBatch(["a", "b"], np.ones((2, 2)))
    bad = SampleBatch(["c", "d"], np.ones((2, 2)), labels=["x", 1.5])
    with pytest.raises(TypeError, match=r"labels\[3\] \(id 'd'\) is 1.5, a float"):
        list(add_batches("p", [good, bad]).messages())


# --- numbers, and what is falsy --------------------------------------------------------------------------------------


@given(st.integers(-(2**31), 2**31 - 1))
def test_whole_numbers_of_any_library_are_the_same(number: int) -> None:
    for given_number in (number, float(number), np.int64(number), np.float64(number), pa.scalar(number)):
        assert whole(given_number, "size") == number


@pytest.mark.parametrize("wrong", ["5", None, 5.5, [5], np.nan, pd.NA])
def test_what_is_no_whole_number_is_named(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="size is a whole number"):
        mine("p", wrong)


def test_numpy_numbers_are_numbers_in_plans() -> None:
    told = Plan(scores=[scorer("x", n=np.int64(5), f=np.float32(0.5), deep=[np.int8(1)])]).to_dict()
    assert told["scores"][0]["params"] == {"n": 5, "f": 0.5, "deep": [1]}
    for wrong, error in ((np.nan, "is nan"), (2**60, r"2\*\*53"), (object(), "no word for")):
        with pytest.raises((TypeError, ValueError), match=rf"parameter 'n' of 'x'.*{error}"):
            Plan(scores=[scorer("x", n=wrong)]).to_dict()


def test_what_is_falsy_travels_as_it_is() -> None:
    requests: list[Any] = [
        search("p", vectors=[1.0], k=0).request,
        train_head("p", members=0, folds=0).request,
        next_batch("p", "ann", 0, ttl=0).request,
    ]
    found, trained, leased = requests
    assert found.HasField("k")
    assert found.k == 0
    assert trained.HasField("members")
    assert trained.HasField("folds")
    assert leased.HasField("ttl")
    (term,) = Plan.from_dict(Plan(scores=[scorer("margin", strength=0)]).to_dict()).scores
    assert term.strength == 0
    assert (attr("n") == np.int64(0)).to_proto().compare.value.int64_value == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: next_batch("p", "", 1),
        lambda: annotate("p", {"a": "b"}, ""),
        lambda: mine("p", 1, request_id=""),
        lambda: create_pool("p", request_id=""),
        lambda: release_lease(Lease("pools/p/leases/l", 1), []),
        lambda: add_samples("p", [""], embeddings=[[1.0]]),
        lambda: add_samples("p", ["a"], embeddings=[[1.0]], labels=[""]),
        lambda: add_samples("p", ["a"], embeddings=[[1.0]], payloads=["a"], media_type=""),
        lambda: add_samples("p", ["a"], inputs={}),
    ],
)
def test_an_empty_text_is_not_taken_for_none(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="empty"):
        call()


@given(st.lists(st.none() | st.integers() | st.uuids() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1)))
def test_no_text_is_lost_or_changed(values: list[Any]) -> None:
    expected = [None if value is None else str(value) for value in values]
    assert optional_texts(values, Place("labels")) == expected
    assert optional_texts(np.array([*values, 0], dtype=object)[:-1], Place("labels")) == expected
    if None not in values:
        assert texts(values, Place("ids")) == expected


def test_an_attribute_column_of_nothing_is_none() -> None:
    assert attribute_column("n", pd.Series([None, np.nan])) is None


def test_the_base_client_imports_none_of_these_libraries() -> None:
    heavy = ("pandas", "pyarrow", "torch", "polars")
    code = f"import sys, assay.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("tensor", "error"),
    [
        (torch.ones(2, 2, device="meta"), "meta device"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(2)]), "to_padded_tensor"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged), "to_padded_tensor"),
    ],
)
def test_tensors_without_rows_of_numbers_are_refused(tensor: Any, error: str) -> None:
    with pytest.raises(TypeError, match=error):
        float_rows(tensor, "embeddings")


def test_views_of_tensors_and_of_mappings_are_vectors() -> None:
    negative = torch._neg_view(torch.ones(2, 2))
    assert float_rows(negative, "embeddings").tolist() == [[-1, -1], [-1, -1]]
    by_id = {"a": VECTORS_ND[0], "b": VECTORS_ND[1]}
    assert np.array_equal(float_rows(by_id.values(), "embeddings"), VECTORS_ND[:2])


def test_tables_of_arrow_are_read_by_position_and_refused_by_id() -> None:
    twice = pa.table([pa.array([1.0, 2.0]), pa.array([3.0, 4.0])], names=["x", "x"])
    assert float_rows(twice, "embeddings").tolist() == [[1, 3], [2, 4]]
    with pytest.raises(ValueError, match="two columns of the name 'x'"):
        message(ids=["a", "b"], embeddings=twice, attributes=twice)
    gap = pa.table({"x": [1.0, None]})
    with pytest.raises(ValueError, match=r"embeddings 'x'\[1\] \(id 'b'\) is missing"):
        float_rows(gap, "embeddings", ["a", "b"])


def test_a_lazy_frame_is_refused_with_what_reads_it() -> None:
    with pytest.raises(TypeError, match=r"give embeddings\.collect\(\)"):
        float_rows(pl.DataFrame({"x": [1.0]}).lazy(), "embeddings")


def _endless() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["in"] = loop
    return loop


def _deep() -> Any:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize("payload", [_endless(), _deep()], ids=["endless", "deep"])
def test_payloads_that_are_nested_without_end_are_named(payload: Any) -> None:
    with pytest.raises(ValueError, match=r"payloads\[1\] \(id 'b'\) is nested too deeply"):
        message(ids=["a", "b"], embeddings=VECTORS_ND[:2], payloads=[{}, payload])


def test_text_json_is_json_too() -> None:
    assert is_json("text/json; charset=utf-8")
    with pytest.raises(ValueError, match="NaN is no value of JSON"):
        message(ids=["a"], embeddings=VECTORS_ND[:1], payloads=["NaN"], media_type="text/json")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: next_batch("p", "ann", 1, ttl=1e300), "ttl is 1e\\+300 seconds"),
        (lambda: next_batch("p", "ann", 1, seed=-1), "seed is from 0"),
        (lambda: mine("p", 1, seed=2**70), "seed is from 0"),
        (lambda: next_batch("p", "ann", 2**40), "size is from"),
        (lambda: next_batch("p", "ann", True), "size is a whole number, not True"),
        (lambda: next_batch("p", "ann", 1, plan={}), "Plan.from_dict"),  # type: ignore[arg-type]
        (lambda: next_batch("p", "ann", 1, plan=0), "a plan is .* not 0, an int"),  # type: ignore[arg-type]
        (lambda: search("p", vectors=[1.0], where=False), "where is a filter"),  # type: ignore[arg-type]
        (lambda: release_lease("pools/p/leases/l"), "fencing_token"),  # type: ignore[arg-type]
        (lambda: annotate("p", {"a": "b"}, "ann", lease="x"), "fencing_token"),  # type: ignore[arg-type]
        (lambda: get_sample(None, "a"), "pool is missing"),  # type: ignore[arg-type]
        (lambda: create_pool(0.5), "pool_id is 0.5, a float"),  # type: ignore[arg-type]
        (lambda: add_samples("p", ["a"], inputs=[VECTORS_ND]), "inputs are arrays by"),  # type: ignore[arg-type]
        (lambda: upload_backbone("p", b"x", data_files=[b"y"]), "data_files are files by"),  # type: ignore[arg-type]
    ],
)
def test_an_argument_of_the_wrong_kind_is_named(call: Callable[[], Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        call()


def test_json_that_cannot_be_sent_is_named() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for value, problem in ((deep, "nested too deeply"), ({"\ud800": 1}, "UTF-8"), (["\udfff"], "UTF-8")):
        with pytest.raises(ValueError, match=rf"id 'a'.*{problem}"):
            annotation_messages({"a": Json(value)})
