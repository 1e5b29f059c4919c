"""Edits of a task, as pure functions from record to record: nothing that was ever said becomes wrong by one."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class ClassEdit:
    """A class as it is to be.

    Attributes:
        class_id: which one; None for a new one.
        name: its name from now on.
        retired: whether nobody may say it any more.
        merged_into: id of the class that it is counted as, which retires it; None for no other. New classes have the
            ids after the last one, in the order in which they are given.
    """

    class_id: int | None
    name: str
    retired: bool = False
    merged_into: int | None = None


def edit_classes(record: TaskRecord, wanted: Sequence[ClassEdit], max_classes: int) -> TaskRecord:
    """The task with its classes as they are wanted: every class there is, by its id, and new ones without an id, in the
    order in which people are to see those in use.

    Classes that were merged into one that is merged now go along. A class that is taken back into use is counted as
    itself again, for every annotation has kept what was said.

    Raises:
        AssayError: UNKNOWN_CLASS: an id that is not there; INVALID_TASK: an id that is left out or given twice, a name
            that is taken or is no name, a new class that is retired, a merge of a class into itself or into one that is
            retired; TOO_LARGE.
    """
    if record.kind not in _WITH_CLASSES:
        raise AssayError(Reason.INVALID_TASK, f"A {record.kind} task has no classes.", field="classes")
    known = len(record.classes)
    _check_ids(record, [each.class_id for each in wanted if each.class_id is not None])
    _check_count(len(wanted), max_classes)
    fresh = itertools.count(known)
    given = [
        ClassRecord(
            next(fresh) if each.class_id is None else each.class_id,
            each.name,
            each.retired or each.merged_into is not None,
            each.merged_into,
        )
        for each in wanted
    ]
    classes = tuple(sorted(given, key=lambda each: each.id))
    _check_names([each.name for each in classes], "class")
    for each in classes:
        if each.id >= known and each.retired:
            raise AssayError(
                Reason.INVALID_TASK, f"The new class {each.name!r} is retired or merged. Leave it out.", name=each.name
            )
        if each.merged_into is not None and (each.merged_into != record.classes[each.id].merged_into):
            _check_merge(classes, each, each.merged_into)
    return replace(record, classes=classes, order=tuple(each.id for each in given if not each.retired))


def _check_ids(record: TaskRecord, ids: Sequence[int]) -> None:
    """Raises AssayError unless each class is there once: UNKNOWN_CLASS, INVALID_TASK."""
    seen: set[int] = set()
    for class_id in ids:
        if not 0 <= class_id < len(record.classes):
            raise _unknown(class_id, len(record.classes))
        if class_id in seen:
            raise AssayError(
                Reason.INVALID_TASK,
                f"Class {record.classes[class_id].name!r} (id {class_id}) is given twice. Give it once.",
                class_id=class_id,
            )
        seen.add(class_id)
    left_out = [each for each in record.classes if each.id not in seen]
    if left_out:
        raise AssayError(
            Reason.INVALID_TASK,
            f"Classes of the pool are left out, {len(left_out)} of them, the first is {left_out[0].name!r} (id "
            f"{left_out[0].id}). Give every class, retired ones too, and retire those that nobody is to say any more.",
            class_id=left_out[0].id,
            left_out=len(left_out),
        )


def _check_merge(classes: Sequence[ClassRecord], source: ClassRecord, into: int) -> None:
    """Raises AssayError(UNKNOWN_CLASS | INVALID_TASK) for a class that is merged into what it cannot be. What it is
    merged into is in use, so no chain of merges comes back to where it began."""
    if not 0 <= into < len(classes):
        raise _unknown(into, len(classes))
    if into == source.id:
        raise AssayError(Reason.INVALID_TASK, f"Class {source.name!r} cannot be merged into itself.", class_id=into)
    if classes[into].retired:
        raise AssayError(
            Reason.INVALID_TASK,
            f"Class {classes[into].name!r} is retired: merge into one that is in use, or take it back into use.",
            class_id=into,
        )


def _unknown(class_id: int, count: int) -> AssayError:
    return AssayError(
        Reason.UNKNOWN_CLASS, f"There is no class {class_id}; ids go from 0 to {count - 1}.", class_id=class_id
    )


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
