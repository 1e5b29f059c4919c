"""Random selection by hashing keys, so that shards sampled apart merge into one sample of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import NoParams, Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.kernels.hashing import hash_keys, lowest
from assay.strategies.needs import Need


@dataclass(frozen=True)
class Random:
    """Uniform without replacement: the baseline that every strategy must beat.

    Samples are taken in the order of a hash of the seed and their key, so that drawing from shards apart and merging
    by score is the same as drawing from the whole.

    Formula: the k samples of lowest splitmix64(key xor splitmix64(seed))
    Cost: O(N) hashes and one partition; 8 bytes a sample.
    Use when: you want a baseline, an unbiased sample to evaluate a model on, or a first batch without any model.
    Avoid when: labels are what costs, and a model or embeddings are at hand.
    Paper: none; the mixer is from Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
    Reference: numpy's Generator.choice without replacement. We differ in the order, which depends on the keys and the
        seed alone.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "Samples drawn uniformly, in the order of a seeded hash of their row."
    needs: ClassVar[frozenset[Need]] = frozenset()
    params: ClassVar[type[NoParams]] = NoParams
    deterministic: ClassVar[bool] = False
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

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
        indices = lowest(hashes_N, checked_size(size, candidates))
        return Selection(indices, (1 - hashes_N[indices] / 2.0**64).astype(np.float32))


random = Random()
