"""Scores of parts reduced to samples, against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.strategies import Candidates, InvalidParams, Need, StrategyError, score
from assay.strategies.base import finished
from assay.strategies.kernels.ragged import fill_empty, reduce_parts
from assay.strategies.uncertainty.ragged import RaggedParams, ragged
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
        empty="floor",
    )
    np.testing.assert_allclose(scores, [plain(list(sample), reduction, 3) for sample in samples], atol=1e-5)


def test_hand_made_boxes() -> None:
    probs = np.array([[0.5, 0.5], [1, 0], [0.2, 0.8]], np.float32)
    given = {"part_probs": probs, "part_offsets": [0, 2, 2, 3], "measure": "least_confidence", "empty": "floor"}
    np.testing.assert_allclose(score("ragged", **given, reduce="sum"), [0.5, 0, 0.2], atol=1e-6)
    np.testing.assert_allclose(score("ragged", **given, reduce="mean"), [0.25, 0, 0.2], atol=1e-6)
    weighted = score("ragged", **given, reduce="max", class_weights=[3, 10])
    np.testing.assert_allclose(weighted, [1.5, 0, 2], atol=1e-6)
    averaged = score("ragged", **{**given, "empty": "mean"}, reduce="sum")
    np.testing.assert_allclose(averaged, [0.5, 0.35, 0.2], atol=1e-6)


def test_a_box_with_one_score_has_binary_entropy() -> None:
    """Where a detector gives one independent score per box, its parts are the two classes p and 1 - p."""
    confidences = np.array([0.9, 0.5, 0.01], np.float32)
    probs = np.stack([confidences, 1 - confidences], axis=1)
    scores = score("ragged", part_probs=probs, part_offsets=[0, 3])
    np.testing.assert_allclose(scores, [formulas.binary_entropy(confidences).sum()], rtol=1e-6)


@given(SAMPLES, st.sampled_from(["floor", "mean", "random"]))
def test_samples_without_parts_take_the_score_that_was_asked_for(samples: list[list[float]], empty: Any) -> None:
    offsets, keys = offsets_of(samples), np.arange(len(samples))
    parts = np.array([value for sample in samples for value in sample], np.float32)
    scores = reduce_parts(parts, offsets, "mean")
    before = scores.copy()
    filled = fill_empty(scores, offsets, keys, empty)
    np.testing.assert_array_equal(scores, before)
    assert filled.dtype == np.float32
    without = np.array([not sample for sample in samples], np.bool_)
    np.testing.assert_array_equal(filled[~without], scores[~without])
    others = scores[~without]
    for score_of_empty in filled[without]:
        if empty == "random":
            assert score_of_empty in others if len(others) else 0 <= score_of_empty < 1
        else:
            expected = others.astype(np.float64).mean() if empty == "mean" and len(others) else 0
            np.testing.assert_allclose(score_of_empty, expected, rtol=1e-6)


def test_a_total_miss_can_be_found() -> None:
    """A tenth of the pool is without parts, and about a tenth of each batch, by a ranking alone, without a seed."""
    rng = np.random.default_rng(3)
    counts = np.where(rng.random(5_000) < 0.1, 0, rng.integers(1, 9, 5_000))
    offsets = np.append(0, counts.cumsum())
    probs = random_members(1, int(offsets[-1]), 4)[0]
    whole, left = Candidates(5_000, {Need.PART_PROBS: probs, Need.PART_OFFSETS: offsets}), np.arange(5_000)
    for _ in range(5):
        picks = left[top_by(whole.take(left), RaggedParams())]
        np.testing.assert_array_equal(picks, left[top_by(whole.take(left), RaggedParams())])
        assert 25 <= (counts[picks] == 0).sum() <= 75
        left = np.setdiff1d(left, picks)
    assert (counts[top_by(whole, RaggedParams(empty="floor"))] > 0).all()


def top_by(candidates: Candidates, params: RaggedParams) -> np.ndarray:
    scores = finished(ragged, ragged.score(candidates, params), candidates, params)
    return np.argsort(-scores, kind="stable")[:500]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("empty", ["floor", "mean"])
def test_neither_the_order_of_parts_nor_that_of_samples_matters(reduction: str, empty: str) -> None:
    rng = np.random.default_rng(7)
    samples = [random_members(1, size, 3)[0] for size in rng.integers(0, 6, 60)]
    order = rng.permutation(60)
    given = {"measure": "margin", "reduce": reduction, "m": 2, "empty": empty}

    def scored(parts: list[Any]) -> Any:
        return score("ragged", part_probs=np.concatenate(parts), part_offsets=offsets_of(parts), **given)

    straight = scored(samples)
    shuffled = scored([rng.permutation(sample) for sample in samples])
    np.testing.assert_allclose(straight, shuffled, rtol=1e-6)
    np.testing.assert_allclose(straight[order], scored([samples[place] for place in order]), rtol=1e-6)


def test_no_parts_at_all_score_zero() -> None:
    for reduction in REDUCTIONS:
        for weights in ((), (1.0, 2.0)):
            scores = score(
                "ragged",
                part_probs=np.empty((0, 2)),
                part_offsets=[0, 0, 0],
                reduce=reduction,
                class_weights=list(weights),
                empty="mean",
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
