"""The multi-label scorers against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.strategies import InvalidParams, StrategyError, score
from tests.strategies.uncertainty import formulas

PROBS = hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 6)), elements=st.floats(0, 1, width=32))
NAMES = ("multilabel_mean_entropy", "multilabel_max_entropy", "label_cardinality")


def test_hand_made_labels() -> None:
    probs = np.array([[0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], [0.5, 0, 0, 1], [0.9, 0.8, 0.7, 0.6]], np.float32)
    mean = [0, np.log(2), np.log(2) / 4, (0.3250830 + 0.5004024 + 0.6108643 + 0.6730117) / 4]
    np.testing.assert_allclose(score("multilabel_mean_entropy", label_probs=probs), mean, atol=1e-6)
    greatest = [0, np.log(2), np.log(2), 0.6730117]
    np.testing.assert_allclose(score("multilabel_max_entropy", label_probs=probs), greatest, atol=1e-6)
    np.testing.assert_array_equal(score("label_cardinality", label_probs=probs, cardinality=1.5), [0.5, 1.5, 0.5, 2.5])


@given(PROBS)
def test_entropies_match_the_formula(probs: np.ndarray) -> None:
    expected = formulas.binary_entropy(probs)
    np.testing.assert_allclose(score("multilabel_mean_entropy", label_probs=probs), expected.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(score("multilabel_max_entropy", label_probs=probs), expected.max(axis=1), atol=1e-6)


def test_many_blocks_match_the_formulas() -> None:
    probs = np.random.default_rng(0).random((20_000, 30), np.float32)
    expected = formulas.binary_entropy(probs)
    np.testing.assert_allclose(score("multilabel_mean_entropy", label_probs=probs), expected.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(score("multilabel_max_entropy", label_probs=probs), expected.max(axis=1), atol=1e-6)
    counts = (probs > np.float32(0.3)).sum(axis=1)
    scores = score("label_cardinality", label_probs=probs, cardinality=2.25, threshold=0.3)
    np.testing.assert_array_equal(scores, np.abs(counts - 2.25))


@pytest.mark.parametrize("name", NAMES[:2])
def test_nearly_certain_labels_keep_their_order(name: str) -> None:
    distances = np.float32(2.0) ** -np.arange(2, 24, dtype=np.float32)
    for probs in (distances, 1 - distances):
        scores = score(name, label_probs=probs[:, None])
        assert (np.diff(scores) < 0).all()
        np.testing.assert_allclose(scores, formulas.binary_entropy(probs), rtol=1e-5)


def test_a_label_counts_above_the_threshold() -> None:
    probs = np.array([[0.1, 0.1, 0.2]], np.float32)
    np.testing.assert_allclose(score("label_cardinality", label_probs=probs, cardinality=0, threshold=0.1), [1])
    np.testing.assert_allclose(score("label_cardinality", label_probs=probs, cardinality=0, threshold=0.2), [0])


@pytest.mark.parametrize("bad", [np.nan, -0.01, 1.01, np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_values_that_are_no_probabilities_are_refused(name: str, bad: float) -> None:
    probs = np.full((3, 4), 0.5, np.float32)
    probs[1, 2] = bad
    with pytest.raises(StrategyError) as caught:
        score(name, label_probs=probs)
    assert caught.value.reason == "PROBABILITIES_INVALID"


@pytest.mark.parametrize("name", NAMES)
def test_no_samples_and_no_labels(name: str) -> None:
    assert score(name, label_probs=np.empty((0, 3))).shape == (0,)
    with pytest.raises(StrategyError) as caught:
        score(name, label_probs=np.empty((3, 0)))
    assert caught.value.reason == "INVALID_ARRAY"


def test_parameters_out_of_range_are_refused() -> None:
    for params in ({"cardinality": -1}, {"threshold": 1.5}):
        with pytest.raises(InvalidParams):
            score("label_cardinality", label_probs=np.ones((1, 1)), **params)
