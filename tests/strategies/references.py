"""Plain transcriptions of formulas and loops, in float64, to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def uncertainty(probs_NC: NDArray[Any]) -> dict[str, Floats]:
    """Least confidence, margin and entropy by sorting."""
    probs = probs_NC.astype(np.float64)
    ordered = np.sort(np.pad(probs, ((0, 0), (1, 0))), axis=1)
    logs = np.log(probs, out=np.zeros_like(probs), where=probs > 0)
    return {
        "least_confidence": 1 - ordered[:, -1],
        "margin": 1 - (ordered[:, -1] - ordered[:, -2]) if probs.shape[1] > 1 else np.zeros(len(probs)),
        "entropy": -(probs * logs).sum(axis=1),
    }


def softmax(logits_NC: NDArray[Any]) -> Floats:
    shifted = logits_NC.astype(np.float64) - logits_NC.max(axis=1, keepdims=True)
    return np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)


def top_k(scores_N: NDArray[Any], k: int) -> NDArray[np.int64]:
    return np.lexsort((np.arange(len(scores_N)), -scores_N))[:k]


def k_center(
    embeddings_ND: NDArray[Any], k: int, labeled_LD: NDArray[Any] | None = None, first: int = 0
) -> tuple[list[int], Floats]:
    """The plain loop: picks, and the squared distance of each to its nearest centre (of the first without any: inf)."""
    points = embeddings_ND.astype(np.float64)
    squared_N = np.full(len(points), np.inf)
    for centre in () if labeled_LD is None else labeled_LD.astype(np.float64):
        squared_N = np.minimum(squared_N, np.square(points - centre).sum(axis=1))
    picks: list[int] = []
    at_pick: list[float] = []
    while len(picks) < min(k, len(points)):
        best = squared_N.max()
        place = first if np.isinf(best) else int(np.flatnonzero(squared_N >= best * (1 - 1e-12))[0])
        picks.append(place)
        at_pick.append(float(squared_N[place]))
        squared_N = np.minimum(squared_N, np.square(points - points[place]).sum(axis=1))
        squared_N[picks] = -1
    return picks, np.array(at_pick)
