"""top_k: equal to a full sort, whatever the order, ties, infinities and mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.strategies import StrategyError
from assay.strategies.kernels import topk
from assay.strategies.kernels.topk import top_k
from tests.strategies import references

VALUES = st.one_of(st.integers(-3, 3).map(float), st.floats(width=32, allow_nan=False))
SCORES = hnp.arrays(np.float32, st.integers(0, 80), elements=VALUES)


@given(SCORES, st.integers(0, 90), st.integers(1, 20))
def test_equals_a_full_sort(scores: np.ndarray, k: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "_CHUNK", chunk)
        np.testing.assert_array_equal(top_k(scores, k), references.top_k(scores, k))


@given(SCORES, st.integers(0, 90), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_mask_equals_sorting_what_it_leaves(scores: np.ndarray, k: int, chunk: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random(len(scores)) < 0.5
    kept = np.flatnonzero(mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "_CHUNK", chunk)
        np.testing.assert_array_equal(top_k(scores, k, mask), kept[references.top_k(scores[mask], k)])


@pytest.mark.parametrize("shape", ["random", "rising", "falling", "ties", "constant"])
def test_many_scores(shape: str) -> None:
    rng = np.random.default_rng(0)
    size = 200_003
    scores = {
        "random": rng.random(size, np.float32),
        "rising": np.arange(size, dtype=np.float32),
        "falling": -np.arange(size, dtype=np.float32),
        "ties": rng.integers(0, 50, size).astype(np.float32),
        "constant": np.zeros(size, np.float32),
    }[shape]
    for k in (1, 100, 70_000, size, size + 1):
        np.testing.assert_array_equal(top_k(scores, k), references.top_k(scores, k))


def test_infinities_have_a_rank() -> None:
    scores = np.array([0, -np.inf, np.inf, 1, -np.inf], np.float32)
    np.testing.assert_array_equal(top_k(scores, 5), [2, 3, 0, 1, 4])


def test_nan_is_refused_where_it_counts() -> None:
    scores = np.array([0, np.nan, 2], np.float32)
    with pytest.raises(StrategyError) as caught:
        top_k(scores, 1)
    assert caught.value.reason == "NOT_FINITE"
    with pytest.raises(StrategyError):
        top_k(scores, 1, np.array([False, True, True]))
    np.testing.assert_array_equal(top_k(scores, 3, np.array([True, False, True])), [2, 0])


def test_bad_arguments_are_refused() -> None:
    scores = np.zeros(3, np.float32)
    for arguments in (
        (scores, -1),
        (scores.astype(int), 1),
        (scores.reshape(3, 1), 1),
        (scores, 1, np.ones(2, bool)),
        (scores, 1, np.ones(3, int)),
    ):
        with pytest.raises(StrategyError):
            top_k(*arguments)


def test_inputs_are_left_alone() -> None:
    scores = np.array([3, 1, 2], np.float32)
    mask = np.array([True, True, False])
    scores.flags.writeable = mask.flags.writeable = False
    np.testing.assert_array_equal(top_k(scores, 2, mask), [0, 1])
