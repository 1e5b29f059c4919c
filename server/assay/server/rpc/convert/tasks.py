"""Messages of tasks.proto."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.tasks import ClassRecord, TargetRecord, TaskKind, TaskOptions, TaskRecord
from assay.server.core.tasks.editing import ClassEdit
from assay.server.rpc.convert.scalars import choice
from assay.v1 import tasks_pb2

_KINDS: Mapping[str, TaskKind] = {kind.value: kind for kind in TaskKind}
_NUMBERS: Mapping[int, TaskKind] = {tasks_pb2.TaskKind.Value(f"TASK_KIND_{kind.name}"): kind for kind in TaskKind}
_WIRE_KINDS = {kind: tasks_pb2.TaskKind.ValueType(number) for number, kind in _NUMBERS.items()}
# Kinds of tasks that pools can have.
SERVED = tuple(_WIRE_KINDS.values())


def to_task(message: tasks_pb2.Task) -> TaskRecord:
    """The task of a pool to create: a classification without classes where it is unset. What is output only is not
    read."""
    kind = TaskKind(message.WhichOneof("kind") or TaskKind.CLASSIFICATION)
    of_kind = getattr(message, kind.value)
    if kind is TaskKind.REGRESSION:
        return TaskRecord(kind, targets=tuple(map(_to_target, of_kind.targets)))
    if kind is TaskKind.FREEFORM:
        return TaskRecord(kind)
    options = TaskOptions(disjoint_spans=kind is TaskKind.SPANS and of_kind.disjoint)
    return TaskRecord.of_classes(kind, [each.name for each in of_kind.classes], options)


def _to_target(message: tasks_pb2.Target) -> TargetRecord:
    return TargetRecord(
        message.name,
        message.minimum if message.HasField("minimum") else None,
        message.maximum if message.HasField("maximum") else None,
    )


def to_kind(value: int) -> TaskKind:
    """A kind of task, classification where it is unspecified. Raises AssayError(INVALID_ARGUMENT) for an unknown
    one."""
    return TaskKind.CLASSIFICATION if value == tasks_pb2.TASK_KIND_UNSPECIFIED else choice(_NUMBERS, value, "task")


def kind_message(kind: TaskKind) -> tasks_pb2.TaskKind.ValueType:
    """A kind of task for the wire."""
    return _WIRE_KINDS[kind]


def to_class_edits(task: tasks_pb2.Task) -> tuple[TaskKind, tuple[ClassEdit, ...]]:
    """The kind of a task, and its classes as they are to be. Raises AssayError(INVALID_ARGUMENT | INVALID_TASK)."""
    kind = _KINDS.get(task.WhichOneof("kind") or "")
    if kind is None:
        raise AssayError(
            Reason.INVALID_ARGUMENT, "pool.task has no kind. Give the task of the pool, with its classes.", field="task"
        )
    arm = getattr(task, kind.value)
    if not hasattr(arm, "classes"):
        raise AssayError(
            Reason.INVALID_TASK, f"Of a {kind} task nothing can be changed; only classes can.", field="pool.task"
        )
    return kind, tuple(
        ClassEdit(
            each.id if each.HasField("id") else None,
            each.name,
            each.retired,
            each.merged_into if each.HasField("merged_into") else None,
        )
        for each in arm.classes
    )


def task_message(task: TaskRecord) -> tasks_pb2.Task:
    """The task of a pool for the wire: its classes as people see them, those that are retired last."""
    taken = set(task.order)
    retired = [each for each in task.classes if each.id not in taken]
    classes = [_class_message(each) for each in (*(task.classes[number] for number in task.order), *retired)]
    return tasks_pb2.Task(**{task.kind.value: _WRITERS[task.kind](task, classes)})


_WRITERS: Mapping[TaskKind, Callable[[TaskRecord, Sequence[tasks_pb2.Class]], Any]] = {
    TaskKind.CLASSIFICATION: lambda _, classes: tasks_pb2.ClassificationTask(classes=classes),
    TaskKind.MULTILABEL: lambda _, classes: tasks_pb2.MultilabelTask(classes=classes),
    TaskKind.REGRESSION: lambda task, _: tasks_pb2.RegressionTask(targets=map(_target_message, task.targets)),
    TaskKind.BOXES: lambda _, classes: tasks_pb2.BoxesTask(classes=classes),
    TaskKind.SPANS: lambda task, classes: tasks_pb2.SpansTask(classes=classes, disjoint=task.options.disjoint_spans),
    TaskKind.FREEFORM: lambda _, __: tasks_pb2.FreeformTask(),
}


def _target_message(record: TargetRecord) -> tasks_pb2.Target:
    return tasks_pb2.Target(name=record.name, minimum=record.minimum, maximum=record.maximum)


def _class_message(record: ClassRecord) -> tasks_pb2.Class:
    return tasks_pb2.Class(id=record.id, name=record.name, retired=record.retired, merged_into=record.merged_into)
