"""k-center (core-set): always the candidate farthest from everything labeled or picked so far.

Sener and Savarese 2018, the greedy 2-approximation of Gonzalez 1985; picks are those of the plain loop. Distances
to the nearest centre only fall, so old ones are upper bounds: the block of candidates with the largest bounds is
brought up to date, and picks are made inside it for as long as no bound outside can win. All other bounds are
lowered in one matrix product per `_PENDING` picks, in low precision where that is fast; who comes into a block is
measured in float32.

Where the best candidates are too close for float32, float64 decides between them; equal ones go to the lower index.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.nearest import Nearest
from assay.strategies.kernels.points import Metric, Points, exact, labeled_embeddings
from assay.strategies.kernels.tensors import alone
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import Need

_BLOCK = 512
_PENDING = 64
# Candidates that float64 decides between, at most; of more, the lowest indices.
_RIVALS = 64
# Squared distances in float64 closer than this are equal.
_EQUAL = 1e-12


@dataclass(frozen=True)
class KCenterParams:
    metric: Metric = field(
        default="l2",
        metadata={
            "doc": "Distance between embeddings: l2, or cosine (1 - cosine similarity).",
        },
    )
    start: Literal["mean", "first", "max_norm"] = field(
        default="mean",
        metadata={
            "doc": "The first pick where nothing is labeled: nearest to the mean, the first row, or the longest.",
        },
    )


@dataclass(frozen=True)
class KCenter:
    """Spreads picks over the space, away from what is labeled: each pick is the sample worst covered so far.

    The picks cover the pool: the largest distance of a sample to its nearest centre is at most twice the best that as
    many centres can reach. That makes it keen on outliers, so shortlist by uncertainty first.

    Formula: next pick = argmax_i min over s in labeled and picks of d(h_i, h_s); ties to the lower index. Nothing
        labeled: the first is the sample nearest to the mean, row 0, or the longest, by `start`
    Cost: at most O(N D (L + k)) in matrix products; those over all N in bfloat16 where the processor has tiles for it.
        Memory O(N + (L + k) D) beside the embeddings, and where bfloat16 is used a rounded copy of them, up to 1 GiB.
    Use when: every region of the space should be seen, as with rare kinds that lie apart, or before any model is.
    Avoid when: the pool holds junk that is far from everything, or embeddings are poor; kmeans_pp is less drawn to
        outliers, typiclust avoids them.
    Paper: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018;
        Gonzalez, "Clustering to Minimize the Maximum Intercluster Distance", Theoretical Computer Science 1985.
    Reference: the plain loop in float64, one pass over all samples per pick; picks are the same. Implementations
        differ in the first pick where nothing is labeled (row 0 in JordanAsh/badge, a random one in scikit-activeml,
        the longest in bmdal_reg): `start` gives the two that are deterministic, and a third.
    """

    name: ClassVar[str] = "k_center"
    summary: ClassVar[str] = "Always the sample farthest from all that is labeled or picked: covers the space."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    params: ClassVar[type[KCenterParams]] = KCenterParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: KCenterParams,
    ) -> Selection:
        """Scores of the picks: distance to the nearest labeled or earlier pick at the time; never rising.

        A first pick with nothing labeled has no neighbour: its score is the cover radius it leaves, which the
        second pick then has too. Raises NeedMissing, or StrategyError INVALID_ARRAY or NOT_FINITE.
        """
        size = checked_size(size, candidates)
        labeled_LD = labeled_embeddings(candidates)
        if size == 0:
            return Selection.empty()
        # Points refuse NaN and infinity in the pass that they make anyway.
        embeddings_ND = candidates.unchecked(Need.EMBEDDINGS)
        return alone(lambda: _select(embeddings_ND, labeled_LD, size, params))


k_center = KCenter()


def _select(
    embeddings_ND: NDArray[np.float32], labeled_LD: NDArray[np.float32], size: int, params: KCenterParams
) -> Selection:
    greedy = _Greedy(Points(embeddings_ND, params.metric), labeled_LD, size)
    if not len(labeled_LD):
        greedy.begin(params.start)
    while len(greedy.picks) < size:
        greedy.advance(size)
    return Selection(
        np.array(greedy.picks, np.int64),
        _distances(greedy.squared, params.metric),
        {"labeled": len(labeled_LD), "passes": greedy.passes},
    )


class _Greedy:
    """The farthest-first traversal so far."""

    def __init__(self, points: Points, labeled_LD: NDArray[np.float32], size: int) -> None:
        self.points = points
        self.nearest = Nearest(points, points.centres(labeled_LD), size)
        self.picks: list[int] = []
        self.squared: list[float] = []
        self.passes = 0

    def begin(self, start: str) -> None:
        """The first pick, where no distance can choose it."""
        first = _first(self.points, start)
        self._pick(first, 0.0, self.points.rows(slice(first, first + 1))[0])
        self._flush()
        self.squared[0] = self._farthest()

    def advance(self, size: int) -> None:
        """At least one more pick, at most up to `size` in all."""
        before = len(self.picks)
        block = _Block(self.nearest)
        self._pick_inside(block, size)
        if len(self.picks) == before:
            # Nobody below the best of the block can be next, and all others must be known to tell.
            best = float(block.distances_B.max())
            self._flush()
            self.nearest.refine(self.nearest.stale(best))
        elif self.nearest.pending >= _PENDING:
            self._flush()

    def _pick_inside(self, block: _Block, size: int) -> None:
        while len(self.picks) < size and len(rivals := block.farthest()):
            checkpoint()
            place = rivals[0] if len(rivals) == 1 else self._decided(block, rivals)
            self._pick(int(block.indices_B[place]), float(block.distances_B[place]), block.points_BD[place])
            block.add(place)
        self.nearest.set_exact(block.indices_B, block.distances_B)

    def _decided(self, block: _Block, rivals: list[int]) -> int:
        """The one of a few equally far candidates that is farthest in float64."""
        exact_H = exact(block.points_BD[rivals], self.nearest.centres_MD)
        return rivals[int((exact_H >= exact_H.max() * (1 - _EQUAL)).to(torch.uint8).argmax())]

    def _pick(self, index: int, squared: float, point_D: torch.Tensor) -> None:
        self.picks.append(index)
        self.squared.append(squared)
        self.nearest.take(index, point_D)

    def _flush(self) -> None:
        """Bring every bound up to date."""
        if self.nearest.pending:
            self.nearest.flush()
            self.passes += 1

    def _farthest(self) -> float:
        """The largest squared distance of all."""
        best = -torch.inf
        while len(stale := self.nearest.stale(best)):
            self.nearest.refine(stale[self.nearest.bounds_N[stale].topk(min(_BLOCK, len(stale))).indices])
            exact_N = self.nearest.bounds_N[self.nearest.known_N == self.nearest.count]
            best = float(exact_N.max())
        return max(float(self.nearest.bounds_N.max()), 0.0)


class _Block:
    """The candidates with the largest bounds, up to date, and the largest bound outside.

    tied_from: where more candidates tie for the largest bound than fit, the block holds the lowest indices of them;
    from this squared distance on nobody outside comes before them. Else infinity.
    """

    def __init__(self, nearest: Nearest) -> None:
        points = self._points = nearest.points
        chosen, self.tied_from = _largest(nearest)
        self.indices_B = torch.from_numpy(chosen)
        nearest.refine(self.indices_B)
        self.points_BD = points.rows(chosen)
        self.norms_B = points.norms_N[self.indices_B]
        self.distances_B = nearest.bounds_N[self.indices_B]
        self.outside = _largest_outside(nearest.bounds_N, self.indices_B)

    def farthest(self) -> list[int]:
        """Places in index order of what may be the next pick; none where a candidate outside might come before."""
        place = int(self.distances_B.argmax())
        best = float(self.distances_B[place])
        reach = max(best, self.outside)
        floor = reach - _blur(self._points, reach, float(self.norms_B[place]))
        if best >= self.tied_from:
            floor = max(floor, self.tied_from)
        elif best == -torch.inf or self.outside >= floor:
            return []
        rivals: list[int] = torch.nonzero(self.distances_B >= floor).flatten()[:_RIVALS].tolist()
        # Nothing is left to tell copies of centres apart by.
        return rivals if best > 0 else rivals[:1]

    def add(self, place: int) -> None:
        """Make the candidate at `place` a centre."""
        distances_B = self._points.nearest(self.points_BD, self.norms_B, self.points_BD[place : place + 1])
        torch.minimum(self.distances_B, distances_B, out=self.distances_B)
        self.distances_B[place] = -torch.inf


def _blur(points: Points, squared: float, norm: float) -> float:
    """How far apart squared distances around `squared` must be for float32 to order them."""
    return points.resolution * (squared + norm)


def _largest(nearest: Nearest) -> tuple[NDArray[np.int64], float]:
    """Ascending indices of the block's candidates, and its `tied_from`."""
    tied_N, tied_from = _tied(nearest)
    if int(tied_N.count_nonzero()) >= _BLOCK:
        return np.flatnonzero(tied_N.numpy())[:_BLOCK], tied_from
    return np.sort(top_k(nearest.bounds_N.numpy(), _BLOCK)), np.inf


def _tied(nearest: Nearest) -> tuple[torch.Tensor, float]:
    """Who ties for the largest bound, and from where on; more than fit into a block are known well enough to tie."""
    while True:
        place = int(nearest.bounds_N.argmax())
        top = float(nearest.bounds_N[place])
        tied_from = top - _blur(nearest.points, top, float(nearest.points.norms_N[place]))
        tied_N = nearest.bounds_N >= tied_from
        if int(tied_N.count_nonzero()) < _BLOCK or not len(stale := nearest.stale(tied_from)):
            return tied_N, tied_from
        nearest.refine(stale)


def _largest_outside(bounds_N: torch.Tensor, inside_B: torch.Tensor) -> float:
    outside_N = torch.ones(len(bounds_N), dtype=torch.bool)
    outside_N[inside_B] = False
    return float(bounds_N.where(outside_N, -torch.inf).max())


def _distances(squared: list[float], metric: Metric) -> NDArray[np.float32]:
    """Distances from squared ones, in order; rounding must not make a later one larger."""
    falling = np.minimum.accumulate(np.array(squared))
    return (falling / 2 if metric == "cosine" else np.sqrt(falling)).astype(np.float32)


def _first(points: Points, start: str) -> int:
    if start == "first":
        return 0
    if start == "max_norm":
        return int(top_k(points.raw_norms_N.numpy(), 1)[0])
    distances_N = torch.full((points.size,), torch.inf)
    points.lower(distances_N, points.mean_D.float().unsqueeze(0))
    return int(top_k(-distances_N.numpy(), 1)[0])
