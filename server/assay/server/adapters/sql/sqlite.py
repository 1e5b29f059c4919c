"""Connections to SQLite: one that writes and a pool that reads beside it (WAL)."""

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.pool import QueuePool

from assay.server.adapters import file_lock
from assay.server.adapters.sql.failures import is_sync_error, translated
from assay.server.core.errors import AssayError, Reason
from assay.server.core.ports.machine import Alarm

BUSY_TIMEOUT_MS = 10_000  # waiting for another process, such as a backup
READERS = 8
MORE_READERS = 56

PRAGMAS = (
    f"busy_timeout = {BUSY_TIMEOUT_MS}",
    "journal_mode = WAL",
    "synchronous = FULL",  # a commit is on disk when it returns
    "foreign_keys = ON",
    "cache_size = -65536",  # KiB
    "temp_store = MEMORY",
    "journal_size_limit = 67108864",
)


LOCK_SUFFIX = ".lock"
INCREMENTAL = 2  # SQLite's number of that mode

log = logging.getLogger(__name__)


def open_sqlite(url: URL, alarm: Alarm) -> tuple[Engine, Engine, Callable[[], None]]:
    """Engines for writing and for reading, and what gives the lock on the database back; alarm is told when the disk
    loses what was written. Raises AssayError(INVALID_ARGUMENT) for a database in memory, (DATA_DIRECTORY_LOCKED) for
    one that another server has open."""
    if not url.database or url.database == ":memory:" or "mode" in url.query:
        raise AssayError(Reason.INVALID_ARGUMENT, "A catalog in memory would be lost. Give the path of a file.")
    writer = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0)
    reader = create_engine(url, poolclass=QueuePool, pool_size=READERS, max_overflow=MORE_READERS)
    event.listen(writer, "connect", _make_shrinkable)
    for engine in (writer, reader):
        event.listen(engine, "connect", _set_up)
    event.listen(reader, "connect", _forbid_writing)
    event.listen(writer, "begin", _begin_writing)
    event.listen(reader, "begin", _begin_reading)

    def notice(context: ExceptionContext) -> None:
        if is_sync_error(context.original_exception):
            alarm(f"The catalog could not be synced to disk ({context.original_exception}).")

    event.listen(writer, "handle_error", notice)
    try:
        descriptor = _lock(writer)
    except BaseException:
        writer.dispose()
        raise
    return writer, reader, lambda: os.close(descriptor)


def compact(writer: Engine) -> None:
    """Lets a database of an older assay give free pages back, and gives them back: once, at start, when nobody waits.
    One that has no room for that stays as it is. Raises sqlite3.Error where the disk lost something."""
    connection = writer.raw_connection()
    try:
        cursor = connection.cursor()
        (mode,) = cursor.execute("PRAGMA auto_vacuum").fetchone()
        if mode != INCREMENTAL:
            log.info("compacting the catalog, once")
            cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        if is_sync_error(error):
            raise
        log.warning("the catalog could not be compacted, which is tried again at the next start: %s", error)
    finally:
        connection.close()


def checkpoint(reader: Engine) -> None:
    """Brings what was committed from the log into the file, as far as no reader is in the way: only then is the file
    shorter."""
    with translated():
        connection = reader.raw_connection()
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            connection.close()


def _lock(writer: Engine) -> int:
    """Locks a file beside the database, under the name that SQLite itself finds it by: one database is one, however
    its path is written. The database's own file is left alone, for closing it would drop SQLite's locks on it."""
    connection = writer.raw_connection()
    try:
        (found,) = connection.cursor().execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchall()
    finally:
        connection.close()
    database = Path(found[0]).resolve()
    try:
        return file_lock.take(database.with_name(database.name + LOCK_SUFFIX))
    except file_lock.Held as held:
        raise AssayError(
            Reason.DATA_DIRECTORY_LOCKED,
            f"The catalog {database} is in use by process {held.pid}. Stop that server, or give this one a catalog of "
            "its own.",
            pid=held.pid,
        ) from None
    except OSError as error:
        raise AssayError(
            Reason.STORAGE_FAILED, f"The catalog {database} cannot be locked: {error.strerror}. Check its folder."
        ) from error


def _make_shrinkable(connection: sqlite3.Connection, _record: Any) -> None:
    """Has a database that is about to be made give free pages back; one that is there is changed by compact()."""
    if connection.execute("PRAGMA page_count").fetchone() == (0,):
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")


def _set_up(connection: sqlite3.Connection, _record: Any) -> None:
    # Python's driver would begin transactions by its own rules: switched off, begun by the listeners below.
    connection.isolation_level = None
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _forbid_writing(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA query_only = ON")


def _begin_writing(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
