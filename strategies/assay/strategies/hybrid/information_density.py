"""Information density: uncertain samples that stand for many others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size, checked_utility
from assay.strategies.candidates import Candidates
from assay.strategies.errors import StrategyError
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.search import nearest
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import Need

# float32 values in a block of embeddings.
_BLOCK_VALUES = 1 << 18


@dataclass(frozen=True)
class InformationDensityParams:
    beta: float = field(
        default=1.0,
        metadata={"doc": "How much density counts: 0 = not at all.", "minimum": 0.0, "maximum": 100.0},
    )
    density: Literal["knn", "mean"] = field(
        default="knn",
        metadata={"doc": "Mean cosine similarity to the nearest candidates (knn) or to all of them (mean)."},
    )
    neighbors: int = field(
        default=20,
        metadata={"doc": "How many nearest candidates, for knn.", "minimum": 1},
    )


@dataclass(frozen=True)
class InformationDensity:
    """The samples of highest utility times density: an outlier may be uncertain, but teaches about nothing else.

    Density is the mean cosine similarity of a sample to its nearest other candidates, or to all candidates; a mean
    below 0 counts as 0. A zero vector has density 0 and is nobody's neighbour. A candidate without any other has
    density 1. Ties go to the lower index.

    Formula: U_i max(0, mean_{j in A_i} cos(h_i, h_j))^beta, A_i the `neighbors` nearest others (knn) or all
        candidates, i itself included (mean: then it is the product of h_i / |h_i| and the mean unit vector)
    Cost: knn O(N^2 D) in matrix products, memory O(N neighbours) and a unit copy of the embeddings; mean O(N D),
        memory O(N). Both exact.
    Use when: uncertainty alone keeps picking outliers; batches are small, or a later step spreads them.
    Avoid when: rare classes matter: they are far from dense regions. It looks at no pick when making another, so a
        batch may hold near copies.
    Paper: Settles and Craven, An Analysis of Active Learning Strategies for Sequence Labeling Tasks, EMNLP 2008.
    Reference: "mean" is the paper's formula with cosine similarity. modAL's `information_density` is
        mean_j 1 / (1 + d(h_i, h_j)) over all pairs, an N x N matrix with a similarity of its own; "knn" is ours, as
        the mean over all samples hardly tells dense regions apart where there are many.
    """

    name: ClassVar[str] = "information_density"
    summary: ClassVar[str] = "Utility times the similarity to other candidates: uncertain, but no outlier."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS})
    params: ClassVar[type[InformationDensityParams]] = InformationDensityParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = True
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: InformationDensityParams,
    ) -> Selection:
        """Scores of the picks: utility times density^beta.

        Raises NeedMissing, or StrategyError UTILITY_MISSING, UTILITY_NEGATIVE (a product could not rank it),
        INVALID_ARRAY or NOT_FINITE.
        """
        utility_N = checked_utility(utility, candidates)
        size = checked_size(size, candidates)
        if not np.isfinite(utility_N).all():
            raise StrategyError("NOT_FINITE", "the utility holds NaN or infinity")
        if (utility_N < 0).any():
            raise StrategyError("UTILITY_NEGATIVE", "a utility that is multiplied must be 0 or above")
        density_N = densities(candidates.embeddings_ND, params)
        scores_N = (utility_N * density_N**params.beta).astype(np.float32)
        picks = top_k(scores_N, size)
        return Selection(picks, scores_N[picks])


information_density = InformationDensity()


def densities(embeddings_ND: NDArray[np.float32], params: InformationDensityParams) -> NDArray[np.float64]:
    """float64 densities of the rows of finite embeddings, from 0 to 1."""
    lengths_N = _lengths(embeddings_ND)
    if params.density == "mean":
        return np.clip(_mean_cosines(embeddings_ND, lengths_N), 0, 1)
    densities_N = np.zeros(len(lengths_N))
    directed = np.flatnonzero(lengths_N)
    # A zero vector has no direction: it is like nothing, and nothing is like it.
    units_MD = np.empty((len(directed), embeddings_ND.shape[1]), np.float32)
    for rows in _blocks(units_MD):
        units_MD[rows] = embeddings_ND[directed[rows]] / lengths_N[directed[rows], None]
    densities_N[directed] = _nearest_cosines(units_MD, params.neighbors)
    return densities_N if len(lengths_N) > 1 else np.ones(len(lengths_N))


def _nearest_cosines(units_MD: NDArray[np.float32], neighbours: int) -> NDArray[np.float64]:
    """The mean cosine of each unit vector with its nearest others; 0 if there are none."""
    count = min(neighbours, len(units_MD) - 1)
    if count < 1:
        return np.zeros(len(units_MD))
    squared_MK, _ = nearest(units_MD, units_MD, count, exclude_self=True)
    cosines_M: NDArray[np.float64] = 1 - squared_MK.mean(axis=1, dtype=np.float64) / 2
    return cosines_M.clip(0, 1)


def _mean_cosines(embeddings_ND: NDArray[np.float32], lengths_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean cosine of each row with all rows, itself included."""
    weights_N = np.divide(1, lengths_N, out=np.zeros_like(lengths_N), where=lengths_N > 0)
    mean_D = np.zeros(embeddings_ND.shape[1])
    for rows in _blocks(embeddings_ND):
        mean_D += weights_N[rows] @ embeddings_ND[rows].astype(np.float64)
    mean_D /= max(len(lengths_N), 1)
    cosines = [weights_N[rows] * (embeddings_ND[rows].astype(np.float64) @ mean_D) for rows in _blocks(embeddings_ND)]
    return np.concatenate([np.empty(0), *cosines])


def _lengths(embeddings_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    squares = [np.square(embeddings_ND[rows], dtype=np.float64).sum(axis=1) for rows in _blocks(embeddings_ND)]
    lengths_N: NDArray[np.float64] = np.sqrt(np.concatenate([np.empty(0), *squares]))
    return lengths_N


def _blocks(embeddings_ND: NDArray[np.float32]) -> Iterator[slice]:
    """The rows in blocks, between which the caller can be stopped."""
    step = max(1, _BLOCK_VALUES // max(embeddings_ND.shape[1], 1))
    for start in range(0, len(embeddings_ND), step):
        checkpoint()
        yield slice(start, start + step)
