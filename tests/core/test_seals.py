"""The shortlist of SEALS over a real index: near what is labeled, and only new labels are searched."""

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.mining import frontiers
from assay.server.core.mining.plan.terms import SelectTerm, Shortlist
from assay.server.core.ports.search import SearchIndex
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from tests.core.kit import House, add, annotate, fill, make_pool, names, pool_of, refused, train
from tests.core.mining import mine, rows_of
from tests.index.pools import clustered

COUNT, DIMENSION, NEIGHBORS = 4000, 16, 20


@dataclass
class Counted:
    """An index that counts the queries that reach the real one inside it."""

    inner: SearchIndex
    queries: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def kind(self) -> str:
        return self.inner.kind

    @property
    def version(self) -> str:
        return self.inner.version

    @property
    def indexed_rows(self) -> RowArray:
        return self.inner.indexed_rows

    def search(self, queries_QD: FloatArray, k: int, allowed: MaskArray | None) -> tuple[FloatArray, RowArray]:
        with self.lock:
            self.queries += len(queries_QD)
        return self.inner.search(queries_QD, k, allowed)


@pytest.fixture
def indexed(house: House) -> tuple[Assay, np.ndarray, Counted]:
    """Four thousand samples in clusters, forty labeled, a head, and the approximate index with a counter on it."""
    house.index_from = 1000
    core = house.open()
    make_pool(core)
    embeddings = clustered(COUNT, DIMENSION, seed=3)
    add(core, names(0, COUNT), embeddings)
    annotate(core, {f"s{row}": "ant" if embeddings[row, 0] > 0 else "bee" for row in range(40)})
    train(core)
    pool = pool_of(core)
    while core._upkeep._index(pool):
        continue
    assert pool.snapshot.index is not None
    assert pool.snapshot.index.kind == "hnsw"
    counted = Counted(pool.snapshot.index)
    pool.publish_index(pool.snapshot.pool.space, counted)
    return core, embeddings, counted


def seals(core: Assay, size: int = 30, preset: str = "margin", neighbors: int = NEIGHBORS, **spec: Any) -> list[int]:
    return rows_of(mine(core, size, preset, shortlist=Shortlist(neighbors=neighbors), **spec))


def near(embeddings: np.ndarray, labeled: range, neighbors: int) -> set[int]:
    wide = embeddings.astype(np.float64)
    found: set[int] = set()
    for row in labeled:
        order = np.argsort(np.square(wide - wide[row]).sum(axis=1), kind="stable")
        found |= set(order[: neighbors + 1].tolist())
    return found - set(labeled)


def test_picks_are_near_what_is_labeled_and_only_new_labels_are_searched(
    indexed: tuple[Assay, np.ndarray, Counted],
) -> None:
    core, embeddings, counted = indexed
    first = seals(core)
    assert counted.queries == 40
    around = near(embeddings, range(40), NEIGHBORS)
    assert len(set(first) & around) >= 29  # the index is approximate
    assert seals(core) == first
    assert seals(core, preset="k_center") != first
    assert counted.queries == 40
    annotate(core, {f"s{row}": "ant" for row in (41, 43, 45)})
    seals(core)
    assert counted.queries == 43
    annotate(core, {f"s{row}": "bee" for row in (41, 43, 45)}, correct=True)
    seals(core)
    assert counted.queries == 43
    seals(core, neighbors=5)
    assert counted.queries == 43 + 43


def test_new_samples_and_another_index_begin_a_new_frontier(indexed: tuple[Assay, np.ndarray, Counted]) -> None:
    core, embeddings, counted = indexed
    seals(core)
    add(core, ["twin"], embeddings[:1] + np.float32(1e-3))
    assert COUNT in seals(core, size=len(near(embeddings, range(40), NEIGHBORS)), preset="random")
    assert counted.queries == 80
    pool = pool_of(core)
    again = Counted(counted.inner)
    pool.publish_index(pool.snapshot.pool.space, again)
    seals(core)
    assert (counted.queries, again.queries) == (80, 40)
    assert len(pool.derived.get(frontiers.Frontiers)._kept) <= frontiers.KEPT


def test_scorers_that_read_embeddings_see_the_frontier_only(indexed: tuple[Assay, np.ndarray, Counted]) -> None:
    core, embeddings, _ = indexed
    picked = seals(core, preset="expected_gradient_length")
    assert set(picked) <= near(embeddings, range(40), NEIGHBORS + 5)


def test_without_an_index_the_search_is_exact(house: House) -> None:
    core = house.open()
    make_pool(core)
    embeddings = fill(core, 300, step=100)
    annotate(core, {f"s{row}": "ant" for row in range(12)})
    around = near(embeddings, range(12), 4)
    picked = rows_of(mine(core, len(around), "random", shortlist=Shortlist(neighbors=4)))
    assert set(picked) == around


def test_where_there_are_too_few_neighbours_chance_fills_up(core: Assay) -> None:
    embeddings = fill(core, 60)
    assert len(rows_of(mine(core, 10, "k_center", shortlist=Shortlist(neighbors=3)))) == 10  # nothing is labeled
    annotate(core, {"s0": "ant"})
    picked = rows_of(mine(core, 10, "k_center", shortlist=Shortlist(neighbors=3)))
    assert near(embeddings, range(1), 3) < set(picked)
    others = rows_of(mine(core, 10, "k_center", shortlist=Shortlist(neighbors=3), seed=1))
    assert set(others) != set(picked)
    everything = rows_of(mine(core, 59, select=SelectTerm("random"), shortlist=Shortlist(neighbors=1000)))
    assert sorted(everything) == list(range(1, 60))


def test_more_neighbours_than_are_remembered_are_refused(core: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(core, 20)
    annotate(core, {f"s{row}": "ant" for row in range(5)})
    monkeypatch.setattr(frontiers, "MAX_REMEMBERED", 49)
    refused(Reason.INVALID_PLAN, lambda: mine(core, 1, "random", shortlist=Shortlist(neighbors=10)))
    assert len(mine(core, 1, "random", shortlist=Shortlist(neighbors=9)).picks) == 1
