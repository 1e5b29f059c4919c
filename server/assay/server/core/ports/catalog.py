"""The mutable truth, in SQL."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from assay.server.core.records.annotations import EventBlock, EventColumns, NumberArray, PackedBlock
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.changes import ChangeRecord, Part, Position
from assay.server.core.records.leases import LeaseRecord
from assay.server.core.records.models import NEWEST, ModelKind, ModelRecord
from assay.server.core.records.operations import OperationRecord
from assay.server.core.records.pools import PoolRecord
from assay.server.core.records.requests import Remembered, RequestKey
from assay.server.core.records.samples import SegmentFile
from assay.server.core.records.suspects import SuspectRecord


class CatalogTx(Protocol):
    """One transaction of the catalog: all its changes become durable together, or none."""

    # the data directory
    def directory(self) -> str:
        """Id of the data directory that the catalog belongs to; "" until it has one."""

    def join_directory(self, directory_id: str) -> None:
        """Ties the catalog to a data directory, in place of the one before."""

    # pools
    def insert_pool(self, pool: PoolRecord) -> PoolRecord:
        """Stores a pool and gives it back with its uid. Raises AssayError(POOL_EXISTS)."""

    def pools(self) -> list[PoolRecord]:
        """All pools, ordered by pool_id."""

    def last_pool_uid(self) -> int:
        """The last uid that was given to a pool, whether it is still there or not; 0 before there was any."""

    def pool(self, pool_uid: int) -> PoolRecord | None:
        """A pool, None if there is none."""

    def advance_pool(self, pool_uid: int, epoch: int) -> bool:
        """Leads a pool from an epoch to the next. False, and nothing done, if the pool is not there or at another
        epoch: whoever asks has another past in mind than the catalog, and must not build on it."""

    def delete_pool(self, pool_uid: int) -> None:
        """Deletes the pool with all that belongs to it, its operations and remembered requests too."""

    def update_pool(self, pool_uid: int, **changes: object) -> None:
        """Sets fields of PoolRecord by name (dimension, space, backbone, head, search_index, next_fencing_token,
        next_row, next_space, next_event, task, annotations_per_sample, policy, metadata)."""

    # attributes
    def attributes(self, pool_uid: int) -> dict[str, str]:
        """Attribute names and kinds."""

    def add_attributes(self, pool_uid: int, kinds: Mapping[str, str]) -> None:
        """Records new attributes."""

    # segments
    def segments(self, pool_uid: int) -> list[SegmentFile]:
        """All segment files of a pool, ordered by kind, space, first_row."""

    def all_segment_files(self) -> set[str]:
        """Files of all segments and models of all pools: what a sweep must keep."""

    def add_segments(self, pool_uid: int, files: Sequence[SegmentFile]) -> None:
        """Makes segment files part of the pool."""

    def remove_segments(self, pool_uid: int, files: Iterable[str]) -> None:
        """Forgets segment files."""

    # row states
    def delete_rows(self, pool_uid: int, rows: RowArray) -> None:
        """Marks rows as deleted; nobody has set them aside any more. What was said of them stays in the log."""

    def deleted_rows(self, pool_uid: int) -> RowArray:
        """Deleted rows that some segment may still hold, ascending."""

    def forget_deleted_rows(self, pool_uid: int, rows: RowArray) -> None:
        """Drops tombstones of rows that no segment holds any more."""

    def exclude_rows(self, pool_uid: int, rows: RowArray, worker: str, reason: str) -> None:
        """Sets rows aside."""

    def excluded_rows(self, pool_uid: int) -> RowArray:
        """Rows set aside, ascending."""

    def include_rows(self, pool_uid: int, rows: RowArray) -> None:
        """Takes rows back that were set aside; others stay as they are."""

    def raise_rows(self, pool_uid: int, rows: RowArray, wanted: int) -> None:
        """Wants so many answers of rows, whatever the pool wants of others; more than were wanted stay wanted."""

    def raised_rows(self, pool_uid: int) -> tuple[RowArray, NumberArray]:
        """Rows of which more answers are wanted, ascending, and how many of each."""

    # annotations
    def append_events(self, pool_uid: int, block: PackedBlock) -> None:
        """Adds a block to the pool's log of annotation events. Raises AssayError(CONFLICT) for an external id that the
        pool has already, or numbers that were given before."""

    def event_columns(self, pool_uid: int, *, classes: bool) -> Iterator[EventColumns]:
        """All events of a pool, one whose labels are classes or not, in order and in pieces. Raises
        AssayError(STORAGE_FAILED) for a damaged block."""

    def blocks_of_events(self, pool_uid: int, numbers: NumberArray) -> list[EventBlock]:
        """The blocks that hold events, by number. Raises AssayError(STORAGE_FAILED) for a damaged block."""

    def event_blocks(
        self,
        pool_uid: int,
        *,
        from_number: int = 0,
        limit: int = 100,
        worker: str = "",
        start_time: float | None = None,
        end_time: float | None = None,
    ) -> list[EventBlock]:
        """Blocks in order, from the one that holds an event on; of one worker and within [start_time, end_time) if they
        are given. Raises AssayError(STORAGE_FAILED) for a damaged block."""

    def last_blocks(self, pool_uid: int, actor: str, limit: int) -> list[EventBlock]:
        """The last blocks of an actor, who is their worker or acted in its place, the newest first. Raises
        AssayError(STORAGE_FAILED) for a damaged block."""

    def free_external_ids(self, pool_uid: int, ids: Sequence[str]) -> None:
        """Lets external ids stand for other events: those that they stood for are of samples that are gone."""

    def external_events(self, pool_uid: int, ids: Sequence[str]) -> dict[str, int]:
        """The event of each external id that the pool has."""

    # leases
    def add_lease(self, pool_uid: int, lease: LeaseRecord) -> None:
        """Stores a live lease on its rows. Raises AssayError(CONFLICT) if a row is under another live lease of the same
        worker."""

    def lease(self, pool_uid: int, lease_id: str) -> LeaseRecord | None:
        """A lease with the rows it still holds."""

    def live_leases(self, pool_uid: int) -> list[LeaseRecord]:
        """All live leases, ordered by fencing token; the clock is not consulted."""

    def renew_lease(self, pool_uid: int, lease_id: str, expire_time: float) -> None:
        """Moves the end of a live lease."""

    def drop_lease_rows(self, pool_uid: int, lease_id: str, rows: RowArray, reason: str) -> None:
        """Takes rows out of a lease; the reason is kept. The lease becomes "done" when it holds none."""

    def expire_lease(self, pool_uid: int, lease_id: str) -> None:
        """Ends a lease as "expired"; its rows are free."""

    def forget_leases(self, before: float, limit: int) -> int:
        """Drops at most `limit` leases that were made before a time and have ended, with the reasons of releases;
        returns how many."""

    # models
    def add_model(self, pool_uid: int, model: ModelRecord) -> None:
        """Stores a model version. Raises AssayError(MODEL_EXISTS)."""

    def model(self, pool_uid: int, model_id: str) -> ModelRecord | None:
        """A model version."""

    def models(
        self, pool_uid: int, *, kind: ModelKind | None = None, below: int = NEWEST, beyond: int = 0, limit: int = 1000
    ) -> list[ModelRecord]:
        """Model versions of a pool, newest first: of those below a number, all but the first `beyond`, which needs a
        kind."""

    def model_files(self, pool_uid: int) -> list[str]:
        """Files of all model versions of a pool."""

    def delete_model(self, pool_uid: int, model_id: str) -> None:
        """Forgets a model version and its activations."""

    def record_activation(self, pool_uid: int, kind: ModelKind, model_id: str, space: str, now: float) -> None:
        """Appends to the history of activations ("" = none active; space = embedding space active from then on)."""

    def activations(self, pool_uid: int, kind: ModelKind) -> list[tuple[str, str]]:
        """(model_id, space) of all activations, oldest first."""

    def forget_activations(self, pool_uid: int, kind: ModelKind, keep: int, limit: int) -> int:
        """Drops at most `limit` of the oldest activations beyond the last `keep`, but none that is the last in its
        space; returns how many."""

    # operations
    def add_operation(self, operation: OperationRecord) -> None:
        """Stores a new operation."""

    def end_operation(self, operation: OperationRecord) -> None:
        """Stores how an operation ended; does nothing if it went with its pool."""

    def operation(self, operation_id: str) -> OperationRecord | None:
        """An operation."""

    def operations(
        self, *, pool_id: str = "", after: tuple[float, str] | None = None, limit: int = 1000
    ) -> list[OperationRecord]:
        """Operations by (create_time, operation_id), of one pool or of all ("")."""

    def running_operations(self) -> list[OperationRecord]:
        """Operations that are not done."""

    def forget_operations(self, before: float, limit: int) -> int:
        """Drops at most `limit` operations that began before a time and have ended; returns how many."""

    def delete_operation(self, operation_id: str) -> None:
        """Forgets an operation."""

    # audits
    def put_suspects(self, pool_uid: int, record: SuspectRecord) -> None:
        """Stores what an audit found, in place of what the one before did."""

    def suspects(self, pool_uid: int) -> SuspectRecord | None:
        """What the last audit found; None where there was none, or where it cannot be read: another audit finds it
        again."""

    # the change feed
    def append_change(self, pool_uid: int, parts: Sequence[Part], now: float) -> None:
        """Adds a change, of the epoch that the pool has in this transaction; nothing of a pool that is gone. Changes
        are ordered as transactions are."""

    def changes(self, pool_uid: int, after: Position, limit: int) -> list[ChangeRecord]:
        """Changes in order, those after a position."""

    def last_change(self, pool_uid: int) -> Position | None:
        """Position of the last change; None where there is none, or none any more."""

    def forgotten_changes(self, pool_uid: int) -> Position | None:
        """Position up to which the changes of a pool are forgotten; None where all are there."""

    def forget_changes(self, before: float, keep: int, limit: int) -> int:
        """Drops at most `limit` of the oldest changes, in their order: those made before a time, and those beyond the
        last `keep`; returns how many."""

    # requests
    def recall(self, pool_uid: int, key: RequestKey) -> Remembered | None:
        """What is remembered under a key in a pool, or under NO_POOL; None if there is nothing or request_id is empty.
        Raises AssayError(REQUEST_ID_REUSED) if it was remembered for another fingerprint."""

    def remember(self, pool_uid: int, key: RequestKey, response: bytes, now: float) -> None:
        """Remembers a response until the pool is deleted; does nothing if request_id is empty."""

    def forget_request(self, pool_uid: int, key: RequestKey) -> None:
        """Drops what is remembered under a key."""

    def forget_requests(self, before: float, keep: int, limit: int) -> int:
        """Drops at most `limit` of the oldest responses: those remembered before a time, and those beyond the last
        `keep`; returns how many."""


class Catalog(Protocol):
    """The mutable truth, in SQL."""

    @property
    def identity(self) -> str:
        """Made at random with the catalog; tells it from any other."""

    def transaction(self) -> AbstractContextManager[CatalogTx]:
        """A writing transaction, durable when the context ends without an exception, undone otherwise. Not to be
        nested. What it reads, others have committed or are about to commit with it.

        Raises:
            OutcomeUnknown: it may be durable or not. The next transaction begins only when that has been decided, and
                sees it.
            AssayError: STORAGE_FULL, STORAGE_UNAVAILABLE, STORAGE_FAILED, BUSY, CONFLICT, SHUTTING_DOWN; nothing was
                stored then.
        """

    def reading(self) -> AbstractContextManager[CatalogTx]:
        """A reading transaction; does not wait for writers."""

    def pack(self, block: EventBlock) -> PackedBlock:
        """A block as the catalog stores it. Needs no transaction, and is done before one begins: others wait for it."""

    def shrink(self, pages: int) -> bool:
        """Gives at most so many free pages back to the file system, but for some to write on; returns whether there
        were any. For databases that do not look after that by themselves. Raises as transaction."""

    def close(self) -> None:
        """Closes connections."""
