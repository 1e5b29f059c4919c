"""Search: exact as brute force, approximate re-ranked to the exact order, and only what may be found."""

import shutil

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.pools.messages import SearchMode, SearchResult, SearchSpec
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.filters import Compare, HasId
from assay.server.core.records.pools import PUSHED_SPACE, Metric, State
from tests.core.kit import (
    POOL,
    House,
    add,
    annotate,
    fill,
    make_pool,
    names,
    next_batch,
    pool_of,
    refused,
    vectors,
)

COUNT = 300


def keys(metric: Metric, queries: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Similarities, or squared distances."""
    wide_Q, wide_N = queries.astype(np.float64), embeddings.astype(np.float64)
    if metric is Metric.L2:
        return ((wide_Q[:, None] - wide_N[None]) ** 2).sum(axis=2)
    if metric is Metric.COSINE:
        wide_Q = wide_Q / np.linalg.norm(wide_Q, axis=1, keepdims=True)
        wide_N = wide_N / np.linalg.norm(wide_N, axis=1, keepdims=True)
    return wide_Q @ wide_N.T


def nearest(metric: Metric, queries: np.ndarray, embeddings: np.ndarray, k: int, rows: np.ndarray) -> list[list[int]]:
    found = keys(metric, queries, embeddings[rows])
    order = np.argsort(found if metric is Metric.L2 else -found, axis=1, kind="stable")[:, :k]
    return rows[order].tolist()


def rows_of(result: SearchResult) -> list[list[int]]:
    return [[hit.sample.row for hit in hits] for hits in result.hits]


@pytest.mark.parametrize("metric", list(Metric))
def test_exact_search_is_brute_force(core: Assay, metric: Metric) -> None:
    make_pool(core, "other", metric=metric)
    embeddings, queries = fill(core, COUNT, step=70, pool="other"), vectors(5, seed=9)
    result = core.samples.search("other", SearchSpec(vectors_QD=queries, k=8))
    assert result.exact
    assert rows_of(result) == nearest(metric, queries, embeddings, 8, np.arange(COUNT))
    expected = keys(metric, queries, embeddings)
    for query, hits in enumerate(result.hits):
        found = expected[query][rows_of(result)[query]]
        similarity, distance = nearness(metric, found)
        np.testing.assert_allclose([hit.similarity for hit in hits], similarity, atol=1e-5)
        np.testing.assert_allclose([hit.distance for hit in hits], distance, atol=1e-5)
        assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)
        assert [hit.distance for hit in hits] == sorted(hit.distance for hit in hits)


def nearness(metric: Metric, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Similarities and distances of what `keys` compares by."""
    return {
        Metric.L2: (-found, found),
        Metric.COSINE: (found, 2 - 2 * found),
        Metric.INNER_PRODUCT: (found, -found),
    }[metric]


def test_a_copy_is_at_distance_0_whatever_rounding_does(core: Assay) -> None:
    make_pool(core, "angles", metric=Metric.COSINE)
    embeddings = fill(core, 100, pool="angles")
    result = core.samples.search("angles", SearchSpec(vectors_QD=embeddings, k=1))
    assert all(0 <= hits[0].distance < 1e-6 for hits in result.hits)


def test_a_sample_is_not_its_own_neighbour(core: Assay) -> None:
    embeddings = fill(core, 50)
    result = core.samples.search(POOL, SearchSpec(ids=("s7", "s9"), k=5))
    for row, found in zip((7, 9), rows_of(result), strict=True):
        others = np.array([other for other in range(50) if other != row])
        assert found == nearest(Metric.L2, embeddings[row : row + 1], embeddings, 5, others)[0]
    assert [len(hits) for hits in core.samples.search(POOL, SearchSpec(ids=("s7",), k=100)).hits] == [49]


def test_a_sample_that_is_not_searched_among_is_searched_from(core: Assay) -> None:
    embeddings = fill(core, 20)
    annotate(core, {"s3": "ant"})
    result = core.samples.search(POOL, SearchSpec(ids=("s3",), k=5, states=(State.UNLABELED,)))
    others = np.array([row for row in range(20) if row != 3])
    assert rows_of(result) == nearest(Metric.L2, embeddings[3:4], embeddings, 5, others)


def test_states_and_filters_decide_what_is_found(core: Assay) -> None:
    embeddings, query = fill(core, 40, step=10), vectors(1, seed=5)
    annotate(core, dict.fromkeys(names(0, 10), "ant"))
    leased = next_batch(core, 10).lease.record.rows
    core.samples.delete(POOL, [f"s{row}" for row in range(10, 20) if row not in leased], False, NO_KEY)
    deleted = {row for row in range(10, 20) if row not in leased}
    live = np.array([row for row in range(40) if row not in deleted])
    for states, rows in (
        ((), live),
        ((State.LABELED,), np.arange(10)),
        ((State.LEASED,), np.array(leased)),
        ((State.LABELED, State.LEASED), np.array(sorted({*range(10), *leased}))),
    ):
        result = core.samples.search(POOL, SearchSpec(vectors_QD=query, k=6, states=states))
        assert rows_of(result) == nearest(Metric.L2, query, embeddings, 6, rows)
    result = core.samples.search(POOL, SearchSpec(vectors_QD=query, k=6, filter=Compare("n", "<", 10)))
    assert rows_of(result) == nearest(Metric.L2, query, embeddings, 6, np.arange(10))
    nothing = core.samples.search(POOL, SearchSpec(vectors_QD=query, filter=HasId(("none",))))
    assert nothing.hits == ((),)


def test_hits_carry_payloads_when_asked(core: Assay) -> None:
    fill(core, 5)
    for asked in (True, False):
        hits = core.samples.search(POOL, SearchSpec(ids=("s1",), k=2, payload=asked)).hits[0]
        assert all((hit.sample.record.payload == hit.sample.record.id.encode()) is asked for hit in hits)


def test_a_pool_of_known_dimension_but_no_samples_finds_nothing(core: Assay) -> None:
    make_pool(core, "empty", dimension=4)
    assert core.samples.search("empty", SearchSpec(vectors_QD=vectors(2))).hits == ((), ())


@pytest.fixture
def indexed(house: House) -> Assay:
    """A pool that is large enough for an approximate index, which is built."""
    house.index_from = 200
    opened = house.open()
    make_pool(opened)
    fill(opened, COUNT, step=100)
    assert opened._upkeep.index()
    while opened._upkeep.index():
        pass
    return opened


def test_an_index_is_built_used_and_said(house: House, indexed: Assay) -> None:
    view = indexed.pools.get(POOL)
    assert (view.index_kind, view.indexed, view.index_building) == ("hnsw", COUNT, False)
    embeddings, queries = vectors(COUNT), vectors(10, seed=9)
    expected = nearest(Metric.L2, queries, embeddings, 5, np.arange(COUNT))
    for mode, exact in ((SearchMode.AUTO, False), (SearchMode.APPROXIMATE, False), (SearchMode.EXACT, True)):
        result = indexed.samples.search(POOL, SearchSpec(vectors_QD=queries, k=5, mode=mode))
        assert result.exact is exact
        shared = sum(len({*a} & {*b}) for a, b in zip(rows_of(result), expected, strict=True))
        assert shared >= (50 if exact else 48)
        for query, hits in enumerate(result.hits):
            true = keys(Metric.L2, queries, embeddings)[query]
            np.testing.assert_allclose([hit.distance for hit in hits], true[rows_of(result)[query]], rtol=1e-5)
            assert rows_of(result)[query] == sorted(rows_of(result)[query], key=lambda row: (true[row], row))


def test_rows_beyond_the_index_are_found_too(indexed: Assay) -> None:
    query = np.full((1, 4), 9, np.float32)
    add(indexed, names(COUNT, COUNT + 3), query + np.array([[0.1], [0.2], [0.3]], np.float32))
    assert not indexed._upkeep.index(), "so few are not worth an extension"
    result = indexed.samples.search(POOL, SearchSpec(vectors_QD=query, k=5))
    assert not result.exact
    assert rows_of(result)[0][:3] == [COUNT, COUNT + 1, COUNT + 2]
    assert len(result.hits[0]) == 5


def test_the_index_is_extended_when_much_is_new(indexed: Assay) -> None:
    add(indexed, names(COUNT, 2 * COUNT), vectors(COUNT, seed=3))
    assert indexed._upkeep.index()
    assert indexed.pools.get(POOL).indexed == 2 * COUNT


def test_what_is_deleted_or_filtered_out_is_not_found_through_the_index(indexed: Assay) -> None:
    embeddings = vectors(COUNT)
    indexed.samples.delete(POOL, names(0, 50), False, NO_KEY)
    annotate(indexed, dict.fromkeys(names(50, 100), "ant"))
    found = indexed.samples.search(POOL, SearchSpec(vectors_QD=embeddings[:5], k=10, states=(State.UNLABELED,)))
    assert min(row for rows in rows_of(found) for row in rows) >= 100
    few = indexed.samples.search(POOL, SearchSpec(vectors_QD=embeddings[:2], k=10, filter=Compare("n", ">=", 295)))
    assert [sorted(rows) for rows in rows_of(few)] == [[295, 296, 297, 298, 299]] * 2


def test_the_index_is_there_after_a_restart(house: House, indexed: Assay) -> None:
    before, query = indexed.pools.get(POOL), SearchSpec(vectors_QD=vectors(1), k=5)
    found = rows_of(indexed.samples.search(POOL, query))
    core = house.open()
    assert core.pools.get(POOL).record == before.record
    assert core.pools.get(POOL).indexed == COUNT
    result = core.samples.search(POOL, query)
    assert not result.exact
    assert rows_of(result) == found
    assert not core._upkeep.index()
    assert core.pools.get(POOL).record.epoch == before.record.epoch


def test_another_index_is_another_epoch(house: House) -> None:
    house.index_from = 200
    core = house.open()
    make_pool(core)
    fill(core, COUNT)
    epochs = [core.pools.get(POOL).record.epoch]
    assert core._upkeep.index()
    while core._upkeep.index():
        pass
    epochs.append(core.pools.get(POOL).record.epoch)
    shutil.rmtree(house.root / "derived")
    core = house.open()
    assert core.pools.get(POOL).index_kind == "exact"
    epochs.append(core.pools.get(POOL).record.epoch)
    while core._upkeep.index():
        pass
    assert core.pools.get(POOL).index_kind == "hnsw"
    epochs.append(core.pools.get(POOL).record.epoch)
    assert sorted(set(epochs)) == epochs


def test_an_index_of_a_later_life_is_not_taken_for_that_of_a_restored_catalog(house: House) -> None:
    """After a restore, rows are given again: an index that was built after the backup names other samples by them."""
    house.index_from = 200
    core = house.open()
    make_pool(core)
    fill(core, 150)
    core.close()
    backup = (house.root / "catalog.db").read_bytes()
    core = house.open()
    add(core, [f"lost{number}" for number in range(150)], vectors(150, seed=5))
    while core._upkeep.index():
        pass
    assert core.pools.get(POOL).indexed == COUNT
    core.close()
    for path in house.root.glob("catalog.db*"):
        path.unlink()
    (house.root / "catalog.db").write_bytes(backup)
    core = house.open()
    assert not [path for path in (house.root / "derived").rglob("*") if path.is_file()]
    add(core, [f"other{number}" for number in range(150)], vectors(150, seed=6))
    while core._upkeep.index():
        pass
    query = vectors(150, seed=6)[:5]
    found = core.samples.search(POOL, SearchSpec(vectors_QD=query, k=1, mode=SearchMode.APPROXIMATE))
    assert [hits[0].sample.record.id for hits in found.hits] == [f"other{number}" for number in range(5)]


def test_an_index_of_another_space_is_not_put_into_use(indexed: Assay) -> None:
    pool = pool_of(indexed)
    index = pool.snapshot.index
    assert index is not None
    with pool.change() as change:
        change.replace(index=None)
    pool.publish_index("elsewhere", index)
    assert pool.snapshot.index is None
    pool.publish_index(PUSHED_SPACE, index)
    assert pool.snapshot.index is index


def test_an_index_is_deleted_with_its_pool(house: House, indexed: Assay) -> None:
    assert list((house.root / "derived").rglob("*"))
    indexed.pools.delete(POOL, NO_KEY)
    assert not [path for path in (house.root / "derived").rglob("*") if path.is_file()]
    refused(Reason.POOL_NOT_FOUND, lambda: indexed.samples.search(POOL, SearchSpec(ids=("s1",))))
