"""Student's t against scipy and the printed tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from assay.strategies.errors import StrategyError
from assay.strategies.evaluation import critical_t, incomplete_beta, two_sided_p


@pytest.mark.parametrize(
    ("freedom", "confidence", "value"),
    [(4, 0.95, 2.776), (1, 0.95, 12.706), (9, 0.95, 2.262), (4, 0.99, 4.604), (100, 0.95, 1.984), (2, 0.9, 2.920)],
)
def test_printed_table(freedom, confidence, value):
    assert critical_t(freedom, confidence) == pytest.approx(value, abs=5e-4)


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 19, 49, 1000, 100_000])
@pytest.mark.parametrize("confidence", [0.01, 0.5, 0.95, 0.999, 0.999999])
def test_critical_values_equal_scipy(freedom, confidence):
    expected = stats.t.ppf((1 + confidence) / 2, freedom)
    assert critical_t(freedom, confidence) == pytest.approx(expected, rel=1e-7)


@given(st.floats(0.1, 500), st.floats(0.1, 500), st.floats(0, 1))
def test_incomplete_beta_equals_scipy(a, b, x):
    assert incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), rel=1e-9, abs=1e-12)


@given(st.floats(-50, 50), st.integers(1, 200))
def test_p_equals_scipy(t, freedom):
    assert two_sided_p(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-9, abs=1e-12)


def test_the_ends():
    assert two_sided_p(0, 3) == 1
    assert two_sided_p(np.inf, 3) == two_sided_p(-np.inf, 3) == 0
    assert incomplete_beta(2, 3, 0) == 0
    assert incomplete_beta(2, 3, 1) == 1


def test_refusals():
    for call in (lambda: critical_t(4, 1.0), lambda: critical_t(0), lambda: incomplete_beta(0, 1, 0.5)):
        with pytest.raises(StrategyError) as refused:
            call()
        assert refused.value.reason == "INVALID_PARAMETER"
