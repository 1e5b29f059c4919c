"""Group commit: changes of many threads that become durable by one commit."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any

from sqlalchemy import Connection, Engine, NestedTransaction
from sqlalchemy.exc import SQLAlchemyError

from assay.server.adapters.sql.failures import translate, translated
from assay.server.adapters.sql.outcomes import Outcomes
from assay.server.core.errors import AssayError, OutcomeUnknown, Reason

log = logging.getLogger(__name__)

# A group is closed by its size or age even if others wait: the first of it must not wait for long.
MOST = 256
OLDEST_S = 0.05


class Group:
    """An open transaction of the database that several changes share, one after the other.

    Each is kept whole or undone whole, without touching those before it. All of it is used by one thread at a time:
    the one whose turn it is; only `wait` is for all.
    """

    def __init__(self, engine: Engine, outcomes: Outcomes) -> None:
        self._engine = engine
        self._outcomes = outcomes
        self._done = Event()
        self._failure: AssayError | None = None
        self._size = 0
        self._waiting_since = 0.0
        with translated():
            outcomes.settle(engine)
            self._connection = engine.connect()
            try:
                self._connection.begin()
            except BaseException:  # The one writing connection goes back whatever happened.
                self._give_up()
                raise

    @property
    def open(self) -> bool:
        """Whether another change may join."""
        if self._failure is not None or not 0 < self._size < MOST:
            return False
        return time.monotonic() - self._waiting_since < OLDEST_S

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """One change, undone if the context ends with an exception."""
        savepoint: NestedTransaction | None = None
        try:
            with translated():
                if self._size:
                    savepoint = self._connection.begin_nested()
                yield self._connection
                if savepoint is not None:
                    savepoint.commit()
        except BaseException as error:  # The caller's own errors, too: half a change must not stay in the group.
            if self._size:
                self._undo(savepoint, error)
            raise
        if self._size == 0:
            self._waiting_since = time.monotonic()
        self._size += 1

    def _undo(self, savepoint: NestedTransaction | None, error: BaseException) -> None:
        """Takes back one change. Where the database cannot, or has thrown away the whole transaction, all fail."""
        # First of all: whatever else goes wrong, what is not known to be undone is not committed.
        self._failure = AssayError(
            Reason.STORAGE_UNAVAILABLE,
            f"The catalog lost the change, with another one that failed: {error}. Nothing was stored; try again.",
        )
        # One whose release failed is over for SQLAlchemy, and rolling it back would do nothing.
        if savepoint is not None and savepoint.is_active and not self._connection.invalidated:
            with suppress(SQLAlchemyError):
                savepoint.rollback()
                self._failure = None

    def end(self) -> None:
        """Commits what the changes did, and tells all who wait, the caller among them: by `wait`."""
        try:
            if self._failure is None and self._size:
                self._failure = self._commit()
        except BaseException as error:
            # Whatever it was, the COMMIT may have been on its way: nobody may take it for a failure and undo its part.
            self._failure = OutcomeUnknown()
            if not isinstance(error, Exception):
                raise
            log.exception("a commit ended in an error that was not expected")
        finally:
            try:
                self._give_up()
            finally:
                self._done.set()

    def wait(self) -> None:
        """Waits for the end. Raises AssayError if nothing was stored, OutcomeUnknown if that is not known."""
        self._done.wait()
        if self._failure is not None:
            raise again(self._failure) from self._failure

    def _commit(self) -> AssayError | None:
        try:
            name = self._outcomes.name(self._connection)
        except SQLAlchemyError as error:
            return translate(error)  # COMMIT was not tried.
        driver: Any = self._connection.connection.dbapi_connection
        try:
            self._connection.commit()
        except BaseException as error:  # Whatever cut it off, its outcome is asked for.
            alive = not getattr(driver, "closed", False)
            if not isinstance(error, SQLAlchemyError):
                self._connection.invalidate()  # Cut off in the middle: nobody knows what it is about to say.
            self._give_up()
            happened = self._outcomes.happened(self._engine, name, error, alive)
            if happened is None:
                return OutcomeUnknown()
            return None if happened else _failed(error)
        return None

    def _give_up(self) -> None:
        """Returns the connection; what is not committed is rolled back, and a broken connection thrown away."""
        try:
            self._connection.close()
        except Exception as error:
            # Any error: what became of the changes is settled by now, and must not be taken for a failure. There is
            # one such connection: one that stays in use would hold up every change from now on.
            log.warning("a connection to the catalog is thrown away, for it could not be given back: %s", error)
            with suppress(Exception):
                self._connection.invalidate()
                self._connection.close()


def again(error: AssayError) -> AssayError:
    """The same error for another thread: an exception that is raised keeps the trace of who raised it."""
    if isinstance(error, OutcomeUnknown):
        return OutcomeUnknown()
    return AssayError(error.reason, error.message, **error.metadata)


def _failed(error: BaseException) -> AssayError:
    return translate(error if isinstance(error, Exception) else RuntimeError(repr(error)))
