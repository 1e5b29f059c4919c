"""A strategy as it is when a caller has more than what it declares as needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Scorer, Selection, Selector, Strategy, optional_needs
from assay.strategies.candidates import Candidates
from assay.strategies.needs import Need


def supplied_logits(strategy: Strategy) -> Strategy:
    """A stand-in that declares LOGITS for PROBS, and is otherwise the strategy."""
    return _supplied(strategy, strategy.needs - {Need.PROBS} | {Need.LOGITS})


def supplied_optional(strategy: Strategy) -> Strategy:
    """A stand-in that declares what is optional too, and is otherwise the strategy."""
    return _supplied(strategy, strategy.needs | optional_needs(strategy))


def _supplied(strategy: Strategy, needs: frozenset[Need]) -> Strategy:
    return _ScorerGiven(strategy, needs) if isinstance(strategy, Scorer) else _SelectorGiven(strategy, needs)


class _ScorerGiven:
    def __init__(self, scorer: Scorer, needs: frozenset[Need]) -> None:
        self._scorer = scorer
        self.name, self.summary, self.params = scorer.name, scorer.summary, scorer.params
        self.needs = needs
        if hasattr(scorer, "finish"):
            self.finish = scorer.finish

    def score(self, block: Candidates, params: Any) -> NDArray[np.float32]:
        return self._scorer.score(block, params)


class _SelectorGiven:
    def __init__(self, selector: Selector, needs: frozenset[Need]) -> None:
        self._selector = selector
        self.name, self.summary, self.params = selector.name, selector.summary, selector.params
        self.deterministic, self.needs_utility = selector.deterministic, selector.needs_utility
        self.greedy = getattr(selector, "greedy", False)
        self.needs = needs

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: Any,
    ) -> Selection:
        return self._selector.select(candidates, size, rng, utility, params)
