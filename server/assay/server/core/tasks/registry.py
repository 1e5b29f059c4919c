"""Which module serves which task: one line for each."""

from collections.abc import Callable, Mapping

from assay.server.core.records.tasks import TaskKind, TaskRecord
from assay.server.core.tasks.base import Task
from assay.server.core.tasks.boxes import BoxesTask
from assay.server.core.tasks.classification import Classification
from assay.server.core.tasks.freeform import Freeform
from assay.server.core.tasks.multilabel import Multilabel
from assay.server.core.tasks.regression import Regression
from assay.server.core.tasks.spans import SpansTask

TASKS: Mapping[TaskKind, Callable[[TaskRecord], Task]] = {
    TaskKind.CLASSIFICATION: Classification,
    TaskKind.MULTILABEL: Multilabel,
    TaskKind.REGRESSION: Regression,
    TaskKind.BOXES: BoxesTask,
    TaskKind.SPANS: SpansTask,
    TaskKind.FREEFORM: Freeform,
}


def task_of(record: TaskRecord) -> Task:
    """The task of a pool. Making one costs a pass over its classes: make it once per record and keep it."""
    return TASKS[record.kind](record)
