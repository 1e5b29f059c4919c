"""Long-running operations: started, followed, cancelled; their ends are kept in the catalog."""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace

from assay.server.core.errors import AssayError, Reason
from assay.server.core.operations.messages import OperationView, Progress
from assay.server.core.ports.catalog import Catalog, CatalogTx
from assay.server.core.ports.machine import Clock
from assay.server.core.records.operations import OperationRecord
from assay.server.core.stop import Stop

log = logging.getLogger(__name__)

# Operations compute for long; more at once would only slow each other and the requests down.
WORKERS = 2


class Task:
    """A running operation as its work sees it."""

    def __init__(self, record: OperationRecord) -> None:
        self.record = record
        self.ended = threading.Event()
        self._stop = Stop()
        self._progress = Progress()
        self._stage_start = time.monotonic()

    def report(self, stage: str, done: int, total: int) -> None:
        """Says how far a stage is."""
        now = time.monotonic()
        if stage != self._progress.stage:
            self._stage_start = now
        spent = now - self._stage_start
        eta = spent * (total - done) / done if done and total else None
        self._progress = Progress(stage, done, total, eta)

    def stopped(self) -> bool:
        """Whether to stop: polled between blocks of work."""
        return self._stop.requested()

    def stop(self) -> None:
        """Asks it to stop."""
        self._stop.request()

    def scope(self) -> AbstractContextManager[Stop]:
        """The thread does its work within."""
        return self._stop.scope()

    @property
    def view(self) -> OperationView:
        """The operation now."""
        return OperationView(self.record, replace(self._progress, cancel_requested=self._stop.requested()))


Work = Callable[[Task], bytes]


class OperationService:
    """Runs operations on a few threads of its own."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[str, Task] = {}
        self._executor = ThreadPoolExecutor(WORKERS, thread_name_prefix="operation")

    def recover(self) -> None:
        """Marks operations that a crash cut off."""
        with self._catalog.transaction() as tx:
            after: tuple[float, str] | None = None
            while page := tx.operations(after=after):
                for record in page:
                    if not record.done:
                        tx.put_operation(
                            _failed(record, Reason.SHUTTING_DOWN, "The server stopped while it ran; start it again.")
                        )
                after = (page[-1].create_time, page[-1].operation_id)

    def prepare(self, kind: str, pool_id: str) -> Task:
        """A new operation, to be recorded in a transaction and then launched."""
        return Task(
            OperationRecord(f"{kind.replace('_', '-')}-{secrets.token_hex(8)}", kind, pool_id, self._clock.now())
        )

    def record(self, tx: CatalogTx, task: Task) -> None:
        """Stores a new operation together with the request that starts it."""
        tx.put_operation(task.record)

    def launch(self, task: Task, work: Work) -> OperationView:
        """Runs a recorded operation in the background."""
        with self._lock:
            self._running[task.record.operation_id] = task
        self._executor.submit(self._run, task, work)
        return task.view

    def abandon(self, task: Task, error: AssayError) -> None:
        """Ends an operation that was to begin and of which it is unknown whether it was recorded. If it was, who sends
        the request again finds it, ended in this error."""
        self._end(task, _failed(task.record, error.reason, "The catalog was lost as it began; start it again."))

    def _run(self, task: Task, work: Work) -> None:
        try:
            if task.stopped():
                raise AssayError(Reason.CANCELLED, "The operation was cancelled before it began.")
            with task.scope():
                record = replace(task.record, done=True, response=work(task))
        except AssayError as error:
            record = _failed(task.record, error.reason, error.message)
        except Exception as error:
            # The thread has no caller: what went wrong must end up where the caller looks, and the log has the rest.
            log.exception("operation %s failed", task.record.operation_id)
            record = _failed(
                task.record, Reason.STORAGE_FAILED, f"The operation failed: {type(error).__name__}: {error}"
            )
        self._end(task, record)

    def _end(self, task: Task, record: OperationRecord) -> None:
        """Ends an operation. Until its end is stored it stays among the running ones, so that who asks still learns
        how it ended."""
        with self._lock:
            self._running[record.operation_id] = task
        task.record = record
        try:
            self._store_end(task)
        except Exception:
            log.exception("the end of operation %s could not be stored yet", record.operation_id)
        finally:
            task.ended.set()

    def _store_end(self, task: Task) -> None:
        with self._catalog.transaction() as tx:
            tx.put_operation(task.record)
        with self._lock:
            self._running.pop(task.record.operation_id, None)

    def store_ends(self) -> None:
        """Stores how operations ended, where the catalog could not take it at the time. Raises what it raises."""
        with self._lock:
            ended = [task for task in self._running.values() if task.record.done]
        for task in ended:
            self._store_end(task)

    def get(self, operation_id: str) -> OperationView:
        """An operation. Raises AssayError(OPERATION_NOT_FOUND)."""
        with self._lock:
            task = self._running.get(operation_id)
        if task is not None:
            return task.view
        with self._catalog.reading() as tx:
            record = tx.operation(operation_id)
        if record is None:
            raise AssayError(
                Reason.OPERATION_NOT_FOUND, f"There is no operation {operation_id!r}.", operation=operation_id
            )
        return OperationView(record, Progress())

    def list(self, after: tuple[float, str] | None, limit: int) -> list[OperationView]:
        """Operations by start."""
        # Before the catalog is read: one that ends in between is then known to have ended.
        with self._lock:
            running = dict(self._running)
        with self._catalog.reading() as tx:
            records = tx.operations(after=after, limit=limit)
        return [
            running[record.operation_id].view if record.operation_id in running else OperationView(record, Progress())
            for record in records
        ]

    def wait(self, operation_id: str, timeout: float) -> OperationView:
        """The operation once it has ended, or as it is after timeout seconds."""
        with self._lock:
            task = self._running.get(operation_id)
        if task is not None:
            task.ended.wait(timeout)
        return self.get(operation_id)

    def cancel(self, operation_id: str) -> None:
        """Asks an operation to stop; one that has ended stays as it is. Raises AssayError(OPERATION_NOT_FOUND)."""
        self.get(operation_id)
        with self._lock:
            task = self._running.get(operation_id)
        if task is not None:
            task.stop()

    def cancel_of(self, pool_id: str) -> None:
        """Asks all operations of a pool to stop."""
        with self._lock:
            tasks = [task for task in self._running.values() if task.record.pool_id == pool_id]
        for task in tasks:
            task.stop()

    def delete(self, operation_id: str) -> None:
        """Forgets an operation that has ended. Raises AssayError(OPERATION_NOT_FOUND | OPERATION_RUNNING)."""
        if not self.get(operation_id).record.done:
            raise AssayError(Reason.OPERATION_RUNNING, f"Operation {operation_id!r} is running. Cancel it first.")
        with self._catalog.transaction() as tx:
            tx.delete_operation(operation_id)
        with self._lock:
            self._running.pop(operation_id, None)

    def close(self) -> None:
        """Stops all operations and waits for them."""
        with self._lock:
            running = list(self._running.values())
        for task in running:
            task.stop()
        self._executor.shutdown(wait=True)


def _failed(record: OperationRecord, reason: str, message: str) -> OperationRecord:
    return replace(record, done=True, error_reason=str(reason), error_message=message)
