"""What one more answer is worth, of samples that have answers as of those that have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import NoParams
from assay.strategies.candidates import Candidates
from assay.strategies.needs import Need


@dataclass(frozen=True)
class Worth:
    """What is to be learned from one more answer to a sample, whether it is the first or a second opinion.

    From 0 (many trusted people agree) to 1 (nothing is known). New samples and those whose label is in doubt stand in
    one ranking, so that one queue serves both. A server gives samples without answers what the model leaves open;
    suspects and disputed samples what the last audit made of their answers and of a model that did not see them; and
    where nothing is known, all.

    Formula: the worth as it is given. `audit.relabeling` computes it, as
        1 - (m p + sum_a w_a q_a + w / C) / (m + sum_a w_a + w)
    Cost: O(N). Exact; streams, shards and merges. What the array costs is said of `audit.relabeling`.
    Use when: labels are wrong now and then, and the same people can look again.
    Avoid when: labels are clean: then every answer should go to a new sample, by `margin`.
    Paper: Goh and Mueller, ActiveLab: Active Learning with Re-Labeling by Multiple Annotators, ICLR workshop 2023.
    Reference: cleanlab 2.9, get_active_learning_scores, of which this is one minus; see `audit.relabeling` for where it
        differs.
    """

    name: ClassVar[str] = "worth"
    summary: ClassVar[str] = "What one more answer is worth, to labeled samples as to others, 0 to 1."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WORTH})
    params: ClassVar[type[NoParams]] = NoParams

    def score(self, block: Candidates, params: NoParams) -> NDArray[np.float32]:
        """float32 scores in [0, 1], higher = more to be learned. Raises NeedMissing; StrategyError NOT_FINITE."""
        return block.worth_N.copy()


worth = Worth()
