"""How far a sample is from everything that is labeled: an example of a strategy in a package of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies import Candidates, Need, StrategyError

_BLOCK = 1024


@dataclass(frozen=True)
class NoveltyParams:
    cap: float = field(
        default=0.0,
        metadata={
            "doc": "Distances beyond this count as this, so that outliers do not win; 0: no cap.",
            "minimum": 0.0,
        },
    )


@dataclass(frozen=True)
class Novelty:
    """Samples unlike anything that is labeled or in somebody's hands. 0 for all while there is nothing to compare with.

    Formula: min over labeled j of ||h_i - h_j||, at most `cap`
    Cost: O(N L D)
    """

    name: ClassVar[str] = "novelty"
    summary: ClassVar[str] = "L2 distance to the nearest labeled sample, 0 and up."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    params: ClassVar[type[NoveltyParams]] = NoveltyParams

    def score(self, block: Candidates, params: NoveltyParams) -> NDArray[np.float32]:
        """float32 scores_N. Raises NeedMissing, or StrategyError for NaN or embeddings of another dimension."""
        embeddings_ND = block.embeddings_ND
        if not block.has(Need.LABELED_EMBEDDINGS) or not len(block.labeled_embeddings_LD):
            return np.zeros(block.size, np.float32)
        labeled_LD = block.labeled_embeddings_LD
        if labeled_LD.shape[1] != embeddings_ND.shape[1]:
            raise StrategyError("INVALID_ARRAY", "labeled samples and candidates have embeddings of two dimensions")
        parts = range(0, block.size, _BLOCK)
        scores_N = np.concatenate([np.empty(0), *(_nearest(embeddings_ND[i : i + _BLOCK], labeled_LD) for i in parts)])
        return np.minimum(scores_N, params.cap or np.inf).astype(np.float32)


def _nearest(points_BD: NDArray[np.float32], labeled_LD: NDArray[np.float32]) -> NDArray[np.float64]:
    squared_BL = np.square(points_BD[:, None].astype(np.float64) - labeled_LD).sum(axis=2)
    nearest_B: NDArray[np.float64] = np.sqrt(squared_BL.min(axis=1))
    return nearest_B


novelty = Novelty()
