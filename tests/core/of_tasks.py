"""Pools of tasks other than one class, with labels in them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sqlalchemy import text

from assay.server.core.assay import Assay
from assay.server.core.labeling import annotating
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.annotations import Blobs, EventKind
from assay.server.core.records.models import HeadInfo
from assay.server.core.records.tasks import TargetRecord, TaskKind, TaskRecord
from tests.catalog.records import direct
from tests.core.kit import CLASSES, POOL, House, add, make_pool, names, pool_of, vectors

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
    make_pool(house.open())
    with direct(house.url) as connection:
        connection.execute(text("UPDATE pools SET task = :task"), {"task": TASKS[kind].to_json()})
    return house.open()


def say(core: Assay, labels: Mapping[str, Any], worker: str = "ada") -> None:
    """Values of a worker for samples, as the pool's task has them in the core."""
    pool = pool_of(core)
    with pool.change(NO_KEY) as change:
        rows = change.before.require(list(labels))
        order, task = np.argsort(rows), change.before.task
        given = [list(labels.values())[place] for place in order.tolist()]
        classes = change.before.values is None
        values = np.array(given, np.int32) if classes else Blobs.of([task.encode(value) for value in given])
        kinds = np.full(len(rows), EventKind.ANNOTATE, np.uint8)
        annotating.append(change, read_of(core), annotating.Statement(worker, 1.0, rows[order], kinds, values))
        change.answer(None)


def read_of(core: Assay) -> Callable[[Any], Any]:
    """Reads the log."""

    def read(numbers: Any) -> Any:
        with core._ports.catalog.reading() as tx:
            return tx.blocks_of_events(pool_of(core).snapshot.pool.uid, numbers)

    return read


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
