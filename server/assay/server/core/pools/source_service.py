"""Named sources of predictions: pushed, listed, deleted."""

import dataclasses

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import Limits
from assay.server.core.pools import source_checks
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.messages import PredictionUpdate, SourceView, UpdatePredictionsResult
from assay.server.core.pools.pool import Change, Pool
from assay.server.core.pools.row_sets import RowSet
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.sources import Source, SourceFile
from assay.server.core.ports.segments import SegmentStore
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.pools import LIVE_STATES
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.samples import SegmentFile


class SourceService:
    """Named sources of predictions of each pool."""

    def __init__(self, pools: PoolDirectory, segments: SegmentStore, limits: Limits) -> None:
        self._pools = pools
        self._segments = segments
        self._limits = limits

    def update(self, pool_id: str, update: PredictionUpdate, key: RequestKey) -> UpdatePredictionsResult:
        """Takes what a source says of samples, all or nothing, in place of what it said of them before; durable when it
        returns. O(what is given), whatever the size of the pool.

        Raises:
            AssayError: what is wrong with the predictions, and of which sample; SAMPLE_NOT_FOUND for an unknown id,
                SEGMENT_DAMAGED; STORAGE_FULL.
            RequestReplayed: the request was answered before.
        """
        pool = self._pools.begin(pool_id, key)
        pool.mend()
        source_checks.checked(update, pool.snapshot, self._limits)
        ids = self._segments.prepare_ids(update.ids)
        # The rows of the ids stay theirs meanwhile: who replaces samples waits.
        with pool.ingest_lock:
            pool.check_replay(key)
            snapshot = pool.snapshot
            columns = source_checks.checked(update, snapshot, self._limits)
            rows = snapshot.require(ids)
            order = np.argsort(rows)
            file = self._segments.write_predictions(snapshot.pool.uid, update.source, rows[order], columns.taken(order))
            result = self._apply(pool, update.source, file, rows[order], key)
        pool.note_ingest()
        return result

    def _apply(
        self, pool: Pool, name: str, file: SegmentFile, rows: RowArray, key: RequestKey
    ) -> UpdatePredictionsResult:
        old: list[str] = []
        with pool.leftovers.of_change(new=[file.file], old=old), pool.change(key) as change:
            before = change.before
            lost = rows[~np.isin(before.states.at(rows), LIVE_STATES)]
            if len(lost):
                # Deleted or found damaged since.
                before.require(before.ids(lost))
            result = UpdatePredictionsResult(len(rows), change.epoch)
            change.answer(result)
            named = dataclasses.replace(file, epoch=change.epoch, rows=RowSet.of(rows).packed)
            opened = self._segments.open_predictions(named, verify=False)
            source = before.sources.get(name) or Source(name, ())
            put(change, name, source.with_file(named, opened), old)
            change.tx.add_segments(before.pool.uid, [named])
        return result

    def list(self, pool_id: str) -> list[SourceView]:
        """All sources of a pool, by name."""
        snapshot = self._pools.get(pool_id).snapshot
        return [_view(snapshot, source) for _, source in sorted(snapshot.sources.items())]

    def delete(self, pool_id: str, name: str, key: RequestKey) -> None:
        """Deletes a source with all that it predicted. Raises AssayError(SOURCE_NOT_FOUND)."""
        pool = self._pools.begin(pool_id, key)
        old: list[str] = []
        with pool.leftovers.of_change(old=old), pool.change(key) as change:
            if name not in change.before.sources:
                raise not_found(name, change.before)
            change.answer(None)
            put(change, name, None, old)


def put(change: Change, name: str, source: Source | None, old: list[str]) -> None:
    """Puts a source in the place of what it was, None if it is no more; the files that go with that are taken out of
    the catalog, and told in `old`."""
    before = change.before
    known = before.sources.get(name)
    kept = {each.file.file for each in source.files} if source is not None else set()
    gone = [each.file.file for each in known.files if each.file.file not in kept] if known is not None else []
    sources = {other: each for other, each in before.sources.items() if other != name}
    if source is not None and source.files:
        sources[name] = source
    change.replace(
        sources=sources,
        # What was damaged and is said anew, or not wanted any more, is no loss.
        damaged=tuple(damage for damage in before.damaged if damage.file not in gone),
    )
    change.tx.remove_segments(before.pool.uid, gone)
    old += gone


def not_found(name: str, snapshot: Snapshot) -> AssayError:
    """The error for a source that is not there."""
    known = ", ".join(sorted(snapshot.sources)) or "none"
    return AssayError(
        Reason.SOURCE_NOT_FOUND,
        f"Pool {snapshot.pool.pool_id!r} has no prediction source {name[:100]!r}; its sources are: {known}. Push "
        "predictions under the name first.",
        source=name[:100],
    )


def _view(snapshot: Snapshot, source: Source) -> SourceView:
    shape = snapshot.task.prediction_shape
    assert shape is not None  # nothing is taken where there is none
    return SourceView(
        name=source.name,
        form=shape.form,
        samples=sum(_served(snapshot, each) for each in source.files if each.opened is not None),
        lost=sum(len(each.rows) for each in source.files if each.opened is None),
        has_spread=source.has_spread,
        size=source.size,
        epoch=source.epoch,
    )


def _served(snapshot: Snapshot, each: SourceFile) -> int:
    """How many samples that the pool serves a file speaks for."""
    return int(np.isin(snapshot.states.at(each.rows.array), LIVE_STATES).sum())
