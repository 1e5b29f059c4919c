"""Deleted rows, rows set aside, labels."""

from dataclasses import replace

import numpy as np
import pytest

from assay.server.adapters.sql import SqlCatalog
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.pools import PoolRecord
from tests.catalog.records import label, pool_record, put_labels, rows_of


def rows(*numbers: int) -> RowArray:
    return np.array(numbers, np.int64)


def test_pool_without_rows(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.delete_rows(pool.uid, rows())
        tx.exclude_rows(pool.uid, rows(), "ann", "none")
        put_labels(tx, pool.uid, [])
        tx.put_label_columns(pool.uid, rows(), np.empty(0, np.int32), "ann", 1.0)
    with catalog.reading() as tx:
        for found in (tx.deleted_rows(pool.uid), tx.excluded_rows(pool.uid), *tx.label_columns(pool.uid)):
            assert found.shape == (0,)
        assert tx.labels(pool.uid) == []


def test_deletion_drops_labels_and_exclusions_of_the_rows(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        for uid in (pool.uid, other.uid):
            put_labels(tx, uid, [label(1), label(2), label(3)])
            tx.exclude_rows(uid, rows(2, 3, 4), "ann", "blurred")
        tx.delete_rows(pool.uid, rows(9, 2, 2**40))
        tx.delete_rows(pool.uid, rows(2, 4))
    with catalog.reading() as tx:
        deleted = tx.deleted_rows(pool.uid)
        assert deleted.dtype == np.int64
        assert deleted.tolist() == [2, 4, 9, 2**40]
        assert tx.excluded_rows(pool.uid).tolist() == [3]
        assert [found.row for found in tx.labels(pool.uid)] == [1, 3]
        assert tx.deleted_rows(other.uid).tolist() == []
        assert tx.excluded_rows(other.uid).tolist() == [2, 3, 4]
        assert [found.row for found in tx.labels(other.uid)] == [1, 2, 3]


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


def test_label_replaces_label_even_within_one_call(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        put_labels(tx, pool.uid, [label(7, 1), label(3, 2), label(7, 4, worker="bob", lease="l1")])
        put_labels(tx, pool.uid, [replace(label(3, 0, worker="eve"), create_time=99.5)])
        assert tx.labels(pool.uid) == [
            replace(label(3, 0, worker="eve"), create_time=99.5),
            label(7, 4, worker="bob", lease="l1"),
        ]


def test_numpy_numbers_are_stored_as_numbers(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        put_labels(tx, pool.uid, [replace(label(0), row=np.int64(5), class_index=np.int32(1))])  # type: ignore[arg-type]
        assert tx.labels(pool.uid) == [label(5, 1)]


def test_label_columns_of_an_ingest(catalog: SqlCatalog, pool: PoolRecord) -> None:
    count = 70_000  # more than one block of the reader
    given = np.random.default_rng(0).permutation(count).astype(np.int64)
    classes = (given % 7).astype(np.int32)
    with catalog.transaction() as tx:
        put_labels(tx, pool.uid, [label(11, 6), label(count, 5)])
        tx.put_label_columns(pool.uid, given, classes, "ingest", 42.5)
    with catalog.reading() as tx:
        found_rows, found_classes = tx.label_columns(pool.uid)
        (stored,) = tx.labels(pool.uid, after_row=10, limit=1)
    assert found_rows.dtype == np.int64
    assert found_classes.dtype == np.int32
    np.testing.assert_array_equal(found_rows, np.arange(count + 1))
    np.testing.assert_array_equal(found_classes, [*(np.arange(count) % 7), 5])
    assert stored == replace(label(11, 11 % 7, worker="ingest"), create_time=42.5)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"limit": 3}, [0, 1, 2]),
        ({"after_row": 2, "limit": 3}, [3, 4, 5]),
        ({"after_row": 7}, []),
        ({"worker": "bob"}, [1, 3, 5, 7]),
        ({"worker": "nobody"}, []),
        ({"class_index": 0}, [0, 3, 6]),
        ({"worker": "bob", "class_index": 0}, [3]),
        ({"worker": "bob", "after_row": 1, "limit": 2}, [3, 5]),
    ],
)
def test_labels_by_page(catalog: SqlCatalog, pool: PoolRecord, asked: dict[str, object], expected: list[int]) -> None:
    with catalog.transaction() as tx:
        put_labels(tx, pool.uid, [label(row, row % 3, worker=("ann", "bob")[row % 2]) for row in reversed(range(8))])
        assert [found.row for found in tx.labels(pool.uid, **asked)] == expected  # type: ignore[arg-type]


def test_rows_set_aside_are_taken_back(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        tx.exclude_rows(pool.uid, rows(1, 2, 3), "ann", "blurred")
        tx.include_rows(pool.uid, rows(2, 9))
        tx.include_rows(pool.uid, rows())
    with catalog.reading() as tx:
        assert tx.excluded_rows(pool.uid).tolist() == [1, 3]


def test_releases_are_kept_by_worker(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        tx.release_rows(pool.uid, rows(3, 1), "ann")
        tx.release_rows(pool.uid, rows(1, 2), "ann")
        tx.release_rows(pool.uid, rows(1), "bob")
        tx.release_rows(pool.uid, rows(), "cy")
        tx.release_rows(other.uid, rows(7), "ann")
        tx.delete_rows(pool.uid, rows(2))
    with catalog.reading() as tx:
        found = {worker: numbers.tolist() for worker, numbers in tx.released_rows(pool.uid).items()}
        assert found == {"ann": [1, 3], "bob": [1]}
        assert tx.released_rows(other.uid)["ann"].dtype == np.int64
