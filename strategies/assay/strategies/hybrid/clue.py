"""clue: k-means weighted by uncertainty, and the sample nearest to each centroid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.kernels.clustering import measured, representatives
from assay.strategies.kernels.fused import from_logits, from_probs
from assay.strategies.kernels.points import Metric
from assay.strategies.needs import Need

# float32 values of probabilities that are rescaled at a time.
_BLOCK_VALUES = 1 << 22


@dataclass(frozen=True)
class ClueParams:
    temperature: float = field(
        default=1.0,
        metadata={
            "doc": "Divides the logits: below 1 weighs the most uncertain samples more, above 1 evens out.",
            "minimum": 0.01,
            "maximum": 100.0,
        },
    )
    metric: Metric = field(
        default="l2", metadata={"doc": "What is clustered: embeddings as they are (l2) or scaled to length 1 (cosine)."}
    )


@dataclass(frozen=True)
class Clue:
    """Clusters in which uncertain samples pull harder: their centroids lie where uncertainty is dense.

    From each cluster comes the real sample nearest to its centroid, the cluster with most uncertainty first. A pick
    need not be uncertain itself; it stands for a region that is.

    Formula:
        min over c_1..c_k of sum_i H(softmax(z_i / T)) min_j |h_i - c_j|^2; picks: argmin_i |h_i - c_j|, all different.
    Cost:
        O(N C) for the entropies, then O(N D k) per iteration of k-means in matrix products; memory O(N + k D).
    Use when:
        the data has shifted from what the model knows, and a batch should cover what is unclear there.
    Avoid when:
        the embeddings do not come from the model that is uncertain: then the regions mean little.
    Paper:
        Prabhu, Chandrasekaran, Saenko and Hoffman, Active Domain Adaptation via Clustering Uncertainty-weighted
        Embeddings, ICCV 2021.
    Reference:
        the authors' code (weighted scikit-learn k-means; where centroids share a sample, next nearest ones fill up) and
        scikit-activeml's (no temperature; centroids choose in their order). Where two centroids share their nearest
        sample, ours goes to the closer one. An entropy below a millionth of the mean counts as that, so that weightless
        samples have a cluster too; where all are 0, all weigh the same. Of probabilities without logits, softmax(ln p /
        T) is the same.
    """

    name: ClassVar[str] = "clue"
    summary: ClassVar[str] = "The sample nearest to each centroid of k-means weighted by entropy."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROBS, Need.EMBEDDINGS})
    params: ClassVar[type[ClueParams]] = ClueParams
    deterministic: ClassVar[bool] = False
    needs_utility: ClassVar[bool] = False

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: ClueParams,
    ) -> Selection:
        """Scores of the picks: the share of all entropy in the cluster, never rising.

        Raises NeedMissing, or StrategyError INVALID_ARRAY, NOT_FINITE or PROBABILITIES_INVALID.
        """
        size = checked_size(size, candidates)
        if size == 0:
            return Selection.empty()
        entropy_N = tempered_entropy(candidates, params.temperature)
        points_ND = measured(candidates.unchecked(Need.EMBEDDINGS), params.metric)
        found = representatives(points_ND, size, int(rng.integers(2**63)), entropy_N)
        diagnostics = {"clusters": len(found.clustering), "objective": found.clustering.objective}
        return Selection(found.indices_K, found.shares_K, diagnostics)


def tempered_entropy(candidates: Candidates, temperature: float) -> NDArray[np.float32]:
    """Entropy of softmax(logits / temperature), natural logarithm: float32, shape (N,)."""
    of_logits = candidates.has(Need.LOGITS)
    rows_NC = candidates.unchecked(Need.LOGITS if of_logits else Need.PROBS)
    if temperature == 1 and of_logits:
        return _entropy_of_logits(rows_NC)
    if not of_logits:
        entropy_N = from_probs(rows_NC, ["entropy"])["entropy"]
        if temperature == 1:
            return np.maximum(entropy_N, 0)
    step = max(1, _BLOCK_VALUES // max(rows_NC.shape[1], 1))
    blocks = [rows_NC[start : start + step] for start in range(0, len(rows_NC), step)]
    logits = (block if of_logits else np.log(np.maximum(block, np.finfo(np.float32).tiny)) for block in blocks)
    return np.concatenate(
        [_entropy_of_logits(np.divide(block_BC, temperature, dtype=np.float32)) for block_BC in logits]
    )


def _entropy_of_logits(logits_NC: NDArray[np.float32]) -> NDArray[np.float32]:
    # Rounding may leave a trace below 0, which is no weight.
    return np.maximum(from_logits(logits_NC, ["entropy"])["entropy"], 0)


clue = Clue()
