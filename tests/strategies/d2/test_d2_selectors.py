"""kmeans_pp and badge: what their scores mean, what copies and certainty do to them, and how good large draws are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from assay.strategies import StrategyError, select
from assay.strategies.candidates import softmax
from assay.strategies.hybrid.badge import gradients

Floats = Any


def nearest(points_ND: Floats, centres_MD: Floats) -> Floats:
    points, centres = points_ND.astype(float), centres_MD.astype(float)
    return np.stack([np.square(points - centre).sum(axis=1) for centre in centres]).min(axis=0)


def at_each_draw(points_ND: Floats, picks: Floats, labeled_LD: Floats | None) -> Floats:
    """D^2 of every pick but a first without centres, by the definition."""
    given = [] if labeled_LD is None else list(labeled_LD)
    squared = []
    for place, pick in enumerate(picks):
        centres = given + list(points_ND[picks[:place]])
        if centres:
            squared.append(nearest(points_ND[pick : pick + 1], np.array(centres))[0])
    return np.array(squared)


def written_out(probs: Floats, embeddings: Floats) -> Floats:
    residuals = probs.astype(float)
    residuals[np.arange(len(residuals)), residuals.argmax(axis=1)] -= 1
    return (residuals[:, :, None] * embeddings[:, None, :]).reshape(len(residuals), -1)


@pytest.mark.parametrize("labeled", [0, 3, 70])
@pytest.mark.parametrize("shift", [0, 50])
def test_scores_of_kmeans_pp_are_squared_distances(labeled: int, shift: float) -> None:
    rng = np.random.default_rng(labeled)
    points = (shift + rng.standard_normal((900, 6))).astype(np.float32)
    labels = (shift + rng.standard_normal((labeled, 6))).astype(np.float32) if labeled else None
    selection = select("kmeans_pp", size=200, embeddings=points, labeled_embeddings=labels)
    expected = at_each_draw(points, selection.indices, labels)
    np.testing.assert_allclose(selection.scores[-len(expected) :], expected, rtol=1e-3, atol=1e-3)
    if not labeled:
        first = points[selection.indices[:1]]
        np.testing.assert_allclose(selection.scores[0], nearest(points, first).max(), rtol=1e-4)


def test_cosine_measures_directions() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((300, 5)).astype(np.float32)
    longer = points * rng.uniform(0.5, 9, (300, 1)).astype(np.float32)
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    selection = select("kmeans_pp", size=40, embeddings=longer, metric="cosine")
    expected = at_each_draw(directions, selection.indices, None)
    np.testing.assert_allclose(selection.scores[1:], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 40, 600])
@pytest.mark.parametrize("name", ["kmeans_pp", "badge"])
def test_picks_of_a_smaller_size_begin_those_of_a_larger(name: str, size: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {"embeddings": rng.standard_normal((1000, 5)).astype(np.float32)}
    if name == "badge":
        arrays["probs"] = softmax(rng.normal(0, 3, (1000, 4)).astype(np.float32))
    long = select(name, size=900, **arrays)
    np.testing.assert_array_equal(select(name, size=size, **arrays).indices, long.indices[:size])


def test_copies_are_drawn_last_and_in_order() -> None:
    shapes = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)
    selection = select("kmeans_pp", size=100, embeddings=np.tile(shapes, (4, 1)), seed=5)
    assert len(np.unique(selection.indices[:30] % 30)) == 30
    assert (selection.scores[:30] > 0).all()
    assert (selection.scores[30:] == 0).all()
    assert (np.diff(selection.indices[30:]) > 0).all()
    assert selection.diagnostics["drawn"] == 30


def test_copies_of_labeled_samples_are_drawn_last() -> None:
    points = np.random.default_rng(0).standard_normal((80, 3)).astype(np.float32)
    selection = select("kmeans_pp", size=80, embeddings=points, labeled_embeddings=points[:50])
    assert set(selection.indices[:30]) == set(range(50, 80))
    np.testing.assert_array_equal(selection.indices[30:], range(50))


def test_a_large_draw_covers_as_well_as_the_plain_loop() -> None:
    rng = np.random.default_rng(0)
    centres = 4 * rng.standard_normal((60, 16))
    points = (centres[rng.integers(60, size=6000)] + 0.5 * rng.standard_normal((6000, 16))).astype(np.float32)

    def potential(picks: Floats) -> float:
        return float(nearest(points, points[picks]).mean())

    def plain(seed: int) -> list[int]:
        draws = np.random.default_rng(seed)
        picks = [int(draws.integers(6000))]
        nearest_N = nearest(points, points[picks])
        while len(picks) < 120:
            picks.append(int(draws.choice(6000, p=nearest_N / nearest_N.sum())))
            nearest_N = np.minimum(nearest_N, nearest(points, points[picks[-1:]]))
        return picks

    ours = [potential(select("kmeans_pp", size=120, embeddings=points, seed=seed).indices) for seed in range(8)]
    theirs = [potential(plain(seed)) for seed in range(8)]
    assert abs(np.mean(ours) - np.mean(theirs)) < 3 * np.hypot(np.std(ours), np.std(theirs)) / np.sqrt(8)


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_distances_of_badge_are_those_of_the_gradients_written_out(classes: int) -> None:
    rng = np.random.default_rng(classes)
    probs = softmax(rng.normal(0, 3, (50, classes)).astype(np.float32))
    embeddings = rng.standard_normal((50, 5)).astype(np.float32)
    space = gradients(probs, embeddings)
    points = written_out(probs, embeddings)
    squared = space.squared(space.rows(slice(0, 50)), space.rows(np.arange(20))).numpy()
    expected = np.square(points[:, None] - points[None, :20]).sum(axis=2)
    np.testing.assert_allclose(space.norms_N.numpy(), np.square(points).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(squared, expected, rtol=1e-4, atol=1e-4)
    assert (np.diag(squared) == 0).all()


def test_scores_of_badge_are_squared_distances() -> None:
    rng = np.random.default_rng(1)
    probs = softmax(rng.normal(0, 2, (400, 6)).astype(np.float32))
    embeddings = rng.standard_normal((400, 8)).astype(np.float32)
    points = written_out(probs, embeddings)
    selection = select("badge", size=90, probs=probs, embeddings=embeddings)
    lengths = np.square(points).sum(axis=1)
    assert selection.indices[0] == lengths.argmax()
    np.testing.assert_allclose(selection.scores[0], lengths.max(), rtol=1e-5)
    np.testing.assert_allclose(
        selection.scores[1:], at_each_draw(points, selection.indices, None), rtol=1e-3, atol=1e-4
    )


def test_the_one_hot_is_that_of_the_predicted_class() -> None:
    """Certain samples have no gradient, however long their embeddings: without the one-hot they would come first."""
    probs = np.array([[1, 0], [0.5, 0.5], [0, 1], [0.6, 0.4]], np.float32)
    embeddings = np.array([[100, 0], [1, 0], [0, 100], [0, 1]], np.float32)
    selection = select("badge", size=4, probs=probs, embeddings=embeddings)
    np.testing.assert_array_equal(selection.indices, [1, 3, 0, 2])
    np.testing.assert_allclose(selection.scores[0], 0.5)


def test_nothing_to_draw_by_fills_up_in_order() -> None:
    certain = np.eye(3, dtype=np.float32)[np.arange(9) % 3]
    embeddings = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    for start in ("max_norm", "sample"):
        selection = select("badge", size=5, probs=certain, embeddings=embeddings, start=start)
        np.testing.assert_array_equal(selection.indices, range(5))
        assert (selection.scores == 0).all()


def test_gradients_beyond_float32_are_refused() -> None:
    with pytest.raises(StrategyError, match="beyond float32") as caught:
        select("badge", size=1, probs=np.full((3, 2), 0.5), embeddings=np.full((3, 2), 1e30))
    assert caught.value.reason == "NOT_FINITE"
    with pytest.raises(StrategyError, match="no classes"):
        select("badge", size=1, probs=np.empty((3, 0)), embeddings=np.ones((3, 2)))


def near_copies(rng: np.random.Generator, groups: int, size: int) -> Floats:
    centres = rng.standard_normal((groups, 12))
    owners = np.append(np.arange(groups), rng.integers(groups, size=size - groups))
    return (centres[owners] + 0.001 * rng.standard_normal((size, 12))).astype(np.float32)


@pytest.mark.parametrize("labeled", [0, 10])
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_distinct_picks_of_dedup_are_far_apart_and_cover_the_rest(metric: str, labeled: int) -> None:
    points = near_copies(np.random.default_rng(0), 60, 400)
    labels = points[:labeled] if labeled else None
    radius = 0.1 if metric == "l2" else 0.01
    selection = select("dedup", size=400, embeddings=points, labeled_embeddings=labels, metric=metric, radius=radius)
    distinct = int(selection.diagnostics["distinct"])
    assert distinct == 60 - labeled
    kept = np.concatenate([points[:labeled], points[selection.indices[:distinct]]]).astype(float)
    if metric == "cosine":
        kept /= np.linalg.norm(kept, axis=1, keepdims=True)
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
    limit = radius**2 if metric == "l2" else 2 * radius
    between = np.square(kept[:, None] - kept[None]).sum(axis=2)[~np.eye(len(kept), dtype=bool)]
    assert between.min() > limit
    assert nearest(points, kept).max() <= limit
    assert sorted(selection.indices) == list(range(400))


def test_dedup_goes_on_as_k_center() -> None:
    points = near_copies(np.random.default_rng(1), 20, 100)
    ours = select("dedup", size=50, embeddings=points, metric="l2", radius=0.1)
    theirs = select("k_center", size=50, embeddings=points)
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_array_equal(ours.scores, theirs.scores)
    assert ours.diagnostics["distinct"] == 20


def test_one_sample_is_always_distinct() -> None:
    assert select("dedup", size=1, embeddings=np.ones((3, 2))).diagnostics["distinct"] == 1
    copies = select("dedup", size=3, embeddings=np.ones((3, 2)), labeled_embeddings=np.ones((1, 2)))
    assert copies.diagnostics["distinct"] == 0
