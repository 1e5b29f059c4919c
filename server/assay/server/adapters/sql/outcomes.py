"""What became of a transaction whose COMMIT failed: the two databases tell in different ways.

A COMMIT that ends in an error has failed, or it has not: the answer may have been lost on its way, or the pages are in
the log and only their being on disk is in doubt. Whoever takes such an error for a failure builds on sand.
"""

import logging
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from assay.server.adapters.sql import wal
from assay.server.adapters.sql.failures import is_sync_error, is_unwritten
from assay.server.core.errors import AssayError, Reason

log = logging.getLogger(__name__)

# How long PostgreSQL may take to come back after a crash before the outcome is reported as unknown.
PATIENCE_S = 2.0
PAUSE_S = 0.05

# The row of schema_version says which transaction wrote it last, and so whether a transaction of ours took place: the
# number of one does not, since a standby that takes over gives numbers anew that were lost with the server before.
_MARK = text(
    "UPDATE schema_version SET version = version WHERE txid_current_if_assigned() IS NOT NULL "
    "RETURNING xmin::text, (SELECT before.xmin::text FROM schema_version AS before)"
)
_WRITTEN_BY = text("SELECT xmin::text FROM schema_version")
# A page that is written again where the lost transaction's pages are: after this, they are no transaction any more.
_OVERWRITE = text("UPDATE schema_version SET version = version")


@dataclass(frozen=True, slots=True)
class Name:
    """A transaction, and the one that wrote before it."""

    transaction: str
    before: str


class Outcomes(Protocol):
    """How one database tells what became of a transaction."""

    def open(self, engine: Engine) -> None:
        """Before anything is read: makes sure that what is read will stay."""

    def name(self, connection: Connection) -> Name | None:
        """What to ask for later; taken just before COMMIT. None if the transaction wrote nothing, or need not be
        named."""

    def happened(self, engine: Engine, name: Name | None, error: BaseException, alive: bool) -> bool | None:
        """Whether a transaction took place whose COMMIT raised an error; None where that cannot be told now. Its
        connection is given up by then; alive: it still stood after the error."""

    def settle(self, engine: Engine) -> None:
        """Makes what is unknown known, so that the next transaction sees it. Raises what the database raises."""


class SqliteOutcomes:
    """SQLite forgets a transaction whose COMMIT failed. If all its pages are in the log nevertheless, it comes back
    when a crash makes SQLite read the log again: until the next transaction has overwritten them, nothing is known.
    After an error of fsync nothing more can be known: the log that is read back may be the page cache's alone."""

    def __init__(self) -> None:
        self._unsettled = False
        self._lost = False

    def open(self, engine: Engine) -> None:
        """Writes the log into the database file, and both to disk: after an error of fsync in the process before, the
        log may be whole in the page cache and not on disk. On a full disk it stays where it is."""
        driver: Any = engine.raw_connection()
        try:
            _tell_of_losses(driver)
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            # What could not be written is still in the log. What could not be synced is neither here nor there.
            if is_sync_error(error):
                raise
        finally:
            driver.close()

    def name(self, connection: Connection) -> Name | None:
        return None

    def happened(self, engine: Engine, name: Name | None, error: BaseException, alive: bool) -> bool | None:
        if is_unwritten(error):
            return False
        self._unsettled = True
        self._lost |= is_sync_error(error)
        try:
            self.settle(engine)
        except (AssayError, SQLAlchemyError):
            return None
        return False

    def settle(self, engine: Engine) -> None:
        if self._lost:
            raise AssayError(Reason.SHUTTING_DOWN, "The disk of the catalog failed, and the server stops.")
        if self._unsettled:
            with engine.begin() as connection:
                connection.execute(_OVERWRITE)
            self._unsettled = False


def _tell_of_losses(driver: Any) -> None:
    """Logs what SQLite passes over in the log that a crash left behind."""
    ((_, _, path),) = [found for found in driver.execute("PRAGMA database_list") if found[1] == "main"]
    try:
        found = wal.read(Path(path))
    except OSError as error:
        log.warning("the catalog's log could not be looked at: %s", error.strerror)
        return
    _, frames, _ = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    lost = found.beyond(frames)
    if lost > 1 or (lost and not found.whole):
        log.error(
            "the catalog's log %s%s is damaged: %d transactions in it, which were acknowledged, are lost, the newest "
            "labels and leases among them. Stop the server, restore the log or the catalog from a backup where there "
            "is one, and look at the disk",
            path,
            wal.SUFFIX,
            lost,
        )
    elif lost:
        log.warning(
            "the last transaction in the catalog's log is not whole and was passed over: the system went down before "
            "it was acknowledged, or the log is damaged"
        )


class PostgresOutcomes:
    """PostgreSQL tells what became of a transaction by a row that each writes. A new connection of the writer has the
    lock of the one before, whose transaction has therefore ended; or it is to a server that took over."""

    def open(self, engine: Engine) -> None:
        """Nothing to do: PostgreSQL stops by itself rather than trust the page cache."""

    def name(self, connection: Connection) -> Name | None:
        found = connection.execute(_MARK).one_or_none()
        return None if found is None else Name(*found)

    def happened(self, engine: Engine, name: Name | None, error: BaseException, alive: bool) -> bool | None:
        said = getattr(getattr(error, "orig", None), "sqlstate", None)
        if name is None or (alive and said is not None):
            return False  # It wrote nothing, or the server itself said that it failed.
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._status(engine, name)
            except (AssayError, SQLAlchemyError):
                if time.monotonic() >= end:
                    return None
            time.sleep(PAUSE_S)

    @staticmethod
    def _status(engine: Engine, name: Name) -> bool | None:
        """None where the row is of neither: an older standby, or another cluster altogether, has taken over."""
        with engine.begin() as connection:
            written_by: Any = connection.execute(_WRITTEN_BY).scalar()
        return {name.before: False, name.transaction: True}.get(written_by)

    def settle(self, engine: Engine) -> None:
        """Nothing to do: see the class."""
