"""A strategy as it is when a caller has logits where it declared probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Scorer, Selection, Selector, Strategy
from assay.strategies.candidates import Candidates
from assay.strategies.needs import Need


def supplied_logits(strategy: Strategy) -> Strategy:
    """A stand-in that declares LOGITS for PROBS, and is otherwise the strategy."""
    return _ScorerOnLogits(strategy) if isinstance(strategy, Scorer) else _SelectorOnLogits(strategy)


class _ScorerOnLogits:
    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.name, self.summary, self.params = scorer.name, scorer.summary, scorer.params
        self.needs = _with_logits(scorer.needs)

    def score(self, block: Candidates, params: Any) -> NDArray[np.float32]:
        return self._scorer.score(block, params)


class _SelectorOnLogits:
    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self.name, self.summary, self.params = selector.name, selector.summary, selector.params
        self.deterministic, self.needs_utility = selector.deterministic, selector.needs_utility
        self.needs = _with_logits(selector.needs)

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: Any,
    ) -> Selection:
        return self._selector.select(candidates, size, rng, utility, params)


def _with_logits(needs: frozenset[Need]) -> frozenset[Need]:
    return needs - {Need.PROBS} | {Need.LOGITS}
