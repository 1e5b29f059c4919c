"""Describes picks: the sample, why it was picked, and what the model predicts for it."""

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import MAX_PREDICTIONS
from assay.server.core.mining.messages import PickView
from assay.server.core.mining.selection.run import Picks
from assay.server.core.models.predictions import PredictionCache, probabilities
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.records.arrays import RowArray


def describe(
    snapshot: Snapshot, picks: Picks, cache: PredictionCache, *, payload: bool, predictions: int
) -> tuple[PickView, ...]:
    """Picks as a caller sees them. Raises AssayError(INVALID_ARGUMENT) for a bad number of predictions."""
    if not 0 <= predictions <= MAX_PREDICTIONS:
        raise AssayError(
            Reason.INVALID_ARGUMENT, f"A pick carries 0 to {MAX_PREDICTIONS} predictions, not {predictions}."
        )
    samples = snapshot.describe(picks.rows, payload=payload)
    probable = _most_probable(snapshot, cache, picks.rows, predictions)
    return tuple(
        PickView(
            sample=sample,
            rank=rank,
            score=float(picks.scores[rank - 1]),
            parts=tuple((name, float(values[rank - 1])) for name, values in picks.parts),
            predictions=probable[rank - 1],
            exploring=bool(picks.exploring[rank - 1]),
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
