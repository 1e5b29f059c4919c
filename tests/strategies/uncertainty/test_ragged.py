"""Scores of parts reduced to samples, against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.strategies import InvalidParams, StrategyError, score
from assay.strategies.kernels.ragged import reduce_parts
from tests.strategies.uncertainty import formulas
from tests.strategies.uncertainty.test_committee import random_members

REDUCTIONS = ("sum", "mean", "max", "top_m")
SAMPLES = st.lists(st.lists(st.floats(0, 100, width=32), max_size=6), max_size=8)


def plain(parts: list[Any], reduction: str, m: int) -> float:
    """One sample's score in a plain loop."""
    if not len(parts):
        return 0.0
    falling = np.sort(np.asarray(parts, np.float64))[::-1]
    reduced = {"sum": falling.sum(), "mean": falling.mean(), "max": falling[0], "top_m": falling[:m].mean()}
    return float(reduced[reduction])


def offsets_of(samples: list[Any]) -> np.ndarray:
    return np.cumsum([0, *map(len, samples)])


@given(SAMPLES, st.sampled_from(REDUCTIONS), st.integers(1, 7))
def test_reductions_match_the_plain_loop(samples: list[list[float]], reduction: Any, m: int) -> None:
    parts = np.array([value for sample in samples for value in sample], np.float32)
    scores = reduce_parts(parts, offsets_of(samples), reduction, m)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [plain(sample, reduction, m) for sample in samples], rtol=1e-6)


@pytest.mark.parametrize("measure", ["entropy", "margin", "least_confidence", "ratio"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_strategy_matches_the_plain_loop(measure: str, reduction: str, weighted: bool) -> None:
    rng = np.random.default_rng(5)
    offsets = np.append(0, rng.integers(0, 7, 300).cumsum())
    probs = random_members(1, int(offsets[-1]), 4)[0]
    weights = (0.5, 2.0, 0.0, 1.0) if weighted else ()
    part_scores = formulas.uncertainty(probs)[measure] * (np.array(weights)[probs.argmax(axis=1)] if weighted else 1)
    samples = np.split(part_scores, offsets[1:-1])
    scores = score(
        "ragged",
        part_probs=probs,
        part_offsets=offsets,
        measure=measure,
        reduce=reduction,
        m=3,
        class_weights=list(weights),
    )
    np.testing.assert_allclose(scores, [plain(list(sample), reduction, 3) for sample in samples], atol=1e-5)


def test_hand_made_boxes() -> None:
    probs = np.array([[0.5, 0.5], [1, 0], [0.2, 0.8]], np.float32)
    given = {"part_probs": probs, "part_offsets": [0, 2, 2, 3], "measure": "least_confidence"}
    np.testing.assert_allclose(score("ragged", **given, reduce="sum"), [0.5, 0, 0.2], atol=1e-6)
    np.testing.assert_allclose(score("ragged", **given, reduce="mean"), [0.25, 0, 0.2], atol=1e-6)
    weighted = score("ragged", **given, reduce="max", class_weights=[3, 10])
    np.testing.assert_allclose(weighted, [1.5, 0, 2], atol=1e-6)


def test_a_box_with_one_score_has_binary_entropy() -> None:
    """Where a detector gives one independent score per box, its parts are the two classes p and 1 - p."""
    confidences = np.array([0.9, 0.5, 0.01], np.float32)
    probs = np.stack([confidences, 1 - confidences], axis=1)
    scores = score("ragged", part_probs=probs, part_offsets=[0, 3])
    np.testing.assert_allclose(scores, [formulas.binary_entropy(confidences).sum()], rtol=1e-6)


def test_no_parts_at_all_score_zero() -> None:
    for reduction in REDUCTIONS:
        for weights in ((), (1.0, 2.0)):
            scores = score(
                "ragged",
                part_probs=np.empty((0, 2)),
                part_offsets=[0, 0, 0],
                reduce=reduction,
                class_weights=list(weights),
            )
            np.testing.assert_array_equal(scores, [0, 0])


def test_weights_that_are_not_one_per_class_are_refused() -> None:
    with pytest.raises(InvalidParams, match=r"class_weights.*3 weights for 2 classes"):
        score("ragged", part_probs=np.full((2, 2), 0.5), part_offsets=[0, 2], class_weights=[1, 2, 3])


def test_parts_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(StrategyError) as caught:
        score("ragged", part_probs=np.full((2, 2), 0.7), part_offsets=[0, 2])
    assert caught.value.reason == "PROBABILITIES_INVALID"


@pytest.mark.parametrize(
    ("parts", "offsets", "m", "reason"),
    [
        ([1.0, 2.0], [0, 1], 1, "INVALID_ARRAY"),
        ([1.0, 2.0], [1, 2], 1, "INVALID_ARRAY"),
        ([1.0, 2.0], [0, 2, 1, 2], 1, "INVALID_ARRAY"),
        ([1.0], [], 1, "INVALID_ARRAY"),
        ([-1.0], [0, 1], 1, "INVALID_ARRAY"),
        ([np.nan], [0, 1], 1, "INVALID_ARRAY"),
        ([np.inf], [0, 1], 1, "INVALID_ARRAY"),
        ([1.0], [0, 1], 0, "INVALID_SIZE"),
    ],
)
def test_bad_parts_are_refused(parts: list[float], offsets: list[int], m: int, reason: str) -> None:
    with pytest.raises(StrategyError) as caught:
        reduce_parts(np.array(parts, np.float32), np.array(offsets, np.int64), "top_m", m)
    assert caught.value.reason == reason
