"""clue, weighted_kmeans, cluster_margin, drop_query and discriminative."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.cluster
import sklearn.linear_model
import torch
from numpy.typing import NDArray

from assay.strategies import Candidates, Need, StrategyError, select
from assay.strategies.hybrid.clue import tempered_entropy
from assay.strategies.hybrid.cluster_margin import in_turns
from assay.strategies.hybrid.drop_query import Head, dropout_doubt
from assay.strategies.hybrid.weighted_kmeans import shifted

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

pytestmark = pytest.mark.usefixtures("each_screen")


def blobs(size: int, dim: int, count: int, spread: float, seed: int = 0) -> tuple[Floats, Indices]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, spread, (count, dim))
    members = rng.integers(0, count, size)
    return (centres[members] + rng.normal(0, 1, (size, dim))).astype(np.float32), members


def predictions(size: int, classes: int, seed: int = 0) -> Floats:
    logits = np.random.default_rng(seed).normal(0, 3, (size, classes))
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


def cost(points: Floats, centres: Floats, weights: NDArray[np.floating]) -> float:
    squared = np.square(points[:, None].astype(np.float64) - centres[None]).sum(axis=2)
    return float(squared.min(axis=1) @ weights)


def plain_entropy(probs: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    raised = probs.astype(np.float64) ** (1 / temperature)
    raised /= raised.sum(axis=1, keepdims=True)
    logs = np.log(raised, out=np.zeros_like(raised), where=raised > 0)
    return -(raised * logs).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0])
def test_clue_weighs_by_tempered_entropy(temperature: float) -> None:
    probs = predictions(200, 5)
    expected = plain_entropy(probs, temperature)
    for arrays in ({Need.PROBS: probs}, {Need.LOGITS: np.log(probs) + np.float32(3)}):
        np.testing.assert_allclose(
            tempered_entropy(Candidates(200, arrays), temperature), expected, rtol=1e-3, atol=1e-5
        )


def test_clue_picks_cost_no_more_than_those_of_scikit_learn() -> None:
    points, _ = blobs(900, 6, 25, 3)
    probs = predictions(900, 4)
    weights = plain_entropy(probs, 1)
    ours, theirs = [], []
    for seed in range(4):
        picks = select("clue", size=20, embeddings=points, probs=probs, seed=seed).indices
        ours.append(cost(points, points[picks], weights))
        reference = sklearn.cluster.KMeans(20, n_init=1, random_state=seed).fit(points, sample_weight=weights)
        nearest = np.square(points[:, None] - reference.cluster_centers_[None]).sum(axis=2).argmin(axis=0)
        theirs.append(cost(points, points[nearest], weights))
    assert np.mean(ours) <= 1.05 * np.mean(theirs)


def test_clue_goes_where_the_model_is_unsure() -> None:
    points, members = blobs(400, 5, 4, 40)
    probs = np.where((members == 2)[:, None], [0.5, 0.5], [1, 0]).astype(np.float32)
    selection = select("clue", size=3, embeddings=points, probs=probs)
    assert (members[selection.indices] == 2).all()
    assert selection.scores.sum() == pytest.approx(1, abs=1e-3)


def test_weighted_kmeans_stays_on_the_shortlist() -> None:
    points, _ = blobs(500, 5, 10, 4)
    utility = np.random.default_rng(1).normal(size=500).astype(np.float32)
    selection = select("weighted_kmeans", size=8, embeddings=points, utility=utility, beta=5)
    assert set(selection.indices) <= set(np.argsort(-utility)[:40])
    np.testing.assert_array_equal(selection.scores, utility[selection.indices])
    assert (np.diff(selection.scores) <= 0).all()
    top = select("weighted_kmeans", size=8, embeddings=points, utility=utility, beta=1)
    np.testing.assert_array_equal(top.indices, np.argsort(-utility)[:8])


def test_weighted_kmeans_costs_no_more_than_that_of_scikit_learn() -> None:
    points, _ = blobs(600, 6, 20, 3)
    utility = np.random.default_rng(1).random(600).astype(np.float32)
    shortlist = np.argsort(-utility)[:150]
    rows, weights = points[shortlist], utility[shortlist]
    ours, theirs = [], []
    for seed in range(4):
        picks = select("weighted_kmeans", size=15, embeddings=points, utility=utility, seed=seed).indices
        ours.append(cost(rows, points[picks], weights))
        reference = sklearn.cluster.KMeans(15, n_init=1, random_state=seed).fit(rows, sample_weight=weights)
        nearest = np.square(rows[:, None] - reference.cluster_centers_[None]).sum(axis=2).argmin(axis=0)
        theirs.append(cost(rows, rows[nearest], weights))
    assert np.mean(ours) <= 1.05 * np.mean(theirs)


def test_utilities_as_weights() -> None:
    np.testing.assert_array_equal(shifted(np.array([2, 1], np.float32)), [2, 1])
    np.testing.assert_array_equal(shifted(np.array([2, -3], np.float32)), [5, 0])
    with pytest.raises(StrategyError, match="infinite"):
        shifted(np.array([0, -np.inf], np.float32))


def turns_plainly(clusters: Indices, order: Indices) -> list[int]:
    """The paper's algorithm 2: the smallest cluster first, one sample at a time."""
    waiting = {c: [i for i in order if clusters[i] == c] for c in np.unique(clusters)}
    by_size = sorted(waiting, key=lambda c: (len(waiting[c]), c))
    taken: list[int] = []
    while len(taken) < len(clusters):
        for cluster in by_size:
            if waiting[cluster]:
                taken.append(waiting[cluster].pop(0))
    return taken


@pytest.mark.parametrize("seed", range(5))
def test_cluster_margin_takes_turns_as_published(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters = rng.choice([-1, 0, 5, 6, 40], 70)
    hashes = rng.integers(0, 2**64, 70, dtype=np.uint64)
    np.testing.assert_array_equal(in_turns(clusters, hashes), turns_plainly(clusters, np.argsort(hashes)))


def test_cluster_margin_spreads_over_clusters_of_low_margins() -> None:
    points, members = blobs(600, 5, 6, 40)
    probs = predictions(600, 4)
    ordered = np.sort(probs, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    shortlist = set(np.argsort(margins)[:60])
    for arrays in ({}, {"clusters": members}):
        selection = select("cluster_margin", size=12, embeddings=points, probs=probs, factor=5, **arrays)
        assert set(selection.indices) <= shortlist
        np.testing.assert_allclose(selection.scores, 1 - margins[selection.indices], atol=1e-6)
    # Those given: two of each, the cluster with the fewest on the shortlist first.
    on_list = np.bincount(members[sorted(shortlist)], minlength=6)
    first = members[selection.indices[:6]]
    assert sorted(first) == list(range(6))
    assert (np.diff(on_list[first]) >= 0).all()
    np.testing.assert_array_equal(members[selection.indices[6:]], first)


def head(dim: int, classes: int, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (classes, dim)).astype(np.float32), rng.normal(0, 1, classes).astype(np.float32)


def as_head(weights: Floats, bias: Floats) -> Head:
    return Head(torch.from_numpy(weights).t(), torch.from_numpy(bias))


def test_dropout_disagrees_as_often_as_it_should() -> None:
    """One sample many times over, against masks drawn by another generator."""
    rng = np.random.default_rng(3)
    sample = rng.normal(0, 1, 12).astype(np.float32)
    weights, bias = head(12, 4)
    rows = np.repeat(sample[None], 5000, axis=0)
    found = dropout_doubt(rows, as_head(weights, bias), 0.6, 4, 9).disagreeing_N.sum() / 20_000
    masks = rng.random((20_000, 12)) < 0.4
    classes = (sample * masks / 0.4 @ weights.T + bias).argmax(axis=1)
    expected = (classes != (weights @ sample + bias).argmax()).mean()
    assert 0.1 < expected < 0.9
    assert found == pytest.approx(expected, abs=5 * np.sqrt(0.5 / 20_000))


def test_dropout_does_not_depend_on_threads() -> None:
    points, _ = blobs(9000, 128, 3, 1)
    weights, bias = head(128, 5)
    runs = []
    for threads in (torch.get_num_threads(), 1):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            runs.append(dropout_doubt(points, as_head(weights, bias), 0.5, 3, 1).disagreeing_N)
        finally:
            torch.set_num_threads(before)
    np.testing.assert_array_equal(runs[0], runs[1])
    # Blocks do not repeat each other's masks.
    assert not np.array_equal(runs[0][:4096], runs[0][4096:8192])


def test_drop_query_clusters_only_what_is_in_doubt() -> None:
    points, _ = blobs(400, 16, 8, 2)
    weights, bias = head(16, 6)
    selection = select("drop_query", size=10, embeddings=points, head_weights=weights, head_bias=bias)
    assert 10 < int(selection.diagnostics["kept"]) < 400
    assert (selection.scores > 0.5).all()
    calm = select("drop_query", size=10, embeddings=points, head_weights=weights, head_bias=bias, rate=0)
    logits = np.sort(points @ weights.T + bias, axis=1)
    gaps = logits[:, -1] - logits[:, -2]
    assert calm.diagnostics["kept"] == 0
    np.testing.assert_array_equal(calm.indices, np.argsort(gaps, kind="stable")[:10])
    assert not calm.scores.any()


def test_drop_query_fills_up_by_doubt() -> None:
    points, _ = blobs(60, 16, 8, 2)
    weights, bias = head(16, 6)
    selection = select("drop_query", size=60, embeddings=points, head_weights=weights, head_bias=bias, copies=5)
    assert 0 < int(selection.diagnostics["kept"]) < 60
    assert sorted(selection.indices) == list(range(60))
    assert (np.diff(selection.scores) <= 0).all()


def test_drop_query_refuses_a_head_that_does_not_fit() -> None:
    points, _ = blobs(20, 4, 2, 2)
    for shapes in (((3, 5), 3), ((3, 4), 2), ((0, 4), 0)):
        arrays = {"head_weights": np.zeros(shapes[0]), "head_bias": np.zeros(shapes[1])}
        with pytest.raises(StrategyError) as caught:
            select("drop_query", size=2, embeddings=points, **arrays)
        assert caught.value.reason == "INVALID_ARRAY"


def told_apart(points: Floats, labeled: Floats, picks: list[int], l2: float) -> NDArray[np.float64]:
    """scikit-learn's logits of being unlabeled for every candidate, on the same samples, weights and penalty."""
    mean = points.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.square(points - mean).sum(axis=1).mean() / points.shape[1])
    rows = (np.concatenate([points, labeled]) - mean) / scale
    unlabeled = np.ones(len(rows), np.bool_)
    unlabeled[len(points) :] = False
    unlabeled[picks] = False
    shares = np.where(unlabeled, 0.5 / unlabeled.sum(), 0.5 / (~unlabeled).sum())
    model = sklearn.linear_model.LogisticRegression(C=1 / l2, tol=1e-10, max_iter=5000)
    fitted: NDArray[np.float64] = model.fit(rows, unlabeled, shares).decision_function(rows[: len(points)])
    return fitted


@pytest.mark.parametrize("sub_batches", [1, 3])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_discriminative_fits_as_scikit_learn_does(sub_batches: int, offset: float) -> None:
    rng = np.random.default_rng(0)
    points = (rng.normal(0, 2, (300, 4)) + offset).astype(np.float32)
    labeled = (rng.normal(0.7, 1, (25, 4)) + offset).astype(np.float32)
    arrays = {"embeddings": points, "labeled_embeddings": labeled}
    selection = select("discriminative", size=9, sub_batches=sub_batches, l2=0.01, **arrays)
    picks: list[int] = []
    scores: list[float] = []
    for _ in range(sub_batches):
        logits = told_apart(points, labeled, picks, 0.01)
        order = [int(i) for i in np.argsort(-logits, kind="stable") if i not in picks][: 9 // sub_batches]
        picks += order
        scores += (1 / (1 + np.exp(-logits[order]))).tolist()
    np.testing.assert_array_equal(selection.indices, picks)
    np.testing.assert_allclose(selection.scores, scores, rtol=2e-3)


def test_discriminative_begins_in_the_middle() -> None:
    points, _ = blobs(200, 3, 1, 1)
    selection = select("discriminative", size=5, embeddings=points)
    distances = np.linalg.norm(points - points.mean(axis=0, dtype=np.float64), axis=1)
    assert selection.indices[0] == distances.argmin()
    assert selection.scores[0] == 1


def test_discriminative_finds_what_labels_lack() -> None:
    points, members = blobs(300, 4, 3, 30)
    labeled = points[members != 2][::4]
    selection = select("discriminative", size=6, embeddings=points, labeled_embeddings=labeled, sub_batches=1)
    assert (members[selection.indices] == 2).all()
