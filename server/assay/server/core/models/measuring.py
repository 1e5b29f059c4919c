"""What named sources of predictions are worth on samples that are set apart, by the measures of the pool's task."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.server.core.models.learning import labeled_of, task_metrics
from assay.server.core.models.merged import fold
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.sources import Source
from assay.server.core.pools.splits import SET_APART
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.metrics import HeadMetrics
from assay.server.core.records.predictions import ObjectColumns
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.base import Box, PredictionForm, Span
from assay.strategies import Need, checkpoint

_NEEDS = {PredictionForm.PROBABILITIES: Need.PROBS, PredictionForm.LABEL_PROBABILITIES: Need.LABEL_PROBS}
# A label is there from this probability on.
_THRESHOLD = 0.5


class SourceMeasures:
    """Measures the sources of each pool."""

    def __init__(self, pools: PoolDirectory) -> None:
        self._pools = pools

    def of(self, pool_id: str, name: str) -> dict[str, HeadMetrics]:
        """What a source is worth by split, "test" and "validation": over the labeled samples that it predicts, none
        where there are none, or where there is no such source. Boxes as they are, with the probability of their
        likeliest class as score (map_50); spans that are likelier of their class than nothing."""
        snapshot = self._pools.get(pool_id).snapshot
        source = snapshot.sources.get(name)
        if source is None:
            return {}
        measured = {split: _measured(snapshot, source, labeled_of(snapshot, split)) for split in SET_APART}
        return {split: metrics for split, metrics in measured.items() if metrics is not None}


def _measured(snapshot: Snapshot, source: Source, labeled: RowArray) -> HeadMetrics | None:
    rows = labeled[source.known(labeled)]
    if not len(rows):
        return None
    return task_metrics(snapshot, rows, _said(snapshot, source, rows), seed=0)


def _said(snapshot: Snapshot, source: Source, rows: RowArray) -> Any:
    """Predictions of rows as their task measures them."""
    shape = snapshot.task.prediction_shape
    assert shape is not None  # there are predictions
    if shape.form is PredictionForm.OBJECTS:
        return _values_of(snapshot, source.objects(rows, shape.columns))
    values_NC = np.zeros((len(rows), shape.columns), np.float32)
    for opened, positions, places in source.locate(rows):
        part_MX = opened.columns.values_NX
        assert part_MX is not None
        values_NC[positions, : part_MX.shape[1]] = part_MX[places]
    fold(snapshot.task.merges, _NEEDS.get(shape.form), values_NC)
    return values_NC >= _THRESHOLD if shape.form is PredictionForm.LABEL_PROBABILITIES else values_NC


def _values_of(snapshot: Snapshot, objects: ObjectColumns) -> list[tuple[Any, ...]]:
    """Objects as values of the task, one for each sample."""
    boxes = snapshot.pool.task.kind is TaskKind.BOXES
    probs_PC = objects.probs_PC.copy()
    fold(snapshot.task.merges, Need.PROBS, probs_PC)
    likeliest_P = probs_PC.argmax(axis=1).tolist()
    scores_P = probs_PC.max(axis=1)
    # A box of little certainty counts little; a span is there or not.
    kept_P = np.ones(len(scores_P), np.bool_) if boxes else scores_P >= 1 - probs_PC.sum(axis=1)
    places = objects.places_PX.tolist()
    values: list[tuple[Any, ...]] = []
    for start, stop in zip(objects.offsets_O[:-1].tolist(), objects.offsets_O[1:].tolist(), strict=True):
        checkpoint()
        parts = [part for part in range(start, stop) if kept_P[part]]
        values.append(
            tuple(_box(likeliest_P[part], places[part], float(scores_P[part])) for part in parts)
            if boxes
            else _spans(parts, likeliest_P, places)
        )
    return values


def _box(class_id: int, place: Sequence[float], score: float) -> Box:
    x, y, w, h = place
    return Box(class_id, x, y, w, h, score)


def _spans(parts: Sequence[int], classes_P: Sequence[int], places: Sequence[Sequence[int]]) -> tuple[Span, ...]:
    return tuple(sorted({Span(classes_P[part], *places[part]) for part in parts}))
