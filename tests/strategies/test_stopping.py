"""Stopping measures on hand-made rounds, against scikit-learn, and the rule over their history."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score

from assay.strategies.errors import StrategyError
from assay.strategies.stopping import (
    SAME_PREDICTIONS,
    SMALL_F_CHANGE,
    STABLE_PREDICTIONS,
    StoppingRule,
    classification_change,
    cohen_kappa,
    delta_f,
    mean_entropy,
)

ROUNDS = st.integers(2, 60).flatmap(
    lambda size: st.tuples(*[st.lists(st.integers(0, 3), min_size=size, max_size=size)] * 2)
)


def test_kappa_by_hand():
    # Agreement 3/4; by chance 1/2 * 3/4 + 1/2 * 1/4 = 1/2.
    assert cohen_kappa([0, 0, 1, 1], [0, 0, 0, 1]) == pytest.approx(0.5)
    assert cohen_kappa([0, 1], [1, 0]) == -1
    assert cohen_kappa([7, 7, 7], [7, 7, 7]) == 1


@given(ROUNDS)
def test_kappa_equals_scikit_learn(rounds):
    if rounds[0] != rounds[1]:
        assert cohen_kappa(*rounds) == pytest.approx(cohen_kappa_score(*rounds), abs=1e-12)
    else:
        assert cohen_kappa(*rounds) == 1


def test_change_by_hand():
    assert classification_change([0, 1, 2, 2], [0, 1, 2, 0]) == 0.25
    assert classification_change([3], [3]) == 0


def test_delta_f_by_hand():
    # Both positive: 2; only one of them: 1 and 1; 1 - 4 / 6.
    assert delta_f([1, 1, 1, 0, 0], [1, 1, 0, 1, 0]) == pytest.approx(1 / 3)
    assert delta_f([0, 0], [0, 0]) == 0
    assert delta_f([0, 1], [1, 0]) == 1
    assert delta_f([0, 2, 2], [2, 2, 0], positive=2) == 0.5


@given(ROUNDS, st.integers(0, 3))
def test_delta_f_is_the_f_measure_of_one_round_against_the_other(rounds, positive):
    before_N, now_N = (np.array(predictions) == positive for predictions in rounds)
    expected = 1 - f1_score(before_N, now_N, zero_division=1)
    assert delta_f(*rounds, positive=positive) == pytest.approx(expected)


def test_entropy_by_hand():
    assert mean_entropy([[0.25] * 4]) == pytest.approx(1)
    assert mean_entropy([[1, 0], [0.5, 0.5]]) == pytest.approx(0.5)
    expected = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)
    assert mean_entropy([[0.9, 0.1]]) == pytest.approx(expected)
    assert mean_entropy([[1.0], [1.0]]) == 0


def test_the_rule_needs_the_whole_window():
    rule = StoppingRule(3, 0.99)
    assert [rule.met(history) for history in ([], [1.0], [1.0, 1.0], [1.0] * 3)] == [False, False, False, True]
    assert rule.judge([1.0]).reason == "1 of 3 rounds so far"


def test_the_rule_looks_at_the_last_rounds_only_and_at_each():
    assert STABLE_PREDICTIONS.met([0.1, 0.99, 0.995, 1.0])
    assert not STABLE_PREDICTIONS.met([1.0, 1.0, 0.98, 1.0])
    assert STABLE_PREDICTIONS.judge([1.0, 1.0, 0.98]).reason == (
        "0.98 within the last 3 rounds, where at least 0.99 is needed"
    )
    assert STABLE_PREDICTIONS.judge([0.99] * 3).reason == (
        "at least 0.99 throughout the last 3 rounds; the worst was 0.99"
    )


def test_the_rule_can_want_little():
    assert SAME_PREDICTIONS.met([0.5, 0.0])
    assert not SAME_PREDICTIONS.met([0.0, 0.001])
    assert SAME_PREDICTIONS.judge([0.001]).reason == "0.001 within the last round, where at most 0 is needed"
    assert SMALL_F_CHANGE.met(np.array([0.3, 0.05, 0.01, 0.0]))
    assert not SMALL_F_CHANGE.met([0.06, 0.0, 0.0])


@given(st.lists(st.floats(0, 1)), st.integers(1, 5), st.floats(0, 1))
def test_the_rule_is_a_plain_loop(history, window, threshold):
    enough = len(history) >= window
    last = history[-window:]
    assert StoppingRule(window, threshold).met(history) == (enough and all(v >= threshold for v in last))
    assert StoppingRule(window, threshold, "at_most").met(history) == (enough and all(v <= threshold for v in last))


@pytest.mark.parametrize("settings", [(0, 0.5), (1.5, 0.5), (3, math.nan), (3, math.inf), (3, 0.5, "above")])
def test_bad_rules_are_refused(settings):
    with pytest.raises(StrategyError) as refused:
        StoppingRule(*settings)
    assert refused.value.reason == "INVALID_PARAMETER"


@pytest.mark.parametrize(("history", "reason"), [([1.0, math.nan], "NOT_FINITE"), ([[1.0]], "INVALID_ARRAY")])
def test_bad_histories_are_refused(history, reason):
    with pytest.raises(StrategyError) as refused:
        STABLE_PREDICTIONS.met(history)
    assert refused.value.reason == reason


@pytest.mark.parametrize("measure", [cohen_kappa, classification_change, delta_f])
@pytest.mark.parametrize(
    ("rounds", "reason"),
    [
        (([0, 1], [0]), "INVALID_ARRAY"),
        (([], []), "INVALID_ARRAY"),
        (([0.5], [0.5]), "INVALID_ARRAY"),
        (([[0]], [[0]]), "INVALID_ARRAY"),
        (([-1], [0]), "CLASS_OUT_OF_RANGE"),
    ],
)
def test_bad_rounds_are_refused(measure, rounds, reason):
    with pytest.raises(StrategyError) as refused:
        measure(*rounds)
    assert refused.value.reason == reason


def test_bad_probabilities_are_refused():
    for probs_NC in ([[0.7, 0.7]], [[math.nan, 1.0]], [], [0.5, 0.5]):
        with pytest.raises(StrategyError):
            mean_entropy(probs_NC)
