"""Columns are checked before anything is sent, and cut into messages that a server takes."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.client import SampleBatch
from assay.client._arrays import from_matrix
from assay.client._attributes import attribute_column
from assay.client._ingest import MAX_ROWS, MESSAGE_BYTES, _columns, add_batches, add_samples, cut
from assay.v1 import pools_pb2


def batches(upload: Any) -> list[pools_pb2.SampleBatch]:
    header, *rest = upload.messages()
    assert header.WhichOneof("kind") == "header"
    return [message.batch for message in rest]


def rows(number: int, dimension: int = 4) -> dict[str, Any]:
    return {
        "ids": [f"s{row}" for row in range(number)],
        "embeddings": np.arange(number * dimension, dtype=np.float32).reshape(number, dimension),
    }


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 10), st.integers(1, 100))
def test_cuts_are_complete_and_within_limits(sizes: list[int], most: int, limit: int) -> None:
    sizes_N = np.array(sizes, dtype=np.int64)
    parts = list(cut(sizes_N, most, limit))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(len(sizes)))
    for part in parts:
        length = part.stop - part.start
        assert 1 <= length <= most
        assert length == 1 or sizes_N[part].sum() <= limit
    for part, following in pairwise(parts):
        full = part.stop - part.start == most
        assert full or sizes_N[part].sum() + sizes_N[following.start] > limit


def test_every_column_travels_and_is_cut_alike() -> None:
    upload = add_samples(
        "news",
        **rows(5),
        uris=[f"file:{row}" for row in range(5)],
        payloads=["null", "eins", None, "drei", "vier"],
        attributes={"lang": ["en", None, "de", "de", "en"], "n": np.arange(5)},
        labels=["a", None, "b", None, "a"],
        predictions=np.full((5, 2), 0.5),
        on_conflict="skip",
        request_id="r",
        batch_size=2,
    )
    header = next(iter(upload.messages())).header
    assert (header.parent, header.on_conflict, header.request_id) == ("pools/news", pools_pb2.ON_CONFLICT_SKIP, "r")
    first, second, third = batches(upload)
    assert [list(part.ids) for part in (first, second, third)] == [["s0", "s1"], ["s2", "s3"], ["s4"]]
    np.testing.assert_array_equal(from_matrix(second.embeddings), [[8, 9, 10, 11], [12, 13, 14, 15]])
    assert list(second.uris) == ["file:2", "file:3"]
    assert list(second.payloads) == [b"", b"drei"]
    assert second.payload_media_type == "text/plain"
    assert [each.class_name for each in first.labels] == ["a", ""]
    lang, n = first.attributes
    assert (lang.name, list(lang.strings.values), list(lang.present)) == ("lang", ["en", ""], [True, False])
    assert (n.name, list(n.int64s.values), list(n.present)) == ("n", [0, 1], [])
    assert third.predictions.rows == 1


def test_model_inputs_travel_instead_of_embeddings() -> None:
    tokens = np.arange(6, dtype=np.int64).reshape(3, 2)
    (batch,) = batches(add_samples("news", ["a", "b", "c"], inputs={"input_ids": tokens}))
    assert not batch.HasField("embeddings")
    assert batch.inputs[0].data == tokens.tobytes()


def test_large_samples_make_small_messages() -> None:
    wide = np.zeros((20, 300_000), np.float32)
    messages = batches(add_samples("news", [str(row) for row in range(20)], embeddings=wide))
    assert len(messages) > 1
    assert all(message.ByteSize() <= MESSAGE_BYTES for message in messages)


def test_large_payloads_make_small_messages() -> None:
    number = 400
    texts = ["ü" * 30_000 if row % 2 else "" for row in range(number)]
    messages = batches(add_samples("news", **rows(number), payloads=texts))
    assert all(message.ByteSize() <= MESSAGE_BYTES for message in messages)
    assert sum(len(message.ids) for message in messages) == number


@given(st.lists(st.text(min_size=1, max_size=200), min_size=1, max_size=30), st.booleans())
def test_estimated_sizes_are_never_too_small(texts: list[str], numbers: bool) -> None:
    """A message over the server's limit is refused, so the estimate has to err upwards."""
    number = len(texts)
    attributes = {"text": texts, "n": [-1] * number, "x": [0.5] * number} if numbers else {"text": texts}
    upload = add_samples("p", **rows(number) | {"ids": texts}, uris=texts, labels=texts, attributes=attributes)
    (message,) = batches(upload)
    limit = 200 + sum(len(name) + 20 for name in attributes)
    batch = SampleBatch(texts, rows(number)["embeddings"], uris=texts, labels=texts, attributes=attributes)
    estimate = _columns(batch).row_bytes()
    assert message.ByteSize() <= int(estimate.sum()) + limit


@pytest.mark.parametrize(
    ("payloads", "media_type", "sent"),
    [
        (["a", "b"], None, "text/plain"),
        ([{"a": 1}, None], None, "application/json"),
        ([b"\x89PNG", b""], "image/png", "image/png"),
        (["<p>", b"<b>"], "text/html", "text/html"),
        ([None, None], None, ""),
    ],
)
def test_media_types(payloads: list[Any], media_type: str | None, sent: str) -> None:
    (batch,) = batches(add_samples("p", **rows(2), payloads=payloads, media_type=media_type))
    assert batch.payload_media_type == sent


def test_json_payloads_are_compact_utf8() -> None:
    (batch,) = batches(add_samples("p", **rows(1), payloads=[{"text": "süß", "n": [1, 2]}]))
    assert batch.payloads[0] == '{"text":"süß","n":[1,2]}'.encode()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"embeddings": None}, "either embeddings or inputs"),
        ({"inputs": {"x": np.zeros((2, 1))}}, "either embeddings or inputs"),
        ({"embeddings": np.zeros((3, 4))}, "embeddings has 3 entries for 2 ids"),
        ({"embeddings": np.zeros(2)}, "must be a matrix"),
        ({"labels": ["a"]}, "labels has 1 entries for 2 ids"),
        ({"attributes": {"n": [1]}}, "attribute 'n' has 1 entries"),
        ({"attributes": {"n": [1, "a"]}}, "mixes int, str"),
        ({"attributes": {"n": [1, True]}}, "mixes bool, int"),
        ({"attributes": {"n": [b"a", b"b"]}}, r"attribute 'n'\[0\] \(id 's0'\) is b'a', a bytes"),
        ({"payloads": ["a", {}]}, "payloads mix application/json, text/plain"),
        ({"ids": "ab"}, "not one string"),
        ({"on_conflict": "keep"}, "'keep' is none of error, replace, skip"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": MAX_ROWS + 1}, "batch_size"),
        ({"pool": "a/b"}, "is no pool"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(wrong: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        add_samples(**{"pool": "p", **rows(2), **wrong})


def test_whole_numbers_beside_others_become_floats() -> None:
    column = attribute_column("x", [1, None, 0.5, np.float32(2)])
    assert column is not None
    message = column.message(slice(0, 4))
    assert list(message.doubles.values) == [1.0, 0.0, 0.5, 2.0]
    assert list(message.present) == [True, False, True, True]


def test_an_attribute_that_no_sample_has_is_left_out() -> None:
    (batch,) = batches(add_samples("p", **rows(2), attributes={"n": [None, None]}))
    assert not batch.attributes


def test_progress_counts_what_was_taken() -> None:
    heard: list[tuple[int, int]] = []
    upload = add_samples("p", **rows(5), batch_size=2, progress=lambda *seen: heard.append(seen))
    batches(upload)
    assert heard == [(2, 5), (4, 5), (5, 5)]


def test_only_sources_that_start_over_are_sent_again() -> None:
    listed = [SampleBatch(**rows(2)), SampleBatch(**rows(3))]

    def generated() -> Iterator[SampleBatch]:
        yield from listed

    again = add_batches("p", listed)
    assert again.restartable
    assert batches(again) == batches(again)
    assert [len(batch.ids) for batch in batches(again)] == [2, 3]
    assert not add_batches("p", generated()).restartable
    assert add_samples("p", **rows(1)).restartable
