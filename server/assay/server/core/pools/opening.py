"""Opens pools at start: from the catalog's rows and the mapped files to a snapshot. Damaged files are named and left
out."""

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from assay.server.core.bells import Bells
from assay.server.core.errors import AssayError, Reason
from assay.server.core.pools import belonging
from assay.server.core.pools.columns import RowColumn
from assay.server.core.pools.derived import Derived, Makers
from assay.server.core.pools.leftovers import Leftovers
from assay.server.core.pools.log import read_log
from assay.server.core.pools.messages import DamagedFile
from assay.server.core.pools.overlaying import overlaid, pending_rows
from assay.server.core.pools.pool import Pool, rows_array
from assay.server.core.pools.snapshot import ActiveBackbone, ActiveHead, Snapshot
from assay.server.core.pools.sources import Source
from assay.server.core.pools.states import StateArray, states_after
from assay.server.core.pools.suspects import Suspects
from assay.server.core.pools.values import table_for
from assay.server.core.ports.catalog import Catalog, CatalogTx
from assay.server.core.ports.machine import Clock
from assay.server.core.ports.search import IndexBuilder, SearchIndex
from assay.server.core.ports.segments import Overlay, PredictionFile, SampleSegment, SegmentStore, VectorSegment
from assay.server.core.records.annotations import NO_CLASS, NO_EVENT, ByteArray
from assay.server.core.records.arrays import MaskArray, RowArray
from assay.server.core.records.leases import LeaseRecord
from assay.server.core.records.models import ModelRecord
from assay.server.core.records.pools import PoolRecord, State
from assay.server.core.records.samples import SegmentFile
from assay.server.core.tasks.registry import task_of

log = logging.getLogger(__name__)

S = TypeVar("S", SampleSegment, VectorSegment, Overlay, PredictionFile)
M = TypeVar("M", ActiveBackbone, ActiveHead)


class ModelFiles(Protocol):
    """Opens the files of active models."""

    def load_backbone(self, record: ModelRecord) -> ActiveBackbone: ...
    def load_head(self, record: ModelRecord) -> ActiveHead: ...


class Opener:
    """Opens pools.

    Args:
        models: opens the active models.
        derived: makes the derived state of a pool.
        verify_bytes: read files against their checksums while opening, up to this total over all pools; the rest is
            left to the background.
    """

    def __init__(
        self,
        catalog: Catalog,
        segments: SegmentStore,
        indexes: IndexBuilder,
        models: ModelFiles,
        derived: Makers,
        clock: Clock,
        bells: Bells,
        verify_bytes: int,
    ) -> None:
        self._catalog = catalog
        self._segments = segments
        self._indexes = indexes
        self._models = models
        self._derived = derived
        self._clock = clock
        self._bells = bells
        self._verify_left = verify_bytes
        self.unverified: deque[tuple[str, SegmentFile]] = deque()
        self.leftovers = Leftovers(catalog, segments)

    def wrap(self, snapshot: Snapshot) -> Pool:
        """An open pool around a snapshot."""
        return Pool(
            self._catalog,
            self._segments,
            self.leftovers,
            self._clock,
            self._bells,
            snapshot,
            lambda: Derived(self._derived),
            self.reload,
        )

    def reload(self, known: Snapshot) -> Snapshot | None:
        """A pool as the catalog has it: the snapshot that is known where it says the same, None if the pool is gone.
        Files that are open stay open, and those that turned out damaged stay out of service."""
        uid = known.pool.uid
        # A writing transaction begins only when the outcomes before it have been decided.
        with self._catalog.transaction() as tx:
            if tx.pool(uid) == known.pool:
                return known
        with self._catalog.reading() as tx:
            record = tx.pool(uid)
            return None if record is None else self._open(tx, record, known)

    def open_new(self, known: Collection[int]) -> list[Pool]:
        """Opens the pools of the catalog that are not among those known by uid."""
        with self._catalog.transaction() as tx:
            missing = [record.uid for record in tx.pools() if record.uid not in known]
        with self._catalog.reading() as tx:
            pools = [self.wrap(self._open(tx, record)) for uid in missing if (record := tx.pool(uid))]
        _withdraw_lost_indexes(pools)
        return pools

    def open_all(self, *, adopt: bool = False) -> list[Pool]:
        """Opens every pool of the catalog, after sweeping what a crash left over. adopt: see belonging.join."""
        belonging.join(self._catalog, self._segments, adopt=adopt)
        with self._catalog.reading() as tx:
            records = tx.pools()
            next_rows = {record.uid: record.next_row for record in records}
            self._sweep(tx.all_segment_files(), self._segments.ahead(next_rows, tx.last_pool_uid()))
            self._indexes.sweep({record.uid: record.epoch for record in records})
            pools = [self.wrap(self._open(tx, record)) for record in records]
        _withdraw_lost_indexes(pools)
        return pools

    def _sweep(self, keep: set[str], ahead: Sequence[str]) -> None:
        swept = self._segments.sweep(keep, aside=bool(ahead))
        if ahead:
            log.error(
                "the catalog is older than the data directory: it knows nothing of %d files that were written later, "
                "the first is %s. It was restored from an older backup, or its log was damaged; what it does not know "
                "of is not served",
                len(ahead),
                ahead[0],
            )
        if swept.missing:
            log.error(
                "the catalog names %d files that are not there, the first is %s", len(swept.missing), swept.missing[0]
            )
        if swept.moved_to:
            log.error(
                "%d files that the catalog does not name were moved to %s instead of deleted",
                len(swept.files),
                swept.moved_to,
            )
        elif swept.files:
            log.info("swept %d files that no pool names", len(swept.files))

    def _open(self, tx: CatalogTx, pool: PoolRecord, known: Snapshot | None = None) -> Snapshot:
        files = tx.segments(pool.uid)
        names = {file.file for file in files}
        damaged = [damage for damage in known.damaged if damage.file in names] if known else []
        samples = self._open_files(
            pool,
            (f for f in files if f.kind == "samples"),
            self._segments.open_samples,
            damaged,
            known.samples if known else (),
        )
        active = (f for f in files if f.kind == "vectors" and f.space == pool.space)
        vectors = self._open_files(pool, active, self._segments.open_vectors, damaged, known.vectors if known else ())
        overlays = self._open_files(
            pool,
            (f for f in files if f.kind == "overlay"),
            self._segments.open_overlay,
            damaged,
            known.overlays if known else (),
        )
        overlays = tuple(sorted(overlays, key=lambda overlay: overlay.file.epoch))
        samples = tuple(overlaid(segment.bare, overlays) for segment in samples)
        sources = self._open_sources(pool, [f for f in files if f.kind == "predictions"], damaged, known)
        values = table_for(pool.task)
        audited = tx.suspects(pool.uid)
        events = read_log(
            tx.event_columns(pool.uid, classes=values is None),
            pool.next_row,
            values,
            None if audited is None else audited.next_event,
        )
        leases = {lease.lease_id: lease for lease in tx.live_leases(pool.uid)}
        raised_rows, wanted = tx.raised_rows(pool.uid)
        raised = RowColumn.filled(pool.next_row, np.uint8(0)).with_values(raised_rows, wanted)
        held_N = _held(leases.values(), pool.next_row)
        settled_N = states_after(
            excluded_N=_mask(tx.excluded_rows(pool.uid), pool.next_row),
            wanted_N=np.maximum(raised.array, np.uint8(pool.annotations_per_sample)).astype(np.uint8, copy=False),
            answered_N=events.answered_N,
            leases_N=held_N,
            resolved_N=events.labels_N >= 0,
        )
        present_N = _served(pool.next_row, samples, vectors, files, {damage.file for damage in damaged})
        # What was said of a row in a damaged file stays in the catalog, for when the file is restored.
        states_N = np.where(present_N == State.UNLABELED, settled_N, present_N)
        states_N[_mask(tx.deleted_rows(pool.uid), pool.next_row)] = State.DELETED
        gone_N = (states_N == State.DELETED) | (states_N == State.ABSENT)
        serving = [tx.model(pool.uid, model_id) for model_id in (pool.backbone, pool.head)]
        return Snapshot(
            pool=pool,
            task=task_of(pool.task) if known is None or known.pool.task != pool.task else known.task,
            attributes=tx.attributes(pool.uid),
            samples=samples,
            vectors=vectors,
            states=RowColumn.of(states_N, np.uint8(State.ABSENT)),
            labels=RowColumn.of(np.where(gone_N, np.int32(NO_CLASS), events.labels_N), np.int32(NO_CLASS)),
            values=values,
            answered=RowColumn.of(events.answered_N, np.uint8(0)),
            held=RowColumn.of(held_N, np.uint8(0)),
            raised=raised,
            last_events=RowColumn.of(events.last_events_N, np.int64(NO_EVENT)),
            leases=leases,
            workers=events.workers,
            backbone=self._load(serving[0], self._models.load_backbone, damaged, known.backbone if known else None),
            head=self._load(serving[1], self._models.load_head, damaged, known.head if known else None),
            index=self._load_index(pool, known.index if known else None),
            damaged=tuple(damaged),
            overlays=overlays,
            sources=sources,
            suspects=None if audited is None else Suspects(audited).after_rows(events.spoken.array),
        )

    def _open_sources(
        self, pool: PoolRecord, files: Sequence[SegmentFile], damaged: list[DamagedFile], known: Snapshot | None
    ) -> dict[str, Source]:
        """Sources of predictions by name. What a damaged file said is not known; all else is."""
        sources = known.sources.values() if known else ()
        open_already = [each.opened for source in sources for each in source.files if each.opened is not None]
        opened = {
            each.file.file: each
            for each in self._open_files(pool, files, self._segments.open_predictions, damaged, open_already)
        }
        names = sorted({file.space for file in files})
        return {
            name: Source.of(name, [(file, opened.get(file.file)) for file in files if file.space == name])
            for name in names
        }

    def _load_index(self, pool: PoolRecord, known: SearchIndex | None) -> SearchIndex | None:
        """The index that was in service, None if it is not there any more."""
        if not pool.search_index:
            return None
        if known is not None and known.version == pool.search_index:
            return known
        stored = self._indexes.load(pool.uid, pool.space, pool.metric, pool.dimension)
        return stored if stored is not None and stored.version == pool.search_index else None

    def _open_files(
        self,
        pool: PoolRecord,
        files: Iterable[SegmentFile],
        open_file: Callable[..., S],
        damaged: list[DamagedFile],
        known: Sequence[S],
    ) -> tuple[S, ...]:
        open_already = {segment.file: segment for segment in known}
        broken = {damage.file for damage in damaged}
        opened: list[S] = []
        for file in sorted(files, key=lambda file: file.first_row):
            if file in open_already:
                opened.append(open_already[file])
                continue
            if file.file in broken:
                continue
            verify = file.size <= self._verify_left
            if verify:
                self._verify_left -= file.size
            else:
                self.unverified.append((pool.pool_id, file))
            try:
                opened.append(open_file(file, verify=verify))
            except AssayError as error:
                if error.reason not in (Reason.SEGMENT_DAMAGED, Reason.STORAGE_FAILED):
                    raise
                damaged.append(DamagedFile(file.file, file.count, error.message, file.first_row))
        return tuple(opened)

    def _load(
        self,
        record: ModelRecord | None,
        load: Callable[[ModelRecord], M],
        damaged: list[DamagedFile],
        known: M | None,
    ) -> M | None:
        """An active model; one whose file is damaged is named, and the pool served without it."""
        if record is None:
            return None
        if known is not None and known.record == record:
            return known
        try:
            return load(record)
        except (AssayError, OSError) as error:
            damaged.append(DamagedFile(record.file, 0, str(error)))
            return None


def _withdraw_lost_indexes(pools: Sequence[Pool]) -> None:
    """Withdraws indexes that are not there any more. Where that cannot be stored, their pools are served nevertheless,
    by exact searches: every change withdraws the index, and upkeep tries again."""
    for pool in pools:
        try:
            pool.withdraw_lost_index()
        except AssayError as error:
            log.warning("pool %s lost its search index and is searched exactly: %s", pool.snapshot.pool.pool_id, error)


def empty_snapshot(pool: PoolRecord) -> Snapshot:
    """A pool without samples."""
    return Snapshot(
        pool=pool,
        task=task_of(pool.task),
        attributes={},
        samples=(),
        vectors=(),
        states=RowColumn.filled(0, np.uint8(State.ABSENT)),
        labels=RowColumn.filled(0, np.int32(NO_CLASS)),
        values=table_for(pool.task),
        answered=RowColumn.filled(0, np.uint8(0)),
        held=RowColumn.filled(0, np.uint8(0)),
        raised=RowColumn.filled(0, np.uint8(0)),
        last_events=RowColumn.filled(0, np.int64(NO_EVENT)),
        leases={},
    )


def _served(
    row_count: int,
    samples: Sequence[SampleSegment],
    vectors: Sequence[VectorSegment],
    files: Sequence[SegmentFile],
    broken: Collection[str],
) -> StateArray:
    """As _present, less rows whose latest update is in a broken file: what they are is not known."""
    lost = [file for file in files if file.kind == "samples" and file.file in broken]
    states_N = _present(row_count, samples, vectors, lost)
    for file in files:
        if file.kind == "overlay" and file.file in broken:
            changed = pending_rows(file, samples)
            states_N[changed[states_N[changed] == State.UNLABELED]] = State.DAMAGED
    return states_N


def _present(
    row_count: int,
    samples: Sequence[SampleSegment],
    vectors: Sequence[VectorSegment],
    lost_samples: Sequence[SegmentFile],
) -> StateArray:
    """UNLABELED where a row has both its sample and its vector, DAMAGED where a file that holds one cannot be read."""
    known, embedded = _covered(row_count, samples), _covered(row_count, vectors)
    lost = np.zeros(row_count, np.bool_)
    for file in lost_samples:
        lost[file.first_row : file.last_row + 1] = True
    states_N = np.full(row_count, State.ABSENT, np.uint8)
    states_N[known & embedded] = State.UNLABELED
    # A row that only its vector names was merged away from the samples, unless their file is the damaged one.
    states_N[(known & ~embedded) | (lost & ~known)] = State.DAMAGED
    return states_N


def _held(leases: Iterable[LeaseRecord], row_count: int) -> ByteArray:
    """How many leases hold each row."""
    rows = rows_array([row for lease in leases for row in lease.rows])
    return np.bincount(rows[rows < row_count], minlength=row_count).astype(np.uint8)


def _mask(rows: RowArray, row_count: int) -> MaskArray:
    mask = np.zeros(row_count, np.bool_)
    mask[rows[rows < row_count]] = True
    return mask


def _covered(row_count: int, segments: Sequence[SampleSegment | VectorSegment]) -> MaskArray:
    mask = np.zeros(row_count, np.bool_)
    for segment in segments:
        mask[segment.rows_N] = True
    return mask
