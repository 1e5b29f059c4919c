"""Edits of a task, as pure functions from record to record: nothing that was ever said becomes wrong by one."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from assay.server.core.checks import CONTROL
from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import MAX_ID_BYTES, MAX_TARGETS
from assay.server.core.records.tasks import ClassRecord, TargetRecord, TaskKind, TaskRecord

_WITH_CLASSES = (TaskKind.CLASSIFICATION, TaskKind.MULTILABEL, TaskKind.BOXES, TaskKind.SPANS)


def check_task(record: TaskRecord, max_classes: int) -> None:
    """A task for a new pool. Raises AssayError(INVALID_TASK | TOO_LARGE)."""
    if record.classes and record.kind not in _WITH_CLASSES:
        raise AssayError(Reason.INVALID_TASK, f"A {record.kind} task has no classes; leave them out.", field="classes")
    if record.targets and record.kind is not TaskKind.REGRESSION:
        raise AssayError(Reason.INVALID_TASK, f"A {record.kind} task has no numbers; leave them out.", field="targets")
    fresh = TaskRecord.of_classes(record.kind, record.class_names, record.options)
    if (record.classes, record.order) != (fresh.classes, fresh.order):
        raise AssayError(Reason.INVALID_TASK, "The classes of a new pool are none of them retired or merged.")
    _check_count(len(record.classes), max_classes)
    _check_names([each.name for each in record.classes], "class")
    if record.kind is TaskKind.REGRESSION:
        _check_targets(record.targets)
    _check_shares(record)


def add_classes(record: TaskRecord, names: Sequence[str], max_classes: int) -> TaskRecord:
    """The task with these classes beside the others, last in the order.

    Raises:
        AssayError: INVALID_TASK: a name that is taken, by a retired class too, or is no name; TOO_LARGE.
    """
    if record.kind not in _WITH_CLASSES:
        raise AssayError(Reason.INVALID_TASK, f"A {record.kind} task has no classes.")
    first = len(record.classes)
    _check_count(first + len(names), max_classes)
    for each in record.classes:
        if each.retired and each.name in names:
            raise AssayError(
                Reason.INVALID_TASK,
                f"Class {each.name!r} was there before and is retired. Take it back into use, or choose another name.",
                class_name=each.name,
            )
    _check_names([*record.class_names, *names], "class")
    added = tuple(ClassRecord(first + i, name) for i, name in enumerate(names))
    return replace(record, classes=record.classes + added, order=record.order + tuple(each.id for each in added))


def rename_class(record: TaskRecord, class_id: int, name: str) -> TaskRecord:
    """The task with one class under another name; its id, and all that was said, stay.

    Raises:
        AssayError: UNKNOWN_CLASS; INVALID_TASK: a name that is taken or is no name.
    """
    changed = replace(_class(record, class_id), name=name)
    names = list(record.class_names)
    names[class_id] = name
    _check_names(names, "class")
    return _with(record, changed)


def reorder_classes(record: TaskRecord, order: Sequence[int]) -> TaskRecord:
    """The task with its classes listed in another order.

    Raises:
        AssayError: INVALID_TASK: not each of the classes that are not retired, once.
    """
    if sorted(order) != sorted(record.order):
        raise AssayError(
            Reason.INVALID_TASK,
            f"An order names each of the {len(record.order)} classes that are not retired once; this one has "
            f"{len(order)} entries, {len(set(order) & set(record.order))} of them right.",
            field="order",
        )
    return replace(record, order=tuple(order))


def retire_class(record: TaskRecord, class_id: int) -> TaskRecord:
    """The task without this class among those that may be said; what was said stays. No change if it is so already.

    Raises:
        AssayError: UNKNOWN_CLASS.
    """
    return _without(record, replace(_class(record, class_id), retired=True))


def restore_class(record: TaskRecord, class_id: int) -> TaskRecord:
    """The task with a retired class in use again, last in the order; a merge of it is undone, for every annotation has
    kept what was said. No change if it is in use.

    Raises:
        AssayError: UNKNOWN_CLASS.
    """
    found = _class(record, class_id)
    if not found.retired:
        return record
    changed = _with(record, replace(found, retired=False, merged_into=None))
    return replace(changed, order=(*record.order, class_id))


def merge_classes(record: TaskRecord, class_id: int, into: int) -> TaskRecord:
    """The task with one class retired and counted as another.

    Classes that were merged into it before go along.

    Raises:
        AssayError: UNKNOWN_CLASS; INVALID_TASK: into itself, into a retired class, or what is merged already.
    """
    source, target = _class(record, class_id), _class(record, into)
    if class_id == into:
        raise AssayError(Reason.INVALID_TASK, f"Class {source.name!r} cannot be merged into itself.", class_id=into)
    if target.retired:
        raise AssayError(
            Reason.INVALID_TASK,
            f"Class {target.name!r} is retired: merge into one that is in use, or take it back into use first.",
            class_id=into,
        )
    if source.merged_into is not None:
        raise AssayError(
            Reason.INVALID_TASK,
            f"Class {source.name!r} is merged into {record.classes[source.merged_into].name!r} already. Take it back "
            "into use first.",
            class_id=class_id,
        )
    return _without(record, replace(source, retired=True, merged_into=into))


def _class(record: TaskRecord, class_id: int) -> ClassRecord:
    if not 0 <= class_id < len(record.classes):
        raise AssayError(
            Reason.UNKNOWN_CLASS,
            f"There is no class {class_id}; ids go from 0 to {len(record.classes) - 1}.",
            class_id=class_id,
        )
    return record.classes[class_id]


def _with(record: TaskRecord, changed: ClassRecord) -> TaskRecord:
    classes = (*record.classes[: changed.id], changed, *record.classes[changed.id + 1 :])
    return replace(record, classes=classes)


def _without(record: TaskRecord, changed: ClassRecord) -> TaskRecord:
    return replace(_with(record, changed), order=tuple(i for i in record.order if i != changed.id))


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise AssayError(
            Reason.TOO_LARGE, f"{count:,} classes, retired ones counted; at most {most:,} fit.", field="classes"
        )


def _check_names(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if not 1 <= len(name.encode()) <= MAX_ID_BYTES or CONTROL.search(name):
            raise AssayError(
                Reason.INVALID_TASK,
                f"{name[:100]!r} is no {what} name: 1 to {MAX_ID_BYTES} bytes without control characters.",
                name=name,
            )
        if name in seen:
            raise AssayError(
                Reason.INVALID_TASK, f"Two {what} names are {name!r}; they must differ from each other.", name=name
            )
        seen.add(name)


def _check_targets(targets: Sequence[TargetRecord]) -> None:
    if not 1 <= len(targets) <= MAX_TARGETS:
        raise AssayError(
            Reason.INVALID_TASK, f"A regression has 1 to {MAX_TARGETS} numbers, not {len(targets)}.", field="targets"
        )
    _check_names([each.name for each in targets], "number")
    for each in targets:
        if any(bound is not None and not math.isfinite(bound) for bound in (each.minimum, each.maximum)):
            raise AssayError(
                Reason.INVALID_TASK, f"The bounds of {each.name!r} are not finite; leave out one that is not there."
            )
        if each.minimum is not None and each.maximum is not None and not 0 < each.maximum - each.minimum < math.inf:
            raise AssayError(
                Reason.INVALID_TASK,
                f"The range of {each.name!r} is {each.minimum} to {each.maximum}: the maximum must be greater, and "
                "their difference a finite number.",
            )


def _check_shares(record: TaskRecord) -> None:
    options = record.options
    for name, share in (("match_iou", options.match_iou), ("number_tolerance", options.number_tolerance)):
        if not 0 < share <= 1:
            raise AssayError(Reason.INVALID_TASK, f"{name} is above 0 and at most 1, not {share}.", field=name)
