"""ProbCover: covers as many samples as it can by balls of one radius around the picks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.diversity.purity import pure_radius
from assay.strategies.errors import StrategyError
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.hashing import hash_order
from assay.strategies.kernels.search import measured, within
from assay.strategies.kernels.unit import unit_rows
from assay.strategies.needs import Need

# Candidates from which the radius is estimated, at most: those of lowest hash.
_SAMPLE = 10_000


@dataclass(frozen=True)
class ProbCoverParams:
    radius: float = field(
        default=0.0,
        metadata={"doc": "Radius of a ball, a Euclidean distance; 0 = estimate it from the data.", "minimum": 0.0},
    )
    normalize: bool = field(
        default=True,
        metadata={"doc": "Bring embeddings to unit length first, as published; the radius is then below 2."},
    )
    pseudo_classes: int = field(
        default=10,
        metadata={
            "doc": "k-means clusters of the estimate, about as many as classes; at most a tenth of the samples.",
            "minimum": 2,
        },
    )
    purity: float = field(
        default=0.95,
        metadata={
            "doc": "Share of balls that must hold one cluster only, for the estimate.",
            "minimum": 0.0,
            "maximum": 1.0,
        },
    )
    max_edges: int = field(
        default=100_000_000,
        metadata={"doc": "Pairs within the radius that may be held in memory, 12 bytes each.", "minimum": 1},
    )


@dataclass(frozen=True)
class ProbCover:
    """Always the sample whose ball holds the most samples that nothing covers yet; labeled samples cover first.

    A sample is covered by whatever is closer than the radius, itself included. Ties go to the sample nearest to the
    mean of all, so that outliers come last, then to the lower index. Where all samples are covered, what is left is
    picked by how many samples its ball holds, covered or not, with ties as before.

    The radius can be estimated as published: the largest with which the balls around `purity` of all samples hold
    samples of one k-means cluster only. That is a quantile of the distances to the nearest sample of another cluster,
    so it is exact for the clusters found; of more than 10,000 candidates it is taken from 10,000 drawn by hash, whose
    balls are emptier, so that it comes out larger.

    Formula: argmax_i |{j not covered: |h_i - h_j| < radius}|
    Cost: O(N^2 D) in matrix products for the pairs within the radius, E of them, then O(E + N k); memory 12 E bytes
        (about three times that while they are gathered) beside the embeddings. More than `max_edges` pairs are
        refused: give a smaller radius, or shortlist.
    Use when: few labels are to be spent at the start, on self-supervised embeddings: it goes for dense regions.
    Avoid when: many labels were spent: once balls cover all, it has nothing to say; on embeddings without clusters.
    Paper: Yehuda, Dekel, Hacohen and Weinshall, Active Learning Through a Covering Lens, NeurIPS 2022.
    Reference: the paper's greedy algorithm with plain loops. The authors' code takes the first of equals, and gives the
        last N mod 500 samples no balls of their own. scikit-activeml's breaks ties at random, counts distances equal to
        the radius too, and looks for the radius among given ones (multiples of 0.2). small-text's (2.0) joins a sample
        to its nearest hundred at most, found approximately, and removes the edges of the pick only, not those into what
        it covers. We do none of these.
    """

    name: ClassVar[str] = "prob_cover"
    summary: ClassVar[str] = "Covers the most samples by balls of one radius around labeled samples and picks."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    params: ClassVar[type[ProbCoverParams]] = ProbCoverParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: ProbCoverParams,
    ) -> Selection:
        """Scores of the picks: how many samples each covers that nothing covered before; 0 for those that fill up.

        Diagnostics: the radius, the pairs within it, and the share of candidates covered in the end.
        Raises NeedMissing, or StrategyError NOT_FINITE, INVALID_ARRAY or TOO_MANY_PAIRS.
        """
        size = checked_size(size, candidates)
        points_ND = _points(candidates.embeddings_ND, params.normalize)
        labeled_LD = _points(_labeled(candidates), params.normalize)
        if size == 0:
            return Selection.empty()
        radius = params.radius or _estimated(points_ND, candidates.keys_N, params)
        offsets_O, balls_M, _ = within(points_ND, points_ND, radius, most=params.max_edges)
        cover = _Cover(offsets_O, balls_M, _ranks(points_ND))
        cover.add(within(labeled_LD, points_ND, radius, most=params.max_edges)[1])
        picks, gains = _greedy(cover, size)
        return Selection(
            picks, gains, {"radius": radius, "pairs": len(cover.balls_M), "covered": float(cover.covered_N.mean())}
        )


prob_cover = ProbCover()


class _Cover:
    """Balls around the candidates, as the symmetric graph of pairs within the radius in CSR form.

    sizes_N: samples in each ball. ranks_N: the order in which ties are broken.
    _keys_N: what a pick would gain and, below that, its place among those that gain as much.
    """

    def __init__(self, offsets_O: NDArray[np.int64], balls_M: NDArray[np.int64], ranks_N: NDArray[np.int64]) -> None:
        self.offsets_O, self.balls_M, self.ranks_N = offsets_O, balls_M, ranks_N
        self.sizes_N = np.diff(offsets_O)
        self.covered_N = np.zeros(len(self.sizes_N), np.bool_)
        self._keys_N = (self.sizes_N + 1) * len(self.sizes_N) - 1 - ranks_N

    def best(self) -> tuple[int, int]:
        """The sample whose ball holds most that is not covered, and how many these are."""
        sample = int(self._keys_N.argmax())
        return sample, int(self._keys_N[sample]) // len(self._keys_N)

    def ball(self, sample: int) -> NDArray[np.int64]:
        return self.balls_M[self.offsets_O[sample] : self.offsets_O[sample + 1]]

    def add(self, samples_M: NDArray[np.int64]) -> None:
        """Cover samples. Each is lost to all balls that it lies in: those of the samples in its own."""
        fresh_M = np.unique(samples_M[~self.covered_N[samples_M]])
        self.covered_N[fresh_M] = True
        for sample in fresh_M.tolist():
            checkpoint()
            self._keys_N[self.ball(sample)] -= len(self._keys_N)


def _greedy(cover: _Cover, size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    picks: list[int] = []
    gains: list[int] = []
    while len(picks) < size:
        checkpoint()
        best, gain = cover.best()
        if gain == 0:
            break
        picks.append(best)
        gains.append(gain)
        cover.add(cover.ball(best))
    picked = np.array(picks, np.int64)
    left = np.lexsort((cover.ranks_N, -cover.sizes_N))
    left = left[~np.isin(left, picked)][: size - len(picks)]
    return np.concatenate([picked, left]), np.array(gains + [0] * len(left), np.float32)


def _ranks(points_ND: NDArray[np.float32]) -> NDArray[np.int64]:
    """The place of each point by its distance to the mean, then by index."""
    mean_1D = points_ND.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
    every_N = np.arange(len(points_ND))
    squared_N = measured(points_ND, every_N, mean_1D, np.zeros_like(every_N))
    ranks_N = np.empty_like(every_N)
    ranks_N[np.argsort(squared_N, kind="stable")] = every_N
    return ranks_N


def _estimated(points_ND: NDArray[np.float32], keys_N: NDArray[np.int64], params: ProbCoverParams) -> float:
    sample = np.sort(hash_order(keys_N, 0, _SAMPLE)) if len(points_ND) > _SAMPLE else slice(None)
    points_SD = points_ND[sample]
    return pure_radius(points_SD, min(params.pseudo_classes, max(2, len(points_SD) // 10)), params.purity)


def _points(embeddings_ND: NDArray[np.float32], normalize: bool) -> NDArray[np.float32]:
    """Embeddings as distances are measured between them."""
    return unit_rows(embeddings_ND) if normalize else embeddings_ND


def _labeled(candidates: Candidates) -> NDArray[np.float32]:
    """The labeled embeddings, none where the candidates carry none."""
    dim = candidates.embeddings_ND.shape[1]
    if not candidates.has(Need.LABELED_EMBEDDINGS):
        return np.empty((0, dim), np.float32)
    labeled_LD = candidates.labeled_embeddings_LD
    if len(labeled_LD) and labeled_LD.shape[1] != dim:
        raise StrategyError("INVALID_ARRAY", f"labeled embeddings have {labeled_LD.shape[1]} dims, candidates {dim}")
    return labeled_LD.reshape(len(labeled_LD), dim)
