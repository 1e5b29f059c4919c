"""Connections to PostgreSQL: one that writes and locks out other servers, and a pool that reads."""

from typing import Any

from sqlalchemy import URL, Engine, create_engine, event

from assay.server.adapters.sql.failures import translate
from assay.server.core.errors import AssayError, Reason

DRIVER = "postgresql+psycopg"
LOCK_KEY = 0x617373617901  # "assay", 1; a lock of PostgreSQL holds within one database
LOCK_WAIT_MS = 1_000  # the server may take a moment to see that a killed client is gone
LOCK_NOT_AVAILABLE = "55P03"
CONNECT_TIMEOUT_S = 10
READERS = 8
MORE_READERS = 24


def open_postgres(url: URL) -> tuple[Engine, Engine]:
    """Engines for writing and for reading. Raises AssayError(INVALID_ARGUMENT) without the driver."""
    try:
        writer = _engine(url, pool_size=1, max_overflow=0)
        reader = _engine(url, pool_size=READERS, max_overflow=MORE_READERS)
    except ModuleNotFoundError as error:
        message = "PostgreSQL needs the driver psycopg. Install it; in the clone of assay: pip install '.[postgres]'."
        raise AssayError(Reason.INVALID_ARGUMENT, message) from error
    event.listen(writer, "connect", _own)
    event.listen(reader, "connect", _read_snapshots)
    return writer, reader


def _engine(url: URL, *, pool_size: int, max_overflow: int) -> Engine:
    asked = url.set(drivername=DRIVER)
    connect_args = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "assay"} | dict(url.query)
    return create_engine(
        asked, pool_size=pool_size, max_overflow=max_overflow, pool_pre_ping=True, connect_args=connect_args
    )


def _own(connection: Any, _record: Any) -> None:
    """Makes a new connection the one that writes. Raises AssayError(DATA_DIRECTORY_LOCKED | STORAGE_FAILED)."""
    try:
        with connection.cursor() as cursor:
            _take_lock(cursor)
            _insist_on_durability(cursor)
        connection.commit()
    except Exception as error:
        connection.close()
        if getattr(error, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise translate(error) from error
        raise AssayError(
            Reason.DATA_DIRECTORY_LOCKED,
            "Another server has this PostgreSQL database open. Stop it, or give this one a database of its own.",
        ) from error


def _take_lock(cursor: Any) -> None:
    """Locks the database for as long as this connection lives. The lock is on the writing connection itself, so a
    server whose connection broke cannot write again before it has the lock again."""
    cursor.execute("SELECT set_config('lock_timeout', %s, false)", (f"{LOCK_WAIT_MS}ms",))
    cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK_KEY,))
    cursor.execute("RESET lock_timeout")


def _insist_on_durability(cursor: Any) -> None:
    """A commit is on disk when it returns, whatever the database prefers."""
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )


def _read_snapshots(connection: Any, _record: Any) -> None:
    from psycopg import IsolationLevel  # the driver is optional

    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
