"""What a result is worth, by one measure for all who made one: shows that they did the same work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.strategies.data import Array, Data, blocks


@dataclass(frozen=True)
class Quality:
    """A number about a result (the picks, or the scores), and what it is called."""

    name: str
    measure: Callable[[Any, Data], float]


def _squared_to_nearest(points_ND: Array, picks_K: Array) -> Array:
    """float32 squared distance of each point to the nearest pick."""
    picked_KD = points_ND[picks_K]
    norms_K = (picked_KD**2).sum(1)
    nearest = []
    for block in blocks(len(points_ND)):
        points_BD = points_ND[block]
        nearest.append((norms_K - 2 * points_BD @ picked_KD.T).min(1) + (points_BD**2).sum(1))
    return np.maximum(np.concatenate(nearest), 0)


def _cover_radius(picks_K: Array, data: Data) -> float:
    return float(np.sqrt(_squared_to_nearest(data["embeddings"], picks_K).max()))


def _mean_squared_distance(picks_K: Array, data: Data) -> float:
    return float(_squared_to_nearest(data["embeddings"], picks_K).mean(dtype=np.float64))


def _gradient_spread(picks_K: Array, data: Data) -> float:
    """As above in the space of BADGE, whose points are outer products: (p - onehot) x h, never written out."""
    residuals_NC = data["probs"].copy()
    residuals_NC[np.arange(len(residuals_NC)), residuals_NC.argmax(1)] -= 1
    points_ND = data["embeddings"]
    norms_N = (residuals_NC**2).sum(1) * (points_ND**2).sum(1)
    nearest = []
    for block in blocks(len(points_ND)):
        products_BK = (residuals_NC[block] @ residuals_NC[picks_K].T) * (points_ND[block] @ points_ND[picks_K].T)
        nearest.append((norms_N[picks_K] - 2 * products_BK).min(1) + norms_N[block])
    return float(np.maximum(np.concatenate(nearest), 0).mean(dtype=np.float64))


def _covered_share(picks_K: Array, data: Data) -> float:
    return float((_squared_to_nearest(data["embeddings"], picks_K) < float(data["radius"]) ** 2).mean())


def _mean_entropy(picks_K: Array, data: Data) -> float:
    probs_KC = data["probs"][picks_K].astype(np.float64)
    return float(-(probs_KC * np.log(np.maximum(probs_KC, 1e-300))).sum(1).mean())


def _mean(scores_N: Array, data: Data) -> float:
    return float(np.asarray(scores_N).mean(dtype=np.float64))


def _score_sum(picks_K: Array, data: Data) -> float:
    return float(data["scores"][picks_K].sum(dtype=np.float64))


cover_radius = Quality("cover radius", _cover_radius)
mean_squared_distance = Quality("mean squared distance to the nearest pick", _mean_squared_distance)
gradient_spread = Quality("mean squared distance to the nearest pick, in gradient space", _gradient_spread)
covered_share = Quality("share covered", _covered_share)
mean_entropy = Quality("mean entropy of the picks", _mean_entropy)
mean_score = Quality("mean score", _mean)
score_sum = Quality("sum of the scores picked", _score_sum)
