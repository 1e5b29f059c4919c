"""Pools of tasks other than one class, with labels in them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.server.core.assay import Assay
from assay.server.core.records.models import HeadInfo
from assay.server.core.records.tasks import TargetRecord, TaskKind, TaskRecord
from tests.core.kit import CLASSES, POOL, House, add, annotate, make_pool, names, pool_of, vectors

TARGETS = (TargetRecord("age"), TargetRecord("price"))
TASKS = {
    TaskKind.CLASSIFICATION: TaskRecord.of_classes(TaskKind.CLASSIFICATION, CLASSES),
    TaskKind.MULTILABEL: TaskRecord.of_classes(TaskKind.MULTILABEL, CLASSES),
    TaskKind.REGRESSION: TaskRecord(TaskKind.REGRESSION, targets=TARGETS),
    TaskKind.BOXES: TaskRecord.of_classes(TaskKind.BOXES, CLASSES),
    TaskKind.SPANS: TaskRecord.of_classes(TaskKind.SPANS, CLASSES),
    TaskKind.FREEFORM: TaskRecord(TaskKind.FREEFORM),
}


def open_pool(house: House, kind: TaskKind) -> Assay:
    """A core with an empty pool of a task."""
    core = house.open()
    make_pool(core, task=TASKS[kind])
    return core


def say(core: Assay, labels: Mapping[str, Any], worker: str = "ada") -> None:
    """Values of a worker for samples, as the pool's task has them in the core."""
    given = pool_of(core).snapshot.task.given(list(labels.values()))
    annotate(core, dict(zip(labels, given, strict=True)), worker=worker)


def truth(kind: TaskKind, embeddings: np.ndarray) -> list[Any]:
    """Labels that a linear head can learn; a tenth of the marks are wrong."""
    rng, first, second = np.random.default_rng(1), embeddings[:, 0], embeddings[:, 1]
    wrong_N2 = rng.random((len(embeddings), 2)) < 0.1
    marks_N2 = (embeddings[:, :2] > 0) ^ wrong_N2
    match kind:
        case TaskKind.CLASSIFICATION:
            return [int(mark) for mark in marks_N2[:, 0]]
        case TaskKind.MULTILABEL:
            return [tuple(np.flatnonzero(marks_2).tolist()) for marks_2 in marks_N2]
        case TaskKind.REGRESSION:
            noise_N = rng.standard_normal(len(embeddings))
            return [(float(a + 0.3 * e), float(1000 * b)) for a, b, e in zip(first, second, noise_N, strict=True)]
    raise AssertionError(kind)


def fill_pool(core: Assay, kind: TaskKind, count: int, labeled: int, **columns: Any) -> np.ndarray:
    """Samples of a pool of a task, the first of which are labeled; returns their embeddings."""
    embeddings = vectors(count)
    add(core, names(0, count), embeddings, **columns)
    if labeled:
        say(core, dict(zip(names(0, labeled), truth(kind, embeddings), strict=False)))
    return embeddings


def info_of(core: Assay, model_id: str) -> HeadInfo:
    """What is known of a head."""
    info = core.models.get(POOL, model_id).record.info
    assert isinstance(info, HeadInfo)
    return info
