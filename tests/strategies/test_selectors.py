"""random and top."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from assay.strategies import Candidates, StrategyError, get, select
from assay.strategies.kernels.hashing import hash_keys, hash_order, lowest
from assay.strategies.top import top


def test_the_lowest_are_found_among_hashes_of_any_kind() -> None:
    uniform = hash_keys(np.arange(50_000), 3)
    for hashes in (
        uniform,
        uniform | np.uint64(2**63),
        uniform >> np.uint64(1),
        np.full(5000, 7, np.uint64),
        np.arange(400, dtype=np.uint64),
    ):
        for k in (0, 1, 100, 399, len(hashes) - 1, len(hashes), len(hashes) + 1):
            found = lowest(hashes, k)
            assert len(set(found.tolist())) == len(found) == min(k, len(hashes))
            np.testing.assert_array_equal(hashes[found], np.sort(hashes)[:k])


def test_blocks_do_not_change_a_hash() -> None:
    keys = np.arange(40_000)
    np.testing.assert_array_equal(hash_keys(keys, 5)[::997], [hash_keys(keys[i : i + 1], 5)[0] for i in keys[::997]])


def test_hash_is_splitmix64() -> None:
    """The first outputs of the published generator for seed 0 are the mixed multiples of its increment."""
    increments = (np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)).view(np.int64)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    # The seed is mixed into the key, so a seed that mixes to 0 shows the bare generator.
    seed_of_zero = (-0x9E3779B97F4A7C15) % 2**64
    assert [int(h) for h in hash_keys(increments, seed_of_zero)] == expected


@given(st.sets(st.integers(-(2**63), 2**63 - 1), max_size=60), st.integers(0, 2**64 - 1), st.integers(0, 70))
def test_order_merges_over_shards(keys: set[int], seed: int, k: int) -> None:
    all_keys = np.array(sorted(keys), np.int64)
    cut = len(all_keys) // 3
    shards = (all_keys[:cut], all_keys[cut:])
    firsts = np.concatenate([shard[hash_order(shard, seed, k)] for shard in shards])
    merged = firsts[hash_order(firsts, seed, k)]
    np.testing.assert_array_equal(merged, all_keys[hash_order(all_keys, seed)[:k]])


def test_random_is_uniform() -> None:
    counts = np.zeros(20, np.int64)
    for seed in range(3000):
        counts[select("random", size=3, utility=np.zeros(20), seed=seed).indices] += 1
    assert counts.sum() == 9000
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_random_goes_by_key_and_seed() -> None:
    keys = np.array([5, 70, 71, 900, 10**12])
    rng = np.random.default_rng
    random = get("random")
    whole = random.select(Candidates(5, {}, keys), 5, rng(3), None, random.params())
    part = random.select(Candidates(3, {}, keys[[0, 2, 4]]), 3, rng(3), None, random.params())
    kept = [key for key in keys[whole.indices] if key in (5, 71, 10**12)]
    assert kept == list(keys[[0, 2, 4]][part.indices])
    orders = {tuple(random.select(Candidates(5, {}, keys), 5, rng(s), None, random.params()).indices) for s in range(9)}
    assert len(orders) > 1
    assert (np.diff(whole.scores) <= 0).all()
    assert ((whole.scores >= 0) & (whole.scores <= 1)).all()


def test_top_picks_the_highest_utility_ties_by_index() -> None:
    selection = select("top", size=3, utility=[1, 5, 5, 0])
    np.testing.assert_array_equal(selection.indices, [1, 2, 0])
    np.testing.assert_array_equal(selection.scores, [5, 5, 1])


def test_top_refuses_a_utility_that_does_not_fit() -> None:
    rng = np.random.default_rng(0)
    for utility, reason in ((None, "UTILITY_MISSING"), (np.zeros(4, np.float32), "INVALID_ARRAY")):
        with pytest.raises(StrategyError) as caught:
            top.select(Candidates(3, {}), 1, rng, utility, top.params())
        assert caught.value.reason == reason
