"""Deleted rows, rows set aside."""

import numpy as np

from assay.server.adapters.sql import SqlCatalog
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.pools import PoolRecord
from tests.catalog.records import pool_record, rows_of


def rows(*numbers: int) -> RowArray:
    return np.array(numbers, np.int64)


def test_pool_without_rows(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.delete_rows(pool.uid, rows())
        tx.exclude_rows(pool.uid, rows(), "ann", "none")
        tx.include_rows(pool.uid, rows())
    with catalog.reading() as tx:
        for found in (tx.deleted_rows(pool.uid), tx.excluded_rows(pool.uid)):
            assert found.shape == (0,)


def test_deletion_drops_exclusions_of_the_rows(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        for uid in (pool.uid, other.uid):
            tx.exclude_rows(uid, rows(2, 3, 4), "ann", "blurred")
        tx.delete_rows(pool.uid, rows(9, 2, 2**40))
        tx.delete_rows(pool.uid, rows(2, 4))
    with catalog.reading() as tx:
        deleted = tx.deleted_rows(pool.uid)
        assert deleted.dtype == np.int64
        assert deleted.tolist() == [2, 4, 9, 2**40]
        assert tx.excluded_rows(pool.uid).tolist() == [3]
        assert tx.deleted_rows(other.uid).tolist() == []
        assert tx.excluded_rows(other.uid).tolist() == [2, 3, 4]


def test_tombstones_are_forgotten(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.delete_rows(pool.uid, np.arange(10))
        tx.forget_deleted_rows(pool.uid, rows(0, 5, 77))
        assert tx.deleted_rows(pool.uid).tolist() == [1, 2, 3, 4, 6, 7, 8, 9]


def test_exclusion_keeps_who_and_why(catalog: SqlCatalog, pool: PoolRecord, url: str) -> None:
    with catalog.transaction() as tx:
        tx.exclude_rows(pool.uid, rows(5, 4), "ann", "blurred")
        tx.exclude_rows(pool.uid, rows(5), "bob", "not a cat")
        assert tx.excluded_rows(pool.uid).tolist() == [4, 5]
    kept = rows_of(url, "SELECT worker, reason FROM excluded_rows ORDER BY excluded_rows.row")
    assert kept == [("ann", "blurred"), ("bob", "not a cat")]


def test_rows_set_aside_are_taken_back(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.exclude_rows(pool.uid, rows(1, 2, 3), "ann", "blurred")
        tx.include_rows(pool.uid, rows(2, 9))
        tx.include_rows(pool.uid, rows())
    with catalog.reading() as tx:
        assert tx.excluded_rows(pool.uid).tolist() == [1, 3]
