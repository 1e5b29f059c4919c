"""information_density against plain cosines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from assay.strategies import StrategyError, select
from assay.strategies.hybrid.information_density import information_density
from assay.strategies.testing import checks_for

rng = np.random.default_rng(2)

pytestmark = pytest.mark.usefixtures("each_screen")


def _plain_scores(
    embeddings_ND: NDArray[Any], utility_N: NDArray[Any], beta: float, neighbours: int | None
) -> NDArray[np.float64]:
    scores = []
    for i, row_D in enumerate(embeddings_ND.astype(np.float64)):
        cosines = []
        for j, other_D in enumerate(embeddings_ND.astype(np.float64)):
            lengths = np.sqrt(row_D @ row_D) * np.sqrt(other_D @ other_D)
            if neighbours is None or (j != i and lengths):
                cosines.append(row_D @ other_D / lengths if lengths else 0.0)
        density = max(0.0, float(np.mean(sorted(cosines, reverse=True)[:neighbours] or [0.0])))
        scores.append(utility_N[i] * density**beta)
    return np.array(scores)


@pytest.mark.parametrize(("_name", "check"), checks_for(information_density))
def test_conforms(_name: str, check: Any) -> None:
    check()


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(("density", "neighbours"), [("knn", 3), ("knn", 500), ("mean", None)])
def test_scores_are_the_formula(beta: float, density: str, neighbours: int | None) -> None:
    embeddings_ND = (rng.normal(size=(80, 5)) + 0.3).astype(np.float32)
    embeddings_ND[7] = 0
    utility_N = rng.random(80).astype(np.float32)
    params = {"neighbors": neighbours} if neighbours else {}
    picks = select(
        "information_density",
        size=80,
        utility=utility_N,
        embeddings=embeddings_ND,
        beta=beta,
        density=density,
        **params,
    )
    expected_N = _plain_scores(embeddings_ND, utility_N, beta, neighbours)
    np.testing.assert_allclose(picks.scores, expected_N[picks.indices], rtol=1e-4, atol=1e-6)
    assert (np.diff(picks.scores) <= 0).all()


def test_an_outlier_is_not_picked_for_its_uncertainty() -> None:
    crowd_ND = rng.normal([5, 0, 0], 0.1, (50, 3))
    embeddings_ND = np.concatenate([crowd_ND, [[-5, 0.1, 0]]])
    utility_N = np.append(rng.random(50) / 2, 1.0)
    assert select("top", size=1, utility=utility_N).indices[0] == 50
    for density in ("knn", "mean"):
        picks = select("information_density", size=51, utility=utility_N, embeddings=embeddings_ND, density=density)
        assert picks.indices[-1] == 50


def test_one_candidate_and_the_default_utility() -> None:
    alone = select("information_density", size=3, utility=[0.25], embeddings=[[1.0, 2.0]])
    np.testing.assert_array_equal(alone.scores, [0.25])
    by_margin = select("information_density", size=2, embeddings=[[1.0], [1.0]], probs=[[0.9, 0.1], [0.6, 0.4]])
    np.testing.assert_allclose(by_margin.scores, [0.8, 0.2], rtol=1e-5)


@pytest.mark.parametrize(("utility", "reason"), [([1, -1], "UTILITY_NEGATIVE"), ([1, np.inf], "NOT_FINITE")])
def test_a_utility_that_cannot_be_multiplied_is_refused(utility: list[float], reason: str) -> None:
    with pytest.raises(StrategyError) as caught:
        select("information_density", size=1, utility=utility, embeddings=[[1.0], [2.0]])
    assert caught.value.reason == reason
