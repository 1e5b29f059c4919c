"""Pseudo-random orders by hashing keys, so that what is drawn from shards apart merges into one draw of the whole."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Keys that are mixed at a time: with what is computed beside them they stay in the cache of a core.
_BLOCK = 16384


def hash_keys(keys_N: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A pseudo-random uint64 for each key, a bijection of the keys for each seed in 0..2^64-1 (splitmix64's mixer)."""
    hashes = keys_N.astype(np.int64).view(np.uint64)
    hashes ^= _mixed(np.array([seed], np.uint64))
    return _mixed(hashes)


def hash_order(keys_N: NDArray[np.int64], seed: int, k: int | None = None) -> NDArray[np.int64]:
    """Indices of the keys with the k lowest hashes (default all), lowest first.

    The order of any two keys depends on nothing but them and the seed: the first k of two shards, merged by hash,
    are the first k of both together.
    """
    return lowest(hash_keys(keys_N, seed), len(keys_N) if k is None else k)


def lowest(hashes_N: NDArray[np.uint64], k: int) -> NDArray[np.int64]:
    """Indices of the k lowest hashes (all, if there are fewer), lowest first."""
    if k >= len(hashes_N):
        return np.argsort(hashes_N, kind="stable")
    # Hashes are uniform from some least one on (lower ones were drawn before): nearly always the k lowest are among the
    # few below this bound, and a scan finds them instead of a partition of all.
    share = (k + 8 * math.sqrt(k) + 64) / len(hashes_N)
    least = int(hashes_N.min())
    bound = least + int(share * (2**64 - least))
    near = np.flatnonzero(hashes_N < np.uint64(bound)) if share < 0.5 else np.arange(len(hashes_N))
    if len(near) < k:
        near = np.arange(len(hashes_N))
    chosen = near[np.argpartition(hashes_N[near], k)[:k]] if len(near) > k else near
    return chosen[np.argsort(hashes_N[chosen])]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's output function, in place (Steele, Lea and Flood 2014); arithmetic is modulo 2^64."""
    scratch = np.empty(min(len(values), _BLOCK), np.uint64)
    for first in range(0, len(values), _BLOCK):
        block = values[first : first + _BLOCK]
        shifted = scratch[: len(block)]
        block += np.uint64(0x9E3779B97F4A7C15)
        block ^= np.right_shift(block, np.uint64(30), out=shifted)
        block *= np.uint64(0xBF58476D1CE4E5B9)
        block ^= np.right_shift(block, np.uint64(27), out=shifted)
        block *= np.uint64(0x94D049BB133111EB)
        block ^= np.right_shift(block, np.uint64(31), out=shifted)
    return values
