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
    The LABELED_* arrays describe what a selection is conditioned on: they are empty or absent while nothing
    is labeled, and a strategy that declares them copes with that or says clearly why it cannot.
    """

    LOGITS = "logits"
    PROBS = "probs"
    EMBEDDINGS = "embeddings"
    MEMBER_PROBS = "member_probs"
    LABELED_EMBEDDINGS = "labeled_embeddings"
    LABELED_CLASSES = "labeled_classes"
    KNN_GRAPH = "knn_graph"
    CLUSTERS = "clusters"


LABELED = frozenset({Need.LABELED_EMBEDDINGS, Need.LABELED_CLASSES})


@dataclass(frozen=True)
class ArraySpec:
    """Shape letters (N candidates, C classes, D dims, K members or neighbours, L labeled) and type of one array."""

    axes: str
    dtype: type[np.generic]

    @property
    def candidate_axis(self) -> int | None:
        """The axis that runs over the candidates; None where the array is shared by all of them."""
        return self.axes.index("N") if "N" in self.axes else None

    def matches(self, array: np.ndarray[Any, Any], size: int) -> bool:
        axis = self.candidate_axis
        return (
            array.ndim == len(self.axes) and array.dtype == self.dtype and (axis is None or array.shape[axis] == size)
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
    }
)
