"""What a head learns from, and what it is measured by: the labels of a snapshot, by the pool's task. Samples that are
set apart teach nothing, and every head is measured by them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import AssayError, Reason
from assay.server.core.models.predictions import HeadSource, probabilities
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.splits import SET_APART
from assay.server.core.ports.models import Heads
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.metrics import MOST_CONFUSIONS, ClassScores, HeadMetrics, Score
from assay.server.core.records.models import (
    ClassTargets,
    HeadInfo,
    HeadWeights,
    NumberTargets,
    SetTargets,
    Targets,
    TrainedHead,
)
from assay.server.core.records.pools import State
from assay.server.core.tasks import base
from assay.server.core.tasks.base import Column, PredictionForm, TaskMetrics, Value

# Probabilities of soft targets: 2 GiB.
_MOST_PROBABILITIES = 1 << 28
# Predictions of held-out samples that intervals are taken from; beyond them measures come without.
_RESAMPLED_AT_MOST = 1 << 26


def targets_of(snapshot: Snapshot, rows: RowArray) -> Targets:
    """The labels of rows, as a head learns them. Raises AssayError(INVALID_ARGUMENT) for a task without heads."""
    require_head(snapshot)
    shape, targets = snapshot.task.prediction_shape, snapshot.task.targets(labels_of(snapshot, rows))
    assert shape is not None  # require_head
    assert targets is not None
    if shape.form is PredictionForm.PROBABILITIES:
        return ClassTargets(targets, shape.columns)
    if shape.form is PredictionForm.LABEL_PROBABILITIES:
        return SetTargets(targets)
    return NumberTargets(targets)


def softened(targets: Targets, confidences_N: FloatArray) -> tuple[Targets, npt.NDArray[np.float64] | None]:
    """Targets as sure as their labels are, and the weight of each sample, None where all count alike.

    Of one class a sample, the label has its confidence for a probability, and the other classes that have labels share
    the rest alike. A set of classes or numbers count by their confidence.

    Args:
        confidences_N: of the labels, in (0, 1].

    Raises:
        AssayError: TOO_LARGE for more probabilities than fit into memory.
    """
    sure_N = confidences_N.astype(np.float64)
    if (sure_N >= 1).all():
        return targets, None
    if not isinstance(targets, ClassTargets):
        return targets, sure_N
    seen = np.unique(targets.classes_N)
    if len(seen) < 2:
        return targets, None  # The training says what it lacks.
    size = len(sure_N) * targets.class_count
    if size > _MOST_PROBABILITIES:
        raise AssayError(
            Reason.TOO_LARGE,
            f"Soft targets of {len(sure_N):,} labels and {targets.class_count:,} classes are {size:,} probabilities; "
            f"at most {_MOST_PROBABILITIES:,} are kept. Train on the labels as they are.",
        )
    probs_NC = np.zeros((len(sure_N), targets.class_count))
    probs_NC[:, seen] = ((1 - sure_N) / (len(seen) - 1))[:, None]
    probs_NC[np.arange(len(sure_N)), targets.classes_N] = sure_N
    likeliest_N = np.where(sure_N * len(seen) >= 1, targets.classes_N, probs_NC.argmax(axis=1))
    return ClassTargets(likeliest_N, targets.class_count, probs_NC), None


def require_head(snapshot: Snapshot) -> None:
    """Raises AssayError(INVALID_ARGUMENT) for a task that no head learns."""
    if snapshot.task.targets([]) is None:
        raise AssayError(
            Reason.INVALID_ARGUMENT,
            f"No head learns the task {snapshot.pool.task.kind}. Push the predictions of a model of your own.",
            task=snapshot.pool.task.kind,
        )


def labels_of(snapshot: Snapshot, rows: RowArray) -> Column:
    """The labels of rows, as values of the pool's task."""
    codes_N = snapshot.labels.at(rows).astype(np.int32, copy=False)
    if snapshot.values is None:
        return codes_N
    # Sets of classes repeat much.
    distinct, places = np.unique(codes_N, return_inverse=True)
    values = [
        snapshot.task.decode(value)
        for value in snapshot.values.at(distinct).at(np.arange(len(distinct)))
        if value is not None
    ]
    return [values[place] for place in places.tolist()]


def measured(snapshot: Snapshot, rows: RowArray, trained: TrainedHead, heads: Heads, seed: int) -> HeadInfo:
    """What is known of a head that was trained on rows, with intervals, and with what it is worth on the samples that
    are set apart."""
    said = trained.predictions_MC if trained.decided_MC is None else trained.decided_MC
    held = task_metrics(snapshot, rows[trained.held_M], said, seed)
    metrics = trained.info.metrics if held is None else _with_own(trained.info.metrics, held)
    splits = {}
    for split in SET_APART:
        apart = labeled_of(snapshot, split)
        if len(apart):
            said = _said(trained.weights, _predictions(snapshot, apart, trained, heads))
            splits[split] = task_metrics(snapshot, apart, said, seed) or HeadMetrics(len(apart))
    return replace(trained.info, metrics=metrics, split_metrics=splits)


def labeled_of(snapshot: Snapshot, split: str) -> RowArray:
    """Rows with a label of a split that is set apart, ascending."""
    rows = snapshot.split_rows(split)
    labeled: RowArray = rows[snapshot.states.at(rows) == State.LABELED]
    return labeled


def _said(weights: HeadWeights, predictions_MC: FloatArray) -> FloatArray | MaskArray:
    """Predictions as a task measures them: of sets of classes, which are there."""
    if weights.thresholds_C is None:
        return predictions_MC
    said_MC: MaskArray = predictions_MC >= weights.thresholds_C
    return said_MC


def task_metrics(
    snapshot: Snapshot, rows: RowArray, said_M: FloatArray | MaskArray | Sequence[Value], seed: int
) -> HeadMetrics | None:
    """What predictions of labeled rows are worth, with intervals; None where there are none, or too many to draw
    again and again. Of objects, said_M are values of the task."""
    if not 0 < (said_M.size if isinstance(said_M, np.ndarray) else len(said_M)) <= _RESAMPLED_AT_MOST:
        return None
    record = snapshot.pool.task
    found = snapshot.task.metrics(labels_of(snapshot, rows), said_M, seed)
    names = [each.name for each in record.targets] or list(record.class_names)
    ids = {name: place for place, name in enumerate(names)}
    classes = tuple(ClassScores(ids[each.name], each.samples, _scores(each.scores)) for each in found.classes)
    return HeadMetrics(found.samples, _scores(found.scores), classes, _confusion(found, [each.id for each in classes]))


def _with_own(own: HeadMetrics, found: HeadMetrics) -> HeadMetrics:
    """The measures of the task, and those that only the training knows, such as of the calibration."""
    of_class = {each.id: each.scores for each in own.classes}
    classes = tuple(replace(each, scores={**of_class.get(each.id, {}), **each.scores}) for each in found.classes)
    rest = {name: each for name, each in own.scores.items() if name not in found.scores}
    return replace(found, scores={**found.scores, **rest}, classes=classes)


def _confusion(found: TaskMetrics, shown: Iterable[int]) -> tuple[tuple[int, int, int], ...]:
    """The pairs of classes that occurred, most samples first, in the order of ids where they have as many."""
    if found.confusion_CC is None:
        return ()
    ids = np.array(sorted(shown), np.int64)
    counts_SS = found.confusion_CC[np.ix_(ids, ids)]
    said, predicted = np.nonzero(counts_SS)
    samples = counts_SS[said, predicted]
    order = np.argsort(-samples, kind="stable")[:MOST_CONFUSIONS]
    cells = np.stack([ids[said], ids[predicted], samples], axis=1)[order].tolist()
    return tuple((said_id, predicted_id, count) for said_id, predicted_id, count in cells)


def _predictions(snapshot: Snapshot, rows: RowArray, trained: TrainedHead, heads: Heads) -> FloatArray:
    source = HeadSource("", trained.weights, heads)
    values_NC = np.empty((len(rows), source.columns(snapshot)), np.float32)
    source.apply(snapshot.gather(rows), values_NC)
    return probabilities(source, values_NC)


def _scores(scores: Mapping[str, base.Score | None]) -> dict[str, Score | None]:
    return {name: None if each is None else Score(each.value, each.low, each.high) for name, each in scores.items()}
