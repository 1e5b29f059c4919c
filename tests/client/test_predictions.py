"""What of predictions is sent, from whatever holds them, and what is not sent at all."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from assay.client import Box, Boxes, Class, MultiLabel, PredictedObjects, Regression, Spans, Target
from assay.client._arrays import from_matrix
from assay.client._predictions import update_predictions
from assay.client.cli.predictions import _parts

PROBS = np.array([[0.75, 0.25], [0, 1]])


def sent(ids=("a", "b"), **predictions):
    return update_predictions("zoo", "mine", ids, **predictions).request


def test_columns_are_named_by_the_caller_or_the_frame():
    assert list(sent(probabilities=PROBS).columns) == []
    assert list(sent(probabilities=PROBS, columns=["ant", "bee"]).columns) == ["ant", "bee"]
    frame = pd.DataFrame(PROBS, columns=["ant", "bee"])
    for table in (frame, pa.Table.from_pandas(frame)):
        request = sent(probabilities=table)
        assert list(request.columns) == ["ant", "bee"]
        np.testing.assert_array_equal(from_matrix(request.probabilities), PROBS)
    assert list(sent(probabilities=pd.DataFrame(PROBS)).columns) == [], "places are no names"


def test_numbers_go_with_their_spread():
    numbers = sent(numbers=PROBS, spread=PROBS / 2).numbers
    np.testing.assert_array_equal(from_matrix(numbers.spread), PROBS / 2)
    assert not sent(numbers=PROBS).numbers.HasField("spread")


def test_objects_are_flattened():
    made = PredictedObjects.of([[], [((0.1, 0.2, 0.3, 0.4), {"bee": 0.5})]], classes=["ant", "bee"])
    drawn = PredictedObjects.of([[], [Box("bee", 0.1, 0.2, 0.3, 0.4, score=0.5)]], classes=["ant", "bee"])
    request = sent(objects=made, request_id="once")
    assert sent(objects=drawn, request_id="once") == request
    assert list(request.columns) == ["ant", "bee"]
    assert list(request.objects.offsets) == [0, 0, 1]
    assert from_matrix(request.objects.probabilities).tolist() == [[0, 0.5]]
    assert from_matrix(request.objects.boxes).tolist() == [[0.1, 0.2, 0.3, 0.4]]
    spans = sent(objects=PredictedObjects([0, 1, 2], PROBS, spans=[[0, 4], [2, 3]])).objects.spans
    assert (list(spans.starts), list(spans.ends)) == ([0, 2], [4, 3])


@pytest.mark.parametrize(
    ("predictions", "problem"),
    [
        ({}, "exactly one of"),
        ({"probabilities": PROBS, "numbers": PROBS}, "exactly one of"),
        ({"probabilities": PROBS, "spread": PROBS}, "spread goes with numbers"),
        ({"probabilities": PROBS[:1]}, "1 rows for 2 ids"),
        ({"probabilities": PROBS, "ids": ()}, "1 to 65,536 samples"),
        ({"objects": PredictedObjects([0, 1, 2], PROBS)}, "boxes or spans"),
        ({"objects": PredictedObjects([0, 2], PROBS, spans=[[0, 4], [2, 3]])}, "3 whole numbers"),
        ({"objects": PredictedObjects([0, 1, 2], PROBS, spans=[[0.5, 4], [2, 3]])}, "whole numbers"),
    ],
)
def test_what_cannot_be_read_is_not_sent(predictions, problem):
    with pytest.raises(ValueError, match=problem):
        sent(**predictions)


def test_objects_are_all_boxes_or_all_spans():
    with pytest.raises(ValueError, match="every object"):
        PredictedObjects.of([[((0, 1), {}), ((0, 0, 1, 1), {})]], classes=["ant"])
    with pytest.raises(ValueError, match="no score"):
        PredictedObjects.of([[Box("ant", 0, 0, 1, 1)]], classes=["ant"])
    with pytest.raises(ValueError, match="not among classes"):
        PredictedObjects.of([[((0, 1), {"cow": 1.0})]], classes=["ant"])


def parts(path, content, task):
    path.write_text("".join(json.dumps(record) + "\n" for record in content))
    return list(_parts(path, None, task))


def test_files_are_read_by_the_pool_s_task(tmp_path):
    path, classes = tmp_path / "said.jsonl", [Class(0, "ant"), Class(1, "bee")]
    (part,) = parts(path, [{"id": "a", "rent_spread": 2, "rent": 1}], Regression([Target("rent"), Target("age")]))
    assert (part["ids"], part["columns"]) == (["a"], ["rent"])
    assert (part["numbers"].tolist(), part["spread"].tolist()) == ([[1]], [[2]])
    box = {"class_name": "bee", "x": 0, "y": 0, "w": 1, "h": 1, "score": 0.5}
    (part,) = parts(path, [{"id": "a", "boxes": [box]}, {"id": "b", "boxes": []}], Boxes(classes))
    assert (part["objects"].offsets, part["objects"].probabilities.tolist()) == ([0, 1, 1], [[0, 0.5]])
    span = {"class_name": "ant", "start": 2, "end": 3, "score": 0.25}
    (part,) = parts(path, [{"id": "a", "spans": [span]}], Spans(classes))
    assert (part["objects"].spans.tolist(), part["objects"].probabilities.tolist()) == ([[2, 3]], [[0.25, 0]])
    for content, problem in (
        ({"id": "a", "cat": 1}, "no record has a field of ant, bee"),
        ({"id": "a", "ant": "much"}, "no number"),
    ):
        with pytest.raises(ValueError, match=problem):
            parts(path, [content], MultiLabel(classes))
