"""What every search promises, run over the exact one and both kinds of approximate index."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from assay.server.adapters.vector_index import BlockedExactSearch, FaissIndexBuilder
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.pools import Metric
from tests.index.pools import as_stored, blocks_of, brute_force, clustered, cut, keys

COUNT, DIMENSION = 30_000, 64
Search = Callable[[FloatArray, int, MaskArray | None], tuple[FloatArray, RowArray]]


@dataclass(frozen=True)
class Case:
    """A search over a pool whose rows have gaps."""

    search: Search
    exact: bool
    metric: Metric
    rows_N: RowArray
    embeddings_ND: FloatArray

    def truth(self, queries_QD: FloatArray, k: int, allowed: MaskArray | None) -> tuple[FloatArray, RowArray]:
        return brute_force(self.metric, queries_QD, self.rows_N, self.embeddings_ND, k, allowed)

    def mask(self, share: float) -> MaskArray:
        """Allows a share of all rows, drawn at random."""
        return np.random.default_rng(7).random(int(self.rows_N[-1]) + 1) < share


@pytest.fixture(scope="module", params=list(Metric))
def metric(request: pytest.FixtureRequest) -> Metric:
    return Metric(request.param)


@pytest.fixture(scope="module", params=["exact", "hnsw", "ivf"])
def case(request: pytest.FixtureRequest, metric: Metric, tmp_path_factory: pytest.TempPathFactory) -> Case:
    embeddings_ND = as_stored(metric, clustered(COUNT, DIMENSION, 1))
    rows_N = np.sort(np.random.default_rng(3).choice(COUNT + COUNT // 10, COUNT, replace=False))
    segments = cut(rows_N, embeddings_ND, 7)
    if request.param == "exact":
        exact = BlockedExactSearch()
        return Case(
            lambda q, k, allowed: exact.search(segments, metric, q, k, allowed), True, metric, rows_N, embeddings_ND
        )
    directory: Path = tmp_path_factory.mktemp("derived")
    ivf_from = 1000 if request.param == "ivf" else 10**9
    builder = FaissIndexBuilder(directory, hnsw_from=1000, ivf_from=ivf_from, construction=40)
    index = builder.build(1, "pushed", metric, DIMENSION, lambda: blocks_of(segments), COUNT, None, lambda: False)
    assert index is not None
    assert index.kind == request.param
    np.testing.assert_array_equal(index.indexed_rows, rows_N)
    return Case(index.search, False, metric, rows_N, embeddings_ND)


def recall(found_QK: RowArray, truth_QK: RowArray) -> float:
    hits = sum(len(np.intersect1d(found, truth)) for found, truth in zip(found_QK, truth_QK, strict=True))
    return hits / truth_QK.size


@pytest.mark.parametrize("share", [None, 0.5, 0.04])
def test_recall_at_ten(case: Case, share: float | None) -> None:
    queries_QD = clustered(50, DIMENSION, 2)
    allowed = None if share is None else case.mask(share)
    found_QK = case.search(queries_QD, 10, allowed)[1]
    reached = recall(found_QK, case.truth(queries_QD, 10, allowed)[1])
    assert reached == 1 if case.exact else reached >= 0.95


def test_values_are_those_of_the_rows_best_first_ties_by_row(case: Case) -> None:
    queries_QD = clustered(20, DIMENSION, 2)
    values_QK, rows_QK = case.search(queries_QD, 30, None)
    assert values_QK.dtype == np.float32
    assert rows_QK.dtype == np.int64
    all_keys = keys(case.metric, queries_QD, case.embeddings_ND)
    expected = np.take_along_axis(all_keys, np.searchsorted(case.rows_N, rows_QK), axis=1)
    keys_QK = -values_QK if case.metric is Metric.L2 else values_QK
    np.testing.assert_allclose(keys_QK, expected, rtol=2e-3, atol=2e-3)
    steps, ties = np.diff(keys_QK, axis=1), np.diff(rows_QK, axis=1)
    assert ((steps < 0) | ((steps == 0) & (ties > 0))).all()


@pytest.mark.parametrize("share", [0.9, 0.3, 0.01, 0.0])
def test_only_allowed_rows_come_back_each_once(case: Case, share: float) -> None:
    allowed = case.mask(share)
    values_QK, rows_QK = case.search(clustered(20, DIMENSION, 2), 15, allowed)
    for values, rows in zip(values_QK, rows_QK, strict=True):
        found = rows[rows >= 0]
        assert allowed[found].all()
        assert np.isin(found, case.rows_N).all()
        assert len(np.unique(found)) == len(found)
        assert (rows[len(found) :] == -1).all()
        assert np.isfinite(values[: len(found)]).all()
        assert (values[len(found) :] == (np.inf if case.metric is Metric.L2 else -np.inf)).all()


def test_so_few_allowed_rows_that_an_index_declines(case: Case) -> None:
    allowed = case.mask(0.01)
    queries_QD = clustered(5, DIMENSION, 2)
    rows_QK = case.search(queries_QD, 10, allowed)[1]
    if case.exact:
        np.testing.assert_array_equal(rows_QK, case.truth(queries_QD, 10, allowed)[1])
    else:
        assert (rows_QK == -1).all()


def test_rows_beyond_the_mask_are_not_allowed(case: Case) -> None:
    half = int(case.rows_N[COUNT // 2])
    rows_QK = case.search(clustered(10, DIMENSION, 2), 10, np.ones(half, np.bool_))[1]
    assert rows_QK.max() < half
    assert (rows_QK[:, 0] >= 0).all()


def test_more_than_there_are_fills_up(case: Case) -> None:
    k = COUNT + 3
    values_QK, rows_QK = case.search(clustered(1, DIMENSION, 2), k, None)
    assert values_QK.shape == rows_QK.shape == (1, k)
    assert (rows_QK[:, COUNT:] == -1).all()
    assert np.isinf(values_QK[:, COUNT:]).all()
    if case.exact:
        np.testing.assert_array_equal(np.sort(rows_QK[0, :COUNT]), case.rows_N)


def test_the_length_of_a_query_matters_to_distances_only(case: Case) -> None:
    queries_QD = clustered(5, DIMENSION, 2)
    (values_QK, rows_QK), (scaled_QK, scaled_rows_QK) = (case.search(queries_QD * scale, 5, None) for scale in (1, 8))
    assert np.array_equal(rows_QK, scaled_rows_QK) == (case.metric is not Metric.L2)
    assert np.array_equal(values_QK, scaled_QK) == (case.metric is Metric.COSINE)


def test_searches_at_once_do_not_disturb_each_other(case: Case) -> None:
    queries_QD = clustered(24, DIMENSION, 2)
    allowed = case.mask(0.4)
    masks: list[MaskArray | None] = [None, allowed, ~allowed, None]
    expected = [case.search(queries_QD, 10, mask) for mask in masks]
    found: list[tuple[FloatArray, RowArray] | None] = [None] * len(masks)

    def run(place: int) -> None:
        for _ in range(2):
            found[place] = case.search(queries_QD, 10, masks[place])

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(masks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, right in enumerate(expected):
        result = found[place]
        assert result is not None
        np.testing.assert_array_equal(result[1], right[1])
        np.testing.assert_array_equal(result[0], right[0])
