"""facility_location, max_herding, u_herding and fass against the plain greedy algorithm, in every way to hold pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.strategies import StrategyError, select
from assay.strategies.kernels import coverage, pairs
from assay.strategies.kernels.coverage import Cover, Tiles, greedy_cover
from assay.strategies.kernels.pairs import NeighbourPairs, most_similar
from assay.strategies.kernels.similarity import Kernel, Similarity
from assay.strategies.kernels.tensors import alone
from tests.strategies.submodular import plain

Floats = Any


def isotropic(rng: np.random.Generator, size: int) -> Floats:
    return rng.standard_normal((size, 12))


def clustered(rng: np.random.Generator, size: int) -> Floats:
    return 2 * rng.standard_normal((20, 12))[rng.integers(20, size=size)] + 0.4 * rng.standard_normal((size, 12))


def duplicated(rng: np.random.Generator, size: int) -> Floats:
    return rng.standard_normal((size // 8, 12))[rng.integers(size // 8, size=size)]


def far_from_zero(rng: np.random.Generator, size: int) -> Floats:
    return 30 + rng.standard_normal((size, 12))


EVERY_DATA = [isotropic, clustered, duplicated, far_from_zero]


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tiles, blocks and renewals where one would do."""
    for module, values in (
        (coverage, {"_COLUMNS": 64, "_CANDIDATES": 128, "_TRIANGLE": 100, "_ROWS": 8, "_RENEW": 0.5}),
        (pairs, {"_BLOCK_PAIRS": 256}),
    ):
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


def same_picks(selection: Any, picks: list[int], gains: Floats) -> None:
    np.testing.assert_array_equal(selection.indices, picks)
    np.testing.assert_allclose(selection.scores, gains, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("data", EVERY_DATA)
@pytest.mark.parametrize("labeled", [0, 15])
@pytest.mark.parametrize("memory_gib", [2.0, 0.0])
@pytest.mark.usefixtures("small_steps")
def test_picks_are_those_of_the_plain_greedy(data: Callable[..., Floats], labeled: int, memory_gib: float) -> None:
    rng = np.random.default_rng(labeled)
    rows, labels = data(rng, 350).astype(np.float32), data(rng, 160)[:labeled].astype(np.float32)
    best = plain.cosine(labels, rows).max(axis=0) if labeled else None
    selection = select("facility_location", size=50, embeddings=rows, labeled_embeddings=labels, memory_gib=memory_gib)
    picks, gains = plain.fast_cover(plain.cosine(rows, rows), 50, best)
    np.testing.assert_allclose(selection.scores, gains, rtol=1e-3, atol=1e-6)
    assert math.isclose(selection.scores.sum(), gains.sum(), rel_tol=1e-5)
    if data is not far_from_zero:
        same_picks(selection, picks, gains)


@pytest.mark.parametrize("labeled", [0, 9])
@pytest.mark.parametrize("gamma", [0.0, 0.3])
@pytest.mark.parametrize("memory_gib", [2.0, 0.0])
def test_herding_is_the_plain_greedy_with_a_radial_kernel(labeled: int, gamma: float, memory_gib: float) -> None:
    rng = np.random.default_rng(3)
    rows, labels = clustered(rng, 400).astype(np.float32), clustered(rng, 40)[:labeled].astype(np.float32)
    bandwidth = gamma or plain.mean_gamma(rows)
    best = plain.rbf(labels, rows, bandwidth).max(axis=0) if labeled else None
    given_ = {"embeddings": rows, "labeled_embeddings": labels, "gamma": gamma, "memory_gib": memory_gib}
    same_picks(select("max_herding", size=60, **given_), *plain.fast_cover(plain.rbf(rows, rows, bandwidth), 60, best))
    weights = rng.random(400).astype(np.float32)
    expected = plain.fast_cover(plain.rbf(rows, rows, bandwidth), 60, best, weights.astype(float))
    same_picks(select("u_herding", size=60, utility=weights, **given_), *expected)
    same_picks(
        select("facility_location", size=60, utility=weights, weights="utility", similarity="rbf", **given_), *expected
    )


def test_fass_covers_the_most_uncertain_by_some_of_them() -> None:
    rng = np.random.default_rng(0)
    rows, utility = clustered(rng, 500).astype(np.float32), rng.random(500).astype(np.float32)
    selection = select("fass", size=20, embeddings=rows, utility=utility, beta=4.5)
    shortlist = np.sort(np.argsort(-utility)[:90])
    picks, gains = plain.fast_cover(plain.cosine(rows[shortlist], rows[shortlist]), 20)
    same_picks(selection, shortlist[picks].tolist(), gains)


def test_fass_with_beta_1_takes_the_most_uncertain() -> None:
    rng = np.random.default_rng(0)
    utility = rng.random(50).astype(np.float32)
    selection = select("fass", size=7, embeddings=isotropic(rng, 50), utility=utility, beta=1)
    assert set(selection.indices) == set(np.argsort(-utility)[:7])


def nearest_lists(similar_NN: Floats, k: int) -> Floats:
    """Similarities of each column to itself and its k most similar others; 0 for the rest."""
    ranked = similar_NN + 10 * np.eye(len(similar_NN))
    lowest = -np.sort(-ranked, axis=0)[k]
    return np.where(ranked >= lowest, similar_NN, 0)


@pytest.mark.parametrize("name", ["facility_location", "max_herding"])
@pytest.mark.usefixtures("small_steps")
def test_neighbours_are_the_plain_greedy_over_lists(name: str) -> None:
    rows = clustered(np.random.default_rng(1), 500).astype(np.float32)
    similar = graph_similarity(name, rows, rows, plain.mean_gamma(rows))
    selection = select(name, size=120, embeddings=rows, neighbors=9)
    same_picks(selection, *plain.fast_cover(nearest_lists(similar, 9), 120))


@pytest.mark.parametrize("name", ["facility_location", "max_herding"])
def test_labeled_samples_cover_before_neighbours_do(name: str) -> None:
    """They are measured to all candidates; nothing is covered by less than 0."""
    rng = np.random.default_rng(2)
    rows, labels = isotropic(rng, 300).astype(np.float32), isotropic(rng, 3).astype(np.float32)
    gamma = plain.mean_gamma(rows)
    best = graph_similarity(name, labels, rows, gamma).max(axis=0)
    assert name == "max_herding" or (best == 0).any()
    selection = select(name, size=60, embeddings=rows, labeled_embeddings=labels, neighbors=40)
    expected = nearest_lists(graph_similarity(name, rows, rows, gamma), 40)
    same_picks(selection, *plain.fast_cover(expected, 60, best))


def graph_similarity(name: str, left: Floats, right: Floats, gamma: float) -> Floats:
    if name == "facility_location":
        return np.maximum(2 * plain.cosine(left, right) - 1, 0)
    return plain.rbf(left, right, gamma)


def test_all_neighbours_are_all_pairs() -> None:
    rows = isotropic(np.random.default_rng(1), 60).astype(np.float32)
    every, listed = (select("facility_location", size=20, embeddings=rows, neighbors=k) for k in (0, 59))
    np.testing.assert_array_equal(every.indices, listed.indices)


@pytest.mark.parametrize("kernel", ["cosine", "rbf"])
@pytest.mark.parametrize("size", [30, 1500])
def test_most_similar_are_those_of_a_full_sort(kernel: Kernel, size: int) -> None:
    rows = isotropic(np.random.default_rng(2), size).astype(np.float32)
    similarity = Similarity(rows, kernel)
    values_NK, indices_NK = most_similar(similarity, 6)
    whole_NN = similarity.exact(torch.arange(size), torch.arange(size))
    expected = torch.topk(whole_NN, 7)
    assert torch.equal(indices_NK.sort(1).values, expected.indices.sort(1).values)
    torch.testing.assert_close(values_NK.sort(1, descending=True).values.double(), expected.values, atol=1e-5, rtol=0)


def test_copies_stay_in_their_own_lists() -> None:
    similarity = Similarity(np.ones((40, 3), np.float32), "cosine")
    assert torch.equal(most_similar(similarity, 4)[1][:, 0], torch.arange(40))


def coverings(similarity: Similarity, k: int) -> list[Any]:
    found = []
    for source in sources(similarity):
        best = torch.full((similarity.size,), similarity.floor, dtype=torch.float64)
        found.append(greedy_cover(source, Cover(best, similarity.own_N, torch.ones(similarity.size)), k))
    return found


def sources(similarity: Similarity) -> list[Any]:
    tiles = [Tiles(similarity, hold=hold) for hold in (True, False)]
    return [*tiles, NeighbourPairs(similarity, similarity.size - 1)]


@settings(max_examples=12)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(2, 40), st.integers(1, 3)), elements=st.integers(-2, 2).map(float)),
    st.integers(1, 45),
    st.sampled_from(["cosine", "rbf"]),
)
def test_every_source_gives_the_picks_of_the_plain_greedy_on_grids(rows: Floats, k: int, kernel: Kernel) -> None:
    """Grids are full of exact ties: float64 decides, then the index."""
    similarity = Similarity(rows, kernel, 0.5)
    every = torch.arange(len(rows))
    whole = (similarity.exact(every, every).numpy() - similarity.floor) * similarity.unit
    picks, gains = plain.fast_cover(whole, k)
    for covering in alone(lambda: coverings(similarity, min(k, len(rows)))):
        assert len(set(covering.picks.tolist())) == min(k, len(rows))
        np.testing.assert_allclose(covering.gains * similarity.unit, gains, rtol=1e-6, atol=1e-6)
        different = np.flatnonzero(gains > 1e-6)
        np.testing.assert_array_equal(covering.picks[different], np.array(picks)[different])


@settings(max_examples=40)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(3, 30), st.integers(1, 4)), elements=st.floats(-2, 2, width=16)),
    st.sampled_from(["facility_location", "max_herding", "graph_cut", "log_det"]),
    st.sampled_from([0, 2]),
)
def test_gains_never_rise_and_prefixes_are_valid(rows: Floats, name: str, neighbors: int) -> None:
    params = {"neighbors": neighbors} if name in ("facility_location", "max_herding") else {}
    long = select(name, size=len(rows), embeddings=rows, **params)
    assert sorted(long.indices) == list(range(len(rows)))
    assert (np.diff(long.scores) <= 0).all()
    short = select(name, size=len(rows) // 2, embeddings=rows, **params)
    np.testing.assert_array_equal(short.indices, long.indices[: len(short)])


@pytest.mark.parametrize("data", EVERY_DATA)
@pytest.mark.parametrize("name", ["facility_location", "max_herding", "graph_cut", "log_det"])
def test_picks_follow_their_rows(data: Callable[..., Floats], name: str) -> None:
    rng = np.random.default_rng(5)
    rows = np.unique(data(rng, 300).astype(np.float32), axis=0)
    order = rng.permutation(len(rows))
    # Candidates that are each other's nearest can gain exactly the same, so late picks of few rows may be ties.
    straight, moved = (select(name, size=9, embeddings=given_) for given_ in (rows, rows[order]))
    np.testing.assert_array_equal(straight.indices, order[moved.indices])


@pytest.mark.parametrize("seed", range(4))
def test_value_is_within_1_minus_1_over_e_of_the_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, weights = rng.standard_normal((11, 2)), rng.random(11)
    similar = plain.rbf(rows, rows, 2.0)
    value = plain.facility_location(similar, np.zeros(11), weights)
    selection = select("u_herding", size=4, embeddings=rows, utility=weights, gamma=2.0)
    assert value(selection.indices.tolist()) >= (1 - 1 / math.e) * plain.best_value(value, 11, 4)
    picks, gains = plain.greedy(value, 11, 4)
    same_picks(selection, picks, np.array(gains) / weights.sum())


def test_what_is_labeled_leaves_nothing_to_cover() -> None:
    rows = isotropic(np.random.default_rng(0), 40)
    selection = select("facility_location", size=6, embeddings=rows, labeled_embeddings=rows)
    np.testing.assert_array_equal(selection.indices, range(6))
    np.testing.assert_allclose(selection.scores, 0, atol=1e-6)


def test_weights_move_picks() -> None:
    rows = np.array([[0, 0], [0.1, 0], [9, 9], [9.1, 9]], np.float32)
    for favoured, pick in (([1, 0, 0, 0], 0), ([0, 0, 0, 1], 3)):
        assert select("u_herding", size=1, embeddings=rows, utility=np.float32(favoured), gamma=1.0).indices[0] == pick


def test_weights_of_nothing_pick_in_order() -> None:
    selection = select("u_herding", size=3, embeddings=isotropic(np.random.default_rng(0), 9), utility=np.zeros(9))
    np.testing.assert_array_equal(selection.indices, [0, 1, 2])
    assert (selection.scores == 0).all()


@pytest.mark.parametrize(("bad", "reason"), [(-1.0, "UTILITY_INVALID"), (np.inf, "NOT_FINITE")])
def test_weights_that_cannot_be_are_refused(bad: float, reason: str) -> None:
    with pytest.raises(StrategyError) as caught:
        select("u_herding", size=1, embeddings=np.ones((3, 2)), utility=np.float32([1, bad, 1]))
    assert caught.value.reason == reason
