"""What a named source is worth on samples that are set apart."""

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.records.metrics import HeadMetrics
from assay.server.core.records.predictions import ObjectColumns, PredictionColumns
from assay.server.core.records.samples import AttributeColumn
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.base import Box, PredictionForm, Span
from tests.core.kit import POOL, House, add, names
from tests.core.of_tasks import open_pool, say
from tests.core.predictions import FORMS, made, push

SPLITS = AttributeColumn("string", ["test", "test", "train", "validation"])


def measured(core: Assay) -> dict[str, HeadMetrics]:
    """What the source "mine" is worth."""
    return core.measures.of(POOL, "mine")


def filled(house: House, kind: TaskKind) -> Assay:
    """A pool of four samples, three of them set apart."""
    core = open_pool(house, kind)
    add(core, names(0, 4), attributes={"split": SPLITS})
    return core


def placed(rows: list[list[tuple[float, ...]]], classes: list[list[float]], places: int) -> PredictionColumns:
    """Objects of samples by their places, and the probabilities of all."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    flat = [place for row in rows for place in row]
    kind = np.float32 if places == 4 else np.int64
    return PredictionColumns(
        objects=ObjectColumns(offsets, np.array(classes, np.float32), np.array(flat, kind).reshape(-1, places))
    )


def test_boxes_are_matched_by_their_overlap(house: House) -> None:
    core = filled(house, TaskKind.BOXES)
    assert measured(core) == {}, "no source"
    boxes = [[(0.1, 0.1, 0.2, 0.2), (0.5, 0.5, 0.4, 0.4)], [(0.6, 0.0, 0.2, 0.2)], [(0.0, 0.0, 0.5, 0.5)]]
    probs = [[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0.6, 0.3, 0], [1, 0, 0]]
    push(core, ["s0", "s1", "s2"], placed(boxes, probs, 4), form=PredictionForm.OBJECTS)
    assert measured(core) == {}, "nobody has said what is there"
    said = {
        "s0": (Box(0, 0.1, 0.1, 0.2, 0.2), Box(1, 0.52, 0.52, 0.4, 0.4)),
        "s1": (Box(0, 0.0, 0.0, 0.2, 0.2),),
        "s2": (),
        "s3": (Box(0, 0.0, 0.0, 0.2, 0.2),),
    }
    say(core, said)
    assert set(measured(core)) == {"test"}, "the one of validation is not predicted"
    test = measured(core)["test"]
    assert test.samples == 2
    # Of "ant" the surer one of two is right, and one of two is found: precision 1 up to a recall of a half.
    ant = 51 / 101
    assert test.value("map_50") == pytest.approx((ant + 1) / 2)
    assert {each.id: each.scores["average_precision"].value for each in test.classes if each.scores} == {
        0: pytest.approx(ant),
        1: pytest.approx(1.0),
    }


def test_spans_are_there_where_they_are_likelier_than_nothing(house: House) -> None:
    core = filled(house, TaskKind.SPANS)
    spans = [[(0, 4), (5, 9)], [(2, 3)]]
    push(core, ["s0", "s1"], placed(spans, [[0.6, 0, 0], [0.4, 0, 0], [0, 1, 0]], 2), form=PredictionForm.OBJECTS)
    say(core, {"s0": (Span(0, 0, 4),), "s1": (Span(1, 2, 3),)})
    assert measured(core)["test"].value("micro_f1") == 1


@pytest.mark.parametrize("kind", [TaskKind.CLASSIFICATION, TaskKind.MULTILABEL, TaskKind.REGRESSION])
def test_other_tasks_are_measured_as_heads_are(house: House, kind: TaskKind) -> None:
    core = filled(house, kind)
    columns = made(kind, 4)
    push(core, names(0, 4), columns, form=FORMS[kind])
    assert columns.values_NX is not None
    right = {
        TaskKind.CLASSIFICATION: lambda row: int(np.argmax(row)),
        TaskKind.MULTILABEL: lambda row: tuple(np.flatnonzero(row >= 0.5).tolist()),
        TaskKind.REGRESSION: lambda row: tuple(float(number) for number in row),
    }[kind]
    say(core, {f"s{place}": right(row) for place, row in enumerate(columns.values_NX)})
    name, best = {
        TaskKind.CLASSIFICATION: ("accuracy", 1),
        TaskKind.MULTILABEL: ("subset_accuracy", 1),
        TaskKind.REGRESSION: ("mae", 0),
    }[kind]
    found = measured(core)
    assert {split: (each.samples, each.value(name)) for split, each in found.items()} == {
        "test": (2, pytest.approx(best)),
        "validation": (1, pytest.approx(best)),
    }
