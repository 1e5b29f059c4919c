"""Messages of tasks.proto."""

from assay.server.core.records.tasks import ClassRecord, TaskRecord
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


def task_message(task: TaskRecord) -> tasks_pb2.Task:
    """The task of a pool for the wire: its classes as people see them, those that are retired last."""
    taken = set(task.order)
    retired = [each for each in task.classes if each.id not in taken]
    classes = [_class_message(each) for each in (*(task.classes[number] for number in task.order), *retired)]
    return tasks_pb2.Task(classification=tasks_pb2.ClassificationTask(classes=classes))


def _class_message(record: ClassRecord) -> tasks_pb2.Class:
    return tasks_pb2.Class(id=record.id, name=record.name, retired=record.retired, merged_into=record.merged_into)
