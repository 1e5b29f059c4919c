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
    """Picks by rank alone, so a batch may hold near copies. Cost O(N); exact, and merges over shards."""

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
