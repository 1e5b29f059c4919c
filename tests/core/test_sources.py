"""Named sources of predictions: what is pushed is what is read, across restarts, merges, deletions and damage."""

import random
from typing import Any

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason, RequestReplayed
from assay.server.core.pools.messages import UpdatePredictionsResult
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.pools.sources import Source
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.predictions import ObjectColumns, PredictionColumns
from assay.server.core.records.samples import OnConflict
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.base import PredictionForm
from tests.core.kit import (
    POOL,
    House,
    add,
    counts,
    fill,
    flip_byte,
    key,
    names,
    pool_of,
    probabilities,
    refused,
)
from tests.core.of_tasks import open_pool
from tests.core.predictions import FORMS, made, objects, push


def source_of(core: Assay, name: str = "mine") -> Source:
    """A source of the pool."""
    return pool_of(core).snapshot.sources[name]


def said(source: Source, row: int) -> Any:
    """What a source says of a row as plain numbers; None where it says nothing."""
    for opened, _, places in source.locate(np.array([row])):
        taken = opened.columns.taken(places)
        if taken.objects is None:
            assert taken.values_NX is not None
            spread = None if taken.spread_NX is None else taken.spread_NX[0].tolist()
            return taken.values_NX[0].tolist(), spread if spread is None or spread == spread else None
        return taken.objects.probs_PC.tolist(), taken.objects.places_PX.tolist()
    return None


def files_of(house: House) -> list[str]:
    """Files of predictions."""
    return sorted(file for file in house.files() if "/predictions/" in file)


def rows_of(core: Assay, ids: list[str]) -> RowArray:
    """Rows of samples."""
    return pool_of(core).snapshot.require(ids)


def listed(core: Assay) -> dict[str, int]:
    """How many samples each source predicts."""
    return {view.name: view.samples for view in core.sources.list(POOL)}


@pytest.mark.parametrize("kind", FORMS)
def test_any_course_of_changes_is_read_alike_after_merges_and_restarts(house: House, kind: TaskKind) -> None:
    rng, core = random.Random(kind), open_pool(house, kind)
    form, expected, step = FORMS[kind], dict[str, Any](), 0
    for step in range(40):
        ids = rng.sample(sorted(expected), min(len(expected), rng.randrange(1, 7)))
        match rng.randrange(9) if expected else 0:
            case 0:
                fresh = [f"s{step}-{i}" for i in range(rng.randrange(2, 8))]
                add(core, fresh)
                expected |= dict.fromkeys(fresh)
            case 1:
                core.samples.delete(POOL, ids, True, NO_KEY)
                for each in ids:
                    del expected[each]
            case 2:
                add(core, ids, on_conflict=OnConflict.REPLACE)
                expected |= dict.fromkeys(ids)
            case 3:
                house.merger().merge_once(pool_of(core))
            case 4:
                core = house.open()
            case _:
                columns = made(kind, len(ids), step)
                push(core, ids, columns, form=form)
                for place, each in enumerate(ids):
                    one = columns.taken(np.array([place]))
                    if one.objects is not None:
                        expected[each] = one.objects.probs_PC.tolist(), one.objects.places_PX.tolist()
                    else:
                        assert one.values_NX is not None
                        spread = None if one.spread_NX is None else one.spread_NX[0].tolist()
                        expected[each] = one.values_NX[0].tolist(), spread
        known = {each: value for each, value in expected.items() if value is not None}
        assert listed(core).get("mine", 0) == len(known)
        if known:
            source = source_of(core)
            got = {
                each: said(source, int(row)) for each, row in zip(expected, rows_of(core, list(expected)), strict=True)
            }
            assert got == expected
    while house.merger().merge_once(pool_of(core)):
        pass
    with house.catalog.reading() as tx:
        assert house.files() == {file.file for file in tx.segments(pool_of(core).snapshot.pool.uid)}


def test_objects_of_rows_come_in_the_order_asked(house: House) -> None:
    core = open_pool(house, TaskKind.BOXES)
    fill(core, 6)
    columns = objects([2, 0, 3])
    push(core, ["s4", "s2", "s1"], columns, form=PredictionForm.OBJECTS)
    push(core, ["s5"], objects([1], seed=1), form=PredictionForm.OBJECTS)
    found = source_of(core).objects(rows_of(core, ["s5", "s1", "s3", "s2", "s4"]), 3)
    assert found.offsets_O.tolist() == [0, 1, 4, 4, 4, 6]
    assert columns.objects is not None
    np.testing.assert_array_equal(found.probs_PC[4:], columns.objects.probs_PC[:2])
    np.testing.assert_array_equal(found.places_PX[1:4], columns.objects.places_PX[2:])
    assert source_of(core).known(rows_of(core, ["s2", "s3"])).tolist() == [True, False], "no object is a prediction too"


def test_what_is_said_anew_takes_its_files_away_at_once(house: House, core: Assay) -> None:
    fill(core, 40)
    result = push(core, names(0, 30), made(TaskKind.CLASSIFICATION, 30), request=key("once"))
    assert result == UpdatePredictionsResult(30, pool_of(core).snapshot.pool.epoch)
    push(core, names(20, 40), made(TaskKind.CLASSIFICATION, 20, 1))
    push(core, names(0, 5), made(TaskKind.CLASSIFICATION, 5), source="other")
    assert len(files_of(house)) == 3
    with pytest.raises(RequestReplayed):
        push(core, names(0, 30), made(TaskKind.CLASSIFICATION, 30), request=key("once"))
    push(core, names(0, 40), made(TaskKind.CLASSIFICATION, 40, 2))
    assert len(files_of(house)) == 2, "nothing of the first two is left to say"
    assert listed(core) == {"mine": 40, "other": 5}
    core.sources.delete(POOL, "mine", NO_KEY)
    assert (
        refused(Reason.SOURCE_NOT_FOUND, lambda: core.sources.delete(POOL, "mine", NO_KEY)).metadata["source"] == "mine"
    )
    assert listed(house.open()) == {"other": 5}
    assert len(files_of(house)) == 1


def test_merges_leave_out_what_nobody_asks_for(house: House, core: Assay) -> None:
    fill(core, 40)
    for start in range(0, 40, 8):
        push(core, names(start, start + 8), made(TaskKind.CLASSIFICATION, 8, start))
    core.samples.delete(POOL, names(0, 8), False, NO_KEY)
    before = said(source_of(core), int(rows_of(core, ["s30"])[0]))
    version = source_of(core).version
    assert house.merger().merge_once(pool_of(core)), "a file without samples goes"
    assert house.merger().merge_once(pool_of(core)), "the others become one"
    assert not house.merger().merge_once(pool_of(core))
    assert len(files_of(house)) == 1
    for opened in (core, house.open()):
        assert listed(opened) == {"mine": 32}
        assert said(source_of(opened), int(rows_of(opened, ["s30"])[0])) == before
        assert source_of(opened).version == version, "what is computed from it stays"


def test_predictions_during_a_merge_overrule_what_it_made(
    house: House, core: Assay, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(core, 8)
    for start in range(0, 8, 2):
        push(core, names(start, start + 2), made(TaskKind.CLASSIFICATION, 2, start))
    written, newer = house.store.write_predictions, made(TaskKind.CLASSIFICATION, 1, 99)

    def overtaken(*given: Any) -> Any:
        file = written(*given)
        monkeypatch.undo()
        push(core, ["s3"], newer)
        return file

    monkeypatch.setattr(house.store, "write_predictions", overtaken)
    assert house.merger().merge_once(pool_of(core))
    assert newer.values_NX is not None
    for opened in (core, house.open()):
        assert said(source_of(opened), int(rows_of(opened, ["s3"])[0])) == (newer.values_NX[0].tolist(), None)
        assert listed(opened) == {"mine": 8}
    assert len(files_of(house)) == 2


def test_a_failed_change_leaves_no_file(house: House, core: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(core, 3)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(house.store, "open_predictions", full)
    with pytest.raises(OSError, match="no space"):
        push(core, ["s1"], made(TaskKind.CLASSIFICATION, 1))
    monkeypatch.undo()
    assert files_of(house) == []
    assert listed(core) == {}


def test_a_damaged_file_loses_its_predictions_and_no_samples(house: House, core: Assay) -> None:
    fill(core, 10)
    push(core, names(0, 10), made(TaskKind.CLASSIFICATION, 10))
    push(core, names(0, 4), made(TaskKind.CLASSIFICATION, 4, 1))
    damaged = max(files_of(house), key=lambda file: (house.root / file).stat().st_mtime_ns)
    flip_byte(house.root / damaged)
    core = house.open()
    view = core.sources.list(POOL)[0]
    assert (view.samples, view.lost) == (6, 4)
    assert said(source_of(core), 0) is None, "nothing older comes true again"
    assert counts(core) == {"UNLABELED": 10}
    assert [each.file for each in core.pools.get(POOL).damaged] == [damaged]
    push(core, names(0, 4), made(TaskKind.CLASSIFICATION, 4, 2))
    assert core.pools.get(POOL).damaged == ()
    assert damaged not in files_of(house)
    view = house.open().sources.list(POOL)[0]
    assert (view.samples, view.lost) == (10, 0)


def test_a_file_that_turns_out_damaged_is_put_out_of_service(house: House, core: Assay) -> None:
    fill(core, 8)
    for start in range(0, 8, 2):
        push(core, names(start, start + 2), made(TaskKind.CLASSIFICATION, 2, start))
    flip_byte(house.root / files_of(house)[0])
    assert house.merger().merge_once(pool_of(core))
    view = core.sources.list(POOL)[0]
    assert (view.samples, view.lost) == (6, 2)
    assert counts(core) == {"UNLABELED": 8}


def test_columns_have_names_and_classes_that_came_later_are_unseen(core: Assay) -> None:
    fill(core, 2)
    push(core, ["s0"], PredictionColumns(np.array([[0.75, 0.25]], np.float32)), classes=("cow", "ant"))
    assert said(source_of(core), 0) == ([0.25, 0.0, 0.75], None)
    for classes, reason in (
        ((), Reason.DIMENSION_MISMATCH),
        (("cow", "cow"), Reason.DIMENSION_MISMATCH),
        (("cow", "cat"), Reason.UNKNOWN_CLASS),
    ):
        columns = PredictionColumns(np.array([[0.75, 0.25]], np.float32))
        refused(reason, lambda columns=columns, classes=classes: push(core, ["s1"], columns, classes=classes))


WRONG: dict[str, tuple[TaskKind, PredictionColumns, Reason]] = {
    "another task": (TaskKind.BOXES, made(TaskKind.CLASSIFICATION, 2), Reason.WRONG_TASK),
    "spans for boxes": (TaskKind.BOXES, made(TaskKind.SPANS, 2), Reason.WRONG_TASK),
    "nothing is predicted": (TaskKind.FREEFORM, made(TaskKind.CLASSIFICATION, 2), Reason.WRONG_TASK),
    "too few": (TaskKind.CLASSIFICATION, made(TaskKind.CLASSIFICATION, 1), Reason.INVALID_ARGUMENT),
    "no distribution": (
        TaskKind.CLASSIFICATION,
        PredictionColumns(np.full((2, 3), 0.5, np.float32)),
        Reason.PROBABILITIES_INVALID,
    ),
    "above 1": (TaskKind.MULTILABEL, PredictionColumns(np.full((2, 3), 1.5, np.float32)), Reason.PROBABILITIES_INVALID),
    "NaN": (TaskKind.MULTILABEL, PredictionColumns(np.full((2, 3), np.nan, np.float32)), Reason.NOT_FINITE),
    "spread below 0": (
        TaskKind.REGRESSION,
        PredictionColumns(np.zeros((2, 2), np.float32), np.full((2, 2), -1, np.float32)),
        Reason.INVALID_VALUE,
    ),
    "one number": (TaskKind.REGRESSION, PredictionColumns(np.zeros((2, 1), np.float32)), Reason.DIMENSION_MISMATCH),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_prediction_is_refused(house: House, name: str) -> None:
    kind, columns, reason = WRONG[name]
    core = open_pool(house, kind)
    fill(core, 2)
    form = PredictionForm.OBJECTS if columns.objects is not None else FORMS.get(kind, PredictionForm.PROBABILITIES)
    if name == "another task":
        form = PredictionForm.PROBABILITIES
    error = refused(reason, lambda: push(core, ["s0", "s1"], columns, form=form))
    assert reason is not Reason.NOT_FINITE or error.metadata["row"] == "0"
    assert listed(core) == {}
    assert files_of(house) == []


def test_a_bad_object_is_named(house: House) -> None:
    core = open_pool(house, TaskKind.BOXES)
    fill(core, 3)
    for change, reason in (
        ({"places": (3, 0, 0.9)}, Reason.INVALID_VALUE),
        ({"places": (3, 2, 0.0)}, Reason.INVALID_VALUE),
        ({"places": (3, 1, np.nan)}, Reason.INVALID_VALUE),
        ({"probs": (3, 1, 1.1)}, Reason.PROBABILITIES_INVALID),
        ({"probs": (3, 1, np.nan)}, Reason.PROBABILITIES_INVALID),
    ):
        given = objects([2, 0, 3]).objects
        assert given is not None
        for what, (part, column, value) in change.items():
            (given.places_PX if what == "places" else given.probs_PC)[part, column] = value
        columns = PredictionColumns(objects=given)
        error = refused(reason, lambda columns=columns: push(core, names(0, 3), columns, form=PredictionForm.OBJECTS))
        assert (error.metadata["row"], error.metadata["object"]) == ("2", "1")
    broken = PredictionColumns(objects=ObjectColumns(np.array([0, 3, 1, 5]), *_parts()))
    refused(Reason.INVALID_ARGUMENT, lambda: push(core, names(0, 3), broken, form=PredictionForm.OBJECTS))


def _parts() -> tuple[Any, Any]:
    given = objects([5]).objects
    assert given is not None
    return given.probs_PC, given.places_PX


def test_names_and_samples_are_checked(core: Assay) -> None:
    fill(core, 2)
    columns = made(TaskKind.CLASSIFICATION, 1)
    for name in ("", "Mine", "head", "pushed", "m/n"):
        refused(Reason.INVALID_NAME, lambda name=name: push(core, ["s0"], columns, source=name))
    refused(Reason.SAMPLE_NOT_FOUND, lambda: push(core, ["s9"], columns))
    refused(Reason.DUPLICATE_ID, lambda: push(core, ["s0", "s0"], made(TaskKind.CLASSIFICATION, 2)))
    assert listed(core) == {}


def test_predictions_come_with_samples_in_a_classification_only(house: House) -> None:
    core = open_pool(house, TaskKind.MULTILABEL)
    error = refused(Reason.WRONG_TASK, lambda: fill(core, 3, predictions_NC=probabilities(3)))
    assert "UpdatePredictions" in error.message
