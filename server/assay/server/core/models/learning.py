"""What a head learns from, and what it is measured by: the labels of a snapshot, by the pool's task. Samples that are
set apart teach nothing, and every head is measured by them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import AssayError, Reason
from assay.server.core.models.predictions import HeadSource, probabilities
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.splits import SET_APART
from assay.server.core.ports.models import Heads
from assay.server.core.records.arrays import FloatArray, RowArray
from assay.server.core.records.metrics import ClassScores, HeadMetrics, Score
from assay.server.core.records.models import (
    ClassTargets,
    HeadInfo,
    NumberTargets,
    SetTargets,
    Targets,
    TrainedHead,
)
from assay.server.core.records.pools import State
from assay.server.core.tasks import base
from assay.server.core.tasks.base import PredictionForm, Task

# Predictions of held-out samples that intervals are taken from; beyond them measures come without.
_RESAMPLED_AT_MOST = 1 << 26


def targets_of(task: Task, snapshot: Snapshot, rows: RowArray) -> Targets:
    """The labels of rows, as a head learns them. Raises AssayError(INVALID_ARGUMENT) for a task without heads."""
    shape, targets = task.prediction_shape, task.targets(_values(snapshot, rows))
    if shape is None or targets is None:
        raise AssayError(
            Reason.INVALID_ARGUMENT,
            f"No head learns the task {task.record.kind}. Push the predictions of a model of your own.",
        )
    if shape.form is PredictionForm.PROBABILITIES:
        return ClassTargets(targets, shape.columns)
    if shape.form is PredictionForm.LABEL_PROBABILITIES:
        return SetTargets(targets)
    return NumberTargets(targets)


def measured(task: Task, snapshot: Snapshot, rows: RowArray, trained: TrainedHead, heads: Heads, seed: int) -> HeadInfo:
    """What is known of a head that was trained on rows, with intervals, and with what it is worth on the samples that
    are set apart."""
    held = task_metrics(task, snapshot, rows[trained.held_M], trained.predictions_MC, trained, seed)
    metrics = trained.info.metrics
    if held is not None:
        # What the task does not measure, such as the calibration, stays.
        metrics = HeadMetrics(held.samples, {**metrics.scores, **held.scores}, held.classes)
    splits = {}
    for split in SET_APART:
        apart = labeled_of(snapshot, split)
        if len(apart):
            found = task_metrics(task, snapshot, apart, _predictions(snapshot, apart, trained, heads), trained, seed)
            splits[split] = found or HeadMetrics(len(apart))
    return replace(trained.info, metrics=metrics, split_metrics=splits)


def task_metrics(
    task: Task, snapshot: Snapshot, rows: RowArray, predictions_MC: FloatArray, trained: TrainedHead, seed: int
) -> HeadMetrics | None:
    """What predictions of labeled rows are worth, with intervals; None where there are none, or too many to draw
    again and again."""
    if not 0 < predictions_MC.size <= _RESAMPLED_AT_MOST:
        return None
    decided = predictions_MC if trained.weights.thresholds_C is None else predictions_MC >= trained.weights.thresholds_C
    found = task.metrics(_values(snapshot, rows), decided, seed)
    names = [each.name for each in task.record.targets] or list(task.record.class_names)
    ids = {name: place for place, name in enumerate(names)}
    classes = tuple(ClassScores(ids[each.name], each.samples, _scores(each.scores)) for each in found.classes)
    return HeadMetrics(found.samples, _scores(found.scores), classes)


def labeled_of(snapshot: Snapshot, split: str) -> RowArray:
    """Rows with a label of a split that is set apart, ascending."""
    rows = snapshot.split_rows(split)
    labeled: RowArray = rows[snapshot.states.at(rows) == State.LABELED]
    return labeled


def _values(snapshot: Snapshot, rows: RowArray) -> npt.NDArray[np.int32]:
    return snapshot.labels.at(rows).astype(np.int32)


def _predictions(snapshot: Snapshot, rows: RowArray, trained: TrainedHead, heads: Heads) -> FloatArray:
    source = HeadSource("", trained.weights, heads)
    values_NC = np.empty((len(rows), source.columns(snapshot)), np.float32)
    source.apply(snapshot.gather(rows), values_NC)
    return probabilities(source, values_NC)


def _scores(scores: Mapping[str, base.Score | None]) -> dict[str, Score | None]:
    return {name: None if each is None else Score(each.value, each.low, each.high) for name, each in scores.items()}
