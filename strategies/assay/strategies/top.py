"""The plain selector: the candidates of highest utility."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import NoParams, Selection, checked_size, checked_utility
from assay.strategies.candidates import Candidates
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import Need


@dataclass(frozen=True)
class Top:
    """Picks by rank alone. Exact, and picks of shards merge into the picks of the whole.

    Every scorer is selected from with it unless a plan says otherwise.

    Formula: the k samples of highest utility; ties go to the lower index
    Cost: O(N) comparisons in one streaming pass, O(k) memory. A threshold that only rises lets most of each chunk fall
        after one comparison.
    Use when: one sample is labeled at a time, batches are small beside the pool, or the pool holds no near copies.
    Avoid when: near copies are common: a batch may be one sample many times over. Take a near-duplicate radius, a
        stochastic draw, or a selector that spreads its picks.
    Paper: none; Lewis and Gale, "A Sequential Algorithm for Training Text Classifiers", SIGIR 1994, sample this way.
    Reference: numpy's argsort. We differ in refusing NaN, which argsort ranks highest or lowest by accident.
    """

    name: ClassVar[str] = "top"
    summary: ClassVar[str] = "The samples of highest utility, ties by row."
    needs: ClassVar[frozenset[Need]] = frozenset()
    params: ClassVar[type[NoParams]] = NoParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = True
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: NoParams,
    ) -> Selection:
        """Scores of the picks: their utility. Raises StrategyError UTILITY_MISSING, or NOT_FINITE for NaN."""
        utility_N = checked_utility(utility, candidates)
        indices = top_k(utility_N, checked_size(size, candidates))
        return Selection(indices, utility_N[indices])


top = Top()
