"""Pools of every kind of task through the client: what people say comes back as they said it, and what is wrong changes
nothing."""

import numpy as np
import pytest

from assay.client import AlreadyExists, AssayError, Classification
from assay.client.tasks import Boxes, Freeform, MultiLabel, Regression, Spans, Target
from assay.client.values import Annotation, Box, Json, Span

TEXT = "Ann met Bob in Rome."
TASKS = {
    "classification": (Classification(["ant", "bee"]), ["ant", "bee"]),
    "multilabel": (MultiLabel(["sad", "funny", "long"]), [("sad", "funny"), ()]),
    "regression": (
        Regression([Target("rent", minimum=0), "size"]),
        [{"rent": 0.0, "size": -2.5}, {"rent": 1e9, "size": 0.0}],
    ),
    "boxes": (Boxes(["car"]), [(Box("car", 0.0, 0.25, 1.0, 0.5, score=0.0, attributes={"parked": False}),), ()]),
    "spans": (Spans(["name"], disjoint=True), [(Span("name", 0, 3), Span("name", 8, 11)), ()]),
    "freeform": (Freeform(), [{"text": "", "ok": False}, None]),
}
WRONG = {
    "classification": ["cow", ["ant"], {"rent": 1}, Json(0)],
    "multilabel": ["sad", ["grim"], ["sad", "sad"], {"rent": 1}],
    "regression": [{"rent": -1, "size": 0}, {"rent": 1}, {"rent": float("nan"), "size": 0}, ["rent"]],
    "boxes": [
        [Box("car", 0.5, 0, 0.6, 1)],
        [Box("car", 0, 0, 0, 1)],
        [Box("car", float("nan"), 0, 1, 1)],
        [Box("bus", 0, 0, 1, 1)],
        "car",
    ],
    "spans": [
        [Span("name", 0, 99)],
        [Span("name", 3, 3)],
        [Span("name", 0, 3), Span("name", 2, 5)],
        [Span("town", 0, 1)],
    ],
    "freeform": ["no JSON"],
}


def fill(client, pool, task, count=4):
    """Samples "0", "1", ... of a text each."""
    client.create_pool(pool, task=task)
    vectors = np.random.default_rng(7).normal(size=(count, 4)).astype(np.float32)
    client.add_samples(pool, range(count), embeddings=vectors, payloads=[TEXT] * count)


def given(kind, value):
    """A value as it is handed in: JSON is marked as such."""
    return Json(value) if kind == "freeform" else value


@pytest.mark.parametrize("kind", TASKS)
def test_values_of_every_task_come_back_as_they_were_said(client, pool, kind):
    task, values = TASKS[kind]
    fill(client, pool, task)
    done = client.annotate(pool, {str(row): given(kind, value) for row, value in enumerate(values)}, "ann")
    assert (done.stored, done.labeled, done.disputed) == (2, 2, 0)
    assert [label.value for label in client.list_labels(pool)] == values
    assert client.get_sample(pool, "0").label == values[0]
    for wrong in WRONG[kind]:
        with pytest.raises((AssayError, TypeError, ValueError)) as caught:
            client.annotate(pool, [Annotation("2", given(kind, values[0])), Annotation("3", wrong)], "ann")
        assert "'3'" in str(caught.value), wrong
    assert client.get_pool(pool).counts.labeled == 2
    assert client.annotate(pool, {"1": given(kind, values[0])}, "ann", correct=True).stored == 1
    assert [label.value for label in client.list_labels(pool)] == [values[0], values[0]]


def test_an_external_id_stands_for_one_annotation(client, pool):
    fill(client, pool, Classification(["ant", "bee"]))
    said = Annotation("0", "ant", external_id="task-7", comment="tiny", confidence=0.0, duration=0.5)
    assert client.annotate(pool, [said], "ann").stored == 1
    assert client.annotate(pool, [said], "ann").unchanged == 1
    with pytest.raises(AlreadyExists) as caught:
        client.annotate(pool, [Annotation("1", "bee", external_id="task-7")], "ann")
    assert caught.value.reason == "EXTERNAL_ID_EXISTS"
    assert client.get_pool(pool).counts.labeled == 1


def test_the_work_of_a_person_is_not_refused_because_of_a_lock(client, pool):
    fill(client, pool, Classification(["ant", "bee"]))
    held = client.next_batch(pool, "bob", 1, plan="random")
    with pytest.raises(AssayError):
        client.annotate(pool, {held.ids[0]: "ant"}, "ann")
    assert client.annotate(pool, {held.ids[0]: "ant"}, "ann", on_behalf_of=True).stored == 1
    assert client.get_sample(pool, held.ids[0]).label == "ant"


@pytest.mark.parametrize("given", [1, np.int64(1), "1"])
def test_the_id_of_a_class_is_not_its_name(client, given):
    pool = f"numbered-{type(given).__name__.replace('_', '')}"
    fill(client, pool, Classification(["ant", "bee"]))
    with pytest.raises(AssayError, match="Classes are said by their names; the one with the id 1 is 'bee'"):
        client.annotate(pool, {0: given}, "ann")
    with pytest.raises(TypeError, match=r"is 1\.5, a float; text is needed"):
        client.annotate(pool, {"0": 1.5}, "ann")
    numbered = f"{pool}-names"
    fill(client, numbered, Classification([0, 1]))
    assert client.annotate(numbered, {0: given}, "ann").stored == 1
    assert client.get_sample(numbered, "0").label == "1"
