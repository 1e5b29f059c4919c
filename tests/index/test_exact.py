"""Exact search against sorting everything: bit for bit, however the pool is cut."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.server.adapters.vector_index import BlockedExactSearch
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.pools import Metric
from tests.index.pools import as_stored, brute_force, clustered, cut

METRICS = list(Metric)
SMALL_BLOCKS = BlockedExactSearch(block_values=64, block_rows=7, block_queries=3)


def some_pool(rng: np.random.Generator, count: int, dimension: int, kind: str) -> FloatArray:
    if kind == "grid":  # few distinct values: ties everywhere, zero vectors among them
        return rng.integers(-1, 2, (count, dimension)).astype(np.float32)
    vectors = rng.standard_normal((count, dimension)).astype(np.float32)
    if kind == "copies":
        vectors = vectors[rng.integers(max(1, count // 4), size=count)]
    if kind == "near":  # apart by less than the error of a float32 product
        vectors = vectors[0] * (1 + 2e-7 * vectors)
    if kind == "offset":  # squares cancel unless care is taken
        vectors += 1000
    return vectors


@given(
    seed=st.integers(0, 2**32 - 1),
    metric=st.sampled_from(METRICS),
    kind=st.sampled_from(["grid", "gaussian", "copies", "near", "offset"]),
    count=st.integers(1, 80),
    dimension=st.integers(1, 40),
    queries=st.integers(1, 10),
    k=st.integers(1, 90),
    pieces=st.integers(1, 6),
    mask=st.sampled_from([None, 0.0, 0.1, 0.5, 0.9]),
    shortened=st.integers(0, 40),
)
def test_it_equals_sorting_everything_however_the_pool_is_cut(
    seed: int,
    metric: Metric,
    kind: str,
    count: int,
    dimension: int,
    queries: int,
    k: int,
    pieces: int,
    mask: float | None,
    shortened: int,
) -> None:
    rng = np.random.default_rng(seed)
    rows_N = np.sort(rng.choice(2 * count, count, replace=False))
    embeddings_ND = as_stored(metric, some_pool(rng, count, dimension, kind))
    queries_QD = some_pool(rng, queries, dimension, kind)
    allowed = None if mask is None else rng.random(max(0, 2 * count - shortened)) < mask
    segments = cut(rows_N, embeddings_ND, pieces)
    expected = brute_force(metric, queries_QD, rows_N, embeddings_ND, k, allowed)
    for search in (BlockedExactSearch(), SMALL_BLOCKS):
        found = search.search(segments, metric, queries_QD, k, allowed)
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("share", [None, 0.02, 0.6])
def test_blocks_segments_and_company_of_queries_change_nothing(metric: Metric, share: float | None) -> None:
    rng = np.random.default_rng(1)
    embeddings_ND = as_stored(metric, np.repeat(clustered(3000, 48, 1), 2, axis=0))
    rows_N = np.arange(len(embeddings_ND))
    queries_QD = clustered(20, 48, 2)
    allowed = None if share is None else rng.random(len(rows_N)) < share
    whole = BlockedExactSearch().search(cut(rows_N, embeddings_ND, 1), metric, queries_QD, 25, allowed)
    pieces = BlockedExactSearch(block_rows=501).search(cut(rows_N, embeddings_ND, 13), metric, queries_QD, 25, allowed)
    alone = [
        BlockedExactSearch().search(cut(rows_N, embeddings_ND, 2), metric, query, 25, allowed)
        for query in queries_QD[:, None]
    ]
    for part in (0, 1):
        np.testing.assert_array_equal(whole[part], pieces[part])
        np.testing.assert_array_equal(whole[part], np.concatenate([result[part] for result in alone]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("block_rows", [60, 8192])
def test_vectors_closer_than_the_error_of_a_product_are_told_apart(metric: Metric, block_rows: int) -> None:
    rng = np.random.default_rng(1)
    embeddings_ND = as_stored(metric, some_pool(rng, 1000, 300, "near"))
    queries_QD = clustered(20, 300, 2)
    search = BlockedExactSearch(block_rows=block_rows)
    found = search.search(cut(np.arange(1000), embeddings_ND, 1), metric, queries_QD, 10, None)
    expected = brute_force(metric, queries_QD, np.arange(1000), embeddings_ND, 10, None)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize("metric", METRICS)
def test_one_vector_many_times_gives_the_smallest_rows(metric: Metric) -> None:
    embeddings_ND = as_stored(metric, np.tile(clustered(1, 24, 1), (500, 1)))
    backwards = cut(np.arange(500) + 10, embeddings_ND, 5)[::-1]
    values_QK, rows_QK = SMALL_BLOCKS.search(backwards, metric, clustered(2, 24, 2), 4, None)
    np.testing.assert_array_equal(rows_QK, [[10, 11, 12, 13]] * 2)
    assert (values_QK == values_QK[:, :1]).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_values_beyond_the_range_of_a_float32_product(metric: Metric, scale: float) -> None:
    embeddings_ND = as_stored(metric, (clustered(200, 8, 1) * scale).astype(np.float32))
    queries_QD = (clustered(3, 8, 2) * scale).astype(np.float32)
    rows_N = np.arange(200)
    found = BlockedExactSearch(block_rows=64).search(cut(rows_N, embeddings_ND, 2), metric, queries_QD, 10, None)
    expected = brute_force(metric, queries_QD, rows_N, embeddings_ND, 10, None)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_what_a_refused_row_holds_never_matters(metric: Metric, share: float) -> None:
    embeddings_ND = as_stored(metric, clustered(300, 8, 1))
    allowed = np.random.default_rng(0).random(300) < share
    spoilt_ND = np.where(allowed[:, None], embeddings_ND, np.float32(np.nan))
    queries_QD = clustered(12, 8, 2)
    clean = SMALL_BLOCKS.search(cut(np.arange(300), embeddings_ND, 3), metric, queries_QD, 5, allowed)
    spoilt = SMALL_BLOCKS.search(cut(np.arange(300), spoilt_ND, 3), metric, queries_QD, 5, allowed)
    np.testing.assert_array_equal(clean[1], spoilt[1])
    np.testing.assert_array_equal(clean[0], spoilt[0])


def test_a_zero_query_is_equally_far_from_all_in_a_cosine_pool() -> None:
    segments = cut(np.arange(20), as_stored(Metric.COSINE, clustered(20, 6, 1)), 2)
    values_QK, rows_QK = BlockedExactSearch().search(segments, Metric.COSINE, np.zeros((1, 6), np.float32), 3, None)
    np.testing.assert_array_equal(rows_QK, [[0, 1, 2]])
    np.testing.assert_array_equal(values_QK, [[0, 0, 0]])


def test_no_segments_and_no_queries() -> None:
    search = BlockedExactSearch()
    values_QK, rows_QK = search.search([], Metric.L2, np.ones((2, 3), np.float32), 2, None)
    np.testing.assert_array_equal(rows_QK, [[-1, -1]] * 2)
    assert np.isposinf(values_QK).all()
    segments = cut(np.arange(5), clustered(5, 3, 1), 1)
    values_QK, rows_QK = search.search(segments, Metric.L2, np.ones((0, 3), np.float32), 2, None)
    assert values_QK.shape == rows_QK.shape == (0, 2)


@pytest.mark.parametrize("metric", METRICS)
def test_memory_is_a_few_blocks_whatever_the_pool(metric: Metric) -> None:
    embeddings_ND = as_stored(metric, clustered(40_000, 64, 1))
    segments = cut(np.arange(40_000), embeddings_ND, 3)
    allowed = np.random.default_rng(0).random(40_000) < 0.5
    search = BlockedExactSearch(block_rows=1024)
    tracemalloc.start()
    try:
        search.search(segments, metric, clustered(4, 64, 2), 10, allowed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024 * 64 * 4 < embeddings_ND.nbytes / 4
