"""Adds a batch of samples: check, embed, resolve conflicts, write files, commit."""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from assay.server.core import checks
from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.limits import Limits
from assay.server.core.pools import checks as pool_checks
from assay.server.core.pools.labels import labels_of
from assay.server.core.pools.messages import AddResult, IngestBatch
from assay.server.core.pools.pool import Change, Pool
from assay.server.core.pools.replacing import dropped
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.machine import Clock
from assay.server.core.ports.segments import SampleSegment, SegmentStore, VectorSegment
from assay.server.core.records.annotations import (
    NO_EVENT,
    EventBlock,
    EventKind,
    Origin,
    Policy,
    Values,
    none_of,
)
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.pools import PUSHED_SPACE, PoolRecord
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.samples import AttributeColumn, OnConflict, SampleColumns, SegmentFile
from assay.server.core.stopwatch import Stopwatch

T = TypeVar("T")

IMPORT_WORKER = "import"


@dataclasses.dataclass(frozen=True, slots=True)
class Vectors:
    """Embeddings of a batch and the space that they are in."""

    space: str
    embeddings_ND: FloatArray
    logits_NC: FloatArray | None

    def fit(self, pool: PoolRecord) -> bool:
        """Whether they are in the pool's space, or may open it."""
        return pool.space in ("", self.space) and pool.dimension in (0, self.embeddings_ND.shape[1])


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """What becomes of a batch: positions to keep, the rows they get, rows that are replaced and the positions that
    replace them."""

    keep: npt.NDArray[np.int64]
    rows: RowArray
    replaced: RowArray
    replacing: npt.NDArray[np.int64]
    skipped: int


class Ingest:
    """Adds batches to pools."""

    def __init__(self, segments: SegmentStore, clock: Clock, limits: Limits) -> None:
        self._segments = segments
        self._clock = clock
        self._limits = limits

    def add(self, pool: Pool, batch: IngestBatch, on_conflict: OnConflict, key: RequestKey) -> AddResult:
        """Stores a batch; durable when it returns, nothing changed when it raises.

        Raises:
            AssayError: what is wrong with the batch; SAMPLE_EXISTS, SAMPLE_LEASED; NO_BACKBONE; STORAGE_FULL.
            RequestReplayed: the batch was stored before under the same key.
        """
        watch = Stopwatch()
        with watch.stage("check"):
            snapshot = pool.snapshot
            pool_checks.batch(batch, snapshot.task, snapshot.attributes, self._limits)
            ids = self._segments.prepare_ids(batch.columns.ids)
        vectors = None
        if not (on_conflict is OnConflict.SKIP and batch.columns.inputs and (snapshot.find(ids) >= 0).all()):
            # An upload that is sent again from the start is not embedded again.
            with watch.stage("embed"):
                vectors = self._vectors(snapshot, batch)
        with pool.ingest_lock:
            # The same request may have been stored, or the pool changed, while this one waited.
            pool.check_replay(key)
            if pool.snapshot.attributes != snapshot.attributes:
                pool_checks.attributes(batch.columns, pool.snapshot.attributes, self._limits)
            return self._add_locked(pool, batch, ids, vectors, on_conflict, key, watch)

    def _add_locked(
        self,
        pool: Pool,
        batch: IngestBatch,
        ids: Sequence[str],
        vectors: Vectors | None,
        on_conflict: OnConflict,
        key: RequestKey,
        watch: Stopwatch,
    ) -> AddResult:
        snapshot = pool.snapshot
        with watch.stage("conflicts"):
            placement = _resolve(snapshot, ids, on_conflict)
        if len(placement.keep) == 0:
            with pool.change(key) as change:
                result = AddResult(0, placement.skipped, 0, change.epoch, watch.timings)
                change.answer(result)
            return result
        if vectors is None or not vectors.fit(snapshot.pool):
            # A backbone was swapped in while this batch was embedded by the one before, or another batch came first.
            vectors = self._vectors(snapshot, batch)
        kept = _take(batch, placement.keep, keep_inputs=snapshot.pool.keep_inputs)
        lost = dropped(snapshot, batch, placement.replacing, placement.replaced)
        with watch.stage("write"):
            files, opened = self._write(snapshot, kept, vectors, placement)
        with (
            watch.stage("commit"),
            pool.leftovers.of_change(new=[file.file for file in files]),
            pool.change(key) as change,
        ):
            result = AddResult(
                len(placement.rows) - len(placement.replaced),
                placement.skipped,
                len(placement.replaced),
                change.epoch,
                watch.timings,
                *lost,
            )
            change.answer(result)
            self._record(change, kept, placement, vectors, files, opened)
        pool.note_ingest()
        return result

    def _vectors(self, snapshot: Snapshot, batch: IngestBatch) -> Vectors:
        pool, backbone = snapshot.pool, snapshot.backbone
        if batch.embeddings_ND is not None:
            dimension = pool.dimension or batch.embeddings_ND.shape[-1]
            if not 1 <= dimension <= self._limits.max_dimension:
                raise AssayError(Reason.DIMENSION_MISMATCH, f"Vectors have 1 to {self._limits.max_dimension} numbers.")
            embeddings_ND = checks.embeddings(batch.embeddings_ND, dimension, pool.metric)
            return Vectors(pool.space or PUSHED_SPACE, embeddings_ND, None)
        if backbone is None:
            raise AssayError(
                Reason.NO_BACKBONE,
                f"Pool {pool.pool_id!r} has no active backbone to embed inputs with. Upload and activate one, or push "
                "embeddings.",
            )
        inputs = batch.columns.inputs or {}
        count = backbone.runtime.check_inputs(inputs)
        if count != len(batch.columns.ids):
            raise AssayError(
                Reason.INPUTS_INVALID, f"The inputs hold {count} samples; the batch has {len(batch.columns.ids)} ids."
            )
        embeddings_ND, logits_NC = backbone.runtime.embed(inputs)
        return Vectors(pool.space, checks.embeddings(embeddings_ND, pool.dimension, pool.metric), logits_NC)

    def _write(
        self, snapshot: Snapshot, kept: IngestBatch, vectors: Vectors, placement: Placement
    ) -> tuple[list[SegmentFile], tuple[SampleSegment, VectorSegment]]:
        uid = snapshot.pool.uid
        files: list[SegmentFile] = []
        try:
            files.append(self._segments.write_samples(uid, placement.rows, kept.columns))
            embeddings_ND = _rows_of(vectors.embeddings_ND, placement.keep)
            logits_NC = None if vectors.logits_NC is None else _rows_of(vectors.logits_NC, placement.keep)
            files.append(self._segments.write_vectors(uid, vectors.space, placement.rows, embeddings_ND, logits_NC))
            return files, (
                self._segments.open_samples(files[0], verify=False),
                self._segments.open_vectors(files[1], verify=False),
            )
        except BaseException:
            self._segments.discard(file.file for file in files)
            raise

    def _record(
        self,
        change: Change,
        kept: IngestBatch,
        placement: Placement,
        vectors: Vectors,
        files: list[SegmentFile],
        opened: tuple[SampleSegment, VectorSegment],
    ) -> None:
        before, uid = change.before, change.before.pool.uid
        check_not_leased(before, placement.replaced)
        fresh = {name: c.kind for name, c in kept.columns.attributes.items() if name not in before.attributes}
        if fresh:
            change.replace(attributes={**before.attributes, **fresh})
        change.delete(placement.replaced)
        next_row = int(placement.rows[-1]) + 1
        change.grow(int(placement.rows[0]), next_row)
        places, labels = labels_of(kept, before.task)
        if len(places):
            settled = before.pool.annotations_per_sample == 1 and before.pool.policy is Policy.LATEST
            labeled, now = placement.rows[places], self._clock.now()
            change.append(_imported(change.next_event, labeled, labels, now, settled=settled))
        change.replace(samples=(*before.samples, opened[0]), vectors=(*before.vectors, opened[1]))
        change.replace_pool(next_row=next_row, space=vectors.space, dimension=vectors.embeddings_ND.shape[1])
        change.tx.add_segments(uid, files)
        change.tx.add_attributes(uid, fresh)
        if len(placement.replaced):
            change.tx.delete_rows(uid, placement.replaced)


def _imported(first_number: int, rows: RowArray, labels: Values, now: float, *, settled: bool) -> EventBlock:
    """Labels that come with new samples, as annotations; settled: one is enough."""
    count = len(rows)
    return EventBlock(
        first_number,
        IMPORT_WORKER,
        now,
        "",
        Origin.IMPORT,
        rows_N=rows,
        kinds_N=np.full(count, EventKind.ANNOTATE, np.uint8),
        values=labels,
        labels_after=None if settled else none_of(labels),
        answered_after_N=np.ones(count, np.uint8),
        previous_N=np.full(count, NO_EVENT, np.int64),
    )


def _resolve(snapshot: Snapshot, ids: Sequence[str], on_conflict: OnConflict) -> Placement:
    found = snapshot.find(ids)
    taken = found >= 0
    if taken.any() and on_conflict is OnConflict.ERROR:
        row = int(np.flatnonzero(taken)[0])
        raise SampleError(
            Reason.SAMPLE_EXISTS,
            row,
            f"the pool already has {int(taken.sum())} of the ids in its batch, this is the first. Send them with "
            "on_conflict SKIP or REPLACE.",
            str(ids[row]),
            count=int(taken.sum()),
        )
    replacing = np.flatnonzero(taken) if on_conflict is OnConflict.REPLACE else np.empty(0, np.int64)
    replaced = found[replacing]
    check_not_leased(snapshot, replaced)
    keep = np.flatnonzero(~taken) if on_conflict is OnConflict.SKIP else np.arange(len(ids))
    first = snapshot.pool.next_row
    rows = np.arange(first, first + len(keep), dtype=np.int64)
    return Placement(keep, rows, replaced, replacing, len(ids) - len(keep))


def check_not_leased(snapshot: Snapshot, rows: RowArray) -> None:
    """Raises AssayError(SAMPLE_LEASED) if a worker holds one of the rows."""
    leased = rows[snapshot.in_hands(rows)]
    if len(leased):
        raise sample_leased(snapshot.ids(leased[:1])[0], len(leased))


def sample_leased(sample_id: str, count: int) -> AssayError:
    """The error for changing samples that a worker holds."""
    return AssayError(
        Reason.SAMPLE_LEASED,
        f"{count} of the samples are under a live lease, the first is {sample_id!r}. "
        "Wait until the lease ends, or release it.",
        id=sample_id,
        count=count,
    )


def _rows_of(values_ND: FloatArray, keep: npt.NDArray[np.int64]) -> FloatArray:
    return values_ND if len(keep) == len(values_ND) else values_ND[keep]


def _take(batch: IngestBatch, keep: npt.NDArray[np.int64], *, keep_inputs: bool) -> IngestBatch:
    """The kept positions of every column; inputs only where the pool keeps them."""
    columns = batch.columns
    inputs = columns.inputs if keep_inputs else None
    if len(keep) == len(columns.ids):
        return dataclasses.replace(batch, columns=dataclasses.replace(columns, inputs=inputs))
    labels = None if batch.labels is None else _pick(batch.labels, keep)
    return IngestBatch(taken(dataclasses.replace(columns, inputs=inputs), keep), None, labels)


def taken(columns: SampleColumns, positions: npt.NDArray[np.int64]) -> SampleColumns:
    """Some positions of every column, in the order given."""
    return SampleColumns(
        ids=_pick(columns.ids, positions),
        uris=None if columns.uris is None else _pick(columns.uris, positions),
        payloads=None if columns.payloads is None else _pick(columns.payloads, positions),
        payload_media_type=columns.payload_media_type,
        attributes={name: _take_attribute(column, positions) for name, column in columns.attributes.items()},
        predictions_NC=None if columns.predictions_NC is None else columns.predictions_NC[positions],
        inputs=None if columns.inputs is None else {name: tensor[positions] for name, tensor in columns.inputs.items()},
    )


def _take_attribute(column: AttributeColumn, keep: npt.NDArray[np.int64]) -> AttributeColumn:
    values: Any = column.values[keep] if isinstance(column.values, np.ndarray) else _pick(column.values, keep)
    present: MaskArray | None = None if column.present_N is None else column.present_N[keep]
    return AttributeColumn(column.kind, values, present)


def _pick(values: Sequence[T], keep: npt.NDArray[np.int64]) -> list[T]:
    return [values[position] for position in keep.tolist()]
