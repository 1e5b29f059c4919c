"""Label quality and mistakenness on hand-made arrays, against cleanlab and a transcription of fiftyone's formula."""

import math

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores
from hypothesis import given
from hypothesis import strategies as st

from assay.strategies.audit import label_quality, mistakenness
from assay.strategies.errors import StrategyError


def softmax_rows(seed: int, size: int, classes: int):
    weights_NC = np.exp(np.random.default_rng(seed).normal(scale=2, size=(size, classes)))
    return (weights_NC / weights_NC.sum(1, keepdims=True)).astype(np.float32)


def test_quality_by_hand():
    quality = label_quality([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]], [0, 2])
    assert quality.self_confidence_N == pytest.approx([0.7, 0.1])
    assert quality.normalized_margin_N == pytest.approx([0.75, 0.2])
    entropy = -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)) / math.log(3)
    expected = [math.log(1 + entropy / p) / (entropy / p) for p in (0.7, 0.1)]
    assert quality.confidence_weighted_entropy_N == pytest.approx(expected)


@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(2, 9))
def test_quality_equals_cleanlab(seed, size, classes):
    probs_NC = softmax_rows(seed, size, classes)
    labels_N = np.random.default_rng(seed).integers(0, classes, size)
    quality = label_quality(probs_NC, labels_N)
    for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        expected_N = get_label_quality_scores(labels_N, probs_NC, method=method)
        assert getattr(quality, f"{method}_N") == pytest.approx(expected_N, abs=2e-6), method


def test_a_sure_label_is_best_and_a_surely_wrong_one_worst():
    """cleanlab calls both worst: its ln(1 + e) / max(e, 1e-6) is 0 at e = 0."""
    probs_NC = np.array([[1, 0], [1, 0]], np.float32)
    labels_N = np.array([0, 1])
    assert label_quality(probs_NC, labels_N).confidence_weighted_entropy_N.tolist() == [1, 0]
    assert get_label_quality_scores(labels_N, probs_NC, method="confidence_weighted_entropy").tolist() == [0, 0]


def test_quality_of_many_rows_is_that_of_each():
    probs_NC, labels_N = softmax_rows(0, 3000, 200), np.random.default_rng(0).integers(0, 200, 3000)
    own_N = probs_NC[np.arange(3000), labels_N]
    others_N = [np.delete(row, label).max() for row, label in zip(probs_NC, labels_N, strict=True)]
    assert label_quality(probs_NC, labels_N).normalized_margin_N == pytest.approx((own_N - others_N + 1) / 2, abs=1e-6)


def test_mistakenness_by_hand():
    probs_NC = [[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]]
    assert mistakenness(probs_NC, [0, 1, 1]) == pytest.approx([0.05, 0.95, 0.75])


@pytest.mark.parametrize("confidence", ["top", "entropy"])
def test_mistakenness_is_the_formula(confidence):
    probs_NC, labels_N = softmax_rows(1, 50, 4), np.random.default_rng(1).integers(0, 4, 50)
    expected = []
    for row, label in zip(probs_NC.astype(float), labels_N, strict=True):
        sure = max(row) if confidence == "top" else math.exp(sum(p * math.log(p) for p in row))
        expected.append(((-1 if row.argmax() == label else 1) * sure + 1) / 2)
    assert mistakenness(probs_NC, labels_N, confidence=confidence) == pytest.approx(expected, abs=1e-6)


def test_sure_predictions_are_the_ends_of_the_scale():
    for confidence in ("top", "entropy"):
        assert mistakenness([[1, 0], [1, 0]], [0, 1], confidence=confidence).tolist() == [0, 1]


def test_refusals():
    with pytest.raises(StrategyError, match="confidence"):
        mistakenness([[1.0]], [0], confidence="margin")
    for call in (label_quality, mistakenness):
        with pytest.raises(StrategyError, match="0 to 1; got 2 to 2"):
            call([[0.5, 0.5]], [2])
        with pytest.raises(StrategyError, match="sum to 1"):
            call([[0.5, np.nan]], [0])
