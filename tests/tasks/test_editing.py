"""Classes are added, renamed, ordered, retired and merged, and nothing that was said becomes wrong."""

from dataclasses import replace

import numpy as np
import pytest

from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.records.tasks import TargetRecord, TaskKind, TaskOptions, TaskRecord
from assay.server.core.tasks.base import Box, Span
from assay.server.core.tasks.classes import merge_roots, resolve_merged
from assay.server.core.tasks.editing import ClassEdit, check_task, edit_classes
from assay.server.core.tasks.registry import task_of

MOST = 10_000


def _record(*names, kind=TaskKind.CLASSIFICATION):
    return TaskRecord.of_classes(kind, names or ("a", "b", "c"))


def _refused(reason, word, edit, *arguments):
    with pytest.raises(AssayError) as refusal:
        edit(*arguments)
    assert refusal.value.reason is reason
    assert word in refusal.value.message, refusal.value.message


def _as_it_is(record):
    retired = [each.id for each in record.classes if each.retired]
    listed = [record.classes[class_id] for class_id in (*record.order, *retired)]
    return [ClassEdit(each.id, each.name, each.retired, each.merged_into) for each in listed]


def _edited(record, changes, *added, most=MOST):
    """The task with fields of some classes changed, by id, and new classes."""
    edits = [replace(each, **changes.get(each.class_id, {})) for each in _as_it_is(record)]
    return edit_classes(record, [*edits, *(ClassEdit(None, name) for name in added)], most)


def _retired(record, class_id):
    return _edited(record, {class_id: {"retired": True}})


def _restored(record, class_id):
    return _edited(record, {class_id: {"retired": False, "merged_into": None}})


def _merged(record, class_id, into):
    return _edited(record, {class_id: {"merged_into": into}})


def test_ids_are_for_life():
    record = _edited(_record(), {0: {"name": "b"}, 1: {"name": "a", "retired": True}}, "d")
    assert [(each.id, each.name, each.retired) for each in record.classes] == [
        (0, "b", False),
        (1, "a", True),
        (2, "c", False),
        (3, "d", False),
    ]
    assert record.order == (0, 2, 3)
    assert TaskRecord.from_json(record.to_json()) == record
    assert _edited(record, {}) == record


def test_the_order_is_that_in_which_classes_are_given():
    a, b, c = _as_it_is(_record())
    record = edit_classes(_record(), [c, ClassEdit(None, "d"), replace(a, retired=True), b], MOST)
    assert record.order == (2, 3, 1)
    assert _restored(record, 0).order == (2, 3, 1, 0)


def test_each_class_is_given_once():
    a, b, c = _as_it_is(_record())
    _refused(Reason.INVALID_TASK, "left out, 2 of them, the first is 'a'", edit_classes, _record(), [c], MOST)
    _refused(Reason.INVALID_TASK, "'b' (id 1) is given twice", edit_classes, _record(), [a, b, b, c], MOST)
    retired = _retired(_record(), 1)
    _refused(Reason.INVALID_TASK, "the first is 'b'", edit_classes, retired, [a, c], MOST)
    for class_id in (3, -1):
        edits = [a, b, c, ClassEdit(class_id, "d")]
        _refused(Reason.UNKNOWN_CLASS, f"no class {class_id}", edit_classes, _record(), edits, MOST)
    _refused(Reason.INVALID_TASK, "no classes", edit_classes, TaskRecord(TaskKind.FREEFORM), [], MOST)


def test_names_stay_apart_from_retired_ones_too():
    record = _retired(_record(), 1)
    _refused(Reason.INVALID_TASK, "Two class names are 'b'", _edited, record, {}, "b")
    _refused(Reason.INVALID_TASK, "Two class names are 'b'", _edited, record, {0: {"name": "b"}})
    for name in ("", "x\n"):
        _refused(Reason.INVALID_TASK, "is no class name", _edited, record, {0: {"name": name}})
        _refused(Reason.INVALID_TASK, "is no class name", _edited, record, {}, name)
    edits = [*_as_it_is(record), ClassEdit(None, "d")]
    _refused(Reason.TOO_LARGE, "4 classes", edit_classes, record, edits, 3)
    for new in (ClassEdit(None, "d", retired=True), ClassEdit(None, "d", merged_into=0)):
        _refused(Reason.INVALID_TASK, "retired or merged", edit_classes, record, [*_as_it_is(record), new], MOST)


def test_merges_that_make_no_sense_are_refused():
    record = _record("a", "b", "c", "d")
    _refused(Reason.INVALID_TASK, "into itself", _merged, record, 1, 1)
    _refused(Reason.INVALID_TASK, "is retired", _merged, _retired(record, 2), 1, 2)
    _refused(Reason.INVALID_TASK, "is retired", _merged, _merged(record, 1, 2), 2, 1)
    _refused(Reason.INVALID_TASK, "is retired", _edited, record, {1: {"merged_into": 2}, 2: {"merged_into": 3}})
    _refused(Reason.UNKNOWN_CLASS, "no class 4", _merged, record, 1, 4)


def test_a_class_is_merged_into_a_new_one_and_into_another_later():
    record = _edited(_record(), {0: {"merged_into": 3}, 1: {"merged_into": 3}}, "d")
    assert merge_roots(record).tolist() == [3, 3, 2, 3]
    assert merge_roots(_merged(record, 1, 2)).tolist() == [3, 2, 2, 3]


def test_chains_of_merges_lead_to_their_end_and_a_restored_link_cuts_them():
    record = _record(*"abcdefgh")
    for class_id in range(7):
        record = _merged(record, class_id, class_id + 1)
    assert merge_roots(record).tolist() == [7] * 8
    codes = np.array([0, -1, 3, 7], np.int32)
    assert resolve_merged(record, codes).tolist() == [7, -1, 7, 7]
    assert resolve_merged(record, codes).dtype == np.int32
    assert merge_roots(_restored(record, 4)).tolist() == [4, 4, 4, 4, 4, 7, 7, 7]


def test_a_merge_cannot_turn_in_a_circle():
    record = _merged(_record(), 0, 1)
    _refused(Reason.INVALID_TASK, "is retired", _merged, record, 1, 0)
    assert merge_roots(
        _edited(record, {0: {"retired": False, "merged_into": None}, 1: {"merged_into": 0}})
    ).tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    ("kind", "value", "resolved"),
    [
        (TaskKind.CLASSIFICATION, 0, 2),
        (TaskKind.MULTILABEL, (0, 1, 2), (1, 2)),
        (TaskKind.BOXES, (Box(0, 0, 0, 1, 1), Box(2, 0, 0, 1, 1)), (Box(2, 0, 0, 1, 1),)),
        (TaskKind.SPANS, (Span(0, 0, 3), Span(1, 0, 3)), (Span(1, 0, 3), Span(2, 0, 3))),
    ],
)
def test_annotations_keep_what_was_said_and_are_counted_as_what_it_was_merged_into(kind, value, resolved):
    task = task_of(_merged(_record(kind=kind), 0, 2))
    assert task.decode(task.encode(value)) == value
    assert task.resolve(value) == resolved
    assert task.agreement(value, resolved) == 1
    assert task.consensus([value, value, resolved]).value == resolved
    said = task.read_export(task.export([value]))
    assert task.check(said[0], retired=True) == value
    with pytest.raises(SampleError) as refusal:
        task.check(said[0])
    assert refusal.value.reason is Reason.CLASS_RETIRED
    assert "merged into 'c'. Say 'c'" in refusal.value.message


def test_a_retired_class_says_so():
    task = task_of(_retired(_record(), 1))
    with pytest.raises(SampleError, match="class 'b' is retired") as refusal:
        task.check_all(["a", "b"])
    assert refusal.value.row == 1
    assert task.check_all(["a", "b"], retired=True).tolist() == [0, 1]


def test_predictions_of_a_merged_class_count_for_what_it_became():
    task = task_of(_merged(_record(), 0, 2))
    probs = np.array([[0.4, 0.35, 0.25]], np.float32)
    metrics = task.metrics([0], probs)
    assert metrics.scores["accuracy"].value == 1
    assert metrics.scores["log_loss"].value == pytest.approx(-np.log(0.65))


@pytest.mark.parametrize(
    ("record", "word"),
    [
        (TaskRecord(TaskKind.REGRESSION), "1 to 64 numbers"),
        (TaskRecord(TaskKind.REGRESSION, targets=tuple(TargetRecord(str(i)) for i in range(65))), "1 to 64 numbers"),
        (TaskRecord(TaskKind.REGRESSION, targets=(TargetRecord("a"), TargetRecord("a"))), "Two number names"),
        (TaskRecord(TaskKind.REGRESSION, targets=(TargetRecord("a", 2.0, 1.0),)), "maximum must be greater"),
        (TaskRecord(TaskKind.REGRESSION, targets=(TargetRecord("a", 1.0, 1.0),)), "maximum must be greater"),
        (TaskRecord(TaskKind.REGRESSION, targets=(TargetRecord("a", float("nan")),)), "not finite"),
        (TaskRecord(TaskKind.REGRESSION, targets=(TargetRecord("a", -1.7e308, 1.7e308),)), "finite number"),
        (TaskRecord.of_classes(TaskKind.FREEFORM, ["a"]), "no classes"),
        (TaskRecord(TaskKind.BOXES, targets=(TargetRecord("a"),)), "no numbers"),
        (TaskRecord.of_classes(TaskKind.BOXES, ["a"], TaskOptions(match_iou=0.0)), "match_iou"),
        (TaskRecord.of_classes(TaskKind.BOXES, ["a"], TaskOptions(match_iou=float("nan"))), "match_iou"),
        (_retired(_record(), 0), "retired or merged"),
        (_record("a", "a"), "Two class names"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(record, word):
    _refused(Reason.INVALID_TASK, word, check_task, record, MOST)


def test_tasks_that_make_sense_pass():
    check_task(_record(), MOST)
    check_task(TaskRecord(TaskKind.CLASSIFICATION), MOST)
    check_task(TaskRecord(TaskKind.REGRESSION, targets=(TargetRecord("a", 0.0),)), MOST)
    _refused(Reason.TOO_LARGE, "3 classes", check_task, _record(), 2)
