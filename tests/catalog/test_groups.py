"""Group commit: changes of many threads become durable by one commit, and none harms another."""

import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from assay.server.adapters.sql import SqlCatalog, groups
from assay.server.core.errors import AssayError, OutcomeUnknown, Reason
from assay.server.core.ports.catalog import CatalogTx
from assay.server.core.records.pools import PoolRecord
from assay.server.core.records.requests import NO_POOL, Remembered
from tests.catalog.records import label, labels_of, pool_record, put_labels, request_key

Write = Callable[[CatalogTx], object]


class Commits:
    """Counts the commits of a catalog's writer from now on."""

    def __init__(self, catalog: SqlCatalog) -> None:
        self.count = 0
        event.listen(catalog._writer, "commit", self._committed)

    def _committed(self, _connection: object) -> None:
        self.count += 1


def write(catalog: SqlCatalog, work: Write) -> None:
    with catalog.transaction() as tx:
        work(tx)


def all_at_once(catalog: SqlCatalog, works: Sequence[Write]) -> list[BaseException | None]:
    """Runs works in threads that all wait for their turn, in this order, behind one that writes nothing; returns what
    each raised."""
    with ThreadPoolExecutor(len(works)) as threads:
        futures: list[Future[None]] = []
        with catalog.transaction():
            for number, work in enumerate(works, start=1):
                futures.append(threads.submit(write, catalog, work))
                while len(catalog._turn._queue) < number:
                    pass
        return [future.exception() for future in futures]


def test_those_who_wait_share_a_commit(catalog: SqlCatalog, pool: PoolRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "OLDEST_S", 60.0)
    commits = Commits(catalog)
    raised = all_at_once(catalog, [lambda tx, row=row: put_labels(tx, pool.uid, [label(row)]) for row in range(20)])  # type: ignore[misc]
    assert raised == [None] * 20
    assert commits.count == 1
    with catalog.reading() as tx:
        assert [found.row for found in labels_of(tx, pool.uid)] == list(range(20))


def test_a_change_that_fails_leaves_its_group_alone(catalog: SqlCatalog, pool: PoolRecord) -> None:
    """Half a change of it is undone, whether the database refused it or the domain did."""

    def refused_by_the_database(tx: CatalogTx) -> None:
        put_labels(tx, pool.uid, [label(50)])
        put_labels(tx, pool.uid + 1, [label(51)])

    def refused_by_the_domain(tx: CatalogTx) -> None:
        put_labels(tx, pool.uid, [label(52)])
        raise AssayError(Reason.POOL_EXHAUSTED, "None left.")

    def caught_and_forgotten(tx: CatalogTx) -> None:
        put_labels(tx, pool.uid, [label(53)])
        with pytest.raises(AssayError):
            put_labels(tx, pool.uid + 1, [label(54)])

    works: list[Write] = [
        lambda tx: put_labels(tx, pool.uid, [label(1)]),
        refused_by_the_database,
        lambda tx: put_labels(tx, pool.uid, [label(2)]),
        refused_by_the_domain,
        lambda tx: put_labels(tx, pool.uid, [label(3)]),
        caught_and_forgotten,
        lambda tx: put_labels(tx, pool.uid, [label(4)]),
    ]
    raised = all_at_once(catalog, works)
    reasons = [getattr(error, "reason", None) for error in raised]
    assert reasons == [None, Reason.CONFLICT, None, Reason.POOL_EXHAUSTED, None, Reason.CONFLICT, None]
    with catalog.reading() as tx:
        assert [found.row for found in labels_of(tx, pool.uid)] == [1, 2, 3, 4]


def test_one_name_is_given_once_within_a_group(catalog: SqlCatalog) -> None:
    raised = all_at_once(catalog, [lambda tx: tx.insert_pool(pool_record("news"))] * 8)
    assert [getattr(error, "reason", None) for error in raised] == [None, *[Reason.POOL_EXISTS] * 7]
    with catalog.reading() as tx:
        assert [found.pool_id for found in tx.pools()] == ["news"]


def test_a_request_is_remembered_once_within_a_group(catalog: SqlCatalog) -> None:
    seen: list[Remembered | None] = []

    def answer(tx: CatalogTx) -> None:
        seen.append(tx.recall(NO_POOL, request_key("r")))
        if seen[-1] is None:
            tx.remember(NO_POOL, request_key("r"), b"first", 1.0)

    assert all_at_once(catalog, [answer] * 4) == [None] * 4
    assert seen == [None, *[Remembered(b"first", 1.0)] * 3]


def test_closing_stores_what_waits_for_its_commit(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with ThreadPoolExecutor(2) as threads:
        with catalog.transaction() as tx:
            put_labels(tx, pool.uid, [label(1)])
            closed = threads.submit(catalog.close)
            while not catalog._turn.wanted:
                pass
        closed.result()
    with pytest.raises(AssayError) as refused, catalog.transaction():
        pass
    assert refused.value.reason is Reason.SHUTTING_DOWN


def test_a_pool_advances_from_the_epoch_that_it_is_at_only(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        assert tx.advance_pool(pool.uid, 0)
        assert not tx.advance_pool(pool.uid, 0)
        assert not tx.advance_pool(pool.uid, 2)
        assert not tx.advance_pool(pool.uid + 1, 0)
        assert tx.advance_pool(pool.uid, 1)
    with catalog.reading() as tx:
        assert [found.epoch for found in tx.pools()] == [2]


def broken(*_: object) -> None:
    raise OperationalError("RELEASE", None, sqlite3.OperationalError("the disk failed"))


def test_a_change_that_may_not_be_undone_takes_its_group_with_it(catalog: SqlCatalog, pool: PoolRecord) -> None:
    """Its savepoint was neither kept nor rolled back: what its caller takes for a failure must not be stored."""
    event.listen(catalog._writer, "release_savepoint", broken)
    with pytest.raises(AssayError, match="Nothing was stored"):
        all_at_once(catalog, [lambda tx: put_labels(tx, pool.uid, [label(2)])])
    event.remove(catalog._writer, "release_savepoint", broken)
    with catalog.reading() as tx:
        assert labels_of(tx, pool.uid) == []
    write(catalog, lambda tx: put_labels(tx, pool.uid, [label(1)]))
    with catalog.reading() as tx:
        assert [found.row for found in labels_of(tx, pool.uid)] == [1]


def test_an_error_that_nobody_expected_leaves_the_outcome_unknown(
    catalog: SqlCatalog, pool: PoolRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes it for a failure deletes files that the catalog may name."""

    def out_of_memory(*_: object) -> None:
        raise MemoryError

    event.listen(catalog._writer, "commit", out_of_memory)
    monkeypatch.setattr(type(catalog._outcomes), "happened", out_of_memory)
    with pytest.raises(OutcomeUnknown), catalog.transaction() as tx:
        put_labels(tx, pool.uid, [label(1)])
    event.remove(catalog._writer, "commit", out_of_memory)
    write(catalog, lambda tx: put_labels(tx, pool.uid, [label(2)]))
    with catalog.reading() as tx:
        assert [found.row for found in labels_of(tx, pool.uid)] == [2]


def test_a_connection_that_cannot_be_given_back_holds_up_nobody(catalog: SqlCatalog, pool: PoolRecord) -> None:

    def refuses(tx: CatalogTx) -> None:
        put_labels(tx, pool.uid, [label(1)])
        raise AssayError(Reason.POOL_EXHAUSTED, "None left.")

    event.listen(catalog._writer, "rollback", broken)
    with pytest.raises(AssayError) as refused:
        write(catalog, refuses)
    event.remove(catalog._writer, "rollback", broken)
    assert refused.value.reason is Reason.POOL_EXHAUSTED
    write(catalog, lambda tx: put_labels(tx, pool.uid, [label(2)]))
    with catalog.reading() as tx:
        assert [found.row for found in labels_of(tx, pool.uid)] == [2]


def test_nothing_is_written_after_a_statement_that_failed(catalog: SqlCatalog, pool: PoolRecord) -> None:
    """SQLite may have ended the transaction with it: a statement that came then would be a transaction by itself."""

    def goes_on(tx: CatalogTx) -> None:
        for row, uid in ((1, pool.uid + 1), (2, pool.uid)):
            with suppress(AssayError):
                put_labels(tx, uid, [label(row)])

    with pytest.raises(AssayError) as refused:
        write(catalog, goes_on)
    assert refused.value.reason is Reason.CONFLICT
    with catalog.reading() as tx:
        assert labels_of(tx, pool.uid) == []
