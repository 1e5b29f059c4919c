"""Uncertainty of samples whose predictions are ragged: any number of boxes in an image, or tokens in a text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.candidates import Candidates
from assay.strategies.errors import InvalidParams
from assay.strategies.kernels import fused
from assay.strategies.kernels.ragged import Empty, Reduction, fill_empty, reduce_parts
from assay.strategies.kernels.tensors import borrow, spread
from assay.strategies.needs import Need

# float32 values in a block of parts.
_BLOCK_VALUES = 1 << 18


@dataclass(frozen=True)
class RaggedParams:
    measure: Literal["entropy", "margin", "least_confidence", "ratio"] = field(
        default="entropy",
        metadata={"doc": "The uncertainty of a part; each is the scorer of that name."},
    )
    reduce: Reduction = field(
        default="sum",
        metadata={"doc": "How parts make a sample: sum, mean, max, or top_m (the mean of the m highest)."},
    )
    m: int = field(
        default=5,
        metadata={"doc": "How many parts top_m takes; all of them, where there are fewer.", "minimum": 1},
    )
    class_weights: tuple[float, ...] = field(
        default=(),
        metadata={
            "doc": "A weight for each class, which multiplies the parts predicted as that class; empty: all 1.",
            "minimum": 0.0,
            "maximum": 1e6,
        },
    )
    empty: Empty = field(
        default="random",
        metadata={
            "doc": "What a sample without parts scores: floor (0, below all others), mean (as those with parts do on "
            "average) or random (as one of them, drawn)."
        },
    )


@dataclass(frozen=True)
class Ragged:
    """How uncertain the parts of a sample are together: the boxes of an image, the tokens of a text.

    Each part is scored from its class probabilities and weighted by its predicted class (the lowest of equally
    likely ones); then the parts of each sample are reduced to one score. With sum, samples with more parts score
    higher, which is fair where the annotator's work grows with them; with mean, max and top_m it does not matter how
    many.

    A sample without parts is either one that holds nothing, or a total miss, which is worth most, and no score of parts
    tells which. By default it takes the score of a drawn sample that has parts (the same for the same candidates,
    another once some are gone), so that samples without parts are as large a share of the picks as of the pool, and
    each of them comes up in the end. With mean they all stand together in the middle, where a ranking does not reach
    them but a stochastic draw or a selector does; with floor they come last.

    Formula: reduce over parts of w[argmax_c p_c] u(p), where u is entropy, margin, least_confidence or ratio
    Cost: O(P C + N) time for P parts, one pass, plus one sort of P integers for top_m and one of the scores for
        empty=random; memory O(P + N). Exact. Scores of parts stream, shard and merge; what samples without parts score
        is filled in once all others are known.
    Use when: detection, segmentation by regions, tagging of sequences; class_weights where some classes are harder.
    Avoid when: the model misses objects in samples where it finds others: what it did not find cannot be uncertain. Use
        the embedding of the image beside it. Where most samples rightly hold nothing, take empty=mean or floor, and
        explore a share at random.
    Paper: Brust, Kaeding and Denzler, Active Learning for Deep Object Detection, VISAPP 2019 (sum, mean, max); Settles
        and Craven, An Analysis of Active Learning Strategies for Sequence Labeling Tasks, EMNLP 2008 (tokens); Yang,
        Huang and Crowley, Plug and Play Active Learning for Object Detection, CVPR 2024 (weights by class).
    Reference: the formula in a plain loop over samples. PPAL sums binary entropies of each box's top score (a box
        given as the two classes p and 1 - p is just that), weighted by difficulties that it learns while training;
        here the weights are given.
    """

    name: ClassVar[str] = "ragged"
    summary: ClassVar[str] = "The uncertainty of a sample's parts (boxes, tokens) as sum, mean, max or top m."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PART_PROBS, Need.PART_OFFSETS})
    params: ClassVar[type[RaggedParams]] = RaggedParams

    def score(self, block: Candidates, params: RaggedParams) -> NDArray[np.float32]:
        """float32 scores, at least 0, higher = less certain; 0 for a sample without parts, until `finish`.

        Raises NeedMissing; InvalidParams where the weights are not one per class; StrategyError
        PROBABILITIES_INVALID, or INVALID_ARRAY where there is no class.
        """
        probs_PC = block.unchecked(Need.PART_PROBS)
        scores_P = fused.from_probs(probs_PC, {params.measure})[params.measure]
        if params.class_weights:
            scores_P *= _weights(probs_PC, params.class_weights)
        return reduce_parts(scores_P, block.part_offsets_O, params.reduce, params.m)

    def finish(
        self, scores_N: NDArray[np.float32], candidates: Candidates, params: RaggedParams
    ) -> NDArray[np.float32]:
        """The scores with those of samples without parts filled in, as `empty` says. Reads the offsets alone."""
        return fill_empty(scores_N, candidates.part_offsets_O, candidates.keys_N, params.empty)


ragged = Ragged()


def _weights(probs_PC: NDArray[np.float32], class_weights: tuple[float, ...]) -> NDArray[np.float32]:
    """The weight of each part by its predicted class."""
    parts, classes = probs_PC.shape
    if len(class_weights) != classes:
        raise InvalidParams("class_weights", f"{len(class_weights)} weights for {classes} classes: give one for each")
    predicted_P = np.empty(parts, np.int64)

    def block(start: int, stop: int) -> None:
        torch.argmax(borrow(probs_PC[start:stop]), 1, out=torch.from_numpy(predicted_P[start:stop]))

    if parts:
        spread(block, parts, max(1, _BLOCK_VALUES // classes))
    return np.array(class_weights, np.float32)[predicted_P]
