"""The signed-rank test against scipy and all 2^n signs, and Holm's correction by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from assay.strategies.errors import StrategyError
from assay.strategies.evaluation import holm, wilcoxon, wilcoxon_holm


def test_by_hand():
    # Differences 1, 2, -3, 4: the sum of negative ranks is 3; of 16 signs {}, 1, 2, 3, 12 have at most that.
    result = wilcoxon([1, 2, 0, 4], [0, 0, 3, 0])
    assert (result.statistic, result.p, result.pairs, result.exact) == (3, 2 * 5 / 16, 4, True)


@pytest.mark.parametrize("size", [1, 2, 5, 20, 49, 50])
def test_exact_p_equals_scipy(size):
    first_N, second_N = np.random.default_rng(size).normal([[0.3], [0]], size=(2, size))
    expected = stats.wilcoxon(first_N, second_N, method="exact")
    result = wilcoxon(first_N, second_N)
    assert result.exact
    assert result.statistic == expected.statistic
    assert result.p == pytest.approx(expected.pvalue, rel=1e-12)


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_normal_p_equals_scipy(decimals):
    first_N, second_N = np.random.default_rng(3).normal([[0.2], [0]], size=(2, 150)).round(decimals)
    expected = stats.wilcoxon(first_N, second_N, method="asymptotic", correction=False)
    result = wilcoxon(first_N, second_N)
    assert not result.exact
    assert result.statistic == expected.statistic
    assert result.p == pytest.approx(expected.pvalue, rel=1e-9)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_exact_p_counts_all_signs_where_ranks_tie(differences):
    left = [difference for difference in differences if difference]
    ranks_M = stats.rankdata(np.abs(left))
    smaller = min(sum(r for r, d in zip(ranks_M, left, strict=True) if (d > 0) == side) for side in (True, False))
    sums = [
        sum(r for r, sign in zip(ranks_M, signs, strict=True) if sign) for signs in product([0, 1], repeat=len(left))
    ]
    result = wilcoxon(differences, np.zeros(len(differences)))
    assert result.pairs == len(left)
    assert result.p == pytest.approx(min(1, 2 * np.mean(np.array(sums) <= smaller)))


def test_nothing_differs():
    assert wilcoxon([1.0, 2.0], [1.0, 2.0]).p == 1


def test_swapping_the_sides_changes_nothing():
    first_N, second_N = np.random.default_rng(5).normal(size=(2, 30))
    assert wilcoxon(first_N, second_N) == wilcoxon(second_N, first_N)


def test_holm_by_hand():
    # .01 * 4, .02 * 3, .03 * 2 (not below .06), .5 * 1.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.9]).tolist() == [1, 1]
    assert holm([0.2]).tolist() == [0.2]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_step_down_rejects(p):
    adjusted = holm(p)
    order = np.argsort(p, kind="stable")
    for alpha in (0.01, 0.05, 0.3):
        rejected = set()
        for step, index in enumerate(order):
            if p[index] * (len(p) - step) > alpha:
                break
            rejected.add(int(index))
        assert set(np.flatnonzero(adjusted <= alpha).tolist()) == rejected


def test_every_pair_of_strategies_is_compared():
    scores_SN = np.random.default_rng(1).normal(size=(4, 25)) + np.array([0, 0, 2, 3])[:, None]
    result = wilcoxon_holm(scores_SN)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    p_M = [stats.wilcoxon(scores_SN[i], scores_SN[j], method="exact").pvalue for i, j in pairs]
    assert [result.p_SS[i, j] for i, j in pairs] == pytest.approx(p_M)
    assert [result.adjusted_SS[j, i] for i, j in pairs] == pytest.approx(holm(p_M))
    assert (result.p_SS == result.p_SS.T).all()
    assert result.adjusted_SS.diagonal().tolist() == [1] * 4
    assert result.means_S == pytest.approx(scores_SN.mean(1))
    assert result.adjusted_SS[0, 3] < 0.01 < result.adjusted_SS[0, 1]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: wilcoxon([1.0], [1.0, 2.0]), "INVALID_ARRAY"),
        (lambda: wilcoxon([], []), "INVALID_ARRAY"),
        (lambda: wilcoxon([np.nan], [1.0]), "NOT_FINITE"),
        (lambda: holm([]), "INVALID_ARRAY"),
        (lambda: holm([1.1]), "PROBABILITIES_INVALID"),
        (lambda: holm([np.nan]), "NOT_FINITE"),
        (lambda: wilcoxon_holm([[1.0, 2.0]]), "INVALID_ARRAY"),
        (lambda: wilcoxon_holm([1.0, 2.0]), "INVALID_ARRAY"),
    ],
)
def test_refusals(call, reason):
    with pytest.raises(StrategyError) as refused:
        call()
    assert refused.value.reason == reason
