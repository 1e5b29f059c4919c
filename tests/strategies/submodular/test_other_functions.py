"""graph_cut, log_det, gcmi and flqmi against their functions and the plain greedy algorithm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.strategies import StrategyError, select
from assay.strategies.kernels import greedy_map as module
from tests.strategies.submodular import plain

Floats = Any

grids = hnp.arrays(np.float32, st.tuples(st.integers(1, 14), st.integers(1, 3)), elements=st.integers(-2, 2).map(float))


def rows_of(seed: int, size: int, dim: int = 6) -> Floats:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((5, dim))
    return (centres[rng.integers(5, size=size)] + 0.3 * rng.standard_normal((size, dim))).astype(np.float32)


def labeled_similarity(rows: Floats, labels: Floats) -> Floats:
    return plain.cosine(rows, labels).sum(axis=1)


@pytest.fixture(params=[3, 1024])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", request.param)


@pytest.mark.parametrize("labeled", [0, 8])
@pytest.mark.parametrize("representation", [0.0, 0.2, 2.0])
@pytest.mark.usefixtures("block")
def test_graph_cut_is_the_plain_greedy(labeled: int, representation: float) -> None:
    rows, labels = rows_of(0, 60), rows_of(1, 8)[:labeled]
    value = plain.graph_cut(plain.cosine(rows, rows), labeled_similarity(rows, labels), representation)
    picks, gains = plain.greedy(value, 60, 25)
    selection = select("graph_cut", size=25, embeddings=rows, labeled_embeddings=labels, representation=representation)
    np.testing.assert_array_equal(selection.indices, picks)
    np.testing.assert_allclose(selection.scores, np.array(gains) / 60, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("labeled", [0, 8])
@pytest.mark.parametrize("ridge", [1e-6, 0.01, 1.0])
@pytest.mark.usefixtures("block")
def test_log_det_is_the_plain_greedy_beyond_the_rank_too(labeled: int, ridge: float) -> None:
    rows, labels = rows_of(2, 50), rows_of(3, 8)[:labeled]
    typical = int(plain.cosine(rows, rows).sum(axis=1).argmax())
    picks, gains = plain.greedy(plain.log_det(rows, labels, ridge), 50, 20, None if labeled else typical)
    selection = select("log_det", size=20, embeddings=rows, labeled_embeddings=labels, ridge=ridge)
    # With a tiny ridge only the picks that span the space have gains that float32 rows determine.
    told_apart = slice(None) if ridge > 1e-6 else slice(max(0, 6 - labeled))
    np.testing.assert_array_equal(selection.indices[told_apart], picks[told_apart])
    np.testing.assert_allclose(selection.scores[told_apart], gains[told_apart], rtol=1e-4, atol=1e-4)


@settings(max_examples=40)
@given(grids, st.integers(1, 15))
def test_greedy_values_are_reached_where_everything_ties(rows: Floats, k: int) -> None:
    for name, value, scale in (
        ("graph_cut", plain.graph_cut(plain.cosine(rows, rows), np.zeros(len(rows)), 2.0), len(rows)),
        ("log_det", plain.log_det(rows, rows[:0], 0.01), 1),
    ):
        selection = select(name, size=k, embeddings=rows)
        chosen = selection.indices.tolist()
        for place, score in enumerate(selection.scores.tolist()):
            before = value(chosen[:place])
            best = max(value([*chosen[:place], i]) for i in range(len(rows)) if i not in chosen[:place]) - before
            assert value(chosen[: place + 1]) - before == pytest.approx(best, rel=1e-4, abs=1e-4)
            assert score * scale == pytest.approx(best, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", ["graph_cut", "log_det"])
def test_more_copies_than_a_block_holds_go_in_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 4)
    selection = select(name, size=12, embeddings=np.ones((30, 3)))
    np.testing.assert_array_equal(selection.indices, range(12))


def test_log_det_avoids_what_is_labeled() -> None:
    rows = np.eye(3, dtype=np.float32)
    selection = select("log_det", size=3, embeddings=rows, labeled_embeddings=rows[:1] * 5)
    np.testing.assert_array_equal(selection.indices, [1, 2, 0])


def test_representation_0_takes_opposites() -> None:
    rows = np.array([[1, 0], [1, 0.1], [-1, 0.01]], np.float32)
    np.testing.assert_array_equal(select("graph_cut", size=2, embeddings=rows, representation=0).indices, [0, 2])


def test_gcmi_takes_the_most_similar_on_average() -> None:
    rows, queries = rows_of(4, 80), rows_of(5, 6)
    similar = plain.cosine(rows, queries).mean(axis=1)
    selection = select("gcmi", size=30, embeddings=rows, query_embeddings=queries)
    np.testing.assert_array_equal(selection.indices, np.argsort(-similar, kind="stable")[:30])
    np.testing.assert_allclose(selection.scores, similar[selection.indices], rtol=1e-6)


@pytest.mark.parametrize("eta", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("queries", [1, 7])
def test_flqmi_is_the_plain_greedy(eta: float, queries: int) -> None:
    rows, examples = rows_of(6, 60), rows_of(7, queries)
    picks, gains = plain.greedy(plain.flqmi(plain.cosine(examples, rows), eta), 60, 20)
    selection = select("flqmi", size=20, embeddings=rows, query_embeddings=examples, eta=eta)
    np.testing.assert_allclose(selection.scores, np.array(gains) / queries, rtol=1e-5, atol=1e-7)
    told_apart = [place for place, gain in enumerate(gains) if gain > 1e-7]
    np.testing.assert_array_equal(selection.indices[told_apart], np.array(picks)[told_apart])
    assert len(np.unique(selection.indices)) == 20


def test_flqmi_serves_each_query_where_gcmi_serves_the_middle() -> None:
    rows = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    queries = np.eye(2, dtype=np.float32)
    assert select("gcmi", size=1, embeddings=rows, query_embeddings=queries).indices[0] == 2
    served = select("flqmi", size=3, embeddings=rows, query_embeddings=queries, eta=10)
    np.testing.assert_array_equal(served.indices, [0, 1, 2])


@pytest.mark.parametrize("name", ["gcmi", "flqmi"])
@pytest.mark.parametrize(("shape", "reason"), [((0, 3), "NO_QUERIES"), ((2, 4), "INVALID_ARRAY")])
def test_queries_that_say_nothing_are_refused(name: str, shape: tuple[int, int], reason: str) -> None:
    with pytest.raises(StrategyError) as caught:
        select(name, size=1, embeddings=np.ones((5, 3)), query_embeddings=np.ones(shape))
    assert caught.value.reason == reason
