"""Tasks of pools: what Python says of one is what travels, and comes back."""

from typing import Any

import numpy as np
import pytest

from assay.client import Boxes, Class, Classification, Freeform, MultiLabel, Regression, Spans, Target, edit_classes
from assay.client.tasks import edited_message, task_from_proto, task_message
from assay.v1 import tasks_pb2

PAIR = (Class(0, "a"), Class(1, "b"))


def served(task: Any) -> Any:
    """A task as a server gives it back: its classes have ids."""
    message = task_message(task)
    kind = getattr(message, message.WhichOneof("kind"))
    for number, each in enumerate(getattr(kind, "classes", ())):
        each.id = number
    return task_from_proto(message)


@pytest.mark.parametrize(
    ("given", "back"),
    [
        (Classification(["a", "b"]), Classification(PAIR)),
        (Classification(), Classification(())),
        (MultiLabel(("a", "b")), MultiLabel(PAIR)),
        (Boxes(PAIR), Boxes(PAIR)),
        (Spans(np.array(["a", "b"]), disjoint=True), Spans(PAIR, disjoint=True)),
        (
            Regression(["rent", Target("rooms", minimum=0, maximum=9.5)]),
            Regression((Target("rent"), Target("rooms", 0.0, 9.5))),
        ),
        (Freeform(), Freeform()),
        (Classification([0, 1]), Classification((Class(0, "0"), Class(1, "1")))),
    ],
)
def test_a_task_comes_back(given: Any, back: Any) -> None:
    assert served(given) == back


def test_what_became_of_a_class_is_told() -> None:
    gone = tasks_pb2.Class(id=3, name="c", retired=True, merged_into=0)
    message = tasks_pb2.Task(multilabel=tasks_pb2.MultilabelTask(classes=[gone]))
    assert task_from_proto(message) == MultiLabel((Class(3, "c", retired=True, merged_into=0),))
    assert task_from_proto(tasks_pb2.Task()) is None


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ("classification", "a task is one such as"),
        (Classification("ab"), "classes"),
        (Classification(["a", None]), r"classes\[1\]"),
        (Regression([Target("rent", minimum=float("nan"))]), "the minimum of 'rent'"),
        (Regression([""]), "target"),
    ],
)
def test_what_is_no_task_is_refused_before_it_is_sent(task: Any, problem: str) -> None:
    with pytest.raises((TypeError, ValueError), match=problem):
        task_message(task)


def test_classes_are_edited_by_name() -> None:
    task = Classification((*PAIR, Class(2, "c", True)))
    edited = edit_classes(
        task, add=["d", "e"], rename={"a": "A"}, restore=["c"], merge={"b": "d"}, order=["e", "c", "A", "d"]
    )
    assert edited == Classification(["e", Class(2, "c"), Class(0, "A"), "d", Class(1, "b", True, 4)])
    message = edited_message(Classification(["e", Class(1, "b", True, 0), Class(0, "A")]))
    classes = message.classification.classes
    assert [each.HasField("id") for each in classes] == [False, True, True]
    assert [each.HasField("merged_into") for each in classes] == [False, True, False]


@pytest.mark.parametrize(
    ("edits", "word"),
    [
        ({"retire": ["x"]}, "'x' is no class"),
        ({"retire": ["c"]}, "retired already"),
        ({"retire": ["a", "a"]}, "retired already"),
        ({"restore": ["a"]}, "in use"),
        ({"merge": {"a": "a"}}, "into itself"),
        ({"merge": {"a": "x"}}, "'x' is no class"),
        ({"rename": {"x": "y"}}, "'x' is no class"),
        ({"order": ["a"]}, "each class in use once"),
        ({"order": ["a", "b", "c"]}, "each class in use once"),
    ],
)
def test_an_edit_that_makes_no_sense_is_refused(edits: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        edit_classes(Classification((*PAIR, Class(2, "c", True))), **edits)


def test_a_task_without_classes_has_none_to_edit() -> None:
    with pytest.raises(ValueError, match="has no classes"):
        edit_classes(Freeform(), add=["a"])
    with pytest.raises(ValueError, match="only classes can"):
        edited_message(Freeform())
