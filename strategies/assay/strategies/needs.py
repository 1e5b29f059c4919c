"""The arrays that a strategy can ask for, and the shape and type of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np


class Need(StrEnum):
    """An array that a strategy can declare.

    PROBS is met by LOGITS too, and a strategy that declares PROBS may read the logits where `has(LOGITS)`.
    The LABELED_* arrays describe what a selection is conditioned on, in one order: samples that are labeled, and
    those in somebody's hands, whose class is -1 as long as nobody has said it. They are empty or absent while there
    are none, and a strategy that declares them copes with that or says clearly why it cannot.
    LABEL_PROBS are the independent probabilities of a multi-label model: a row need not sum to 1.
    MEMBER_VALUES are the numbers that each member of a committee predicts, for each of T targets.
    PART_PROBS are the predictions for all parts (boxes of an image, tokens of a text) of all candidates, one below
    the other; candidate i has the parts PART_OFFSETS[i] to PART_OFFSETS[i + 1] - 1, which may be none.
    WORTH is what one more answer to each sample is worth, in [0, 1], whether it has some or not (`audit.relabeling`).
    HEAD_WEIGHTS and HEAD_BIAS are those of a linear head: logits_NC = embeddings_ND @ weights_CD.T + bias_C.
    """

    LOGITS = "logits"
    PROBS = "probs"
    EMBEDDINGS = "embeddings"
    MEMBER_PROBS = "member_probs"
    LABELED_EMBEDDINGS = "labeled_embeddings"
    LABELED_CLASSES = "labeled_classes"
    KNN_GRAPH = "knn_graph"
    CLUSTERS = "clusters"
    LABEL_PROBS = "label_probs"
    MEMBER_VALUES = "member_values"
    PART_PROBS = "part_probs"
    PART_OFFSETS = "part_offsets"
    LABELED_PROBS = "labeled_probs"
    QUERY_EMBEDDINGS = "query_embeddings"
    HEAD_WEIGHTS = "head_weights"
    HEAD_BIAS = "head_bias"
    WORTH = "worth"


LABELED = frozenset({Need.LABELED_EMBEDDINGS, Need.LABELED_CLASSES, Need.LABELED_PROBS})
PARTS = frozenset({Need.PART_PROBS, Need.PART_OFFSETS})


@dataclass(frozen=True)
class ArraySpec:
    """Shape letters and type of one array.

    N candidates, C classes, D dims, K members or neighbours, L labeled, M parts of all candidates, Q queries,
    T targets, O offsets (N + 1 of them).
    """

    axes: str
    dtype: type[np.generic]

    @property
    def candidate_axis(self) -> int | None:
        """The axis that runs over the candidates; None where the array is shared by all of them."""
        return self.axes.index("N") if "N" in self.axes else None

    def matches(self, array: np.ndarray[Any, Any], size: int) -> bool:
        lengths = {"N": size, "O": size + 1}
        return (
            array.ndim == len(self.axes)
            and array.dtype == self.dtype
            and all(lengths.get(axis, length) == length for axis, length in zip(self.axes, array.shape, strict=True))
        )


SPECS = MappingProxyType(
    {
        Need.LOGITS: ArraySpec("NC", np.float32),
        Need.PROBS: ArraySpec("NC", np.float32),
        Need.EMBEDDINGS: ArraySpec("ND", np.float32),
        Need.MEMBER_PROBS: ArraySpec("KNC", np.float32),
        Need.LABELED_EMBEDDINGS: ArraySpec("LD", np.float32),
        Need.LABELED_CLASSES: ArraySpec("L", np.int64),
        # Neighbours as candidate indices, nearest first; -1 where a sample has fewer.
        Need.KNN_GRAPH: ArraySpec("NK", np.int64),
        Need.CLUSTERS: ArraySpec("N", np.int64),
        Need.LABEL_PROBS: ArraySpec("NC", np.float32),
        Need.MEMBER_VALUES: ArraySpec("KNT", np.float32),
        Need.PART_PROBS: ArraySpec("MC", np.float32),
        Need.PART_OFFSETS: ArraySpec("O", np.int64),
        Need.LABELED_PROBS: ArraySpec("LC", np.float32),
        Need.QUERY_EMBEDDINGS: ArraySpec("QD", np.float32),
        Need.HEAD_WEIGHTS: ArraySpec("CD", np.float32),
        Need.HEAD_BIAS: ArraySpec("C", np.float32),
        Need.WORTH: ArraySpec("N", np.float32),
    }
)
