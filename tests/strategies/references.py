"""Plain transcriptions of formulas and loops, in float64, to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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
