"""Facility location over the embeddings of candidates: how a strategy's wishes become a source of similarities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.base import Selection
from assay.strategies.candidates import Candidates
from assay.strategies.errors import StrategyError
from assay.strategies.kernels.coverage import Cover, Covering, Source, Tiles, greedy_cover
from assay.strategies.kernels.pairs import NeighbourPairs
from assay.strategies.kernels.points import labeled_embeddings
from assay.strategies.kernels.similarity import Kernel, Similarity
from assay.strategies.kernels.tensors import alone
from assay.strategies.needs import Need


@dataclass(frozen=True)
class Wishes:
    """How to measure and hold similarities.

    gamma: of rbf; 0 for 1 / the mean squared distance. neighbours: nearest candidates per sample that count; 0 for
    all pairs. memory: bytes for similarities.
    """

    kernel: Kernel
    gamma: float
    neighbours: int
    memory: float


def select_cover(candidates: Candidates, size: int, weights_N: NDArray[np.float32] | None, wishes: Wishes) -> Selection:
    """The greedy cover of the candidates by `size` of them, labeled samples covering first.

    weights_N: finite, at least 0; None for 1 each.
    Scores of the picks: what each adds to the weighted mean similarity of a candidate to what covers it, in [0, 1].
    Raises NeedMissing, or StrategyError INVALID_ARRAY, NOT_FINITE or UTILITY_INVALID.
    """
    labeled_LD = labeled_embeddings(candidates)
    weights = scaled_weights(weights_N, candidates.size)
    if size == 0:
        return Selection.empty()
    # The similarity refuses NaN and infinity in a pass that it makes anyway.
    embeddings_ND = candidates.unchecked(Need.EMBEDDINGS)
    return alone(lambda: _select(embeddings_ND, labeled_LD, size, weights, wishes))


def as_selection(covering: Covering, unit: float, labeled: int) -> Selection:
    """Gains in units of similarity."""
    return Selection(covering.picks, (covering.gains * unit).astype(np.float32), {"labeled": labeled})


def scaled_weights(weights_N: NDArray[np.float32] | None, size: int) -> torch.Tensor:
    """Weights over their largest, so that float32 holds their sums.

    Raises StrategyError NOT_FINITE or UTILITY_INVALID.
    """
    if weights_N is None:
        return torch.ones(size)
    if not np.isfinite(weights_N).all():
        raise StrategyError("NOT_FINITE", "a utility is NaN or infinite: it cannot weigh a sample")
    if size and weights_N.min() < 0:
        raise StrategyError("UTILITY_INVALID", "a utility is negative: weights of samples must be at least 0")
    largest = np.float32(weights_N.max(initial=0))
    return torch.from_numpy(weights_N / (largest or np.float32(1)))


def _select(
    embeddings_ND: NDArray[np.float32],
    labeled_LD: NDArray[np.float32],
    size: int,
    weights_N: torch.Tensor,
    wishes: Wishes,
) -> Selection:
    similarity = Similarity(embeddings_ND, wishes.kernel, wishes.gamma)
    every_pair = not 0 < wishes.neighbours < similarity.size - 1
    # A pair that is not in the graph counts as 0, so those in it must not count as less.
    floor, unit = (similarity.floor, similarity.unit) if every_pair else (0.0, 1.0)
    cover = Cover(similarity.nearest(labeled_LD).clamp_min_(floor), similarity.own_N, weights_N)
    bare = every_pair and similarity.linear and not len(labeled_LD)
    first_N = similarity.totals(weights_N) if bare else None
    covering = greedy_cover(_source(similarity, every_pair, wishes), cover, size, first_N=first_N)
    return as_selection(covering, unit, len(labeled_LD))


def _source(similarity: Similarity, every_pair: bool, wishes: Wishes) -> Source:
    if not every_pair:
        return NeighbourPairs(similarity, wishes.neighbours)
    return Tiles(similarity, hold=similarity.size**2 * 4 <= wishes.memory)
