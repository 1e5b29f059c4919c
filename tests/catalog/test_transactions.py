"""Transactions: whole or not at all, one writer, readers beside it, durable against a kill."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from assay.server.adapters.sql import SqlCatalog, open_catalog
from assay.server.core.errors import AssayError, Reason, RequestReplayed
from assay.server.core.records.pools import PoolRecord
from tests.catalog.records import label, labels_of, pool_record, put_labels, request_key

ROOT = Path(__file__).resolve().parents[2]
COMMITTER = [sys.executable, "-m", "tests.catalog.committer"]


class OurOwnError(Exception):
    """An error that is no business of the catalog."""


@pytest.mark.parametrize(
    "error", [OurOwnError("x"), AssayError(Reason.POOL_EXHAUSTED, "None left."), RequestReplayed(b"first")]
)
def test_error_undoes_the_transaction_and_passes(catalog: SqlCatalog, pool: PoolRecord, error: Exception) -> None:

    def fail_late() -> None:
        with catalog.transaction() as tx:
            tx.update_pool(pool.uid, next_row=9)
            put_labels(tx, pool.uid, [label(1)])
            raise error

    with pytest.raises(type(error)) as raised:
        fail_late()
    assert raised.value is error
    with catalog.reading() as tx:
        assert tx.pools() == [pool]
        assert labels_of(tx, pool.uid) == []


def test_commit_survives_closing(url: str) -> None:
    first = open_catalog(url)
    with first.transaction() as tx:
        pool = tx.insert_pool(pool_record("news"))
    first.close()
    second = open_catalog(url)
    try:
        with second.reading() as tx:
            assert tx.pools() == [pool]
    finally:
        second.close()


def test_reader_sees_one_moment_and_does_not_wait(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.reading() as before:
        assert labels_of(before, pool.uid) == []
        with catalog.transaction() as writing:
            put_labels(writing, pool.uid, [label(1)])
            with catalog.reading() as beside:
                assert labels_of(beside, pool.uid) == []
        assert labels_of(before, pool.uid) == []
        assert before.pools() == [pool]
    with catalog.reading() as after:
        assert labels_of(after, pool.uid) == [label(1)]


def test_reading_does_not_write(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with pytest.raises(AssayError) as refused, catalog.reading() as tx:
        tx.update_pool(pool.uid, next_row=1)
    assert refused.value.reason is Reason.STORAGE_FAILED
    with catalog.reading() as tx:
        assert tx.pools() == [pool]


def test_writers_take_turns(catalog: SqlCatalog, pool: PoolRecord) -> None:
    """A read followed by a write on what was read: an increment would be lost if two ran at once."""

    def increment(_: int) -> None:
        with catalog.transaction() as tx:
            (found,) = tx.pools()
            assert tx.advance_pool(pool.uid, found.epoch)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(increment, range(64)))
    with catalog.reading() as tx:
        assert tx.pools()[0].epoch == 64


def test_readers_and_a_writer_in_many_threads(catalog: SqlCatalog, pool: PoolRecord) -> None:
    """Each commit adds 10 labels and sets the epoch: every reader sees both or neither."""

    def read(_: int) -> None:
        with catalog.reading() as tx:
            assert len(labels_of(tx, pool.uid)) == tx.pools()[0].next_row

    with ThreadPoolExecutor(6) as threads:
        done = threads.map(read, range(60))
        for count in range(10, 210, 10):
            with catalog.transaction() as tx:
                put_labels(tx, pool.uid, [label(row) for row in range(count - 10, count)])
                tx.update_pool(pool.uid, next_row=count)
        list(done)


def test_what_belongs_to_no_pool_is_refused(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with pytest.raises(AssayError) as refused, catalog.transaction() as tx:
        put_labels(tx, pool.uid + 1, [label(1)])
    assert refused.value.reason is Reason.CONFLICT


def test_closed_catalog_refuses(catalog: SqlCatalog) -> None:
    catalog.close()
    for opening in (catalog.transaction, catalog.reading):
        with pytest.raises(AssayError) as refused, opening():
            pass
        assert refused.value.reason is Reason.SHUTTING_DOWN
    catalog.close()


@pytest.mark.parametrize("acknowledged", [1, 40])
def test_killed_process_loses_nothing_it_acknowledged(url: str, acknowledged: int) -> None:
    with subprocess.Popen([*COMMITTER, url], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        printed = [int(child.stdout.readline()) for _ in range(acknowledged)]
        os.kill(child.pid, signal.SIGKILL)
        printed += [int(line) for line in child.stdout if line.endswith("\n")]
    catalog = open_catalog(url)
    try:
        with catalog.reading() as tx:
            (pool,) = tx.pools()
            live = tx.live_leases(pool.uid)
            labels = [one.row for one in labels_of(tx, pool.uid)]
            answers = [tx.recall(pool.uid, request_key(str(number))) for number in range(pool.epoch + 2)]
    finally:
        catalog.close()
    assert printed == list(range(len(printed)))
    assert pool.epoch in (len(printed), len(printed) + 1)  # the last one may have been committed but not told
    assert [lease.rows for lease in live] == [(number * 2,) for number in range(pool.epoch)]
    assert labels == [number * 2 + 1 for number in range(pool.epoch)]
    assert [answer is not None for answer in answers] == [True] * pool.epoch + [False] * 2
