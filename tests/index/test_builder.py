"""Building, extending and stopping."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from assay.server.adapters.vector_index import FaissIndex, FaissIndexBuilder
from assay.server.core.records.arrays import FloatArray, RowArray
from assay.server.core.records.pools import Metric
from tests.index.pools import Segment, as_stored, blocks_of, brute_force, clustered, cut

DIMENSION = 16
KINDS = ["hnsw", "ivf"]


def never() -> bool:
    return False


def after(calls: int) -> Callable[[], bool]:
    """A `stop` that says yes once it was asked so often."""
    answers = iter([False] * calls)
    return lambda: next(answers, True)


def builder_for(directory: Path, kind: str, chunk: int = 256) -> FaissIndexBuilder:
    return FaissIndexBuilder(directory, hnsw_from=100, ivf_from=100 if kind == "ivf" else 10**9, chunk=chunk)


def built(
    builder: FaissIndexBuilder,
    segments: Sequence[Segment],
    *,
    base: FaissIndex | None = None,
    metric: Metric = Metric.COSINE,
    space: str = "pushed",
    stop: Callable[[], bool] = never,
) -> FaissIndex | None:
    count = sum(len(segment.rows_N) for segment in segments)
    return builder.build(1, space, metric, DIMENSION, lambda: blocks_of(segments), count, base, stop)


def pool(count: int, metric: Metric = Metric.COSINE, seed: int = 1) -> tuple[RowArray, FloatArray]:
    return np.arange(count), as_stored(metric, clustered(count, DIMENSION, seed, clusters=20))


def test_an_index_is_worth_its_while_from_a_size_on(tmp_path: Path) -> None:
    builder = FaissIndexBuilder(tmp_path, hnsw_from=500)
    assert not builder.worthwhile(499)
    assert builder.worthwhile(500)


def test_the_kind_follows_the_size(tmp_path: Path) -> None:
    builder = FaissIndexBuilder(tmp_path, hnsw_from=100, ivf_from=600)
    rows_N, embeddings_ND = pool(600)
    small = built(builder, cut(rows_N[:599], embeddings_ND[:599], 2))
    assert small is not None
    assert small.kind == "hnsw"
    grown = built(builder, cut(rows_N, embeddings_ND, 2), base=small)
    assert grown is not None
    assert grown.kind == "ivf"
    np.testing.assert_array_equal(grown.indexed_rows, rows_N)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", list(Metric))
def test_an_extension_holds_all_rows_and_leaves_the_base_as_it_was(tmp_path: Path, kind: str, metric: Metric) -> None:
    builder = builder_for(tmp_path, kind)
    rows_N, embeddings_ND = pool(2000, metric)
    late = np.random.default_rng(5).random(2000) < 0.3  # late rows lie between the early ones
    segments = cut(rows_N[~late], embeddings_ND[~late], 2)
    base = built(builder, segments, metric=metric)
    assert base is not None
    queries_QD = clustered(40, DIMENSION, 2, clusters=20)
    before = base.search(queries_QD, 10, None)
    extended = built(builder, [*segments, *cut(rows_N[late], embeddings_ND[late], 3)], base=base, metric=metric)
    assert extended is not None
    assert extended.kind == kind
    np.testing.assert_array_equal(extended.indexed_rows, rows_N)
    np.testing.assert_array_equal(base.indexed_rows, rows_N[~late])
    np.testing.assert_array_equal(base.search(queries_QD, 10, None)[1], before[1])
    found_QK = extended.search(queries_QD, 10, None)[1]
    truth_QK = brute_force(metric, queries_QD, rows_N, embeddings_ND, 10, None)[1]
    hits = sum(len(np.intersect1d(found, truth)) for found, truth in zip(found_QK, truth_QK, strict=True))
    assert hits >= 0.95 * truth_QK.size
    assert late[found_QK].any()


@pytest.mark.parametrize("kind", KINDS)
def test_searches_of_the_base_stay_right_while_it_is_extended(tmp_path: Path, kind: str) -> None:
    builder = builder_for(tmp_path, kind, chunk=64)
    rows_N, embeddings_ND = pool(3000)
    base = built(builder, cut(rows_N[:1000], embeddings_ND[:1000], 1))
    assert base is not None
    queries_QD = clustered(10, DIMENSION, 2, clusters=20)
    expected = base.search(queries_QD, 10, None)
    searched, done = threading.Event(), threading.Event()
    wrong: list[int] = []

    def search() -> None:
        while not done.is_set():
            values_QK, rows_QK = base.search(queries_QD, 10, None)
            if not (np.array_equal(rows_QK, expected[1]) and np.array_equal(values_QK, expected[0])):
                wrong.append(1)
            searched.set()

    def wait_for_a_search() -> bool:
        searched.clear()
        return not searched.wait(60)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        extended = built(builder, cut(rows_N, embeddings_ND, 3), base=base, stop=wait_for_a_search)
    finally:
        done.set()
        thread.join()
    assert not wrong
    assert extended is not None
    assert len(extended.indexed_rows) == 3000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("calls", [0, 3, 12])
def test_a_stopped_build_changes_nothing(tmp_path: Path, kind: str, calls: int) -> None:
    builder = builder_for(tmp_path, kind, chunk=50)
    rows_N, embeddings_ND = pool(1000)
    first = built(builder, cut(rows_N[:200], embeddings_ND[:200], 1))
    assert first is not None
    assert built(builder, cut(rows_N, embeddings_ND, 3), base=first, stop=after(calls)) is None
    assert built(builder, cut(rows_N, embeddings_ND, 3), stop=after(calls)) is None
    stored = builder.load(1, "pushed", Metric.COSINE, DIMENSION)
    assert stored is not None
    np.testing.assert_array_equal(stored.indexed_rows, rows_N[:200])


def test_nothing_new_gives_the_base_back(tmp_path: Path) -> None:
    builder = builder_for(tmp_path, "hnsw")
    rows_N, embeddings_ND = pool(500)
    base = built(builder, cut(rows_N, embeddings_ND, 1))
    assert base is not None
    assert built(builder, cut(rows_N, embeddings_ND, 4), base=base) is base
    assert built(builder, cut(rows_N[20:], embeddings_ND[20:], 1), base=base) is base


def test_an_index_with_many_dead_rows_is_built_afresh(tmp_path: Path) -> None:
    builder = builder_for(tmp_path, "hnsw")
    rows_N, embeddings_ND = pool(500)
    base = built(builder, cut(rows_N, embeddings_ND, 1))
    fresh = built(builder, cut(rows_N[200:], embeddings_ND[200:], 1), base=base)
    assert fresh is not None
    np.testing.assert_array_equal(fresh.indexed_rows, rows_N[200:])


def test_an_inverted_file_that_the_pool_outgrew_is_laid_out_afresh(tmp_path: Path) -> None:
    builder = builder_for(tmp_path, "ivf")
    rows_N, embeddings_ND = pool(1300)
    base = built(builder, cut(rows_N[:300], embeddings_ND[:300], 1))
    grown = built(builder, cut(rows_N[:1200], embeddings_ND[:1200], 1), base=base)
    assert grown is not None
    assert grown.sidecar.trained == 300
    outgrown = built(builder, cut(rows_N, embeddings_ND, 1), base=grown)
    assert outgrown is not None
    assert outgrown.sidecar.trained == 1300
    np.testing.assert_array_equal(outgrown.indexed_rows, rows_N)


def test_a_base_of_another_space_is_not_extended(tmp_path: Path) -> None:
    builder = builder_for(tmp_path, "hnsw")
    rows_N, embeddings_ND = pool(400)
    base = built(builder, cut(rows_N, embeddings_ND, 1))
    other_ND = as_stored(Metric.COSINE, clustered(400, DIMENSION, 9, clusters=20))
    other = built(builder, cut(rows_N, other_ND, 1), base=base, space="bert.v2")
    assert other is not None
    np.testing.assert_array_equal(other.search(other_ND[:50], 1, None)[1][:, 0], rows_N[:50])


def test_a_base_whose_file_is_gone_is_built_afresh(tmp_path: Path) -> None:
    builder = builder_for(tmp_path, "hnsw")
    rows_N, embeddings_ND = pool(400)
    base = built(builder, cut(rows_N[:300], embeddings_ND[:300], 1))
    builder.forget(1)
    fresh = built(builder, cut(rows_N, embeddings_ND, 1), base=base)
    assert fresh is not None
    np.testing.assert_array_equal(fresh.indexed_rows, rows_N)


def test_blocks_are_read_lazily_and_never_changed(tmp_path: Path) -> None:
    rows_N, embeddings_ND = pool(600)
    rows_N.flags.writeable = False
    open_blocks = 0

    def blocks() -> Iterator[tuple[RowArray, FloatArray]]:
        nonlocal open_blocks
        for segment in cut(rows_N, embeddings_ND, 6):
            open_blocks += 1
            yield segment.rows_N, segment.embeddings_ND

    builder = builder_for(tmp_path, "hnsw", chunk=100)
    assert builder.build(1, "pushed", Metric.COSINE, DIMENSION, blocks, 600, None, after(2)) is None
    assert open_blocks == 6 + 3  # all rows are counted; then two blocks are added and the third is refused
