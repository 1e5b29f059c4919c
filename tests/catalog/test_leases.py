"""Leases: no worker ever has a row in two live ones."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest

from assay.server.adapters.sql import SqlCatalog
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.leases import LeaseRecord
from assay.server.core.records.pools import PoolRecord
from tests.catalog.records import label, labels_of, lease, pool_record, put_labels, rows_of


def test_lease_comes_back_with_its_rows_ascending(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.add_lease(pool.uid, lease("a", (9, 2, 5), token=4))
    with catalog.reading() as tx:
        assert tx.lease(pool.uid, "a") == lease("a", (2, 5, 9), token=4)
        assert tx.lease(pool.uid, "b") is None
        assert tx.lease(pool.uid + 1, "a") is None


def test_live_leases_are_those_of_the_pool_by_token(catalog: SqlCatalog, pool: PoolRecord) -> None:
    first, second, third = (lease(name, (row, row + 1), token=row) for name, row in (("z", 1), ("y", 3), ("x", 7)))
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        tx.add_lease(other.uid, lease("z", (1, 2)))
        for given in (third, first, second, lease("done", (20,), token=2), lease("expired", (30,), token=5)):
            tx.add_lease(pool.uid, given)
        tx.drop_lease_rows(pool.uid, "done", np.array([20]), "labeled")
        tx.expire_lease(pool.uid, "expired")
    with catalog.reading() as tx:
        assert tx.live_leases(pool.uid) == [first, second, third]


@pytest.mark.parametrize("overlapping", [lease("b", (4, 5, 6)), lease("b", (2,)), lease("a", (7,))])
def test_overlap_is_refused_whole(catalog: SqlCatalog, pool: PoolRecord, overlapping: LeaseRecord) -> None:
    with catalog.transaction() as tx:
        tx.add_lease(pool.uid, lease("a", (2, 6)))

    def overlap() -> None:
        with catalog.transaction() as tx:
            put_labels(tx, pool.uid, [label(0)])
            tx.add_lease(pool.uid, overlapping)

    with pytest.raises(AssayError) as refused:
        overlap()
    assert refused.value.reason is Reason.CONFLICT
    with catalog.reading() as tx:
        assert tx.live_leases(pool.uid) == [lease("a", (2, 6))]
        assert labels_of(tx, pool.uid) == []


def test_a_row_may_be_with_several_workers(catalog: SqlCatalog, pool: PoolRecord) -> None:
    given = [lease("a", (2, 6)), lease("b", (2, 7), token=2, worker="bob")]
    with catalog.transaction() as tx:
        for one in given:
            tx.add_lease(pool.uid, one)
        tx.drop_lease_rows(pool.uid, "a", np.array([2]), "")
        assert tx.live_leases(pool.uid) == [replace(given[0], rows=(6,)), given[1]]


def test_half_a_lease_never_commits_even_if_the_conflict_is_caught(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.add_lease(pool.uid, lease("a", (2,)))

    def swallow() -> None:
        with catalog.transaction() as tx, suppress(AssayError):
            tx.add_lease(pool.uid, lease("b", (1, 2)))

    with pytest.raises(AssayError) as refused:
        swallow()
    assert refused.value.reason is Reason.CONFLICT
    with catalog.reading() as tx:
        assert tx.lease(pool.uid, "b") is None


def test_renewal_moves_the_end_of_a_live_lease_only(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        for name, row in (("a", 1), ("b", 2), ("c", 3)):
            tx.add_lease(pool.uid, lease(name, (row,), token=row))
        tx.expire_lease(pool.uid, "b")
        for name in ("a", "b", "missing"):
            tx.renew_lease(pool.uid, name, 5000.5)
    with catalog.reading() as tx:
        assert tx.lease(pool.uid, "a") == replace(lease("a", (1,)), expire_time=5000.5)
        assert tx.lease(pool.uid, "b") == replace(lease("b", (), token=2), state="expired")
        assert tx.lease(pool.uid, "c") == lease("c", (3,), token=3)


def test_rows_leave_a_lease_until_it_is_done(catalog: SqlCatalog, pool: PoolRecord, url: str) -> None:
    with catalog.transaction() as tx:
        tx.add_lease(pool.uid, lease("a", (1, 2, 3)))
        tx.add_lease(pool.uid, lease("b", (8,), token=2))
        tx.drop_lease_rows(pool.uid, "a", np.array([2, 99, 8]), "skipped")
        assert tx.lease(pool.uid, "a") == lease("a", (1, 3))
        tx.drop_lease_rows(pool.uid, "a", np.array([1]), "")
        tx.drop_lease_rows(pool.uid, "a", np.empty(0, np.int64), "nothing")
        assert tx.lease(pool.uid, "a") == lease("a", (3,))
        tx.drop_lease_rows(pool.uid, "a", np.array([3, 2]), "labeled")
        assert tx.lease(pool.uid, "a") == replace(lease("a", ()), state="done")
        assert tx.live_leases(pool.uid) == [lease("b", (8,), token=2)]
    kept = rows_of(url, "SELECT lease_id, lease_releases.row, reason FROM lease_releases ORDER BY 2")
    assert kept == [("a", 2, "skipped"), ("a", 3, "labeled")]


def test_rows_that_left_a_lease_can_be_leased_again(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.add_lease(pool.uid, lease("a", (1, 2)))
        tx.add_lease(pool.uid, lease("b", (3, 4), token=2))
    with catalog.transaction() as tx:
        tx.drop_lease_rows(pool.uid, "a", np.array([2]), "skipped")
        tx.expire_lease(pool.uid, "b")
        tx.add_lease(pool.uid, lease("c", (2, 3, 4), token=3))
        assert tx.live_leases(pool.uid) == [lease("a", (1,)), lease("c", (2, 3, 4), token=3)]


def test_lease_that_ended_stays_as_it_ended(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.add_lease(pool.uid, lease("a", (1,)))
        tx.drop_lease_rows(pool.uid, "a", np.array([1]), "labeled")
        tx.expire_lease(pool.uid, "a")
        tx.add_lease(pool.uid, lease("b", (1,), token=2))
        tx.expire_lease(pool.uid, "b")
        tx.drop_lease_rows(pool.uid, "b", np.array([1]), "labeled")
        assert [tx.lease(pool.uid, name).state for name in ("a", "b")] == ["done", "expired"]  # type: ignore[union-attr]


def test_of_threads_after_the_same_rows_one_wins(catalog: SqlCatalog, pool: PoolRecord) -> None:
    workers, rounds = 6, 8
    together = Barrier(workers)

    def claim(turn: int, worker: int) -> str:
        rows = (turn * 100, turn * 100 + 1 + worker)  # all want the first
        together.wait()
        try:
            with catalog.transaction() as tx:
                tx.add_lease(pool.uid, lease(f"{turn}-{worker}", rows, token=turn * workers + worker))
        except AssayError as error:
            return error.reason
        return "won"

    with ThreadPoolExecutor(workers) as threads:
        for turn in range(rounds):
            outcomes = list(threads.map(claim, [turn] * workers, range(workers)))
            assert sorted(outcomes) == [Reason.CONFLICT] * (workers - 1) + ["won"]
    with catalog.reading() as tx:
        live = tx.live_leases(pool.uid)
    assert len(live) == rounds
    assert all(len(found.rows) == 2 for found in live)
