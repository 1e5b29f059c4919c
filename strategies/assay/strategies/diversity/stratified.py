"""stratified: a random sample with a fixed share for each predicted class, or each cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.errors import StrategyError
from assay.strategies.kernels.hashing import hash_keys
from assay.strategies.needs import Need

Allocation = Literal["equal", "proportional"]


@dataclass(frozen=True)
class StratifiedParams:
    allocation: Allocation = field(
        default="equal",
        metadata={"doc": "Picks per stratum: the same number (equal), or by its share of candidates (proportional)."},
    )


@dataclass(frozen=True)
class Stratified:
    """Random inside strata, fair between them: the class that the model predicts, or the cluster where there are any.

    Strata take turns. With equal allocation each gives one sample per turn until it has no more; with proportional
    allocation the next sample comes from the stratum that is farthest behind its share. So the picks of a smaller
    size begin those of a larger one. Inside a stratum the order is that of a seeded hash of the sample's key: what
    shards draw from a stratum apart merges, by hash, into what the whole would draw.

    Formula:
        sample number r (from 0) of a stratum of n has the place r (equal) or (r + 1/2) / n (proportional: the method
        of Sainte-Lague); picks are those of the lowest places, ties to the lower class or cluster.
    Cost:
        O(N C) for the predicted classes and O(N log N) to sort; memory O(N).
    Use when:
        the first batches of an unbalanced problem need some of every class, or an estimate needs a fair sample.
    Avoid when:
        predictions are still no better than chance; then the strata are as well.
    Paper:
        Neyman, On the two different aspects of the representative method, Journal of the Royal Statistical Society
        1934; Balinski and Young, Fair Representation, 1982, for the method of Sainte-Lague.
    Reference:
        a plain loop over turns. Cluster numbers are names, -1 a stratum like any other.
    """

    name: ClassVar[str] = "stratified"
    summary: ClassVar[str] = "A random sample with equal or proportional shares of each predicted class or cluster."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROBS})
    optional: ClassVar[frozenset[Need]] = frozenset({Need.CLUSTERS})
    params: ClassVar[type[StratifiedParams]] = StratifiedParams
    deterministic: ClassVar[bool] = False
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: StratifiedParams,
    ) -> Selection:
        """Scores of the picks: 1 - hash / 2^64, in [0, 1]; they say nothing about the sample.

        Raises NeedMissing, or StrategyError INVALID_ARRAY or NOT_FINITE.
        """
        size = checked_size(size, candidates)
        classes_N = _predicted(candidates)
        strata_N = candidates.clusters_N if candidates.has(Need.CLUSTERS) else classes_N
        hashes_N = hash_keys(candidates.keys_N, int(rng.integers(2**64, dtype=np.uint64)))
        indices = stratified_order(strata_N, hashes_N, params.allocation)[:size]
        scores = (1 - hashes_N[indices] / 2.0**64).astype(np.float32)
        return Selection(indices, scores, {"strata": len(np.unique(strata_N))})


def stratified_order(
    strata_N: NDArray[np.int64], hashes_N: NDArray[np.uint64], allocation: Allocation
) -> NDArray[np.int64]:
    """All samples in the order in which strata give them: int64, shape (N,)."""
    _, strata_N, sizes_S = np.unique(strata_N, return_inverse=True, return_counts=True)
    order = np.lexsort((hashes_N, strata_N))
    starts_S = np.cumsum(sizes_S) - sizes_S
    ranks_N = np.arange(len(order)) - starts_S[strata_N[order]]
    places_N = ranks_N if allocation == "equal" else (ranks_N + 0.5) / sizes_S[strata_N[order]]
    in_turn: NDArray[np.int64] = order[np.lexsort((strata_N[order], places_N))]
    return in_turn


def _predicted(candidates: Candidates) -> NDArray[np.int64]:
    """The most probable class of each candidate, ties to the lower one."""
    rows_NC = candidates.logits_NC if candidates.has(Need.LOGITS) else candidates.probs_NC
    if rows_NC.shape[1] == 0:
        raise StrategyError("INVALID_ARRAY", "there are no classes; give probabilities of at least one")
    classes_N: NDArray[np.int64] = rows_NC.argmax(axis=1)
    return classes_N


stratified = Stratified()
