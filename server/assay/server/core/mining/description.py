"""Describes picks: the sample, why it was picked, and what the model predicts for it."""

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import MAX_PREDICTIONS
from assay.server.core.mining.messages import NumberView, PickView
from assay.server.core.mining.selection.run import Picks
from assay.server.core.models.predictions import HeadSource, PredictionCache, deviations, probabilities
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.tasks import TaskKind


def describe(
    snapshot: Snapshot, picks: Picks, cache: PredictionCache, *, payload: bool, predictions: int
) -> tuple[PickView, ...]:
    """Picks as a caller sees them. Raises AssayError(INVALID_ARGUMENT) for a bad number of predictions."""
    if not 0 <= predictions <= MAX_PREDICTIONS:
        raise AssayError(
            Reason.INVALID_ARGUMENT, f"A pick carries 0 to {MAX_PREDICTIONS} predictions, not {predictions}."
        )
    samples = snapshot.describe(picks.rows, payload=payload)
    probable: list[tuple[tuple[str, float], ...]] = [()] * len(picks.rows)
    numbers: list[tuple[NumberView, ...]] = [()] * len(picks.rows)
    if snapshot.pool.task.kind is TaskKind.REGRESSION:
        numbers = _numbers(snapshot, cache, picks.rows, predictions)
    else:
        probable = _most_probable(snapshot, cache, picks.rows, predictions)
    return tuple(
        PickView(
            sample=sample,
            rank=rank,
            score=float(picks.scores[rank - 1]),
            parts=tuple((name, float(values[rank - 1])) for name, values in picks.parts),
            predictions=probable[rank - 1],
            exploring=bool(picks.exploring[rank - 1]),
            numbers=numbers[rank - 1],
        )
        for rank, sample in enumerate(samples, start=1)
    )


def _most_probable(
    snapshot: Snapshot, cache: PredictionCache, rows: RowArray, count: int
) -> list[tuple[tuple[str, float], ...]]:
    predictions = cache.of(snapshot) if count else None
    if predictions is None:
        return [()] * len(rows)
    known = predictions.known(snapshot)[rows]
    probs_NC = probabilities(predictions.source, predictions.values(snapshot)[rows])
    order_NC = np.argsort(-probs_NC, axis=1, kind="stable")[:, :count]
    names = snapshot.pool.class_names
    return [
        tuple((names[c], float(probs_C[c])) for c in order_C) if has else ()
        for probs_C, order_C, has in zip(probs_NC, order_NC.tolist(), known.tolist(), strict=True)
    ]


def _numbers(snapshot: Snapshot, cache: PredictionCache, rows: RowArray, count: int) -> list[tuple[NumberView, ...]]:
    """The first numbers of each row, with their spread."""
    predictions = cache.of(snapshot) if count else None
    if predictions is None:
        return [()] * len(rows)
    assert isinstance(predictions.source, HeadSource)  # nothing else predicts numbers
    known = predictions.known(snapshot)[rows]
    values_NT, spread_NT = predictions.values(snapshot)[rows], deviations(predictions.source, snapshot.gather(rows))
    targets = [target.name for target in snapshot.pool.task.targets[:count]]
    return [
        tuple(
            NumberView(name, float(values_NT[place, t]), None if spread_NT is None else float(spread_NT[place, t]))
            for t, name in enumerate(targets)
        )
        if has
        else ()
        for place, has in enumerate(known.tolist())
    ]
