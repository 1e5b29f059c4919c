"""kmeans, stratified and typiclust, and tcm that goes from typiclust to margin."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from assay.strategies import select
from assay.strategies.diversity.stratified import stratified_order
from assay.strategies.diversity.typiclust import TypiClustParams, typical_picks

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

pytestmark = pytest.mark.usefixtures("each_screen")


def blobs(size: int, dim: int, count: int, spread: float, seed: int = 0) -> tuple[Floats, Indices]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, spread, (count, dim))
    members = rng.integers(0, count, size)
    return (centres[members] + rng.normal(0, 1, (size, dim))).astype(np.float32), members


def test_kmeans_takes_one_of_each_blob_the_largest_first() -> None:
    rng = np.random.default_rng(0)
    members = rng.permutation(np.repeat(np.arange(4), [100, 60, 30, 10]))
    points = (np.eye(4, 6)[members] * 50 + rng.normal(0, 1, (200, 6))).astype(np.float32)
    selection = select("kmeans", size=4, embeddings=points)
    np.testing.assert_array_equal(members[selection.indices], [0, 1, 2, 3])
    np.testing.assert_allclose(selection.scores, [0.5, 0.3, 0.15, 0.05])
    for index in selection.indices:
        own = points[members == members[index]]
        distances = np.linalg.norm(own - own.mean(axis=0), axis=1)
        assert np.linalg.norm(points[index] - own.mean(axis=0)) == pytest.approx(distances.min(), rel=1e-3)


def test_kmeans_by_cosine_does_not_see_lengths() -> None:
    points, _ = blobs(300, 5, 8, 4)
    lengths = np.exp2(np.random.default_rng(1).integers(-3, 4, (300, 1))).astype(np.float32)
    plain, scaled = (select("kmeans", size=8, embeddings=e, metric="cosine") for e in (points, points * lengths))
    np.testing.assert_array_equal(plain.indices, scaled.indices)


@pytest.mark.parametrize("allocation", ["equal", "proportional"])
def test_stratified_is_a_loop_over_turns(allocation: str) -> None:
    rng = np.random.default_rng(4)
    strata = rng.choice([-1, 3, 4, 9], 90, p=[0.1, 0.5, 0.35, 0.05])
    hashes = rng.integers(0, 2**64, 90, dtype=np.uint64)
    waiting = {s: sorted(np.flatnonzero(strata == s), key=lambda i: hashes[i]) for s in np.unique(strata)}
    sizes = {s: len(rows) for s, rows in waiting.items()}
    given = dict.fromkeys(sizes, 0)
    expected = []
    while any(waiting.values()):
        open_strata = [s for s, rows in waiting.items() if rows]
        if allocation == "equal":
            turn = min(open_strata, key=lambda s: (given[s], s))
        else:
            turn = max(open_strata, key=lambda s: (sizes[s] / (2 * given[s] + 1), -s))
        expected.append(waiting[turn].pop(0))
        given[turn] += 1
    np.testing.assert_array_equal(stratified_order(strata, hashes, allocation), expected)  # type: ignore[arg-type]


def test_stratified_shares_and_what_a_stratum_is() -> None:
    probs = np.zeros((1000, 3), np.float32)
    classes = np.random.default_rng(0).choice(3, 1000, p=[0.7, 0.2, 0.1])
    probs[np.arange(1000), classes] = 1
    equal = select("stratified", size=30, probs=probs)
    assert np.bincount(classes[equal.indices]).tolist() == [10, 10, 10]
    proportional = select("stratified", size=100, probs=probs, allocation="proportional")
    shares = np.bincount(classes[proportional.indices])
    assert np.abs(shares - np.bincount(classes) / 10).max() < 1
    clusters = np.arange(1000) % 5
    by_cluster = select("stratified", size=20, probs=probs, clusters=clusters)
    assert np.bincount(clusters[by_cluster.indices]).tolist() == [4] * 5


def test_stratified_from_logits_is_that_from_probabilities() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    left, right = select("stratified", size=20, logits=logits), select("stratified", size=20, probs=probs)
    np.testing.assert_array_equal(left.indices, right.indices)


def typiclust_plainly(
    points: Floats, clusters: Indices, labeled: Floats, labeled_clusters: Indices, size: int
) -> list[int]:
    """The authors' loop, with the candidates after the labeled samples; indices are those of candidates."""
    features = np.concatenate([labeled, points]).astype(np.float64)
    labels = np.concatenate([labeled_clusters, clusters])
    ids, sizes = np.unique(labels, return_counts=True)
    counts = np.bincount(labels[: len(labeled)], minlength=len(ids))
    rows = [(count, -s, i) for i, s, count in zip(ids, sizes, counts, strict=True) if s > 5]
    order = [cluster for _, _, cluster in sorted(rows)]
    labels[: len(labeled)] = -1
    selected = []
    for turn in range(size):
        indices = np.flatnonzero(labels == order[turn % len(order)])
        own = features[indices]
        squared = np.square(own[:, None] - own[None]).sum(axis=2)
        neighbours = min(20, len(indices) // 2)
        means = np.sort(squared, axis=1)[:, 1 : neighbours + 1].mean(axis=1)
        pick = indices[(1 / (means + 1e-5)).argmax()]
        selected.append(int(pick) - len(labeled))
        labels[pick] = -1
    return selected


@pytest.mark.parametrize("labels", [0, 30])
@pytest.mark.parametrize("size", [5, 60])
def test_typiclust_is_the_authors_loop(labels: int, size: int) -> None:
    points, _ = blobs(500, 6, 9, 3)
    labeled, _ = blobs(labels, 6, 9, 3, seed=1)
    rng = np.random.default_rng(2)
    centres = rng.normal(0, 3, (12, 6))
    clusters, labeled_clusters = (
        np.square(rows[:, None] - centres[None]).sum(axis=2).argmin(axis=1) for rows in (points, labeled)
    )
    used, joined = np.unique(np.concatenate([clusters, labeled_clusters]), return_inverse=True)
    clusters, labeled_clusters = joined[:500], joined[500:]
    # One small cluster, which the authors drop.
    clusters[:3] = len(used)
    expected = typiclust_plainly(points, clusters, labeled, labeled_clusters, size)
    indices, scores = typical_picks(points, clusters, labeled_clusters, size, TypiClustParams())
    np.testing.assert_array_equal(indices, expected)
    assert (scores > 0).all()


def test_typiclust_searches_large_clusters_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    points, members = blobs(400, 8, 3, 5)
    none = np.empty(0, np.int64)
    whole = typical_picks(points, members, none, 90, TypiClustParams())
    monkeypatch.setattr("assay.strategies.diversity.typiclust._SMALL", 10)
    searched = typical_picks(points, members, none, 90, TypiClustParams())
    np.testing.assert_array_equal(whole[0], searched[0])
    np.testing.assert_allclose(whole[1], searched[1], rtol=1e-4)


def test_typiclust_goes_on_where_the_authors_code_fails() -> None:
    points, members = blobs(30, 2, 3, 20)
    members[:4], members[4] = 3, 4
    everybody, scores = typical_picks(points, members, np.array([5, 5]), 30, TypiClustParams())
    assert sorted(everybody) == list(range(30))
    # The two small clusters come last.
    assert set(everybody[-5:]) == set(range(5))
    assert scores[list(everybody).index(4)] == 0


def test_typiclust_prefers_what_has_no_label() -> None:
    points, members = blobs(300, 4, 3, 50)
    labeled = points[members != 1][:10]
    selection = select("typiclust", size=1, embeddings=points, labeled_embeddings=labeled, max_clusters=3, metric="l2")
    assert members[selection.indices[0]] == 1


def test_tcm_switches_from_typiclust_to_margin() -> None:
    points, _ = blobs(200, 4, 6, 4)
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 200).astype(np.float32)
    ordered = np.sort(probs, axis=1)
    by_margin = np.argsort(ordered[:, -1] - ordered[:, -2], kind="stable")[:7]
    by_type = {
        labels: select("typiclust", size=7, embeddings=points, labeled_embeddings=points[:labels])
        for labels in (29, 30)
    }
    for labels, settings, margin in (
        (29, {}, False),
        (30, {}, True),
        (30, {"switch": 11}, False),
        (29, {"switch": 29, "unit": "total"}, True),
        (30, {"switch": 31, "unit": "total"}, False),
    ):
        given = select("tcm", size=7, embeddings=points, probs=probs, labeled_embeddings=points[:labels], **settings)
        expected = by_margin if margin else by_type[labels].indices
        np.testing.assert_array_equal(given.indices, expected)
        assert given.diagnostics["phase"] == ("margin" if margin else "typiclust")
    without_model = select("tcm", size=7, embeddings=points, labeled_embeddings=points[:30])
    np.testing.assert_array_equal(without_model.indices, by_type[30].indices)
