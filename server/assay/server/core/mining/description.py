"""Describes picks: the sample, why it was picked, and what the model predicts for it."""

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import MAX_PREDICTIONS
from assay.server.core.mining.messages import NumberView, PickView
from assay.server.core.mining.selection.run import Picks
from assay.server.core.models.predictions import (
    HeadSource,
    NamedSource,
    PredictionCache,
    Predictions,
    Source,
    deviations,
    probabilities,
)
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.records.arrays import FloatArray, RowArray
from assay.server.core.records.tasks import TaskKind


def describe(
    snapshot: Snapshot, picks: Picks, cache: PredictionCache, *, source: str, payload: bool, predictions: int
) -> tuple[PickView, ...]:
    """Picks as a caller sees them, with what the plan's source predicts. Raises AssayError(INVALID_ARGUMENT) for a bad
    number of predictions."""
    if not 0 <= predictions <= MAX_PREDICTIONS:
        raise AssayError(
            Reason.INVALID_ARGUMENT, f"A pick carries 0 to {MAX_PREDICTIONS} predictions, not {predictions}."
        )
    samples = snapshot.describe(picks.rows, payload=payload)
    probable: list[tuple[tuple[str, float], ...]] = [()] * len(picks.rows)
    numbers: list[tuple[NumberView, ...]] = [()] * len(picks.rows)
    if not predictions:
        pass
    elif snapshot.pool.task.kind is TaskKind.REGRESSION:
        numbers = _numbers(snapshot, cache.of(snapshot, name=source), picks.rows, predictions)
    else:
        probable = _most_probable(snapshot, cache.of(snapshot, name=source), picks.rows, predictions)
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
    snapshot: Snapshot, predictions: Predictions | None, rows: RowArray, count: int
) -> list[tuple[tuple[str, float], ...]]:
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


def _numbers(
    snapshot: Snapshot, predictions: Predictions | None, rows: RowArray, count: int
) -> list[tuple[NumberView, ...]]:
    """The first numbers of each row, with their spread."""
    if predictions is None:
        return [()] * len(rows)
    known = predictions.known(snapshot)[rows]
    values_NT, spread_NT = predictions.values(snapshot)[rows], _spread(snapshot, predictions.source, rows)
    targets = [target.name for target in snapshot.pool.task.targets[:count]]
    return [
        tuple(
            NumberView(name, float(values_NT[place, t]), _known(spread_NT, place, t)) for t, name in enumerate(targets)
        )
        if has
        else ()
        for place, has in enumerate(known.tolist())
    ]


def _spread(snapshot: Snapshot, source: Source, rows: RowArray) -> FloatArray | None:
    if isinstance(source, NamedSource):
        return snapshot.sources[source.source].spread(rows, source.columns(snapshot))
    assert isinstance(source, HeadSource)  # nothing else predicts numbers
    return deviations(source, snapshot.gather(rows))


def _known(spread_NT: FloatArray | None, place: int, target: int) -> float | None:
    if spread_NT is None or np.isnan(spread_NT[place, target]):
        return None
    return float(spread_NT[place, target])
