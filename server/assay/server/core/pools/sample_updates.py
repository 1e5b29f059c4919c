"""Changes what is known of samples, and nothing else: row, vector, state and annotations stay."""

import dataclasses

import numpy as np

from assay.server.core import checks
from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import Limits
from assay.server.core.pools import checks as pool_checks
from assay.server.core.pools.ingest import taken
from assay.server.core.pools.messages import SampleUpdate, UpdateSamplesResult
from assay.server.core.pools.overlaying import with_overlay
from assay.server.core.pools.pool import Pool
from assay.server.core.pools.row_sets import RowSet
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.segments import SegmentStore
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.changes import SamplesAction, SamplesChanged, listed
from assay.server.core.records.pools import LIVE_STATES
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.samples import AttributeColumn, SampleColumns, SegmentFile


class SampleUpdates:
    """Updates samples of pools: writes an overlay of the changed columns, and lays it over the samples' files."""

    def __init__(self, segments: SegmentStore, limits: Limits) -> None:
        self._segments = segments
        self._limits = limits

    def update(self, pool: Pool, update: SampleUpdate, key: RequestKey) -> UpdateSamplesResult:
        """Changes samples, all or none; durable when it returns. O(what is changed), whatever the size of the pool.

        Raises:
            AssayError: what is wrong with the columns, and of which sample; SAMPLE_NOT_FOUND for an unknown id,
                SEGMENT_DAMAGED, UNKNOWN_ATTRIBUTE for one to remove that the pool does not have; STORAGE_FULL.
            RequestReplayed: the request was answered before.
        """
        pool.mend()
        _checked(update, pool.snapshot, self._limits)
        ids = self._segments.prepare_ids(update.columns.ids)
        # The rows of the ids stay theirs meanwhile: who replaces samples waits.
        with pool.ingest_lock:
            pool.check_replay(key)
            snapshot = pool.snapshot
            columns = _checked(update, snapshot, self._limits)
            rows = snapshot.require(ids)
            order = np.argsort(rows)
            file = self._segments.write_overlay(snapshot.pool.uid, rows[order], taken(columns, order))
            result = self._apply(pool, file, rows[order], columns, key)
        pool.note_ingest()
        return result

    def _apply(
        self, pool: Pool, file: SegmentFile, rows: RowArray, columns: SampleColumns, key: RequestKey
    ) -> UpdateSamplesResult:
        with pool.leftovers.of_change(new=[file.file]), pool.change(key) as change:
            before, uid = change.before, change.before.pool.uid
            lost = rows[~np.isin(before.states.at(rows), LIVE_STATES)]
            if len(lost):
                # Deleted or found damaged since.
                before.require(before.ids(lost))
            result = UpdateSamplesResult(len(rows), change.epoch)
            change.answer(result)
            named = dataclasses.replace(file, epoch=change.epoch, rows=RowSet.of(rows).packed)
            overlay = self._segments.open_overlay(named, verify=False)
            change.tell(SamplesChanged(SamplesAction.UPDATED, len(rows), listed(rows)))
            fresh = {name: c.kind for name, c in columns.attributes.items() if name not in before.attributes}
            change.replace(
                samples=with_overlay(before.samples, overlay),
                overlays=(*before.overlays, overlay),
                attributes={**before.attributes, **fresh},
            )
            change.tx.add_segments(uid, [named])
            change.tx.add_attributes(uid, fresh)
        return result


def _checked(update: SampleUpdate, snapshot: Snapshot, limits: Limits) -> SampleColumns:
    """All columns to write: those that are given, and those of attributes to take away."""
    columns, kinds = update.columns, snapshot.attributes
    checks.ids(columns.ids, limits.max_batch_rows)
    unknown = next((name for name in update.removed if name not in kinds), None)
    if unknown is not None:
        raise AssayError(
            Reason.UNKNOWN_ATTRIBUTE,
            f"The pool has no attribute {unknown[:100]!r} to remove; it has: {', '.join(sorted(kinds)) or 'none'}.",
            attribute=unknown[:100],
        )
    removed = {*update.removed, *(kinds.keys() - columns.attributes.keys() if update.all_attributes else ())}
    gone = {name: _nothing(kinds[name], len(columns.ids)) for name in removed}
    pool_checks.contents(columns, kinds, limits)
    return dataclasses.replace(columns, attributes={**columns.attributes, **gone})


def _nothing(kind: str, count: int) -> AttributeColumn:
    """An attribute that no sample has."""
    values = [""] * count if kind == "string" else np.zeros(count)
    return AttributeColumn(kind, values, np.zeros(count, np.bool_))
