"""Tables as requests: what is read of them, in which order it is said, and what is refused."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from assay.client import AsyncClient, Client
from assay.client._importing import _Stored, import_annotations
from assay.v1 import annotations_pb2
from tests.client.scripted import Refusal, scripted

Requests = list[annotations_pb2.AnnotateRequest]


def requests(source: Any, **options: Any) -> Requests:
    """All requests of an import."""
    steps = import_annotations("p", source, **options).steps()
    found: Requests = []
    try:
        step = next(steps)
        while True:
            found.append(step.request)  # type: ignore[arg-type]
            step = steps.send(_Stored(1, 0, 0))
    except StopIteration:
        return found


def test_events_of_one_sample_keep_their_order_and_others_go_together() -> None:
    records = [
        {"sample_id": "a", "class_name": "x", "worker": "ann", "kind": "annotate"},
        {"sample_id": "a", "class_name": "y", "worker": "bob", "kind": "annotate"},
        {"sample_id": "b", "class_name": "x", "worker": "ann", "kind": "annotate"},
        {"sample_id": "a", "class_name": None, "worker": "", "kind": "resolve"},
        {"sample_id": "a", "class_name": "y", "worker": "ann", "kind": "correct"},
        {"sample_id": "b", "class_name": "x", "worker": "bob", "kind": "annotate", "origin": "model"},
    ]
    told = [(each.worker, each.correct, [one.sample_id for one in each.annotations]) for each in requests(records)]
    assert told == [
        ("ann", False, ["a", "b"]),
        ("bob", False, ["a"]),
        ("bob", False, ["b"]),
        ("ann", True, ["a"]),
    ]
    origins = [each.origin for each in requests(records)]
    imported, model = annotations_pb2.ORIGIN_IMPORT, annotations_pb2.ORIGIN_MODEL
    assert origins == [imported, imported, model, imported]
    ids = [each.request_id for each in requests(records)]
    assert len(set(ids)) == 4
    assert ids == [each.request_id for each in requests(records)]


def test_who_imports_hears_how_far_it_is() -> None:
    records = [{"id": each, "label": "x", "worker": worker, "kind": "annotate"} for each in "abc" for worker in "vw"]
    derived = {"id": "a", "label": None, "worker": "", "kind": "resolve"}
    heard: list[tuple[int, int]] = []
    # One request a worker, of which the script stores one event each.
    requests([*records, derived], progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1, 6), (2, 6)]


SAID = datetime(2026, 1, 31, 12, 0, 0, 250, tzinfo=UTC)
COLUMNS = {
    "id": [0, 1],
    "label": [1, 0],
    "worker": ["ann", "ann"],
    "confidence": [0.0, math.nan],
    "duration": [1.5, math.nan],
    "time": [SAID, None],
    "comment": ["tiny", None],
}


@pytest.mark.parametrize(
    "source",
    [
        COLUMNS,
        pd.DataFrame(COLUMNS),
        pd.DataFrame(COLUMNS).convert_dtypes(),
        pa.table({**COLUMNS, "confidence": [0.0, None], "duration": [1.5, None]}),
        [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)],
    ],
    ids=["columns", "pandas", "pandas-nullable", "arrow", "records"],
)
def test_every_kind_of_table_says_the_same(source: Any) -> None:
    (request,) = requests(source)
    one, other = request.annotations
    assert (one.sample_id, one.value.class_name, other.sample_id, other.value.class_name) == ("0", "1", "1", "0")
    assert (one.confidence, one.comment, one.duration.ToMilliseconds()) == (0, "tiny", 1500)
    assert one.time.ToDatetime(UTC) == SAID
    assert not any(other.HasField(name) for name in ("confidence", "duration", "time"))


BOX = {"class_name": "car", "x": 0.0, "y": 0.25, "w": 1.0, "h": 0.5}


@pytest.mark.parametrize(
    ("column", "cell", "kind"),
    [
        ("class_names", ["a", "b"], "class_names"),
        ("class_names", np.array(["a", "b"]), "class_names"),
        ("class_names", "[]", "class_names"),
        ("numbers", {"rent": 1}, "numbers"),
        ("numbers", '{"rent": 1}', "numbers"),
        ("boxes", [BOX], "boxes"),
        ("boxes", np.array([{**BOX, "score": math.nan, "attributes": '{"parked": false}'}], object), "boxes"),
        ("spans", [{"class_name": "name", "start": 0, "end": 3}], "spans"),
        ("json", "null", "json"),
        ("label", ["a"], "class_names"),
        ("label", {"rent": 1.5}, "numbers"),
    ],
)
def test_cells_of_every_task_are_read(column: str, cell: Any, kind: str) -> None:
    frame = pd.DataFrame({"sample_id": ["s"], column: pd.Series([cell], dtype=object)})
    for source in (frame, {"sample_id": ["s"], column: [cell]}):
        (request,) = requests(source, worker="ann")
        assert request.annotations[0].value.WhichOneof("kind") == kind


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ({"id": ["a"], "label": ["x"]}, "record 0 \\(id 'a'\\) names no worker"),
        ({"id": ["a"], "worker": ["w"]}, "no record has a field 'label' or 'class_name'"),
        ({"id": ["a", "a"], "label": ["x", "y"], "worker": ["w", "w"]}, "'w' labeled the sample twice"),
        ({"id": ["a"], "label": [None], "worker": ["w"]}, "label\\[0\\] \\(id 'a'\\) is missing"),
        ({"id": [0.5], "label": ["x"], "worker": ["w"]}, "id\\[0\\] is 0.5, a float"),
        ({"id": ["a"], "label": ["x"], "worker": ["w"], "kind": ["dream"]}, "of the kind 'dream'"),
        ({"id": ["a"], "label": ["x"], "worker": ["w"], "time": ["noon"]}, "the time of label\\[0\\].*'noon'"),
        ({"id": ["a"], "label": ["x"], "worker": ["w"], "time": [datetime(2026, 1, 1)]}, "has no time zone"),
        ({"id": ["a"], "label": ["x"], "worker": ["w"], "confidence": ["high"]}, "the confidence of .* no number"),
        ({"id": ["a"], "class_names": ["{"], "worker": ["w"]}, "which is no JSON"),
        ({"id": ["a"], "boxes": [[{"x": 1}]], "worker": ["w"]}, "which has no 'class_name'"),
        ({"id": ["a"], "boxes": [["car"]], "worker": ["w"]}, "an object is needed"),
        ({"id": ["a"], "numbers": [[1]], "worker": ["w"]}, "a mapping from target to number is needed"),
        ({"id": ["a", "b"], "label": ["x"]}, "columns of different lengths"),
        ([{"id": "a"}, 7], "not a list with an int at 1"),
        (7, "a path, a table or a list of records, not an int"),
        ([], "there are no records|no record has a field"),
    ],
)
def test_what_is_wrong_is_said_by_record(source: Any, word: str) -> None:
    with pytest.raises((TypeError, ValueError), match=word):
        requests(source)


def test_an_import_that_breaks_off_says_what_is_stored_and_goes_on_with_the_same_ids() -> None:
    records = [{"id": "a", "label": "x", "worker": name} for name in ("ann", "bob")]
    done = annotations_pb2.AnnotateResponse(stored=1)
    full = Refusal(grpc.StatusCode.FAILED_PRECONDITION, reason="SAMPLE_LEASED")
    with scripted(Annotate=[done, full, done, done]) as script, Client(script.target) as client:
        with pytest.raises(Exception, match="SAMPLE_LEASED") as caught:
            client.import_annotations("p", records)
        assert caught.value.stored == 1  # type: ignore[attr-defined]
        assert client.import_annotations("p", records).stored == 2
    ids = [call.request.request_id for call in script.seen]
    assert ids[:2] == ids[2:]


async def test_the_client_of_asyncio_imports_too() -> None:
    done = annotations_pb2.AnnotateResponse(stored=1, lease_remaining=3)
    with scripted(Annotate=[done]) as script:
        async with AsyncClient(script.target) as client:
            result = await client.import_annotations("p", {"id": ["a"], "label": ["x"]}, worker="ann")
    assert (result.stored, result.lease_remaining) == (1, 3)


def test_what_was_taken_back_is_said_and_taken_back_and_what_was_undone_is_not_said() -> None:
    kinds = ["annotate", "withdraw", "skip", "resume", "annotate", "skip"]
    workers = ["ann", "ann", "bob", "bob", "bob", "cy"]
    records = {"id": ["a"] * 6, "kind": kinds, "worker": workers, "by": ["", "boss", "", "", "", ""]}
    records |= {"label": ["x", None, None, None, "y", None], "comment": ["", "no", "dark", "", "", "blurred"]}
    first, second, third, fourth = requests(records)
    assert isinstance(second, annotations_pb2.WithdrawAnnotationsRequest)
    assert (second.worker, second.annotator, second.reason, second.sample_ids) == ("boss", "ann", "no", ["a"])
    assert isinstance(fourth, annotations_pb2.SkipSamplesRequest)
    assert (fourth.worker, fourth.reason) == ("cy", "blurred")
    assert [first.worker, third.worker] == ["ann", "bob"]


@pytest.mark.parametrize("number", [int, float, str])
def test_what_an_undo_brought_back_is_as_old_as_it_was(number: Callable[[int], object]) -> None:
    def told(*cells: int | None) -> list[object]:
        return [None if cell is None else number(cell) for cell in cells]

    records = {
        "id": ["a"] * 6,
        "kind": ["annotate", "annotate", "correct", "correct", "withdraw", "annotate"],
        "worker": ["ann", "bob", "ann", "ann", "ann", "ann"],
        "label": ["x", "y", "z", "x", None, "x"],
        "event": told(3, 4, 5, 6, 8, 9),
        "supersedes": told(None, None, 3, 5, 6, 8),
        "undoes": told(None, None, None, 5, None, 8),
    }
    assert [request.worker for request in requests(records)] == ["ann", "bob"]
    shorter = {name: cells[3:] for name, cells in records.items()}
    assert len(requests(shorter)) == 1, "what was undone is not there"
