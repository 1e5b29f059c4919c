"""What a database says went wrong, in the domain's words. The only place that reads error codes of databases."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from assay.server.core.errors import AssayError, Reason

POSTGRES_DISK_FULL = "53100"
# SQLSTATE classes and codes of a server that goes, is not up yet, or was lost on the way.
POSTGRES_AWAY = ("08", "57P01", "57P02", "57P03")
# Without room for the index of the log, which is the first thing that a full disk refuses.
NO_ROOM = (sqlite3.SQLITE_IOERR_SHMSIZE,)
SYNC_ERRORS = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)

# What SQLite says before the last page of a transaction is in its log: without that page it is none.
UNWRITTEN = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_NOMEM)
UNWRITTEN_IO = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)


def translate(error: Exception) -> AssayError:
    """AssayError for an error of the database, which did nothing: CONFLICT, STORAGE_FULL, BUSY, INVALID_ARGUMENT,
    STORAGE_UNAVAILABLE or STORAGE_FAILED."""
    cause = getattr(error, "orig", None) or error
    if isinstance(error, exc.IntegrityError):
        return AssayError(Reason.CONFLICT, "The catalog holds something else by now. Read again and retry.")
    if _is_full(cause):
        return AssayError(Reason.STORAGE_FULL, "The disk of the catalog is full. Free some space and retry.")
    if _is_busy(cause):
        return AssayError(Reason.BUSY, "The catalog is in use by others for too long. Retry in a moment.")
    if _sqlite_code(cause) == sqlite3.SQLITE_NOTADB:
        return AssayError(
            Reason.STORAGE_FAILED,
            "The catalog's file is no SQLite database, or its beginning is damaged. Give the catalog's own path, or "
            "restore it from a backup.",
        )
    if _sqlite_code(cause) == sqlite3.SQLITE_CORRUPT:
        return AssayError(
            Reason.STORAGE_FAILED,
            f"The catalog's database is damaged, or cannot be read: {_text(cause)}. Look at the disk (dmesg); if it "
            "stays so, restore the catalog from a backup.",
        )
    if isinstance(error, exc.DataError):
        return AssayError(Reason.INVALID_ARGUMENT, f"The catalog cannot hold a value: {_text(cause)}. Correct it.")
    if _is_away(error, cause):
        return AssayError(
            Reason.STORAGE_UNAVAILABLE,
            f"The catalog's database cannot be reached: {_text(cause)}. Nothing was stored; check that it is "
            "running, then try again.",
        )
    return AssayError(
        Reason.STORAGE_FAILED,
        f"The catalog failed: {_text(cause)}. Check that its database is there, running and writable, then retry.",
    )


@contextmanager
def translated() -> Iterator[None]:
    """Raises errors of the database as AssayError; all others pass."""
    try:
        yield
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        raise translate(error) from error


def _is_full(cause: BaseException) -> bool:
    if _sqlite_code(cause) == sqlite3.SQLITE_FULL or getattr(cause, "sqlite_errorcode", None) in NO_ROOM:
        return True
    return getattr(cause, "sqlstate", None) == POSTGRES_DISK_FULL


def is_sync_error(error: BaseException) -> bool:
    """Whether SQLite gave something to the disk that the disk did not keep."""
    return getattr(getattr(error, "orig", None) or error, "sqlite_errorcode", None) in SYNC_ERRORS


def is_unwritten(error: BaseException) -> bool:
    """Whether a COMMIT of SQLite failed before the transaction was whole in the log."""
    cause = getattr(error, "orig", None) or error
    return _sqlite_code(cause) in UNWRITTEN or getattr(cause, "sqlite_errorcode", None) in UNWRITTEN_IO


def _is_away(error: Exception, cause: BaseException) -> bool:
    state = getattr(cause, "sqlstate", "")
    if state:
        return str(state).startswith(POSTGRES_AWAY)
    lost = isinstance(error, exc.DBAPIError) and error.connection_invalidated
    return lost or (state is None and isinstance(error, exc.OperationalError))


def _is_busy(cause: BaseException) -> bool:
    return _sqlite_code(cause) == sqlite3.SQLITE_BUSY or isinstance(cause, exc.TimeoutError)


def _sqlite_code(cause: BaseException) -> int | None:
    """Primary result code: the low byte of an extended one."""
    code = getattr(cause, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _text(cause: BaseException) -> str:
    return " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
