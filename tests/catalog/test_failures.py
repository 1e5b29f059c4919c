"""What a caller is told when the database cannot."""

import itertools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, text
from sqlalchemy.pool import Pool

from assay.server.adapters.sql import SqlCatalog, open_catalog
from assay.server.adapters.sql.schema import metadata
from assay.server.adapters.sql.versions import MIGRATIONS, prepare
from assay.server.core.errors import AssayError, Reason
from tests.catalog.records import direct, label, labels_of, pool_record, put_labels, request_key, rows_of
from tests.postgres import PostgresServer
from tests.small_disk import small_disk

KILL_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE pid <> pg_backend_pid() AND datname = current_database()"
)


def refusal(url: str) -> AssayError:
    with pytest.raises(AssayError) as refused:
        open_catalog(url)
    return refused.value


@pytest.mark.parametrize(
    "url", ["", "catalog.db", "mysql://u:secret@h/d", "sqlite://", "sqlite:///:memory:", "sqlite:///x?mode=memory"]
)
def test_unknown_urls(url: str) -> None:
    error = refusal(url)
    assert error.reason is Reason.INVALID_ARGUMENT
    assert "secret" not in error.message


def test_sqlite_in_a_missing_folder(tmp_path: Path) -> None:
    error = refusal(f"sqlite:///{tmp_path}/missing/catalog.db")
    assert error.reason is Reason.STORAGE_FAILED
    assert "unable to open" in error.message


def test_sqlite_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"not a database at all" * 100)
    error = refusal(f"sqlite:///{tmp_path}/catalog.db")
    assert error.reason is Reason.STORAGE_FAILED
    assert "no SQLite database" in error.message


@pytest.mark.parametrize("size", [50, 4096, 40_960])
def test_sqlite_file_that_was_cut_off(tmp_path: Path, size: int) -> None:
    path = tmp_path / "catalog.db"
    catalog = open_catalog(f"sqlite:///{path}")
    with catalog.transaction() as tx:
        tx.insert_pool(pool_record("news"))
    catalog.close()
    os.truncate(path, size)
    error = refusal(f"sqlite:///{path}")
    assert error.reason is Reason.STORAGE_FAILED
    assert "backup" in error.message
    assert path.stat().st_size == size


def test_sqlite_is_opened_on_a_disk_without_any_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        open_catalog(f"sqlite:///{disk}/catalog.db").close()
        with suppress(OSError), open(disk / "ballast", "wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        assert refusal(f"sqlite:///{disk}/catalog.db").reason is Reason.STORAGE_FULL


@pytest.fixture
def tiny_disk() -> Iterator[None]:
    """SQLite files of at most 300 pages."""

    def limit(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA max_page_count = 300")

    event.listen(Pool, "connect", limit)
    yield
    event.remove(Pool, "connect", limit)


@pytest.mark.usefixtures("tiny_disk")
def test_full_disk_under_sqlite(tmp_path: Path) -> None:
    catalog = open_catalog(f"sqlite:///{tmp_path}/catalog.db")
    with catalog.transaction() as tx:
        pool = tx.insert_pool(pool_record("news"))
    _assert_full(catalog, pool.uid, 350_000)


def test_full_disk_under_postgres(postgres_url: str) -> None:
    catalog = open_catalog(postgres_url)
    with catalog.transaction() as tx:
        pool = tx.insert_pool(pool_record("news"))
    with direct(postgres_url) as connection:
        connection.execute(text(
            "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN IF NEW.count > 10 THEN RAISE disk_full; END IF; RETURN NEW; END $$"
        ))  # fmt: skip
        connection.execute(
            text("CREATE TRIGGER fill BEFORE INSERT ON annotation_blocks FOR EACH ROW EXECUTE FUNCTION fill()")
        )
    _assert_full(catalog, pool.uid, 20)


def _assert_full(catalog: SqlCatalog, pool_uid: int, count: int) -> None:
    """Labels beyond the disk are refused whole, and the catalog works on."""
    with pytest.raises(AssayError) as refused, catalog.transaction() as tx:
        put_labels(tx, pool_uid, [label(row, row * 2_654_435_761 % 2**31) for row in range(count)])
    assert refused.value.reason is Reason.STORAGE_FULL
    with catalog.transaction() as tx:
        assert labels_of(tx, pool_uid) == []
        put_labels(tx, pool_uid, [label(1)])
    with catalog.reading() as tx:
        assert labels_of(tx, pool_uid) == [label(1)]
    catalog.close()


def test_value_that_postgres_cannot_hold(postgres_url: str) -> None:
    catalog = open_catalog(postgres_url)
    with pytest.raises(AssayError) as refused, catalog.transaction() as tx:
        tx.insert_pool(pool_record("nul\0"))
    catalog.close()
    assert refused.value.reason is Reason.INVALID_ARGUMENT


def test_postgres_that_is_not_there(postgres: PostgresServer) -> None:
    error = refusal(postgres.url("no_such_database"))
    assert error.reason is Reason.STORAGE_UNAVAILABLE
    assert "no_such_database" in error.message


def test_second_server_on_a_postgres_database_is_refused(postgres_url: str) -> None:
    first = open_catalog(postgres_url)
    assert refusal(postgres_url).reason is Reason.DATA_DIRECTORY_LOCKED
    with first.transaction() as tx:
        tx.insert_pool(pool_record("news"))
    first.close()
    open_catalog(postgres_url).close()


def test_server_that_lost_its_connections_comes_back_with_its_lock(postgres_url: str) -> None:
    catalog = open_catalog(postgres_url)
    with catalog.transaction() as tx:
        pool = tx.insert_pool(pool_record("news"))

    def lose_the_connection_midway() -> None:
        with catalog.transaction() as tx:
            put_labels(tx, pool.uid, [label(1)])
            assert rows_of(postgres_url, KILL_OTHERS) == [(True,)]
            put_labels(tx, pool.uid, [label(2)])

    with pytest.raises(AssayError) as lost:
        lose_the_connection_midway()
    assert lost.value.reason is Reason.STORAGE_UNAVAILABLE
    with catalog.transaction() as tx:
        put_labels(tx, pool.uid, [label(3)])
    rows_of(postgres_url, KILL_OTHERS)
    with catalog.reading() as tx:
        assert labels_of(tx, pool.uid) == [label(3)]
    with catalog.transaction() as tx:
        put_labels(tx, pool.uid, [label(4)])
    assert refusal(postgres_url).reason is Reason.DATA_DIRECTORY_LOCKED
    catalog.close()


def test_commits_are_durable_whatever_the_database_prefers(postgres: PostgresServer, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with direct(postgres_url) as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "off"
    catalog = open_catalog(postgres_url)
    with catalog.transaction() as tx:
        pool = tx.insert_pool(pool_record("news"))
    with direct(postgres_url) as connection:
        connection.execute(text(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.reason := current_setting('synchronous_commit'); RETURN NEW; END $$"
        ))  # fmt: skip
        connection.execute(
            text("CREATE TRIGGER note BEFORE INSERT ON excluded_rows FOR EACH ROW EXECUTE FUNCTION note()")
        )
    with catalog.transaction() as tx:
        tx.exclude_rows(pool.uid, np.array([1]), "ann", "")
    catalog.close()
    assert rows_of(postgres_url, "SELECT reason FROM excluded_rows") == [("on",)]


def test_version_is_written_once(url: str) -> None:
    for _ in range(2):
        open_catalog(url).close()
        assert rows_of(url, "SELECT version FROM schema_version") == [(len(MIGRATIONS) + 1,)]


def test_a_catalog_keeps_its_identity(url: str) -> None:
    identities = []
    for _ in range(2):
        catalog = open_catalog(url)
        identities.append(catalog.identity)
        catalog.close()
    assert identities[0] == identities[1]
    assert len(identities[0]) == 32


def test_tables_of_a_newer_version_are_refused_untouched(url: str) -> None:
    open_catalog(url).close()
    with direct(url) as connection:
        connection.execute(text("UPDATE schema_version SET version = 99"))
    error = refusal(url)
    assert error.reason is Reason.STORAGE_FAILED
    assert "newer assay (version 99" in error.message
    assert rows_of(url, "SELECT version FROM schema_version") == [(99,)]


def test_foreign_tables_are_not_taken_for_ours(url: str) -> None:
    with direct(url) as connection:
        connection.execute(text("CREATE TABLE leases (mine INTEGER)"))
    assert refusal(url).reason is Reason.STORAGE_FAILED
    assert rows_of(url, "SELECT mine FROM leases") == []
    with pytest.raises(Exception, match="schema_version"):
        rows_of(url, "SELECT version FROM schema_version")


def test_migrations_run_from_the_version_found(url: str) -> None:
    def step(column: str) -> Any:
        return lambda connection: connection.execute(text(f"ALTER TABLE segments ADD COLUMN {column} INTEGER"))

    with direct(url) as connection:
        prepare(connection, [step("made_as_version_2")])
    assert rows_of(url, "SELECT version FROM schema_version") == [(2,)]
    with direct(url) as connection:
        prepare(connection, [step("not_run"), step("third"), step("fourth")])
    assert rows_of(url, "SELECT version FROM schema_version") == [(4,)]
    assert rows_of(url, "SELECT third, fourth FROM segments") == []
    assert "not_run" not in metadata.tables["segments"].c
    with pytest.raises(Exception, match="not_run"):
        rows_of(url, "SELECT segments.not_run FROM segments")


def test_a_catalog_that_could_not_shrink_is_compacted_once(tmp_path: Path) -> None:
    """A database of SQLite that was made before catalogs gave room back."""
    path = tmp_path / "catalog.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE bulk (content BLOB)")
        for _ in range(100):
            connection.execute("INSERT INTO bulk VALUES (?)", (bytes(100_000),))
        connection.execute("DROP TABLE bulk")
    before = path.stat().st_size
    for _ in range(2):
        catalog = open_catalog(f"sqlite:///{path}")
        assert path.stat().st_size < before / 10
        assert not catalog.shrink(1000)
        catalog.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_free_pages_are_given_back_a_few_at_a_time(url: str) -> None:
    catalog = open_catalog(url)
    with catalog.transaction() as tx:
        pool = tx.insert_pool(pool_record("news"))
        for number in range(500):
            tx.remember(pool.uid, request_key(f"r{number}"), bytes(8000), 1.0)
    with catalog.transaction() as tx:
        tx.delete_pool(pool.uid)
    if url.startswith("postgresql"):
        assert not catalog.shrink(100)  # it looks after that by itself
    else:
        file = Path(url.removeprefix("sqlite:///"))
        sizes = [file.stat().st_size]
        while catalog.shrink(100):
            sizes.append(file.stat().st_size)
        assert len(sizes) > 5
        assert all(larger - smaller <= 100 * 4096 for larger, smaller in itertools.pairwise(sizes[1:]))
        assert sizes[-1] < sizes[1] / 5
        with catalog.transaction() as tx:
            tx.insert_pool(pool_record("again"))
    catalog.close()
