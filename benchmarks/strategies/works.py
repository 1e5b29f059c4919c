"""The table of what is measured: our call, the peers, the size, what it costs at least, and the aim."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from benchmarks.strategies import ours, peers, plain, quality
from benchmarks.strategies.data import Kind, Size
from benchmarks.strategies.ours import Prepare, scoring, selecting
from benchmarks.strategies.quality import Quality

OURS = "assay"
# The project's own environment, in which plain numpy, scikit-learn and torch are measured too.
HERE = "assay"
FLOAT = 4


@dataclass(frozen=True)
class Cost:
    """What the stated algorithm does: floating-point operations of its matrix products, bytes that it must read or
    write at least once, and exponentials or logarithms."""

    flops: float = 0
    bytes: float = 0
    exponentials: float = 0

    def seconds(self, flops_per_s: float, bytes_per_s: float, exponentials_per_s: float) -> float:
        """The least time on a machine with these rates, each working alone."""
        return max(self.flops / flops_per_s, self.bytes / bytes_per_s, self.exponentials / exponentials_per_s)


@dataclass(frozen=True)
class Peer:
    """Another way to do a work. aimed: the aim is meant against it; else it is shown for comparison."""

    name: str
    environment: str
    prepare: Prepare
    aimed: bool = True


@dataclass(frozen=True)
class Work:
    """One line of the benchmark; `aim` is how many times slower than ours a peer should be."""

    name: str
    size: Size
    arrays: tuple[str, ...]
    ours: Prepare
    peers: tuple[Peer, ...]
    quality: Quality
    cost: Callable[[Size], Cost]
    aim: float
    kind: Kind = "clustered"
    # Whether it is measured on twice the rows too.
    grows: bool = True

    @property
    def key(self) -> str:
        """A name that no other work has, fit for a file."""
        size = self.size
        counts = [
            f"{n}{letter}"
            for letter, n in zip("dcmk", (size.dim, size.classes, size.members, size.picks), strict=True)
            if n
        ]
        return "-".join([self.name, f"{size.rows}", *counts, *([self.kind] if self.kind == "isotropic" else [])])

    def divided(self, scale: int) -> Work:
        """The same work at a smaller size."""
        return replace(self, size=self.size.divided(scale))

    def peer(self, name: str) -> Peer:
        """The runner of that name, ours among them."""
        return next(peer for peer in (Peer(OURS, HERE, self.ours), *self.peers) if peer.name == name)


def _scores_cost(size: Size) -> Cost:
    """Reads the logits, writes four scores."""
    values = size.rows * size.classes
    return Cost(bytes=FLOAT * (values + 4 * size.rows), exponentials=values)


def _top_k_cost(size: Size) -> Cost:
    """Reads the scores."""
    return Cost(bytes=FLOAT * size.rows)


def _bald_cost(size: Size) -> Cost:
    """Reads all members' probabilities; a logarithm of each, and of their means."""
    values = size.rows * size.classes
    return Cost(bytes=FLOAT * values * size.members, exponentials=values * (size.members + 1))


def _distances_cost(size: Size) -> Cost:
    """All distances to all picks."""
    return Cost(flops=2.0 * size.rows * size.dim * size.picks, bytes=FLOAT * size.rows * size.dim)


def _badge_cost(size: Size) -> Cost:
    """All distances to all picks, by the two factors of a gradient."""
    width = size.dim + size.classes
    return Cost(flops=2.0 * size.rows * width * size.picks, bytes=FLOAT * size.rows * width)


def _pairs_cost(size: Size) -> Cost:
    """All pairs, as an exact neighbour graph needs them."""
    return Cost(flops=2.0 * size.rows**2 * size.dim, bytes=FLOAT * size.rows * size.dim)


def _kmeans_cost(size: Size) -> Cost:
    """One assignment of all to the centroids; k-means makes one per iteration."""
    return _distances_cost(size)


def _drop_query_cost(size: Size) -> Cost:
    """The head on each dropout copy; the clustering of what is left comes on top."""
    return Cost(
        flops=2.0 * (peers.DROPOUTS + 1) * size.rows * size.dim * size.classes, bytes=FLOAT * size.rows * size.dim
    )


def _contrastive_cost(size: Size) -> Cost:
    """All distances to the labeled samples, and a divergence to each neighbour."""
    labeled = 1_000
    return Cost(
        flops=2.0 * size.rows * (size.dim * labeled + size.classes * peers.CONTRASTIVE_NEIGHBOURS),
        bytes=FLOAT * size.rows * (size.dim + size.classes),
        exponentials=size.rows * size.classes,
    )


def _k_center(rows: int, dim: int, picks: int, *more: Peer, kind: Kind = "clustered") -> Work:
    return Work(
        name="k_center",
        size=Size(rows, dim=dim, picks=picks),
        kind=kind,
        arrays=("embeddings",),
        ours=selecting("k_center", "embeddings", start="first"),
        peers=(
            Peer("lightly-mundig", "mundig", peers.mundig_k_center),
            Peer("numpy loop", HERE, plain.numpy_k_center, aimed=False),
            *more,
        ),
        quality=quality.cover_radius,
        cost=_distances_cost,
        aim=10,
    )


def _badge(rows: int, picks: int) -> Work:
    return Work(
        name="badge",
        size=Size(rows, dim=256, classes=100, picks=picks),
        arrays=("embeddings", "probs", "head_weights", "head_bias"),
        ours=selecting("badge", "probs", "embeddings"),
        peers=(
            Peer("scikit-activeml", "skactiveml", peers.skactiveml_badge),
            Peer("numpy loop, factored", HERE, plain.numpy_badge, aimed=False),
        ),
        quality=quality.gradient_spread,
        cost=_badge_cost,
        aim=50,
    )


def _facility_location(rows: int, picks: int, *others: Peer, neighbors: int = 0, grows: bool = True) -> Work:
    """neighbors: only those count, as in the peers' sparse modes; 0: all pairs."""
    return Work(
        name="facility_location_graph" if neighbors else "facility_location",
        size=Size(rows, dim=256, picks=picks),
        kind="unit",
        arrays=("embeddings",),
        ours=selecting("facility_location", "embeddings", neighbors=neighbors),
        peers=others,
        quality=quality.mean_squared_distance,
        cost=_pairs_cost,
        aim=5,
        grows=grows,
    )


def _prob_cover(rows: int, picks: int, grows: bool) -> Work:
    return Work(
        name="prob_cover",
        size=Size(rows, dim=256, picks=picks),
        arrays=("embeddings", "radius"),
        ours=ours.prob_cover,
        peers=(
            Peer("scikit-activeml", "skactiveml", peers.skactiveml_prob_cover),
            Peer("numpy, edge list", HERE, plain.numpy_prob_cover, aimed=False),
        ),
        quality=quality.covered_share,
        cost=_pairs_cost,
        aim=10,
        grows=grows,
    )


def _cluster_margin(rows: int, picks: int, peer: Peer, grows: bool) -> Work:
    return Work(
        name="cluster_margin",
        size=Size(rows, dim=256, classes=100, picks=picks),
        arrays=("embeddings", "probs"),
        ours=selecting("cluster_margin", "probs", "embeddings"),
        peers=(peer,),
        quality=quality.mean_entropy,
        cost=_kmeans_cost,
        aim=10,
        grows=grows,
    )


def _information_density(rows: int, picks: int, grows: bool) -> Work:
    return Work(
        name="information_density",
        size=Size(rows, dim=256, classes=100, picks=picks),
        arrays=("embeddings", "probs"),
        ours=ours.information_density,
        peers=(
            Peer("modAL, all pairs", "modal", peers.modal_information_density),
            Peer("scikit-learn neighbours", HERE, plain.sklearn_information_density, aimed=False),
        ),
        quality=quality.mean_entropy,
        cost=_pairs_cost,
        aim=10,
        grows=grows,
    )


WORKS: tuple[Work, ...] = (
    Work(
        name="four_scores",
        size=Size(1_000_000, classes=100),
        arrays=("logits",),
        ours=ours.four_scores,
        peers=(
            Peer("softmax and np.partition, margin alone", HERE, plain.numpy_margin),
            Peer("np.partition of ready probabilities", HERE, plain.numpy_margin_of_probs),
            Peer("torch.topk(2) of ready probabilities", HERE, plain.torch_margin, aimed=False),
            Peer("scipy entropy of ready probabilities", HERE, plain.scipy_entropy, aimed=False),
            Peer("numpy, all four", HERE, plain.numpy_four, aimed=False),
        ),
        quality=quality.mean_score,
        cost=_scores_cost,
        aim=3,
    ),
    Work(
        name="top_k",
        size=Size(20_000_000, picks=1_000),
        arrays=("scores",),
        ours=ours.top_k,
        peers=(
            Peer("torch.topk", HERE, plain.torch_top_k),
            Peer("np.argpartition", HERE, plain.numpy_top_k, aimed=False),
        ),
        quality=quality.score_sum,
        cost=_top_k_cost,
        aim=5,
    ),
    _k_center(50_000, 512, 1_000),
    _k_center(50_000, 512, 1_000, kind="isotropic"),
    _k_center(100_000, 256, 1_000),
    _k_center(
        20_000,
        256,
        200,
        Peer("scikit-activeml", "skactiveml", peers.skactiveml_core_set, aimed=False),
        Peer("small-text", "small_text", peers.small_text_greedy_coreset, aimed=False),
    ),
    _badge(50_000, 1_000),
    _badge(20_000, 200),
    Work(
        name="kmeans_pp",
        size=Size(100_000, dim=256, picks=1_000),
        arrays=("embeddings",),
        ours=selecting("kmeans_pp", "embeddings"),
        peers=(
            Peer("numpy loop", HERE, plain.numpy_kmeans_pp),
            Peer("scikit-learn", HERE, peers.sklearn_kmeans_plusplus, aimed=False),
        ),
        quality=quality.mean_squared_distance,
        cost=_distances_cost,
        aim=10,
    ),
    _facility_location(
        10_000,
        200,
        Peer("apricot", "apricot", peers.apricot_dense),
        Peer("submodlib", "submodlib", peers.submodlib_dense),
    ),
    _facility_location(
        50_000,
        1_000,
        Peer("apricot, neighbour graph", "apricot", peers.apricot_sparse),
        Peer("submodlib, neighbour graph", "submodlib", peers.submodlib_sparse),
        neighbors=peers.FACILITY_NEIGHBOURS,
    ),
    # The peers' matrices of all pairs do not fit here.
    _facility_location(50_000, 1_000, grows=False),
    Work(
        name="typiclust",
        size=Size(50_000, dim=256, picks=500),
        arrays=("embeddings",),
        ours=selecting("typiclust", "embeddings", metric="l2"),
        peers=(Peer("scikit-activeml", "skactiveml", peers.skactiveml_typiclust),),
        quality=quality.mean_squared_distance,
        cost=_kmeans_cost,
        aim=10,
    ),
    _prob_cover(50_000, 500, grows=True),
    _prob_cover(10_000, 200, grows=False),
    Work(
        name="clue",
        size=Size(50_000, dim=256, classes=100, picks=500),
        arrays=("embeddings", "probs", "head_weights", "head_bias"),
        ours=selecting("clue", "probs", "embeddings"),
        peers=(Peer("scikit-activeml", "skactiveml", peers.skactiveml_clue),),
        quality=quality.mean_squared_distance,
        cost=_kmeans_cost,
        aim=10,
    ),
    _cluster_margin(50_000, 500, Peer("scikit-learn k-means, margins", HERE, plain.sklearn_cluster_margin), grows=True),
    _cluster_margin(
        10_000, 200, Peer("scikit-learn HAC, as published", HERE, plain.sklearn_cluster_margin_hac), grows=False
    ),
    Work(
        name="drop_query",
        size=Size(50_000, dim=256, classes=100, picks=500),
        arrays=("embeddings", "head_weights", "head_bias"),
        ours=selecting("drop_query", "embeddings", "head_weights", "head_bias"),
        peers=(Peer("scikit-activeml", "skactiveml", peers.skactiveml_drop_query),),
        quality=quality.mean_squared_distance,
        cost=_drop_query_cost,
        aim=10,
    ),
    _information_density(50_000, 500, grows=True),
    _information_density(10_000, 200, grows=False),
    Work(
        name="contrastive",
        size=Size(50_000, dim=256, classes=100, picks=500),
        arrays=(
            "embeddings",
            "probs",
            "head_weights",
            "head_bias",
            "labeled_embeddings",
            "labeled_probs",
            "labeled_classes",
        ),
        ours=selecting("contrastive", "probs", "embeddings", "labeled_embeddings", "labeled_probs", metric="l2"),
        peers=(
            Peer("scikit-activeml", "skactiveml", peers.skactiveml_contrastive),
            Peer("small-text", "small_text", peers.small_text_contrastive),
        ),
        quality=quality.mean_entropy,
        cost=_contrastive_cost,
        aim=10,
    ),
    Work(
        name="bald",
        size=Size(100_000, classes=100, members=20),
        arrays=("member_probs",),
        ours=scoring("bald", "member_probs"),
        peers=(Peer("baal", "baal", peers.baal_bald),),
        quality=quality.mean_score,
        cost=_bald_cost,
        aim=3,
    ),
)


def find(key: str) -> Work:
    """The work of that key."""
    return next(work for work in WORKS if work.key == key)


def named(names: Iterable[str]) -> list[Work]:
    """The works of these names or keys; all where none is given. Raises ValueError for one that there is not."""
    wanted = set(names)
    unknown = wanted - {work.name for work in WORKS} - {work.key for work in WORKS}
    if unknown:
        raise ValueError(f"no work is named {sorted(unknown)}: there are {sorted({work.name for work in WORKS})}")
    return [work for work in WORKS if not wanted or wanted & {work.name, work.key}]
