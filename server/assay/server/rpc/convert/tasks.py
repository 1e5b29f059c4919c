"""Messages of tasks.proto."""

from collections.abc import Mapping

from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.tasks import ClassRecord, TaskKind, TaskRecord
from assay.server.core.tasks.editing import ClassEdit
from assay.server.rpc.convert.scalars import choice
from assay.server.rpc.errors import EdgeError, EdgeReason
from assay.v1 import tasks_pb2

# Kinds of tasks that pools can have.
SERVED = (tasks_pb2.TASK_KIND_CLASSIFICATION,)


def to_class_names(task: tasks_pb2.Task) -> tuple[str, ...]:
    """Names of a task's classes, in order of their ids; none where the task is unset. Raises
    EdgeError(TASK_NOT_SERVED)."""
    kind = task.WhichOneof("kind")
    if kind not in (None, "classification"):
        raise EdgeError(
            EdgeReason.TASK_NOT_SERVED,
            f"This server has no pools for tasks of {kind} yet. Create one for classification; GetServerInfo lists the "
            "tasks that are served.",
            task=kind,
        )
    return tuple(each.name for each in task.classification.classes)


_KINDS: Mapping[str, TaskKind] = {kind.value: kind for kind in TaskKind}
_NUMBERS: Mapping[int, TaskKind] = {tasks_pb2.TaskKind.Value(f"TASK_KIND_{kind.name}"): kind for kind in TaskKind}
_WIRE_KINDS = {kind: tasks_pb2.TaskKind.ValueType(number) for number, kind in _NUMBERS.items()}


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
    return tasks_pb2.Task(classification=tasks_pb2.ClassificationTask(classes=classes))


def _class_message(record: ClassRecord) -> tasks_pb2.Class:
    return tasks_pb2.Class(id=record.id, name=record.name, retired=record.retired, merged_into=record.merged_into)
