"""Classes are added, renamed, ordered, retired and merged, and nothing that was said becomes wrong."""

import numpy as np
import pytest

from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.records.tasks import TargetRecord, TaskKind, TaskOptions, TaskRecord
from assay.server.core.tasks.base import Box, Span
from assay.server.core.tasks.classes import merge_roots, resolve_merged
from assay.server.core.tasks.editing import (
    add_classes,
    check_task,
    merge_classes,
    rename_class,
    reorder_classes,
    restore_class,
    retire_class,
)
from assay.server.core.tasks.registry import task_of

MOST = 10_000


def _record(*names, kind=TaskKind.CLASSIFICATION):
    return TaskRecord.of_classes(kind, names or ("a", "b", "c"))


def _refused(reason, word, edit, *arguments):
    with pytest.raises(AssayError) as refusal:
        edit(*arguments)
    assert refusal.value.reason is reason
    assert word in refusal.value.message, refusal.value.message


def test_ids_are_for_life():
    record = add_classes(retire_class(_record(), 1), ["d"], MOST)
    record = rename_class(record, 0, "A")
    assert [(each.id, each.name, each.retired) for each in record.classes] == [
        (0, "A", False),
        (1, "b", True),
        (2, "c", False),
        (3, "d", False),
    ]
    assert record.order == (0, 2, 3)
    assert TaskRecord.from_json(record.to_json()) == record


def test_the_order_names_each_class_in_use_once():
    record = retire_class(_record(), 0)
    assert reorder_classes(record, [2, 1]).order == (2, 1)
    for order in ([2], [2, 2], [0, 1, 2], [1, 3]):
        _refused(Reason.INVALID_TASK, "names each of the 2 classes", reorder_classes, record, order)


def test_names_stay_apart_from_retired_ones_too():
    record = retire_class(_record(), 1)
    _refused(Reason.INVALID_TASK, "Take it back into use", add_classes, record, ["b"], MOST)
    _refused(Reason.INVALID_TASK, "Two class names are 'a'", add_classes, record, ["a"], MOST)
    _refused(Reason.INVALID_TASK, "Two class names are 'b'", rename_class, record, 0, "b")
    _refused(Reason.INVALID_TASK, "is no class name", rename_class, record, 0, "")
    _refused(Reason.INVALID_TASK, "is no class name", add_classes, record, ["x\n"], MOST)
    _refused(Reason.TOO_LARGE, "4 classes", add_classes, record, ["d"], 3)
    _refused(Reason.UNKNOWN_CLASS, "no class 7", rename_class, record, 7, "x")
    _refused(Reason.UNKNOWN_CLASS, "no class -1", retire_class, record, -1)
    _refused(Reason.INVALID_TASK, "no classes", add_classes, TaskRecord(TaskKind.FREEFORM), ["d"], MOST)


def test_retiring_twice_and_restoring_what_is_in_use_change_nothing():
    record = retire_class(_record(), 1)
    assert retire_class(record, 1) == record
    assert restore_class(_record(), 1) == _record()
    assert restore_class(record, 1).order == (0, 2, 1)


def test_merges_that_make_no_sense_are_refused():
    record = _record("a", "b", "c", "d")
    _refused(Reason.INVALID_TASK, "into itself", merge_classes, record, 1, 1)
    _refused(Reason.INVALID_TASK, "is retired", merge_classes, retire_class(record, 2), 1, 2)
    merged = merge_classes(record, 1, 2)
    _refused(Reason.INVALID_TASK, "merged into 'c' already", merge_classes, merged, 1, 0)
    _refused(Reason.INVALID_TASK, "is retired", merge_classes, merged, 2, 1)
    _refused(Reason.UNKNOWN_CLASS, "no class 4", merge_classes, record, 1, 4)


def test_chains_of_merges_lead_to_their_end_and_a_restored_link_cuts_them():
    record = _record(*"abcdefgh")
    for class_id in range(7):
        record = merge_classes(record, class_id, class_id + 1)
    assert merge_roots(record).tolist() == [7] * 8
    codes = np.array([0, -1, 3, 7], np.int32)
    assert resolve_merged(record, codes).tolist() == [7, -1, 7, 7]
    assert resolve_merged(record, codes).dtype == np.int32
    assert merge_roots(restore_class(record, 4)).tolist() == [4, 4, 4, 4, 4, 7, 7, 7]


def test_a_merge_cannot_turn_in_a_circle():
    record = merge_classes(_record(), 0, 1)
    _refused(Reason.INVALID_TASK, "is retired", merge_classes, record, 1, 0)
    turned = merge_classes(restore_class(record, 0), 1, 0)
    assert merge_roots(turned).tolist() == [0, 0, 2]


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
    task = task_of(merge_classes(_record(kind=kind), 0, 2))
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
    task = task_of(retire_class(_record(), 1))
    with pytest.raises(SampleError, match="class 'b' is retired") as refusal:
        task.check_all(["a", "b"])
    assert refusal.value.row == 1
    assert task.check_all(["a", "b"], retired=True).tolist() == [0, 1]


def test_predictions_of_a_merged_class_count_for_what_it_became():
    task = task_of(merge_classes(_record(), 0, 2))
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
        (retire_class(_record(), 0), "retired or merged"),
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
