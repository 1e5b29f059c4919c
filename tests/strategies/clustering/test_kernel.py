"""k-means, and real samples for centroids."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.cluster
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assay.strategies import StrategyError
from assay.strategies.kernels import clustering
from assay.strategies.kernels.clustering import kmeans, nearest_real, representatives

Floats = NDArray[np.float32]

pytestmark = pytest.mark.usefixtures("each_screen")


def blobs(size: int, dim: int, count: int, spread: float, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, spread, (count, dim))
    return (centres[rng.integers(0, count, size)] + rng.normal(0, 1, (size, dim))).astype(np.float32)


def inertia(points: Floats, centroids: Floats, weights: NDArray[np.floating] | None = None) -> float:
    squared = np.square(points[:, None].astype(np.float64) - centroids[None]).sum(axis=2).min(axis=1)
    return float(squared.sum() if weights is None else squared @ weights)


@pytest.mark.parametrize(("dim", "count", "clusters", "spread"), [(8, 20, 20, 6), (16, 40, 60, 2), (4, 1, 30, 1)])
def test_objective_is_that_of_scikit_learn(dim: int, count: int, clusters: int, spread: float) -> None:
    points = blobs(1500, dim, count, spread)
    ours = [kmeans(points, clusters, seed).objective for seed in range(5)]
    theirs = [sklearn.cluster.KMeans(clusters, n_init=1, random_state=seed).fit(points).inertia_ for seed in range(5)]
    assert np.mean(ours) <= 1.05 * np.mean(theirs)
    assert min(ours) <= 1.02 * min(theirs)


def test_weighted_objective_is_that_of_scikit_learn() -> None:
    points = blobs(1200, 6, 30, 3)
    weights = np.random.default_rng(1).exponential(size=1200).astype(np.float32) ** 3
    scaled = weights / weights.mean()
    ours = [inertia(points, kmeans(points, 25, seed, weights_N=weights).centroids_KD, scaled) for seed in range(4)]
    theirs = [
        sklearn.cluster.KMeans(25, n_init=1, random_state=seed).fit(points, sample_weight=scaled).inertia_
        for seed in range(4)
    ]
    unweighted = inertia(points, kmeans(points, 25, 0).centroids_KD, scaled)
    assert np.mean(ours) <= 1.05 * np.mean(theirs)
    assert np.mean(ours) < unweighted


@pytest.mark.parametrize("weighted", [False, True])
def test_clustering_is_a_fixed_point_described_truly(weighted: bool) -> None:
    points = blobs(600, 5, 12, 4)
    weights = np.random.default_rng(2).random(600).astype(np.float32) if weighted else np.ones(600, np.float32)
    found = kmeans(points, 12, 3, weights_N=weights, iterations=200, tolerance=0)
    squared = np.square(points[:, None].astype(np.float64) - found.centroids_KD[None]).sum(axis=2)
    np.testing.assert_array_equal(found.assignment_N, squared.argmin(axis=1))
    np.testing.assert_allclose(found.squared_N, squared.min(axis=1), rtol=1e-3, atol=1e-3)
    assert found.objective == pytest.approx(squared.min(axis=1) @ (weights / weights.mean()), rel=1e-4)
    for cluster in range(len(found)):
        own = found.assignment_N == cluster
        mean = np.average(points[own].astype(np.float64), axis=0, weights=weights[own])
        np.testing.assert_allclose(found.centroids_KD[cluster], mean, rtol=1e-4, atol=1e-4)


def test_seed_decides_and_threads_do_not() -> None:
    # More values than one block holds, so that several threads share the work.
    points = blobs(9000, 16, 50, 1)
    first = kmeans(points, 200, 5)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        again = kmeans(points, 200, 5)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(first.centroids_KD, again.centroids_KD)
    np.testing.assert_array_equal(first.assignment_N, again.assignment_N)
    assert kmeans(points, 200, 6).objective != first.objective


def test_sampled_training_assigns_everyone() -> None:
    points = blobs(70_000, 3, 5, 20)
    sampled = kmeans(points, 5, 0, points_per_centroid=1)
    assert sampled.assignment_N.shape == (70_000,)
    assert sampled.objective <= 1.02 * kmeans(points, 5, 0).objective


def test_few_points_are_clusters_of_their_own() -> None:
    points = blobs(7, 3, 7, 1)
    found = kmeans(points, 9, 0)
    np.testing.assert_array_equal(found.centroids_KD, points)
    np.testing.assert_array_equal(found.assignment_N, np.arange(7))
    assert found.objective == 0


def test_copies_make_no_more_clusters_than_there_are_different_points() -> None:
    different = blobs(4, 3, 4, 5)
    points = different[np.random.default_rng(0).integers(0, 4, 300)]
    found = kmeans(points, 20, 0)
    assert len(found) == 4
    assert found.objective <= 1e-6 * float(np.square(points).sum())
    chosen = representatives(points, 20, 0)
    assert len(np.unique(chosen.indices_K)) == 20
    np.testing.assert_array_equal(np.unique(points[chosen.indices_K[:4]], axis=0), np.unique(different, axis=0))
    assert not chosen.shares_K[4:].any()


def test_empty_clusters_move_to_what_costs_most() -> None:
    """A lone far point that the seeds missed is found: clusters that run empty go there."""
    points = np.concatenate([np.zeros((50, 2), np.float32), [[1000, 0]], [[0, 1000]]]).astype(np.float32)
    rows = torch.from_numpy(points)
    training = clustering._Training(rows, rows.square().sum(1), torch.ones(52, dtype=torch.float64))
    centroids, assigned = clustering._lloyd(training, rows[:1].expand(3, -1), 20, 0)
    np.testing.assert_array_equal(np.unique(centroids.numpy(), axis=0), np.unique(points, axis=0))
    assert assigned.objective == 0


@pytest.mark.parametrize("weights", [np.zeros(40), np.r_[1.0, np.zeros(39)], np.r_[1e-30, np.full(39, 1e30)]])
def test_extreme_weights_end_well(weights: NDArray[np.float64]) -> None:
    points = blobs(40, 3, 5, 3)
    chosen = representatives(points, 10, 0, weights.astype(np.float32))
    assert len(np.unique(chosen.indices_K)) == 10
    assert np.isfinite(chosen.shares_K).all()
    assert (np.diff(chosen.shares_K) <= 0).all()


@pytest.mark.parametrize("far", [1e3, 1e5])
def test_points_far_off_the_origin_are_centred(far: float) -> None:
    points = blobs(800, 8, 10, 5)
    moved = clustering.measured((points + np.float32(far)).astype(np.float32), "l2")
    assert kmeans(moved, 10, 0).objective == pytest.approx(kmeans(points, 10, 0).objective, rel=0.3)
    assert np.abs(moved.mean(axis=0)).max() < 1


def test_refusals() -> None:
    points = blobs(10, 3, 2, 1)
    broken = points.copy()
    broken[3, 1] = np.nan
    calls = [
        (lambda: kmeans(points, 0, 0), "INVALID_SIZE"),
        (lambda: kmeans(broken, 2, 0), "NOT_FINITE"),
        (lambda: kmeans(points, 2, 0, weights_N=np.ones(9, np.float32)), "INVALID_ARRAY"),
        (lambda: kmeans(points, 2, 0, weights_N=-np.ones(10, np.float32)), "INVALID_ARRAY"),
        (lambda: nearest_real(points[:2], points), "INVALID_SIZE"),
    ]
    for call, reason in calls:
        with pytest.raises(StrategyError) as caught:
            call()
        assert caught.value.reason == reason


def matched_plainly(points: Floats, centroids: Floats) -> NDArray[np.int64]:
    """All pairs in order of distance, as long as both are free."""
    squared = np.square(centroids[:, None].astype(np.float64) - points[None]).sum(axis=2)
    chosen = np.full(len(centroids), -1)
    for pair in np.argsort(squared, axis=None, kind="stable"):
        centroid, sample = divmod(int(pair), len(points))
        if chosen[centroid] < 0 and sample not in chosen:
            chosen[centroid] = sample
    return chosen


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 16), st.integers(0, 30), st.booleans())
def test_nearest_real_takes_pairs_in_order_of_distance(seed: int, clusters: int, more: int, grid: bool) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 1, (clusters + more, 2)).astype(np.float32)
    centroids = rng.normal(0, 0.2, (clusters, 2)).astype(np.float32)
    if grid:
        points, centroids = points.round(), centroids.round()
    np.testing.assert_array_equal(nearest_real(points, centroids), matched_plainly(points, centroids))


def test_nearest_real_serves_many_equal_centroids() -> None:
    points = blobs(200, 3, 200, 1)
    chosen = nearest_real(points, np.zeros((150, 3), np.float32))
    nearest_first = np.argsort(np.square(points).sum(axis=1), kind="stable")
    np.testing.assert_array_equal(chosen, nearest_first[:150])
