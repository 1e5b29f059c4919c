"""The law of D^2 sampling, by chi-square against the enumerated law of the plain loop in float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

import assay.strategies.kernels.d2_sampling as module
from assay.strategies import select
from assay.strategies.candidates import softmax
from assay.strategies.kernels.d2_sampling import Batch, Space, sample
from assay.strategies.kernels.points import Points

Floats = Any
Sequence = tuple[int, ...]

# Six points around a centre at 0: one of them is its copy, two are copies of each other.
SHAPE = np.array([[0, 0], [1, 0.2], [-0.3, 0.9], [-0.3, 0.9], [0.4, -0.5], [1.3, 0.6]], np.float32)
PLACES = 100
DRAWS = 3


def law(squared_NN: Floats, start_N: Floats, draws: int, weights_N: Floats = 1.0) -> dict[Sequence, float]:
    """Probability of each order of `draws` draws, by the definition; `start_N` is D^2 before the first."""
    table = {}
    for order in permutations(range(len(squared_NN)), draws):
        probability, nearest_N = 1.0, start_N.astype(float)
        for pick in order:
            potential = weights_N * nearest_N
            probability *= potential[pick] / potential.sum() if potential.sum() > 0 else 0.0
            nearest_N = np.minimum(nearest_N, squared_NN[pick])
        if probability > 0:
            table[order] = probability
    return table


def squared_distances(points_ND: Floats, others_MD: Floats) -> Floats:
    return np.square(points_ND[:, None].astype(float) - others_MD[None].astype(float)).sum(axis=2)


def require_law(seen: Counter[Sequence], table: dict[Sequence, float]) -> None:
    """Nothing impossible was drawn, and chi-square sees no difference; rare orders count together."""
    assert set(seen) <= set(table)
    trials = seen.total()
    common = [order for order, probability in table.items() if probability * trials >= 10]
    observed = [seen[order] for order in common]
    expected = [table[order] * trials for order in common]
    if trials - sum(expected) > 5:
        observed.append(trials - sum(observed))
        expected.append(trials - sum(expected))
    assert len(observed) > 2
    assert chisquare(observed, np.array(expected) * sum(observed) / sum(expected)).pvalue > 1e-3


def copies_of_shape(weights: Floats | None, runs: int) -> Iterator[Sequence]:
    """The first draws at each of many places, in runs over all places at once.

    Places are so far apart that only their own centres matter to them: what a run draws at one place has the law of
    a draw from that place alone, while bounds are stale and proposals are rejected as in a large run.
    """
    places = np.eye(PLACES, PLACES + 2, dtype=np.float32) * 5
    points = np.repeat(places, len(SHAPE), axis=0)
    points[:, -2:] = np.tile(SHAPE, (PLACES, 1))
    weights_N = None if weights is None else np.tile(weights, PLACES)
    space = Space.of(Points(points, "l2"))
    given = Batch((torch.from_numpy(places),), torch.full((PLACES,), 25.0))
    for seed in range(runs):
        drawn = sample(space, len(points), np.random.default_rng(seed), given=given, weights_N=weights_N)
        picks = drawn.indices_K[: drawn.drawn]
        for place in range(PLACES):
            yield tuple(picks[picks // len(SHAPE) == place][:DRAWS] % len(SHAPE))


@pytest.mark.parametrize("weights", [None, np.array([1, 2, 0.5, 1, 3, 0.2], np.float32)], ids=["plain", "weighted"])
def test_law_of_many_draws(weights: Floats | None) -> None:
    table = law(
        squared_distances(SHAPE, SHAPE),
        squared_distances(SHAPE, np.zeros((1, 2)))[:, 0],
        DRAWS,
        1.0 if weights is None else weights.astype(float),
    )
    require_law(Counter(copies_of_shape(weights, 400 if weights is None else 100)), table)


def drawn_orders(name: str, trials: int, **arrays_and_params: Any) -> Counter[Sequence]:
    return Counter(
        tuple(select(name, size=DRAWS, seed=seed, **arrays_and_params).indices.tolist()) for seed in range(trials)
    )


@pytest.mark.parametrize("patience", [0.0, 1e9], ids=["stale", "fresh"])
def test_law_does_not_depend_on_when_bounds_are_refreshed(patience: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DEARER", patience)
    labels = np.array([[0.3, 0.3], [-1, -1]], np.float32)
    nearest_N = squared_distances(SHAPE, labels).min(axis=1)
    table = law(squared_distances(SHAPE, SHAPE), nearest_N, DRAWS)
    seen = drawn_orders("kmeans_pp", 800, embeddings=SHAPE, labeled_embeddings=labels)
    require_law(seen, table)


def test_first_draw_is_uniform_where_nothing_is_labeled() -> None:
    squared_NN = squared_distances(SHAPE, SHAPE)
    rest = [law(squared_NN, squared_NN[first], DRAWS - 1) for first in range(len(SHAPE))]
    table = {(first, *order): p / len(SHAPE) for first, orders in enumerate(rest) for order, p in orders.items()}
    require_law(drawn_orders("kmeans_pp", 800, embeddings=SHAPE), table)


def gradients(probs: Floats, embeddings: Floats) -> Floats:
    residuals = probs.astype(float)
    residuals[np.arange(len(residuals)), residuals.argmax(axis=1)] -= 1
    return (residuals[:, :, None] * embeddings[:, None, :]).reshape(len(residuals), -1)


def by_length(squared_NN: Floats, lengths_N: Floats) -> dict[Sequence, float]:
    """The first by squared length."""
    chances = lengths_N / lengths_N.sum()
    rest = [law(squared_NN, squared_NN[first], DRAWS - 1) for first in range(len(lengths_N))]
    return {(first, *order): chances[first] * p for first, orders in enumerate(rest) for order, p in orders.items()}


def longest_first(squared_NN: Floats, lengths_N: Floats) -> dict[Sequence, float]:
    first = int(lengths_N.argmax())
    return {(first, *order): p for order, p in law(squared_NN, squared_NN[first], DRAWS - 1).items()}


@pytest.mark.parametrize(("start", "expected"), [("sample", by_length), ("max_norm", longest_first)])
def test_badge_draws_by_gradients(start: str, expected: Callable[[Floats, Floats], dict[Sequence, float]]) -> None:
    rng = np.random.default_rng(3)
    probs = softmax(rng.normal(0, 1.5, (6, 3)).astype(np.float32))
    embeddings = rng.normal(0, 1, (6, 4)).astype(np.float32)
    points = gradients(probs, embeddings)
    table = expected(squared_distances(points, points), np.square(points).sum(axis=1))
    require_law(drawn_orders("badge", 800, probs=probs, embeddings=embeddings, start=start), table)
