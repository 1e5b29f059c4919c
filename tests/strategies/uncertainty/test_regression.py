"""The scatter of a committee's values, and greedy sampling of the inputs against the plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from assay.strategies import StrategyError, score, select
from tests.strategies import references


def test_member_std_is_numpys() -> None:
    values = np.random.default_rng(0).normal(5, 3, (7, 40_000)).astype(np.float32)
    expected = values.astype(np.float64).std(axis=0)
    np.testing.assert_allclose(score("member_std", member_values=values), expected, rtol=1e-6)


def test_member_std_of_any_size() -> None:
    values = np.array([[1e30, 1e7, 1e-30, 5], [-1e30, 1e7 + 1, -1e-30, 5]], np.float32)
    np.testing.assert_allclose(score("member_std", member_values=values), [1e30, 0.5, 1e-30, 0], rtol=1e-6)


def test_member_std_of_several_targets_is_the_root_of_the_mean_variance() -> None:
    values = np.random.default_rng(1).normal(5, 3, (4, 900, 3)).astype(np.float32)
    expected = np.sqrt(values.astype(np.float64).var(axis=0).mean(axis=1))
    np.testing.assert_allclose(score("member_std", member_values=values), expected, rtol=1e-6)
    one = score("member_std", member_values=values[:, :, :1])
    np.testing.assert_array_equal(one, score("member_std", member_values=values[:, :, 0]))


def test_one_member_does_not_disagree() -> None:
    np.testing.assert_array_equal(score("member_std", member_values=[[3, -4]]), [0, 0])


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2), (2, 3, 0)])
def test_no_members_and_no_targets_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(StrategyError) as caught:
        score("member_std", member_values=np.empty(shape))
    assert caught.value.reason == "INVALID_ARRAY"


def test_gsx_starts_nearest_to_the_mean() -> None:
    points = np.array([[0, 0], [10, 0], [4, 1], [0, 10]], np.float32)
    selection = select("gsx", size=4, embeddings=points)
    assert selection.indices.tolist() == [2, 3, 1, 0]


def test_gsx_picks_are_those_of_the_plain_loop() -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(0, 1, (400, 6)).astype(np.float32)
    first = int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmin())
    expected, _ = references.k_center(points, 30, first=first)
    assert select("gsx", size=30, embeddings=points).indices.tolist() == expected
    labeled = rng.normal(0, 1, (5, 6)).astype(np.float32)
    expected, squared = references.k_center(points, 30, labeled)
    selection = select("gsx", size=30, embeddings=points, labeled_embeddings=labeled)
    assert selection.indices.tolist() == expected
    np.testing.assert_allclose(selection.scores, np.sqrt(squared), rtol=1e-4)
