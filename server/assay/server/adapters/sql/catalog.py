"""The catalog: transactions over one of the two databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from assay.server.adapters.sql.dialects import POSTGRES, SQLITE, Dialect
from assay.server.adapters.sql.failures import translated
from assay.server.adapters.sql.journal import JournalPart
from assay.server.adapters.sql.leases import LeasePart
from assay.server.adapters.sql.models import ModelPart
from assay.server.adapters.sql.pools import PoolPart
from assay.server.adapters.sql.postgres import open_postgres
from assay.server.adapters.sql.rows import RowPart
from assay.server.adapters.sql.sqlite import open_sqlite
from assay.server.adapters.sql.versions import identity, prepare
from assay.server.core.errors import AssayError, Reason
from assay.server.core.ports.catalog import CatalogTx


class SqlTx(PoolPart, RowPart, LeasePart, ModelPart, JournalPart):
    """One transaction of the catalog (the port CatalogTx)."""


class SqlCatalog:
    """The port Catalog over SQLAlchemy Core; safe to call from many threads."""

    def __init__(self, writer: Engine, reader: Engine, dialect: Dialect, identity: str) -> None:
        self.identity = identity
        self._writer = writer
        self._reader = reader
        self._dialect = dialect
        self._writing = Lock()
        self._closed = False

    @contextmanager
    def transaction(self) -> Iterator[CatalogTx]:
        """A writing transaction; not to be nested. After an error of the database it cannot commit, whoever caught it.

        Raises AssayError(STORAGE_FULL | STORAGE_FAILED | CONFLICT | BUSY | SHUTTING_DOWN)."""
        with self._writing, translated(), self._begin(self._writer) as tx:
            yield tx
            tx.check()

    @contextmanager
    def reading(self) -> Iterator[CatalogTx]:
        """A reading transaction: what it reads is of one moment, that of its first read."""
        with translated(), self._begin(self._reader) as tx:
            yield tx

    def close(self) -> None:
        """Closes connections, after a running transaction."""
        with self._writing:
            self._closed = True
            self._writer.dispose()
            self._reader.dispose()

    @contextmanager
    def _begin(self, engine: Engine) -> Iterator[SqlTx]:
        if self._closed:
            raise AssayError(Reason.SHUTTING_DOWN, "The catalog is closed. Retry when the server is up again.")
        with engine.begin() as connection:
            yield SqlTx(connection, self._dialect)


def open_catalog(url: str) -> SqlCatalog:
    """Opens the catalog at a URL: sqlite:///path/catalog.db or postgresql://user@host/database. Makes its tables if
    there are none.

    Raises AssayError(INVALID_ARGUMENT) for another URL, (DATA_DIRECTORY_LOCKED) if another server has the PostgreSQL
    database open, (STORAGE_FAILED) if the database cannot be opened or is of a newer assay."""
    writer, reader, dialect = _engines(_parse(url))
    try:
        with translated(), writer.begin() as connection:
            prepare(connection)
            catalog_id = identity(connection)
    except BaseException:
        writer.dispose()
        raise
    return SqlCatalog(writer, reader, dialect, catalog_id)


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise _wrong_url() from error


def _engines(url: URL) -> tuple[Engine, Engine, Dialect]:
    match url.drivername:
        case "sqlite" | "sqlite+pysqlite":
            return *open_sqlite(url), SQLITE
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return *open_postgres(url), POSTGRES
        case _:
            raise _wrong_url()


def _wrong_url() -> AssayError:
    # The URL is not repeated: it may hold a password.
    message = "The catalog's URL is not known. Give sqlite:///path/catalog.db or postgresql://user@host/database."
    return AssayError(Reason.INVALID_ARGUMENT, message)
