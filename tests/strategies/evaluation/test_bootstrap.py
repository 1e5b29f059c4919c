"""Bootstrap intervals against scipy, with the same resamples."""

import numpy as np
import pytest
from scipy import stats

from assay.strategies.errors import StrategyError
from assay.strategies.evaluation import bootstrap_interval

SKEWED = np.random.default_rng(0).exponential(size=30)


@pytest.mark.parametrize(("ours", "theirs"), [("bca", "BCa"), ("percentile", "percentile")])
@pytest.mark.parametrize("statistic", [np.mean, np.median])
@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_equals_scipy(ours, theirs, statistic, confidence):
    interval = bootstrap_interval(
        SKEWED, seed=7, statistic=statistic, confidence=confidence, resamples=2000, method=ours
    )
    expected = stats.bootstrap(
        (SKEWED,), statistic, confidence_level=confidence, n_resamples=2000, method=theirs, rng=np.random.default_rng(7)
    ).confidence_interval
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert interval.estimate == statistic(SKEWED)


def test_blocks_continue_one_another():
    """More resampled values than are held at once: the resamples are those of a single draw."""
    values_N = np.random.default_rng(1).normal(size=1500)
    rows = np.random.default_rng(2).integers(0, 1500, (1000, 1500))
    expected = np.quantile(values_N[rows].mean(1), [0.025, 0.975])
    interval = bootstrap_interval(values_N, seed=2, resamples=1000, method="percentile")
    assert (interval.low, interval.high) == pytest.approx(tuple(expected))


def test_same_seed_same_interval():
    assert bootstrap_interval(SKEWED, seed=1) == bootstrap_interval(SKEWED, seed=1)
    assert bootstrap_interval(SKEWED, seed=1) != bootstrap_interval(SKEWED, seed=2)


def test_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    hits = 0
    for trial in range(300):
        interval = bootstrap_interval(rng.normal(size=40), seed=trial, confidence=0.9, resamples=300)
        hits += interval.low <= 0 <= interval.high
    assert 0.83 < hits / 300 < 0.95


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_equal_values_have_an_interval_of_one_point(method):
    interval = bootstrap_interval([0.5] * 5, seed=0, method=method)
    assert (interval.low, interval.high, interval.estimate) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"values_N": [1.0]}, "INVALID_ARRAY"),
        ({"values_N": [[1.0, 2.0]]}, "INVALID_ARRAY"),
        ({"values_N": [1.0, np.inf]}, "NOT_FINITE"),
        ({"confidence": 1.0}, "INVALID_PARAMETER"),
        ({"resamples": 0}, "INVALID_PARAMETER"),
        ({"method": "basic"}, "INVALID_PARAMETER"),
    ],
)
def test_refusals(arguments, reason):
    with pytest.raises(StrategyError) as refused:
        bootstrap_interval(**{"values_N": SKEWED, "seed": 0, **arguments})
    assert refused.value.reason == reason
