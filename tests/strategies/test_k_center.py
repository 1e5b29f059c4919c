"""k_center against the plain loop, in float64, on data where blocks, bounds and rounding could go wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import assay.strategies.diversity.k_center as module
from assay.strategies import StrategyError, select
from assay.strategies.kernels import coarse
from assay.strategies.kernels.points import Points
from assay.strategies.kernels.screen import SWITCH
from tests.strategies import references

Floats = Any


def isotropic(rng: np.random.Generator, size: int, dim: int) -> Floats:
    return rng.standard_normal((size, dim))


def clustered(rng: np.random.Generator, size: int, dim: int) -> Floats:
    centres = 3 * rng.standard_normal((30, dim))
    return centres[rng.integers(30, size=size)] + 0.3 * rng.standard_normal((size, dim))


def duplicated(rng: np.random.Generator, size: int, dim: int) -> Floats:
    return rng.standard_normal((size // 10, dim))[rng.integers(size // 10, size=size)]


def far_from_zero(rng: np.random.Generator, size: int, dim: int) -> Floats:
    return 100 + rng.standard_normal((size, dim))


def one_hot(rng: np.random.Generator, size: int, dim: int) -> Floats:
    return np.eye(dim)[rng.integers(dim, size=size)]


def grid(rng: np.random.Generator, size: int, dim: int) -> Floats:
    return rng.integers(-2, 3, (size, dim)).astype(float)


def with_outlier(rng: np.random.Generator, size: int, dim: int) -> Floats:
    points = rng.standard_normal((size, dim))
    points[size // 2] *= 1000
    return points


EVERY_DATA = [isotropic, clustered, duplicated, far_from_zero, one_hot, grid, with_outlier]


# Where distances are bounded in low precision first, with the rounded points kept or not; and where they are not.
MODES = ["plain", "coarse", "coarse_not_kept"]


def use(mode: str, patch: pytest.MonkeyPatch) -> None:
    patch.setenv(SWITCH, "float32" if mode == "plain" else "bfloat16")
    patch.setattr(coarse, "_FEWEST_DIMS", 0)
    patch.setattr(coarse, "_FEWEST_CENTRES", 0)
    if mode == "coarse_not_kept":
        patch.setattr(coarse, "_KEPT", 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("data", EVERY_DATA)
@pytest.mark.parametrize(("size", "dim", "k"), [(3000, 16, 120), (4000, 64, 60)])
def test_picks_are_those_of_the_plain_loop(
    data: Callable[..., Floats], size: int, dim: int, k: int, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(mode, monkeypatch)
    rng = np.random.default_rng(size)
    points = data(rng, size, dim).astype(np.float32)
    labels = data(rng, size, dim)[:40].astype(np.float32) if dim == 16 else None
    require_plain_loop(points, k, labels)


@pytest.mark.parametrize("data", [clustered, isotropic, duplicated, far_from_zero])
def test_picks_of_a_large_pool_are_those_of_the_plain_loop(data: Callable[..., Floats]) -> None:
    rng = np.random.default_rng(0)
    size = 20_000 if data is clustered else 8_000
    require_plain_loop(data(rng, size, 48).astype(np.float32), 420, None)


def require_plain_loop(points: Floats, k: int, labels: Floats | None) -> None:
    selection = select("k_center", size=k, embeddings=points, labeled_embeddings=labels, start="first")
    picks, squared = plain_loop(points, k, labels)
    np.testing.assert_array_equal(selection.indices, picks)
    measured = slice(1 if labels is None else 0, None)
    np.testing.assert_allclose(selection.scores[measured], np.sqrt(squared[measured]), rtol=1e-3, atol=2e-3)


@functools.cache
def _plain_loop(points: bytes, dim: int, k: int, labels: bytes | None) -> tuple[list[int], Floats]:
    given = None if labels is None else np.frombuffer(labels, np.float32).reshape(-1, dim)
    return references.k_center(np.frombuffer(points, np.float32).reshape(-1, dim), k, given)


def plain_loop(points: Floats, k: int, labels: Floats | None) -> tuple[list[int], Floats]:
    """Worked out once for all modes."""
    return _plain_loop(points.tobytes(), points.shape[1], k, None if labels is None else labels.tobytes())


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("data", EVERY_DATA)
def test_coarse_bounds_are_bounds_and_close(data: Callable[..., Floats], scale: float) -> None:
    rng = np.random.default_rng(0)
    points_ND = (scale * data(rng, 2000, 40)).astype(np.float32)
    points = Points(points_ND, "l2")
    bounds_N = torch.full((2000,), torch.inf)
    coarse.Coarse(points).lower(bounds_N, points.rows(slice(0, 30)))
    between = points_ND[:, None].astype(float) - points_ND[None, :30].astype(float)
    true_N = np.square(between).sum(axis=2).min(axis=1)
    assert (bounds_N.numpy() >= true_N).all()
    lengths = float(points.norms_N.max()) ** 0.5
    assert (np.sqrt(bounds_N.numpy()) <= 1.01 * np.sqrt(true_N) + 0.02 * lengths).all()


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 4)), elements=st.integers(-3, 3).map(float)),
    st.integers(0, 45),
    st.integers(1, 9),
    st.integers(1, 5),
    st.sampled_from(MODES),
)
def test_small_blocks_and_many_passes_change_nothing(
    points: Floats, k: int, block: int, pending: int, mode: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        use(mode, patch)
        patch.setattr(module, "_BLOCK", block)
        patch.setattr(module, "_PENDING", pending)
        selection = select("k_center", size=k, embeddings=points, start="first")
    np.testing.assert_array_equal(selection.indices, references.k_center(points, k)[0])


def test_prefixes_are_valid_and_scores_fall() -> None:
    points = clustered(np.random.default_rng(0), 2000, 8)
    long = select("k_center", size=300, embeddings=points)
    short = select("k_center", size=40, embeddings=points)
    np.testing.assert_array_equal(long.indices[:40], short.indices)
    assert (np.diff(long.scores) <= 0).all()
    assert long.scores[0] == long.scores[1]


def test_cosine_is_l2_of_directions() -> None:
    rng = np.random.default_rng(0)
    points = isotropic(rng, 1000, 12).astype(np.float32) * rng.uniform(0.1, 30, (1000, 1)).astype(np.float32)
    labels = isotropic(rng, 9, 12).astype(np.float32)
    directions, label_directions = (
        x / np.linalg.norm(x.astype(float), axis=1, keepdims=True) for x in (points, labels)
    )
    selection = select("k_center", size=60, embeddings=points, labeled_embeddings=labels, metric="cosine")
    picks, squared = references.k_center(directions, 60, label_directions)
    np.testing.assert_array_equal(selection.indices, picks)
    np.testing.assert_allclose(selection.scores, squared / 2, rtol=1e-4)


def test_cosine_with_zero_vectors_is_finite() -> None:
    points = np.array([[0, 0], [1, 0], [0, 0], [-1, 0]], np.float32)
    selection = select("k_center", size=4, embeddings=points, metric="cosine", start="first")
    assert sorted(selection.indices) == [0, 1, 2, 3]
    assert selection.indices[-1] == 2
    assert np.isfinite(selection.scores).all()


@pytest.mark.parametrize(("start", "first"), [("first", 0), ("max_norm", 2), ("mean", 1)])
def test_start_without_labels(start: str, first: int) -> None:
    points = np.array([[-3, 0], [1, 0], [4, 0], [3, 1]], np.float32)
    assert select("k_center", size=2, embeddings=points, start=start).indices[0] == first


def test_mean_start_is_nearest_to_the_mean_far_from_zero() -> None:
    points = far_from_zero(np.random.default_rng(0), 500, 6).astype(np.float32)
    nearest = np.square(points.astype(float) - points.astype(float).mean(axis=0)).sum(axis=1).argmin()
    assert select("k_center", size=1, embeddings=points).indices[0] == nearest


def test_copies_go_last_and_in_order() -> None:
    points = np.repeat(np.array([[0.1, 0.7], [5.3, 2.2]], np.float32), 700, axis=0)
    selection = select("k_center", size=1400, embeddings=points, start="first")
    np.testing.assert_array_equal(selection.indices[:4], [0, 700, 1, 2])
    assert len(np.unique(selection.indices)) == 1400
    assert (selection.scores[2:] == 0).all()


def test_everything_labeled_already_is_picked_in_order() -> None:
    points = isotropic(np.random.default_rng(0), 50, 384)
    selection = select("k_center", size=5, embeddings=points, labeled_embeddings=points)
    np.testing.assert_array_equal(selection.indices, range(5))
    assert (selection.scores == 0).all()


def test_many_labeled() -> None:
    rng = np.random.default_rng(0)
    points, labels = isotropic(rng, 600, 4).astype(np.float32), isotropic(rng, 1500, 4).astype(np.float32)
    selection = select("k_center", size=30, embeddings=points, labeled_embeddings=labels)
    np.testing.assert_array_equal(selection.indices, references.k_center(points, 30, labels)[0])
    assert selection.diagnostics["labeled"] == 1500


def test_values_beyond_float32_when_squared_are_refused() -> None:
    for where in ("embeddings", "labeled_embeddings"):
        arrays = {"embeddings": np.ones((3, 2)), "labeled_embeddings": np.ones((3, 2)), where: np.full((3, 2), 1e30)}
        with pytest.raises(StrategyError) as caught:
            select("k_center", size=1, **arrays)
        assert caught.value.reason == "NOT_FINITE"


def test_no_dimensions_are_all_copies() -> None:
    np.testing.assert_array_equal(select("k_center", size=2, embeddings=np.empty((3, 0))).indices, [0, 1])
