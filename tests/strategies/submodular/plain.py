"""The submodular functions and their plain greedy maximisation, in float64 over whole matrices."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

Floats = Any
Value = Callable[[list[int]], float]

EQUAL = 1e-10


def unit(rows: Floats) -> Floats:
    rows = np.asarray(rows, float)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths == 0, 1, lengths)


def cosine(left: Floats, right: Floats) -> Floats:
    return (1 + unit(left) @ unit(right).T) / 2


def rbf(left: Floats, right: Floats, gamma: float) -> Floats:
    left, right = np.asarray(left, float), np.asarray(right, float)
    return np.exp(-gamma * np.square(left[:, None] - right[None]).sum(axis=2))


def mean_gamma(rows: Floats) -> float:
    rows = np.asarray(rows, float)
    return float(1 / np.square(rows[:, None] - rows[None]).sum(axis=2).mean())


def facility_location(similar_NN: Floats, best_N: Floats, weights_N: Floats) -> Value:
    """What picks add to sum_j w_j max s_ij over what is covered already."""

    def value(picks: list[int]) -> float:
        covered = np.maximum(best_N, similar_NN[picks].max(axis=0)) if picks else best_N
        return float(weights_N @ (covered - best_N))

    return value


def graph_cut(similar_NN: Floats, labeled_N: Floats, representation: float) -> Value:
    """labeled_N: summed similarity to labeled samples."""

    def value(picks: list[int]) -> float:
        inside = similar_NN[np.ix_(picks, picks)].sum() + 2 * labeled_N[picks].sum()
        return float(representation * similar_NN[:, picks].sum() - inside)

    return value


def log_det(rows: Floats, labeled: Floats, ridge: float) -> Value:
    """log det of the kernel of labeled samples and picks."""

    def value(picks: list[int]) -> float:
        every = unit(np.concatenate([np.asarray(labeled, float), np.asarray(rows, float)[picks]]))
        return float(np.linalg.slogdet(every @ every.T + ridge * np.eye(len(every)))[1]) if len(every) else 0.0

    return value


def flqmi(similar_QN: Floats, eta: float) -> Value:
    def value(picks: list[int]) -> float:
        if not picks:
            return 0.0
        return float(similar_QN[:, picks].max(axis=1).sum() + eta * similar_QN[:, picks].max(axis=0).sum())

    return value


def greedy(value: Value, size: int, k: int, first: int | None = None) -> tuple[list[int], list[float]]:
    """Picks and gains; gains closer than EQUAL are equal, and equal ones go to the lower index."""
    picks: list[int] = []
    gains = []
    for _ in range(min(k, size)):
        open_ = [i for i in range(size) if i not in picks]
        offers = np.array([value([*picks, i]) for i in open_]) - value(picks)
        place = int(np.argmax(offers >= offers.max() - EQUAL)) if picks or first is None else first
        picks.append(open_[place])
        gains.append(float(offers[place]))
    return picks, gains


def fast_cover(
    similar_NN: Floats, k: int, best_N: Floats | None = None, weights_N: Floats | None = None
) -> tuple[list[int], Floats]:
    """`greedy` of facility location for larger matrices (columns are covered), gains as a part of the weights."""
    columns = similar_NN.shape[1]
    best = np.zeros(columns) if best_N is None else best_N.copy()
    weights = np.ones(columns) if weights_N is None else weights_N
    picks: list[int] = []
    gains = []
    for _ in range(min(k, len(similar_NN))):
        offers = np.maximum(similar_NN - best, 0) @ weights
        offers[picks] = -1
        pick = int(np.argmax(offers >= offers.max() - EQUAL))
        picks.append(pick)
        gains.append(offers[pick] / weights.sum())
        best = np.maximum(best, similar_NN[pick])
    return picks, np.array(gains)


def best_value(value: Value, size: int, k: int) -> float:
    return max(value(list(picks)) for picks in combinations(range(size), k))
