"""The catalog: transactions over one of the two databases."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from assay.server.adapters.sql import blocks
from assay.server.adapters.sql.annotations import AnnotationPart
from assay.server.adapters.sql.changes import ChangePart
from assay.server.adapters.sql.dialects import POSTGRES, SQLITE, Dialect
from assay.server.adapters.sql.directory import DirectoryPart
from assay.server.adapters.sql.failures import translated
from assay.server.adapters.sql.groups import Group, again
from assay.server.adapters.sql.journal import JournalPart
from assay.server.adapters.sql.leases import LeasePart
from assay.server.adapters.sql.models import ModelPart
from assay.server.adapters.sql.outcomes import Outcomes, PostgresOutcomes, SqliteOutcomes
from assay.server.adapters.sql.pools import PoolPart
from assay.server.adapters.sql.postgres import open_postgres
from assay.server.adapters.sql.room import RoomPart
from assay.server.adapters.sql.rows import RowPart
from assay.server.adapters.sql.sqlite import checkpoint, compact, open_sqlite
from assay.server.adapters.sql.suspects import SuspectPart
from assay.server.adapters.sql.turns import Turn
from assay.server.adapters.sql.versions import identity, prepare
from assay.server.core.errors import AssayError, Reason
from assay.server.core.ports.catalog import CatalogTx
from assay.server.core.ports.machine import Alarm, unheard
from assay.server.core.records.annotations import EventBlock, PackedBlock

# A database that lets one wait longer than this in vain is not asked again for as long by those who wait behind.
SHARED_REFUSAL_S = 1.0


class SqlTx(
    RoomPart,
    DirectoryPart,
    PoolPart,
    RowPart,
    AnnotationPart,
    LeasePart,
    ModelPart,
    JournalPart,
    ChangePart,
    SuspectPart,
):
    """One transaction of the catalog (the port CatalogTx)."""


class SqlCatalog:
    """The port Catalog over SQLAlchemy Core; safe to call from many threads.

    Transactions run one at a time, and those that wait for each other become durable together, by one commit: who
    finds others waiting leaves the commit to them, and waits for it.
    """

    def __init__(
        self,
        writer: Engine,
        reader: Engine,
        dialect: Dialect,
        outcomes: Outcomes,
        identity: str,
        unlock: Callable[[], None],
    ) -> None:
        self.identity = identity
        self._writer = writer
        self._reader = reader
        self._dialect = dialect
        self._outcomes = outcomes
        self._unlock = unlock
        self._turn = Turn()
        # What follows belongs to whose turn it is.
        self._group: Group | None = None
        self._refusal: AssayError | None = None
        self._refused_until = 0.0
        self._closed = False

    @contextmanager
    def transaction(self) -> Iterator[CatalogTx]:
        """A writing transaction; not to be nested. After an error of the database it cannot commit, whoever caught it.

        Raises OutcomeUnknown, and AssayError(STORAGE_FULL | STORAGE_UNAVAILABLE | STORAGE_FAILED | CONFLICT | BUSY |
        SHUTTING_DOWN) where nothing was stored."""
        self._turn.take()
        group = self._join()
        try:
            with group.change() as connection:
                tx = SqlTx(connection, self._dialect)
                yield tx
                tx.check()
        finally:
            try:
                self._leave(group)
            finally:
                # Also for a change that was undone: what it saw, and failed for, is only true if the others' are
                # stored.
                group.wait()

    @contextmanager
    def reading(self) -> Iterator[CatalogTx]:
        """A reading transaction: what it reads is of one moment, that of its first read."""
        self._refuse_if_closed()
        with translated(), self._reader.begin() as connection:
            yield SqlTx(connection, self._dialect)

    def pack(self, block: EventBlock) -> PackedBlock:
        """A block as the catalog stores it; needs no transaction."""
        return blocks.pack(block)

    def shrink(self, pages: int) -> bool:
        """Gives at most so many free pages of SQLite back to the file system."""
        with self.transaction() as tx:
            assert isinstance(tx, SqlTx)
            shrunk = tx.shrink(pages)
        if shrunk:
            checkpoint(self._reader)
        return shrunk

    def close(self) -> None:
        """Closes connections, after a running transaction."""
        self._turn.take()
        try:
            if self._closed:
                return
            if self._group is not None:
                self._end(self._group)
            self._closed = True
            self._writer.dispose()
            self._reader.dispose()
            self._unlock()
        finally:
            self._turn.give()

    def _join(self) -> Group:
        """The group that is open, or a new one; without either, the turn is given back."""
        try:
            self._refuse_if_closed()
            if self._group is None:
                self._group = self._begin()
            return self._group
        except BaseException:
            self._turn.give()
            raise

    def _begin(self) -> Group:
        """A new group. Those who waited while the database let one of them wait in vain are refused at once."""
        start = time.monotonic()
        if self._refusal is not None and start < self._refused_until:
            raise again(self._refusal)
        try:
            return Group(self._writer, self._outcomes)
        except AssayError as error:
            end = time.monotonic()
            if end - start > SHARED_REFUSAL_S:
                self._refusal, self._refused_until = error, end + SHARED_REFUSAL_S
            raise

    def _leave(self, group: Group) -> None:
        """Gives the turn to who waits for it, to join the group; commits it if nobody does."""
        try:
            if not (group.open and self._turn.wanted):
                self._end(group)
        finally:
            self._turn.give()

    def _end(self, group: Group) -> None:
        self._group = None
        group.end()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise AssayError(Reason.SHUTTING_DOWN, "The catalog is closed. Retry when the server is up again.")


def open_catalog(url: str, alarm: Alarm = unheard) -> SqlCatalog:
    """Opens the catalog at a URL: sqlite:///path/catalog.db or postgresql://user@host/database. Makes its tables if
    there are none.

    alarm is told when the disk lost what SQLite had given it to keep.

    Raises AssayError(INVALID_ARGUMENT) for another URL, (DATA_DIRECTORY_LOCKED) if another server has the database
    open, (STORAGE_FAILED) if the database cannot be opened or is of a newer assay."""
    with translated():
        writer, reader, dialect, outcomes, unlock = _engines(_parse(url), alarm)
    try:
        with translated():
            outcomes.open(writer)
            with writer.begin() as connection:
                prepare(connection)
                catalog_id = identity(connection)
            if dialect is SQLITE:
                compact(writer)
    except BaseException:
        writer.dispose()
        unlock()
        raise
    return SqlCatalog(writer, reader, dialect, outcomes, catalog_id, unlock)


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise _wrong_url() from error


def _engines(url: URL, alarm: Alarm) -> tuple[Engine, Engine, Dialect, Outcomes, Callable[[], None]]:
    match url.drivername:
        case "sqlite" | "sqlite+pysqlite":
            writer, reader, unlock = open_sqlite(url, alarm)
            return writer, reader, SQLITE, SqliteOutcomes(), unlock
        case "postgresql" | "postgres" | "postgresql+psycopg":
            # Its lock is on the writing connection, and ends with it.
            return *open_postgres(url), POSTGRES, PostgresOutcomes(), lambda: None
        case _:
            raise _wrong_url()


def _wrong_url() -> AssayError:
    # The URL is not repeated: it may hold a password.
    message = "The catalog's URL is not known. Give sqlite:///path/catalog.db or postgresql://user@host/database."
    return AssayError(Reason.INVALID_ARGUMENT, message)
