"""Predictions of every task, and a short way to push them."""

import numpy as np

from assay.server.core.assay import Assay
from assay.server.core.pools.messages import PredictionUpdate, UpdatePredictionsResult
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.predictions import ObjectColumns, PredictionColumns
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.base import PredictionForm
from tests.core.kit import POOL, probabilities

FORMS = {
    TaskKind.CLASSIFICATION: PredictionForm.PROBABILITIES,
    TaskKind.MULTILABEL: PredictionForm.LABEL_PROBABILITIES,
    TaskKind.REGRESSION: PredictionForm.NUMBERS,
    TaskKind.BOXES: PredictionForm.OBJECTS,
    TaskKind.SPANS: PredictionForm.OBJECTS,
}


def objects(counts: list[int], places: int = 4, classes: int = 3, seed: int = 0) -> PredictionColumns:
    """Objects of samples, so many of each."""
    rng, total = np.random.default_rng(seed), sum(counts)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    probs_PC = (rng.dirichlet(np.ones(classes), total) * 0.9).astype(np.float32).reshape(total, classes)
    boxes = np.concatenate([rng.random((total, 2)) * 0.5, rng.random((total, 2)) * 0.4 + 0.1], axis=1)
    starts = rng.integers(0, 90, total)
    spans = np.stack([starts, starts + rng.integers(1, 9, total)], axis=1).astype(np.int64)
    return PredictionColumns(
        objects=ObjectColumns(offsets, probs_PC, boxes.astype(np.float32) if places == 4 else spans)
    )


def made(kind: TaskKind, count: int, seed: int = 0) -> PredictionColumns:
    """Predictions of a task."""
    rng = np.random.default_rng(seed)
    match kind:
        case TaskKind.CLASSIFICATION:
            return PredictionColumns(probabilities(count, seed))
        case TaskKind.MULTILABEL:
            return PredictionColumns(rng.random((count, 3), np.float32))
        case TaskKind.REGRESSION:
            values = rng.standard_normal((count, 2)).astype(np.float32)
            return PredictionColumns(values, np.abs(values) if seed % 2 else None)
        case _:
            return objects(rng.integers(0, 4, count).tolist(), 4 if kind is TaskKind.BOXES else 2, seed=seed)


def push(
    core: Assay,
    ids: list[str],
    columns: PredictionColumns,
    source: str = "mine",
    form: PredictionForm = PredictionForm.PROBABILITIES,
    request: RequestKey = NO_KEY,
    classes: tuple[str, ...] = (),
) -> UpdatePredictionsResult:
    """Pushes predictions of a source."""
    return core.sources.update(POOL, PredictionUpdate(source, ids, form, columns, classes), request)
