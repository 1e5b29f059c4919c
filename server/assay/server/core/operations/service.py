"""Long-running operations: started, followed, cancelled; their ends are kept in the catalog."""

import logging
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from assay.server.core.bells import Bells
from assay.server.core.errors import AssayError, Reason
from assay.server.core.fair_queue import Bounds, FairQueue
from assay.server.core.operations.messages import OperationView, Progress
from assay.server.core.ports.catalog import Catalog, CatalogTx
from assay.server.core.ports.machine import Clock
from assay.server.core.records.changes import OperationAction, OperationChanged
from assay.server.core.records.operations import OperationRecord
from assay.server.core.records.pools import PoolRecord
from assay.server.core.stop import Stop

log = logging.getLogger(__name__)

# Operations compute for long; more at once would only slow each other and the requests down. But none waits for the
# operations of another pool: what is spare is for pools that have nothing running.
BOUNDS = Bounds(threads=2, spare=6, per_pool=1, queue=4, queue_in_all=64)
# Reason of an operation that failed for nothing that its caller did; the log has the rest under its error id.
UNEXPECTED = "INTERNAL"


class Task:
    """An operation as its work sees it.

    Args:
        record: what is stored of it.
        turn: operations of one turn run one after the other.
    """

    def __init__(self, record: OperationRecord, turn: str = "") -> None:
        self.record = record
        self.turn = turn
        self.ended = threading.Event()
        self._stop = Stop()
        self._progress = Progress()
        self._stage_start = time.monotonic()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

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

    def stop(self, reason: Reason = Reason.CANCELLED) -> None:
        """Asks it to stop."""
        self._stop.request(reason)

    def scope(self) -> AbstractContextManager[Stop]:
        """Within it, the thread's work is what its stop ends."""
        return self._stop.scope()

    def run(self, work: "Work") -> bytes:
        """Does the work. Raises AssayError(CANCELLED | SHUTTING_DOWN) once it is asked to stop; what work raises."""
        with self.scope():
            self._stop.check()
            try:
                return work(self)
            except AssayError as error:
                if error.reason is Reason.CANCELLED and self._stop.requested():
                    raise self._stop.error() from error
                raise

    def end(self) -> None:
        """Tells who waits that it has ended; its record says how."""
        with self._lock:
            self.ended.set()
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    @contextmanager
    def watched(self, listener: Callable[[], None]) -> Iterator[None]:
        """Calls listener when it ends, in whatever thread; at once if it has."""
        with self._lock:
            ended = self.ended.is_set()
            if not ended:
                self._listeners.append(listener)
        if ended:
            listener()
        try:
            yield
        finally:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

    @property
    def view(self) -> OperationView:
        """The operation now."""
        return OperationView(self.record, replace(self._progress, cancel_requested=self._stop.requested()))


Work = Callable[[Task], bytes]


class OperationService:
    """Runs operations on a few threads of its own."""

    def __init__(self, catalog: Catalog, clock: Clock, bells: Bells) -> None:
        self._catalog = catalog
        self._clock = clock
        self._bells = bells
        self._lock = threading.Lock()
        self._running: dict[str, Task] = {}
        self._queue = FairQueue[tuple[Task, Work]](BOUNDS)
        self._threads = ThreadPoolExecutor(BOUNDS.most, thread_name_prefix="operation")
        self._closed = False

    def recover(self) -> None:
        """Ends the operations that a crash cut off. Where that cannot be stored, as on a full disk, they have ended
        nevertheless for whoever asks, and it is stored later."""
        with self._catalog.reading() as tx:
            cut_off = tx.running_operations()
        for record in cut_off:
            message = "The server stopped while it ran; start it again."
            self._end(Task(record), _failed(record, Reason.SHUTTING_DOWN, message))

    def prepare(self, kind: str, pool: PoolRecord, alone: str) -> Task:
        """A new operation on a pool, to be recorded in a transaction and then launched. Of those of one pool with the
        same `alone`, one runs at a time."""
        operation_id = f"{kind.replace('_', '-')}-{secrets.token_hex(8)}"
        record = OperationRecord(operation_id, kind, pool.uid, pool.pool_id, self._clock.now())
        return Task(record, f"{pool.uid}/{alone}")

    def record(self, tx: CatalogTx, task: Task) -> None:
        """Stores a new operation together with the request that starts it. Raises AssayError(BUSY) if too many wait."""
        with self._lock:
            if not self._queue.has_room(task.turn):
                kind, pool_id = task.record.kind, task.record.pool_id
                raise AssayError(
                    Reason.BUSY,
                    f"Too many operations of pool {pool_id!r} wait for each other. Wait for one of them, or cancel it.",
                    kind=kind,
                    pool=pool_id,
                )
        tx.add_operation(task.record)
        self._tell(tx, task, OperationAction.STARTED)

    def launch(self, task: Task, work: Work) -> OperationView:
        """Runs a recorded operation in the background, in its turn."""
        with self._lock:
            self._running[task.record.operation_id] = task
            self._queue.put(task.turn, (task, work), bounded=False)  # room was there when it was recorded
            self._start_due()
        return task.view

    def abandon(self, task: Task, error: AssayError) -> None:
        """Ends an operation that was to begin and of which it is unknown whether it was recorded. If it was, who sends
        the request again finds it, ended in this error."""
        self._end(task, _failed(task.record, error.reason, "The catalog was lost as it began; start it again."))

    def _start_due(self) -> None:
        """Under the lock."""
        while not self._closed and (due := self._queue.take()) is not None:
            self._threads.submit(self._run, *due)

    def _run(self, task: Task, work: Work) -> None:
        try:
            self._end(task, _outcome(task, work))
        finally:
            with self._lock:
                self._queue.done(task.turn)
                self._start_due()

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
            task.end()

    def _store_end(self, task: Task) -> None:
        with self._catalog.transaction() as tx:
            tx.end_operation(task.record)
            self._tell(tx, task, OperationAction.ENDED)
        with self._lock:
            self._running.pop(task.record.operation_id, None)
        self._bells.ring(task.record.pool_uid)

    def _tell(self, tx: CatalogTx, task: Task, action: OperationAction) -> None:
        """Says to those who follow the pool what happened to an operation on it."""
        record = task.record
        part = OperationChanged(action, record.operation_id, record.kind, record.error_reason)
        tx.append_change(record.pool_uid, [part], self._clock.now())

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
                Reason.OPERATION_NOT_FOUND,
                f"There is no operation {operation_id!r}; operations of a deleted pool go with it.",
                operation=operation_id,
            )
        return OperationView(record, Progress())

    def list(self, after: tuple[float, str] | None, limit: int, pool_id: str = "") -> list[OperationView]:
        """Operations by start, of one pool or of all ("")."""
        # Before the catalog is read: one that ends in between is then known to have ended.
        with self._lock:
            running = dict(self._running)
        with self._catalog.reading() as tx:
            records = tx.operations(pool_id=pool_id, after=after, limit=limit)
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

    @contextmanager
    def watching(self, operation_id: str, ended: Callable[[], None]) -> Iterator[None]:
        """Calls `ended` when an operation ends, in whatever thread; at once if it does not run."""
        with self._lock:
            task = self._running.get(operation_id)
        if task is None:
            ended()
            yield
            return
        with task.watched(ended):
            yield

    def cancel(self, operation_id: str) -> None:
        """Asks an operation to stop; one that has ended stays as it is. Raises AssayError(OPERATION_NOT_FOUND)."""
        self.get(operation_id)
        with self._lock:
            task = self._running.get(operation_id)
        if task is not None:
            self._stop(task)

    def cancel_of(self, pool_uid: int) -> None:
        """Asks all operations of a pool to stop."""
        with self._lock:
            tasks = [task for task in self._running.values() if task.record.pool_uid == pool_uid]
        for task in tasks:
            self._stop(task)

    def _stop(self, task: Task, reason: Reason = Reason.CANCELLED) -> None:
        """Asks one to stop; where it still waits for its turn, that is its end."""
        task.stop(reason)
        with self._lock:
            waited = self._queue.remove_if(task.turn, lambda item: item[0] is task)
        if waited:
            self._end(task, _outcome(task, lambda _: b""))

    def delete(self, operation_id: str) -> None:
        """Forgets an operation that has ended. Raises AssayError(OPERATION_NOT_FOUND | OPERATION_RUNNING)."""
        if not self.get(operation_id).record.done:
            raise AssayError(Reason.OPERATION_RUNNING, f"Operation {operation_id!r} is running. Cancel it first.")
        with self._catalog.transaction() as tx:
            tx.delete_operation(operation_id)
        with self._lock:
            self._running.pop(operation_id, None)

    def stop(self) -> None:
        """Asks all operations to stop, because the server does."""
        with self._lock:
            self._closed = True
            running = list(self._running.values())
        for task in running:
            self._stop(task, Reason.SHUTTING_DOWN)

    def close(self) -> None:
        """Stops all operations and waits for them."""
        self.stop()
        self._threads.shutdown(wait=True)


def _outcome(task: Task, work: Work) -> OperationRecord:
    """Does the work; what is stored of its end. It has no caller, so whatever went wrong must end up there."""
    try:
        return replace(task.record, done=True, response=task.run(work))
    except AssayError as error:
        return _failed(task.record, error.reason, error.message)
    except Exception:
        error_id = uuid.uuid4().hex
        log.exception("operation %s failed, error id %s", task.record.operation_id, error_id)
        message = f"The operation failed. The server's log has the cause under error id {error_id}."
        return _failed(task.record, UNEXPECTED, message)


def _failed(record: OperationRecord, reason: str, message: str) -> OperationRecord:
    return replace(record, done=True, error_reason=str(reason), error_message=message)
