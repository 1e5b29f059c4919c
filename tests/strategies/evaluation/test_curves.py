"""Learning-curve measures on hand-made curves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.strategies.errors import StrategyError
from assay.strategies.evaluation import aubc, label_efficiency, labels_to_reach, mean_height

LABELS = [10, 20, 40]
CURVE = [0.5, 0.7, 0.8]


def test_areas_by_hand():
    # 10 * .6 + 20 * .75 = 21 over 30 labels further; 31 with both ends.
    assert aubc(LABELS, CURVE) == pytest.approx(21 / 31)
    assert mean_height(LABELS, CURVE) == pytest.approx(21 / 30)


def test_a_constant_curve_shows_the_two_divisors_apart():
    assert aubc([0, 9], [1, 1]) == pytest.approx(0.9)
    assert mean_height([0, 9], [1, 1]) == 1
    assert aubc([5], [0.7]) == 0
    assert mean_height([5], [0.7]) == 0.7


def test_repeats_are_measured_one_by_one():
    curves_RQ = np.random.default_rng(0).random((2, 5, 3))
    for measure in (aubc, mean_height):
        expected = [[float(measure(LABELS, curve)) for curve in curves] for curves in curves_RQ]
        assert measure(LABELS, curves_RQ) == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("target", "count"), [(0.4, 10), (0.5, 10), (0.6, 15), (0.7, 20), (0.75, 30), (0.8, 40), (0.81, np.inf)]
)
def test_labels_to_reach_by_hand(target, count):
    assert labels_to_reach(LABELS, CURVE, target) == pytest.approx(count)


def test_only_the_first_time_counts():
    assert labels_to_reach([0, 1, 2, 3], [0.1, 0.9, 0.2, 0.9], 0.5) == pytest.approx(0.5)
    assert labels_to_reach([0, 1, 2], [[0, 1, 0], [0, 0, 1]], 1).tolist() == [1, 2]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.floats(0, 1))
def test_the_count_is_where_the_line_crosses(curve, target):
    labels_Q = np.arange(len(curve)) * 10.0
    count = float(labels_to_reach(labels_Q, curve, target))
    if count == np.inf:
        assert max(curve) < target
    else:
        assert np.interp(count, labels_Q, curve) >= target - 1e-9
        assert all(value < target for value in np.array(curve)[labels_Q < count])


def test_label_efficiency_by_hand():
    baseline_Q = [0.5, 0.6, 0.7]
    assert label_efficiency(LABELS, CURVE, baseline_Q, 0.7) == pytest.approx(2)
    assert label_efficiency(LABELS, baseline_Q, CURVE, 0.7) == pytest.approx(0.5)
    assert label_efficiency(LABELS, CURVE, baseline_Q, 0.8) == np.inf
    assert label_efficiency(LABELS, baseline_Q, CURVE, 0.8) == 0
    with pytest.raises(StrategyError, match="no curve reaches") as refused:
        label_efficiency(LABELS, CURVE, baseline_Q, 0.9)
    assert refused.value.reason == "TARGET_NOT_REACHED"


@pytest.mark.parametrize(
    ("labels_Q", "curve", "reason"),
    [
        ([10, 10], [0.1, 0.2], "INVALID_ARRAY"),
        ([20, 10], [0.1, 0.2], "INVALID_ARRAY"),
        ([-1, 10], [0.1, 0.2], "INVALID_ARRAY"),
        ([10, 20], [0.1], "INVALID_ARRAY"),
        ([], [], "INVALID_ARRAY"),
        ([10], 0.5, "INVALID_ARRAY"),
        ([10, 20], [0.1, np.nan], "NOT_FINITE"),
        ([10, np.inf], [0.1, 0.2], "NOT_FINITE"),
    ],
)
def test_bad_curves_are_refused(labels_Q, curve, reason):
    for measure in (aubc, mean_height, lambda labels, values: labels_to_reach(labels, values, 0.5)):
        with pytest.raises(StrategyError) as refused:
            measure(labels_Q, curve)
        assert refused.value.reason == reason
