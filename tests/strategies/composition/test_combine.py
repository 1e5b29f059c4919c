"""Several scores into one utility."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from assay.strategies import StrategyError
from assay.strategies.composition.combine import normalised_ranks, product, rank_sum


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_product_of_powers() -> None:
    utility = product([f32(0.25, 1, 0), f32(2, 3, 4)], [0.5, 1])
    assert utility.tolist() == [1.0, 3.0, 0.0]


def test_rounding_below_zero_counts_as_zero() -> None:
    assert product([f32(-1e-8, 4)], [0.5]).tolist() == [0.0, 2.0]


def test_strength_of_zero_counts_for_nothing() -> None:
    assert product([f32(0, 0.3), f32(5, 7)], [0, 1]).tolist() == [5.0, 7.0]


def test_single_score_is_taken_as_it_is() -> None:
    scores = f32(3, -2)
    assert product([scores], [1.0]) is scores


def test_ranks_share_their_mean_where_equal() -> None:
    assert normalised_ranks(f32(5, 1, 5, 9, 7)).tolist() == [0.375, 0, 0.375, 1, 0.75]


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=40))
def test_ranks_are_those_of_scipy(values: list[int]) -> None:
    wanted = (scipy.stats.rankdata(values, "average") - 1) / (len(values) - 1)
    np.testing.assert_allclose(normalised_ranks(f32(*values)), wanted)


def test_rank_sum_ignores_the_scale_of_a_score() -> None:
    one, other = f32(0.1, 0.2, 0.9), f32(300, 100, 200)
    np.testing.assert_allclose(rank_sum([one, other], [1, 3]), [0.75, 0.125, 0.625])
    np.testing.assert_allclose(rank_sum([one**3, other * 1e-6], [2, 6]), [0.75, 0.125, 0.625])


def test_rank_sum_ranks_only_what_the_mask_keeps() -> None:
    mask = np.array([True, False, True, True])
    assert rank_sum([f32(1, 99, 3, 2)], [1], mask).tolist() == [0.0, 0.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("scores", "strengths"),
    [([], []), ([f32(1)], [1, 2]), ([f32(1)], [-1.0]), ([f32(1)], [np.inf]), ([f32(1), f32(1, 2)], [1, 1])],
)
def test_what_does_not_go_together_is_refused(scores: list[np.ndarray], strengths: list[float]) -> None:
    for combine in (product, rank_sum):
        with pytest.raises(StrategyError) as caught:
            combine(scores, strengths)
        assert caught.value.reason == "INVALID_COMBINATION"


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(StrategyError, match="above 0"):
        rank_sum([f32(1, 2)], [0])


def test_nan_is_refused() -> None:
    with pytest.raises(StrategyError) as caught:
        rank_sum([f32(1, np.nan)], [1])
    assert caught.value.reason == "NOT_FINITE"
