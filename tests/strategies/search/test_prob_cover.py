"""prob_cover against the dense greedy loop, and the radius it estimates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from assay.strategies import StrategyError, select
from assay.strategies.diversity.prob_cover import prob_cover
from assay.strategies.diversity.purity import pure_radius
from assay.strategies.testing import checks_for

rng = np.random.default_rng(3)

pytestmark = pytest.mark.usefixtures("each_screen")


def _squared(left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float32]:
    return np.stack([np.einsum("nd,nd->n", row - right, row - right) for row in left])


def _plain_greedy(
    points_ND: NDArray[np.float32], radius: float, size: int, labeled_LD: NDArray[np.float32]
) -> tuple[list[int], list[int]]:
    edges_NN = _squared(points_ND, points_ND) < radius * radius
    sizes_N = edges_NN.sum(axis=1)
    for covered_N in _squared(labeled_LD, points_ND) < radius * radius if len(labeled_LD) else ():
        edges_NN[:, covered_N] = False
    mean_1D = points_ND.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
    central_N = _squared(mean_1D, points_ND)[0]
    picks: list[int] = []
    gains: list[int] = []
    while len(picks) < min(size, len(points_ND)):
        degrees_N = edges_NN.sum(axis=1)
        left = [i for i in range(len(points_ND)) if i not in picks]
        weights_N = degrees_N if degrees_N.max() else sizes_N
        best = min(left, key=lambda i: (-weights_N[i], central_N[i], i))
        picks.append(best)
        gains.append(int(degrees_N[best]))
        edges_NN[:, edges_NN[best].copy()] = False
    return picks, gains


@pytest.mark.parametrize(("_name", "check"), checks_for(prob_cover))
def test_conforms(_name: str, check: Any) -> None:
    check()


@pytest.mark.parametrize("labeled", [0, 6])
@pytest.mark.parametrize("radius", [0.3, 0.8, 50.0])
@pytest.mark.parametrize("kind", ["isotropic", "clustered", "copies", "grid"])
def test_picks_are_those_of_the_dense_loop(kind: str, radius: float, labeled: int) -> None:
    points_ND = {
        "isotropic": rng.normal(size=(150, 3)),
        "clustered": rng.normal(size=(8, 3))[rng.integers(0, 8, 150)] + 0.1 * rng.normal(size=(150, 3)),
        "copies": rng.normal(size=(30, 3))[rng.integers(0, 30, 150)],
        "grid": rng.integers(0, 5, (150, 2)) * 0.3,
    }[kind].astype(np.float32)
    labeled_LD = points_ND[rng.integers(0, 150, labeled)]
    selection = select(
        "prob_cover", size=40, embeddings=points_ND, labeled_embeddings=labeled_LD, radius=radius, normalize=False
    )
    picks, gains = _plain_greedy(points_ND, radius, 40, labeled_LD)
    np.testing.assert_array_equal(selection.indices, picks)
    np.testing.assert_array_equal(selection.scores, gains)
    reached_N = (_squared(np.concatenate([points_ND[picks], labeled_LD]), points_ND) < radius * radius).any(axis=0)
    assert selection.diagnostics["covered"] == pytest.approx(reached_N.mean())


def test_balls_are_open_and_hold_their_own_centre() -> None:
    line = [[0.0], [1.0], [2.0], [9.0]]
    selection = select("prob_cover", size=4, embeddings=line, radius=1.0, normalize=False)
    np.testing.assert_array_equal(selection.scores, [1, 1, 1, 1])
    wider = select("prob_cover", size=4, embeddings=line, radius=1.001, normalize=False)
    np.testing.assert_array_equal(wider.indices, [1, 3, 2, 0])
    np.testing.assert_array_equal(wider.scores, [3, 1, 0, 0])


def test_unit_length_makes_the_radius_an_angle() -> None:
    rows = [[1.0, 0.0], [9.0, 0.1], [0.0, 2.0]]
    assert select("prob_cover", size=1, embeddings=rows, radius=0.1).scores[0] == 2
    assert select("prob_cover", size=1, embeddings=rows, radius=0.1, normalize=False).scores[0] == 1


def test_the_last_samples_are_in_the_graph() -> None:
    """The authors' code builds its graph by blocks of 500 and drops what is left over."""
    points_ND = np.concatenate([100 * rng.normal(size=(500, 4)), np.ones((7, 4))]).astype(np.float32)
    selection = select("prob_cover", size=1, embeddings=points_ND, radius=0.5, normalize=False)
    assert selection.indices[0] == 500
    assert selection.scores[0] == 7


@pytest.mark.parametrize("purity", [0.8, 0.95, 1.0])
def test_estimated_radius_is_the_largest_that_is_pure_enough(purity: float) -> None:
    """Blobs far enough apart that any k-means finds them, near enough that a ball can reach the next one."""
    blobs = np.repeat([0, 1], 100)
    points_ND = (rng.uniform(-1, 1, (200, 2)) + 3.0 * blobs[:, None] * [1, 0]).astype(np.float32)
    radius = pure_radius(points_ND, 2, purity)
    squared_NN = _squared(points_ND, points_ND).astype(np.float64)
    others_NN = blobs[:, None] != blobs

    def share_pure(radius: float) -> float:
        return float((~((squared_NN < radius * radius) & others_NN).any(axis=1)).mean())

    assert share_pure(radius * (1 - 1e-6)) >= purity
    assert share_pure(radius * (1 + 1e-6)) < purity
    order = rng.permutation(200)
    assert pure_radius(points_ND[order], 2, purity) == pytest.approx(radius, rel=1e-6)


def test_radius_of_points_that_are_all_alike() -> None:
    assert pure_radius(np.ones((9, 2), np.float32), 3, 0.95) > 0
    assert pure_radius(np.zeros((9, 2), np.float32), 3, 0.95) > 0
    assert pure_radius(np.zeros((0, 2), np.float32), 3, 0.95) > 0


def test_many_candidates_share_the_estimate_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    points_ND = rng.normal(size=(600, 3)).astype(np.float32)
    whole = select("prob_cover", size=5, embeddings=points_ND)
    monkeypatch.setattr("assay.strategies.diversity.prob_cover._SAMPLE", 200)
    part = select("prob_cover", size=5, embeddings=points_ND)
    assert len(part) == 5
    assert part.diagnostics["radius"] != whole.diagnostics["radius"]


def test_too_many_pairs_are_refused() -> None:
    with pytest.raises(StrategyError) as caught:
        select("prob_cover", size=1, embeddings=np.ones((20, 2)), radius=1.0, max_edges=399)
    assert caught.value.reason == "TOO_MANY_PAIRS"
