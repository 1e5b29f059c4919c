"""Uncertainty scorers: how unsure the model is of each sample, from its logits or its probabilities.

p1 and p2 are a sample's two largest class probabilities. Where logits are at hand they are used, in one fused
pass; otherwise the probabilities. With one class every score is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import NoParams
from assay.strategies.candidates import Candidates
from assay.strategies.kernels import fused
from assay.strategies.needs import Need


@dataclass(frozen=True)
class Uncertainty:
    """A scorer over class probabilities. Cost O(N C), one pass; exact."""

    name: str
    summary: str
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROBS})
    params: ClassVar[type[NoParams]] = NoParams

    def score(self, block: Candidates, params: NoParams) -> NDArray[np.float32]:
        """float32 scores in the range that the summary says, higher = less certain.

        Raises NeedMissing; StrategyError NOT_FINITE for logits, PROBABILITIES_INVALID for probabilities.
        """
        if block.has(Need.LOGITS):
            return fused.from_logits(block.unchecked(Need.LOGITS), {self.name})[self.name]
        return fused.from_probs(block.unchecked(Need.PROBS), {self.name})[self.name]


least_confidence = Uncertainty("least_confidence", "1 - p1: how far the most likely class is from certain, 0 to 1.")
margin = Uncertainty("margin", "1 - (p1 - p2): how close the two most likely classes are, 0 to 1.")
entropy = Uncertainty("entropy", "-sum p ln p: how spread the probabilities are over all classes, 0 to ln C.")
