"""Batches drawn by score: the law of the draw, and what it depends on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

from assay.strategies import StrategyError
from assay.strategies.composition.stochastic import gumbel, perturbed
from assay.strategies.kernels.topk import top_k

TRIALS = 4_000
UTILITY = np.array([0.1, 0.4, 0.0, 0.8, 0.3], np.float32)
KEYS = np.arange(5)


def first_picks(kind: Any, beta: float, mask: np.ndarray | None = None) -> np.ndarray:
    picks = [int(top_k(perturbed(UTILITY, KEYS, seed, kind, beta, mask), 1, mask)[0]) for seed in range(TRIALS)]
    return np.bincount(picks, minlength=5)


def require_law(counts: np.ndarray, weights: np.ndarray) -> None:
    possible = weights > 0
    assert not counts[~possible].any()
    expected = TRIALS * weights[possible] / weights.sum()
    assert scipy.stats.chisquare(counts[possible], expected).pvalue > 1e-4


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_power_draws_by_powers_of_the_utility(beta: float) -> None:
    require_law(first_picks("power", beta), UTILITY.astype(float) ** beta)


def test_softmax_draws_by_exponentials() -> None:
    require_law(first_picks("softmax", 3.0), np.exp(3.0 * UTILITY))


def test_softrank_draws_by_inverse_ranks() -> None:
    require_law(first_picks("softrank", 1.0), 1 / np.array([4, 2, 5, 1, 3]))


def test_beta_of_zero_draws_uniformly() -> None:
    require_law(first_picks("softmax", 0.0), np.ones(5))


def test_only_what_the_mask_keeps_is_ranked() -> None:
    mask = np.array([True, True, False, False, True])
    require_law(first_picks("softrank", 1.0, mask), np.array([1 / 3, 1, 0, 0, 1 / 2]))


def test_second_pick_is_drawn_from_what_is_left() -> None:
    """Plackett-Luce: the law of sampling one after another without replacement."""
    pairs = [tuple(top_k(perturbed(UTILITY, KEYS, seed, "power", 1.0), 2)) for seed in range(TRIALS)]
    after_three = np.bincount([second for first, second in pairs if first == 3], minlength=5)
    weights = UTILITY * (KEYS != 3)
    expected = after_three.sum() * weights[weights > 0] / weights.sum()
    assert scipy.stats.chisquare(after_three[weights > 0], expected).pvalue > 1e-4


def test_noise_is_gumbel() -> None:
    assert scipy.stats.kstest(gumbel(np.arange(20_000), 7), "gumbel_r").pvalue > 1e-3


def test_draws_of_shards_merge_into_a_draw_of_the_whole() -> None:
    utility = np.random.default_rng(0).random(1000, np.float32)
    keys = np.arange(1000) * 3
    whole = perturbed(utility, keys, 5, "power", 1.5)
    parts = [perturbed(utility[part], keys[part], 5, "power", 1.5) for part in (slice(0, 400), slice(400, 1000))]
    assert np.array_equal(whole, np.concatenate(parts))


def test_a_large_beta_is_the_plain_top() -> None:
    utility = np.random.default_rng(1).permutation(np.arange(1, 201, dtype=np.float32))
    assert np.array_equal(top_k(perturbed(utility, np.arange(200), 3, "power", 1e6), 20), top_k(utility, 20))


@pytest.mark.parametrize(("kind", "beta"), [("other", 1.0), ("power", -1.0), ("softmax", np.nan)])
def test_bad_settings_are_refused(kind: Any, beta: float) -> None:
    with pytest.raises(StrategyError) as caught:
        perturbed(UTILITY, KEYS, 0, kind, beta)
    assert caught.value.reason == "INVALID_STOCHASTIC"


def test_nan_is_refused_where_it_counts() -> None:
    utility = np.array([1, np.nan], np.float32)
    with pytest.raises(StrategyError):
        perturbed(utility, np.arange(2), 0, "power")
    assert np.isfinite(perturbed(utility, np.arange(2), 0, "power", 1.0, np.array([True, False]))).all()
