"""Random selection by hashing keys, so that shards sampled apart merge into one sample of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import NoParams, Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.needs import Need


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
    return _lowest(hash_keys(keys_N, seed), len(keys_N) if k is None else k)


def _lowest(hashes_N: NDArray[np.uint64], k: int) -> NDArray[np.int64]:
    if k >= len(hashes_N):
        return np.argsort(hashes_N, kind="stable")
    lowest = np.argpartition(hashes_N, k)[:k]
    return lowest[np.argsort(hashes_N[lowest])]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's output function, in place (Steele, Lea and Flood 2014); arithmetic is modulo 2^64."""
    values += np.uint64(0x9E3779B97F4A7C15)
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


@dataclass(frozen=True)
class Random:
    """Uniform without replacement: the baseline that every strategy must beat. Cost O(N)."""

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "Samples drawn uniformly, in the order of a seeded hash of their row."
    needs: ClassVar[frozenset[Need]] = frozenset()
    params: ClassVar[type[NoParams]] = NoParams
    deterministic: ClassVar[bool] = False
    needs_utility: ClassVar[bool] = False

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: NoParams,
    ) -> Selection:
        """Scores of the picks: 1 - hash / 2^64, falling, in [0, 1]; they say nothing about the sample."""
        hashes_N = hash_keys(candidates.keys_N, int(rng.integers(2**64, dtype=np.uint64)))
        indices = _lowest(hashes_N, checked_size(size, candidates))
        return Selection(indices, (1 - hashes_N[indices] / 2.0**64).astype(np.float32))


random = Random()
