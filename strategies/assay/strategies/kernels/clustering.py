"""k-means with weights, and real samples that stand for its clusters.

Lloyd's iterations over blocks: one matrix product of all points with all centroids each, and sums in float64. Seeds
are those of greedy k-means++ on a sample of the points. Where a cluster runs empty, its centroid moves to the point
that costs most. Everything follows from the seed. Processors with tiles for bfloat16 make the first iterations with
rounded points; the last ones, and all that is returned, are of float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.errors import StrategyError
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.points import Metric, Points, resolution
from assay.strategies.kernels.screen import screen_dtype
from assay.strategies.kernels.search import nearest
from assay.strategies.kernels.tensors import alone, borrow, spread
from assay.strategies.kernels.topk import top_k

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

ITERATIONS = 20
# Lloyd's iterations end where one gains less than this share of the objective.
TOLERANCE = 1e-3
POINTS_PER_CENTROID = 256
# However few the centroids, this many points train them (all, if there are fewer), and seed them.
_FEWEST_POINTS = 1 << 16
_FEWEST_SEEDING_POINTS = 1 << 12
_SEEDING_POINTS_PER_CENTROID = 4

# float32 values in a block, of its points or of their distances.
_BLOCK_VALUES = 1 << 20
# Distances from which on rounding points pays, and the least objective, relative to that of one cluster at the origin:
# below it differences between centroids would drown in the rounding.
_WORTH_ROUNDING, _ROUGH = 1 << 20, 1 / 16
# The least weight, as a share of the mean: what weighs nothing must still belong to a cluster.
_LEAST_WEIGHT = 1e-6
# Nearest samples per centroid that `nearest_real` looks at first; four times as many each time that more are needed.
_NEAREST, _WIDENING = 16, 4
# Pairs that are looked at between two checkpoints.
_MATCHED = 1 << 14


@dataclass(frozen=True)
class Clustering:
    """Clusters 0..K-1, none of them empty.

    centroids_KD: float32.
    assignment_N: int64, the cluster of each point: that of the nearest centroid.
    squared_N: float32, squared distance of each point to its centroid.
    objective: the sum of weight times squared distance, the weights scaled to a mean of 1.
    """

    centroids_KD: Floats
    assignment_N: Indices
    squared_N: Floats
    objective: float

    def __len__(self) -> int:
        return len(self.centroids_KD)


@dataclass(frozen=True)
class Representatives:
    """Different real samples, one for each cluster, the heaviest cluster first.

    shares_K: float32, the share of all weight in the cluster; 0 for samples beyond the clusters, which are those
    farthest from their centroids (any, where all of them are copies).
    """

    indices_K: Indices
    shares_K: Floats
    clustering: Clustering


def measured(embeddings_ND: Floats, metric: Metric) -> Floats:
    """Embeddings as k-means measures them: as they are, centred where they lie far off, or of unit length (cosine).

    A copy is made only where something changes. Raises StrategyError NOT_FINITE.
    """
    points: Floats = Points(embeddings_ND, metric).every_row().numpy()
    return points


def kmeans(
    points_ND: Floats,
    clusters: int,
    seed: int,
    *,
    weights_N: Floats | None = None,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
    points_per_centroid: int = POINTS_PER_CENTROID,
) -> Clustering:
    """k-means (Lloyd 1982) from greedy k-means++ seeds (Arthur and Vassilvitskii 2007; greedy as in scikit-learn).

    clusters: at least 1; there are fewer where there are fewer different points. With as many points or fewer, each
    point is a cluster.
    weights_N: finite and at least 0; default 1 for all, also where all are 0. Those below a millionth of the mean
    count as that.
    points_per_centroid: more points than this per cluster (and more than 65,536) only get assigned: a uniform
    sample of that many trains the centroids.
    Operations O(N D clusters) per iteration, in matrix products; memory O(N + clusters D) beside the points.
    Raises StrategyError INVALID_SIZE or INVALID_ARRAY, or NOT_FINITE for points whose squared length is not.
    """
    if clusters < 1:
        raise StrategyError("INVALID_SIZE", f"cannot make {clusters} clusters; ask for at least 1")
    weights = _checked_weights(weights_N, len(points_ND))
    if len(points_ND) <= clusters:
        return _each_alone(points_ND)
    rng = np.random.default_rng(seed)
    points = borrow(np.ascontiguousarray(points_ND))
    return alone(lambda: _kmeans(points, clusters, rng, weights, iterations, tolerance, points_per_centroid))


def nearest_real(points_ND: Floats, centroids_KD: Floats) -> Indices:
    """One sample for each centroid, all different: int64, shape (K,).

    Pairs of centroid and sample are taken in order of their distance, ties by centroid and then by sample, as long as
    both are still free: a sample goes to the centroid that it is closest to, the others take their next nearest.
    Each looks at its 16 nearest first; who finds none of them free looks again, wider, among what is left.
    Raises StrategyError INVALID_SIZE where there are fewer points than centroids.
    """
    if len(centroids_KD) > len(points_ND):
        raise StrategyError("INVALID_SIZE", f"{len(points_ND)} points cannot stand for {len(centroids_KD)} centroids")
    chosen_K = np.full(len(centroids_KD), -1, np.int64)
    free = np.arange(len(points_ND))
    width = _NEAREST
    while len(open_J := np.flatnonzero(chosen_K < 0)):
        base = points_ND if len(free) == len(points_ND) else points_ND[free]
        places_J = _matched(*nearest(centroids_KD[open_J], base, min(width, len(base))))
        served_J = places_J >= 0
        chosen_K[open_J[served_J]] = free[places_J[served_J]]
        free = np.delete(free, places_J[served_J])
        width *= _WIDENING
    return chosen_K


def representatives(points_ND: Floats, size: int, seed: int, weights_N: Floats | None = None) -> Representatives:
    """`size` different samples (at least 1, at most N): k-means into `size` clusters, the nearest sample of each."""
    clustering = kmeans(points_ND, size, seed, weights_N=weights_N)
    weights = _checked_weights(weights_N, len(points_ND))
    totals_K = np.bincount(clustering.assignment_N, weights, len(clustering))
    order = np.argsort(-totals_K, kind="stable")
    indices_K = nearest_real(points_ND, clustering.centroids_KD)[order]
    fillers = _worst_covered(clustering, indices_K, size - len(indices_K))
    shares_K = np.append(totals_K[order] / totals_K.sum(), np.zeros(len(fillers))).astype(np.float32)
    return Representatives(np.append(indices_K, fillers), shares_K, clustering)


def _worst_covered(clustering: Clustering, taken: Indices, count: int) -> Indices:
    free_N = np.ones(len(clustering.assignment_N), np.bool_)
    free_N[taken] = False
    return top_k(clustering.squared_N, count, free_N)


def _matched(squared_JM: Floats, indices_JM: Indices) -> Indices:
    """The sample of each centroid, or -1, from the lists of its nearest samples."""
    width = indices_JM.shape[1]
    centroids = np.repeat(np.arange(len(indices_JM)), width)
    samples = indices_JM.ravel()
    chosen = [-1] * len(indices_JM)
    taken: set[int] = set()
    order = np.lexsort((samples, centroids, squared_JM.ravel()))
    for place, (centroid, sample) in enumerate(zip(centroids[order].tolist(), samples[order].tolist(), strict=True)):
        if not place % _MATCHED:
            checkpoint()
        if chosen[centroid] < 0 and sample not in taken:
            chosen[centroid] = sample
            taken.add(sample)
    return np.array(chosen, np.int64)


def _checked_weights(weights_N: Floats | None, size: int) -> NDArray[np.float64]:
    """Weights with a mean of about 1, none of them 0."""
    if weights_N is None:
        return np.ones(size)
    if weights_N.shape != (size,):
        raise StrategyError("INVALID_ARRAY", f"weights have shape {weights_N.shape}, not ({size},)")
    if not bool((np.isfinite(weights_N) & (weights_N >= 0)).all()):
        raise StrategyError("INVALID_ARRAY", "weights must be finite and at least 0")
    weights = weights_N.astype(np.float64)
    mean = weights.mean() if size else 0.0
    return np.maximum(weights / mean, _LEAST_WEIGHT) if mean > 0 else np.ones(size)


def _each_alone(points_ND: Floats) -> Clustering:
    size = len(points_ND)
    return Clustering(np.array(points_ND, np.float32), np.arange(size), np.zeros(size, np.float32), 0.0)


@dataclass(frozen=True)
class _Training:
    """The points that move the centroids. rounded_ND: those that are compared with them, if not the points."""

    points_ND: torch.Tensor
    norms_N: torch.Tensor
    weights_N: torch.Tensor
    rounded_ND: torch.Tensor | None = None

    def __getitem__(self, rows: Indices) -> _Training:
        kept = torch.from_numpy(rows)
        return _Training(self.points_ND[kept], self.norms_N[kept], self.weights_N[kept])

    def __len__(self) -> int:
        return len(self.norms_N)


@dataclass(frozen=True)
class _Assigned:
    """The nearest centroid of each point, its squared distance, and what all of them cost."""

    clusters_N: torch.Tensor
    costs_N: torch.Tensor
    squared_N: torch.Tensor

    @property
    def objective(self) -> float:
        return float(self.costs_N.sum())


def _kmeans(
    points_ND: torch.Tensor,
    clusters: int,
    rng: np.random.Generator,
    weights: NDArray[np.float64],
    iterations: int,
    tolerance: float,
    points_per_centroid: int,
) -> Clustering:
    everyone = _Training(points_ND, _norms(points_ND), torch.from_numpy(weights))
    limit = max(points_per_centroid * clusters, _FEWEST_POINTS)
    training = everyone if len(everyone) <= limit else everyone[_uniform(len(everyone), limit, rng)]
    centroids_KD = _padded(_seeds(_seeding_points(training, clusters, rng), clusters, rng), clusters)
    centroids_KD, assigned = _lloyd(training, centroids_KD, iterations, tolerance)
    if training is not everyone:
        assigned = _assign(everyone, centroids_KD)
    return _compact(centroids_KD, assigned)


def _lloyd(
    training: _Training, centroids_KD: torch.Tensor, iterations: int, tolerance: float
) -> tuple[torch.Tensor, _Assigned]:
    """Iterations in bfloat16 where that will do, and what is left in float32."""
    assigned = _assign(training, centroids_KD)
    if _may_round(training, centroids_KD, assigned):
        rounded = replace(training, rounded_ND=training.points_ND.bfloat16())
        centroids_KD, _ = _descended(rounded, centroids_KD, assigned, iterations, tolerance)
        assigned = _assign(training, centroids_KD)
    return _descended(training, centroids_KD, assigned, iterations, tolerance)


def _may_round(training: _Training, centroids_KD: torch.Tensor, assigned: _Assigned) -> bool:
    """Whether bfloat16 is fast here, worth its preparation, and fine enough to tell centroids apart."""
    worth = len(training) * len(centroids_KD) >= _WORTH_ROUNDING and screen_dtype() == torch.bfloat16
    return worth and assigned.objective >= _ROUGH * float(training.norms_N.double() @ training.weights_N)


def _descended(
    training: _Training, centroids_KD: torch.Tensor, assigned: _Assigned, iterations: int, tolerance: float
) -> tuple[torch.Tensor, _Assigned]:
    for _ in range(iterations):
        centroids_KD = _moved(training, centroids_KD, assigned)
        before, assigned = assigned.objective, _assign(training, centroids_KD)
        if before - assigned.objective <= tolerance * before:
            break
    return centroids_KD, assigned


def _assign(training: _Training, centroids_KD: torch.Tensor) -> _Assigned:
    clusters_N = torch.empty(len(training), dtype=torch.int64)
    squared_N = torch.empty(len(training))
    points_ND = training.points_ND if training.rounded_ND is None else training.rounded_ND
    half_norms_K = torch.linalg.vecdot(centroids_KD, centroids_KD).mul_(0.5).to(points_ND.dtype)
    centroids_DK = centroids_KD.t().to(points_ND.dtype).contiguous()

    def block(start: int, stop: int) -> None:
        scores_BK = torch.addmm(half_norms_K, points_ND[start:stop], centroids_DK, alpha=-1)
        squared_N[start:stop], clusters_N[start:stop] = torch.min(scores_BK, 1)

    spread(block, len(training), max(1, _BLOCK_VALUES // max(centroids_KD.shape)))
    squared_N.mul_(2).add_(training.norms_N).clamp_min_(0)
    return _Assigned(clusters_N, training.weights_N * squared_N, squared_N)


def _moved(training: _Training, centroids_KD: torch.Tensor, assigned: _Assigned) -> torch.Tensor:
    """The mean of each cluster; for the empty ones the points that cost most."""
    totals_K = torch.zeros(len(centroids_KD), dtype=torch.float64)
    totals_K.index_add_(0, assigned.clusters_N, training.weights_N)
    empty = torch.nonzero(totals_K == 0).flatten()
    moved_KD = _sums(training, assigned.clusters_N, len(totals_K)).div_(totals_K.clamp_min(1e-300).unsqueeze(1)).float()
    costliest = torch.from_numpy(top_k(assigned.costs_N.numpy(), len(empty)))
    moved_KD[empty[: len(costliest)]] = training.points_ND[costliest]
    return moved_KD


def _sums(training: _Training, clusters_N: torch.Tensor, clusters: int) -> torch.Tensor:
    """Weighted sum of the points of each cluster, in float64 and always in the same order."""
    sums_KD = torch.zeros((clusters, training.points_ND.shape[1]), dtype=torch.float64)
    step = max(1, _BLOCK_VALUES // 4 // max(training.points_ND.shape[1], 1))
    for start in range(0, len(training), step):
        checkpoint()
        rows = slice(start, start + step)
        weighted_BD = training.points_ND[rows].double().mul_(training.weights_N[rows].unsqueeze(1))
        sums_KD.index_add_(0, clusters_N[rows], weighted_BD)
    return sums_KD


def _compact(centroids_KD: torch.Tensor, assigned: _Assigned) -> Clustering:
    """Without the clusters that are empty."""
    used, assignment_N = np.unique(assigned.clusters_N.numpy(), return_inverse=True)
    return Clustering(
        centroids_KD.numpy()[used], assignment_N.astype(np.int64), assigned.squared_N.numpy(), assigned.objective
    )


def _norms(points_ND: torch.Tensor) -> torch.Tensor:
    norms_N: torch.Tensor = torch.linalg.vecdot(points_ND, points_ND)
    if not bool(torch.isfinite(norms_N).all()):
        raise StrategyError("NOT_FINITE", "a point holds NaN, infinity, or values beyond float32 when squared")
    return norms_N


def _uniform(size: int, count: int, rng: np.random.Generator) -> Indices:
    return np.sort(rng.choice(size, count, replace=False)).astype(np.int64)


def _seeding_points(training: _Training, clusters: int, rng: np.random.Generator) -> _Training:
    """Points to draw seeds from: all, or a sample by weight (Efraimidis and Spirakis 2006), then of equal weight."""
    count = max(_SEEDING_POINTS_PER_CENTROID * clusters, _FEWEST_SEEDING_POINTS)
    if len(training) <= count:
        return training
    waits_N = rng.standard_exponential(len(training)) / training.weights_N.numpy()
    sample = training[np.sort(top_k(-waits_N, count))]
    return _Training(sample.points_ND, sample.norms_N, torch.ones(count, dtype=torch.float64))


def _seeds(points: _Training, clusters: int, rng: np.random.Generator) -> torch.Tensor:
    """Greedy k-means++: of a few points drawn by cost, the one that leaves least; fewer where nothing costs more."""
    trials = 2 + int(math.log(clusters))
    weights_N = points.weights_N.float()
    drawn_T = _drawn(points.weights_N, 1, rng)
    chosen = drawn_T.tolist()
    squared_N = _positive(points, _short_of_norms(points, drawn_T)[:, 0])
    while len(chosen) < clusters:
        checkpoint()
        costs_N = squared_N * points.weights_N
        if not float(costs_N.sum()) > 0:
            break
        drawn_T = _drawn(costs_N, trials, rng)
        left_NT = _short_of_norms(points, drawn_T)
        torch.minimum(left_NT, (squared_N - points.norms_N).unsqueeze(1), out=left_NT)
        best = int((weights_N @ left_NT).argmin())
        chosen.append(int(drawn_T[best]))
        squared_N = _positive(points, left_NT[:, best])
    return points.points_ND[torch.tensor(chosen)]


def _short_of_norms(points: _Training, centres_T: torch.Tensor) -> torch.Tensor:
    """Squared distances to some of the points themselves, short of the squared length of each point: shape (N, T)."""
    return torch.addmm(points.norms_N[centres_T], points.points_ND, points.points_ND[centres_T].t(), alpha=-2)


def _positive(points: _Training, short_N: torch.Tensor) -> torch.Tensor:
    """Squared distances; 0 where rounding leaves nothing else, so that copies of a seed cost nothing."""
    squared_N = short_N + points.norms_N
    blur_N = points.norms_N * (2 * resolution(points.points_ND.shape[1]))
    return squared_N.masked_fill_(squared_N <= blur_N, 0)


def _drawn(costs_N: torch.Tensor, count: int, rng: np.random.Generator) -> torch.Tensor:
    """Places drawn with probability proportional to their cost; never one that costs nothing."""
    cumulated_N = np.cumsum(costs_N.numpy(), dtype=np.float64)
    last = int(np.searchsorted(cumulated_N, cumulated_N[-1]))
    places: Indices = np.searchsorted(cumulated_N, rng.random(count) * cumulated_N[-1], side="right")
    return torch.from_numpy(np.minimum(places, last))


def _padded(seeds_KD: torch.Tensor, clusters: int) -> torch.Tensor:
    """Copies of the first seed for those that are missing: their clusters stay empty until a point costs something."""
    return torch.cat([seeds_KD, seeds_KD[:1].expand(clusters - len(seeds_KD), -1)])
