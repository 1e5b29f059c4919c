"""Uncertainty where each sample may have several labels, or none: C independent probabilities per sample.

p_c is the probability that label c applies. Uncertainty of one label: h(p) = -p ln p - (1 - p) ln(1 - p), which is
0 at 0 and 1, and ln 2 at 1/2. It is taken of q = min(p, 1 - p), so that nothing is lost next to 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.base import NoParams
from assay.strategies.candidates import Candidates
from assay.strategies.errors import StrategyError
from assay.strategies.kernels.fused import times_log
from assay.strategies.kernels.tensors import borrow, spread
from assay.strategies.needs import Need

# float32 values in a block: it and two of its size fit a core's second-level cache.
_BLOCK_VALUES = 1 << 17


@dataclass(frozen=True)
class MultilabelScorer(ABC):
    """What the scorers of this module share."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LABEL_PROBS})
    params: ClassVar[type[Any]] = NoParams

    def score(self, block: Candidates, params: Any) -> NDArray[np.float32]:
        """float32 scores in the range that the summary says, higher = less certain.

        Raises NeedMissing; StrategyError PROBABILITIES_INVALID for NaN or a value outside [0, 1], INVALID_ARRAY where
        there is no label.
        """
        return _by_blocks(block.unchecked(Need.LABEL_PROBS), lambda probs_BC: self.of_rows(probs_BC, params))

    @abstractmethod
    def of_rows(self, probs_BC: torch.Tensor, params: Any) -> torch.Tensor:
        """The scores of a few rows of valid probabilities, which are left as they are."""


@dataclass(frozen=True)
class MultilabelMeanEntropy(MultilabelScorer):
    """How uncertain the labels are on average, each by itself.

    From 0 (every label certain) to ln 2 (every label a coin toss).

    Formula: 1/C sum_c h(p_c), where h(p) = -p ln p - (1 - p) ln(1 - p)
    Cost: O(N C) time, two logarithms per value; memory O(N) beside blocks that fit a core's cache. Exact; streams,
        shards and merges.
    Use when: one annotator answers for all labels of a sample at once.
    Avoid when: there are very many labels, most of them surely absent: the mean hides the few that are uncertain;
        take `multilabel_max_entropy`. While labels are few: on real data it stayed below random sampling up to 300.
    Paper: Settles, Active Learning Literature Survey, 2009 (entropy, here of each label by itself).
    Reference: the formula, with scipy's xlogy. Natural logarithm; others take log2, and the sum for the mean: the
        same order.
    """

    name: ClassVar[str] = "multilabel_mean_entropy"
    summary: ClassVar[str] = "The binary entropy of the labels, mean over labels, 0 to ln 2."

    def of_rows(self, probs_BC: torch.Tensor, params: NoParams) -> torch.Tensor:
        return _binary_entropy(_to_nearer_end(probs_BC)).mean(1)


@dataclass(frozen=True)
class MultilabelMaxEntropy(MultilabelScorer):
    """How uncertain the most uncertain label is.

    From 0 (every label certain) to ln 2 (some label is a coin toss). The order is that of the probability nearest
    to 1/2, so one logarithm per sample is enough.

    Formula: max_c h(p_c), where h(p) = -p ln p - (1 - p) ln(1 - p)
    Cost: O(N C) time, one pass, no logarithm per value; memory O(N) beside blocks that fit a core's cache. Exact;
        streams, shards and merges.
    Use when: there are many labels and any doubt is worth a question.
    Avoid when: one label is doubtful everywhere (badly defined, or noisy): it then decides every pick.
    Paper: Settles, Active Learning Literature Survey, 2009 (entropy, here of each label by itself).
    Reference: the formula, with scipy's xlogy. Natural logarithm.
    """

    name: ClassVar[str] = "multilabel_max_entropy"
    summary: ClassVar[str] = "The binary entropy of the least certain label, 0 to ln 2."

    def of_rows(self, probs_BC: torch.Tensor, params: NoParams) -> torch.Tensor:
        return _binary_entropy(_to_nearer_end(probs_BC).amax(1))


@dataclass(frozen=True)
class LabelCardinalityParams:
    cardinality: float = field(
        default=1.0,
        metadata={"doc": "The mean number of labels of the labeled samples.", "minimum": 0.0, "maximum": 1e6},
    )
    threshold: float = field(
        default=0.5,
        metadata={"doc": "A label counts as predicted above this probability.", "minimum": 0.0, "maximum": 1.0},
    )


@dataclass(frozen=True)
class LabelCardinality(MultilabelScorer):
    """How far the number of labels predicted is from the number that labeled samples have on average.

    A sample for which no label is predicted, or very many, is likely to be predicted wrong, however sure the model
    is. From 0 to max(cardinality, C - cardinality).

    Formula: | #{c: p_c > threshold} - cardinality |
    Cost: O(N C) time, one pass; memory O(N) beside blocks that fit a core's cache. Exact; streams, shards and merges.
    Use when: most samples have about the same number of labels.
    Avoid when: that number varies much by nature. There are at most C + 1 different scores, so ties are many: combine
        it with an entropy.
    Paper: Li and Guo, Active Learning with Multi-Label SVM Classification, IJCAI 2013.
    Reference: the formula; the paper counts positive outputs of an SVM, here probabilities above a threshold, and
        takes the cardinality as a parameter: scorers do not see the labels of other samples.
    """

    name: ClassVar[str] = "label_cardinality"
    summary: ClassVar[str] = "How far the number of predicted labels is from the usual one, 0 to C."
    params: ClassVar[type[LabelCardinalityParams]] = LabelCardinalityParams

    def of_rows(self, probs_BC: torch.Tensor, params: LabelCardinalityParams) -> torch.Tensor:
        # Compared in float32, as the probabilities are: else 0.1 would lie above a threshold of 0.1.
        counts_B = (probs_BC > float(np.float32(params.threshold))).sum(1)
        return (counts_B.double() - params.cardinality).abs_()


multilabel_mean_entropy = MultilabelMeanEntropy()
multilabel_max_entropy = MultilabelMaxEntropy()
label_cardinality = LabelCardinality()


def _by_blocks(probs_NC: NDArray[np.float32], of_rows: Callable[[torch.Tensor], torch.Tensor]) -> NDArray[np.float32]:
    size, classes = probs_NC.shape
    if classes == 0:
        raise StrategyError("INVALID_ARRAY", "there are no labels to be uncertain about: give at least one")
    scores_N = np.empty(size, np.float32)

    def block(start: int, stop: int) -> None:
        probs_BC = borrow(probs_NC[start:stop])
        _require_probabilities(probs_BC)
        torch.from_numpy(scores_N[start:stop]).copy_(of_rows(probs_BC))

    if size:
        spread(block, size, max(1, _BLOCK_VALUES // classes))
    return scores_N


def _require_probabilities(probs_BC: torch.Tensor) -> None:
    # Written so that NaN fails.
    if not (probs_BC.amin().item() >= 0 and probs_BC.amax().item() <= 1):
        raise StrategyError("PROBABILITIES_INVALID", "the probability of each label must lie in [0, 1]")


def _to_nearer_end(probs: torch.Tensor) -> torch.Tensor:
    """min(p, 1 - p): without rounding where p is at least 1/2."""
    return torch.minimum(probs, 1 - probs)


def _binary_entropy(probs: torch.Tensor) -> torch.Tensor:
    """h(p) of probabilities up to 1/2, in nats."""
    return torch.log1p(-probs).mul_(probs - 1).sub_(times_log(probs))
