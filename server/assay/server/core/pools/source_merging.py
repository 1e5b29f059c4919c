"""Writes files of prediction sources anew in the background: small ones as one, and without what was overruled or whose
samples were deleted."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from assay.server.core.pools.pool import Pool
from assay.server.core.pools.row_sets import RowSet
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.source_service import put
from assay.server.core.pools.sources import Source, SourceFile, merged, spoken_for
from assay.server.core.ports.segments import PredictionFile, SegmentStore
from assay.server.core.records.pools import State
from assay.server.core.records.samples import SegmentFile

# So many files of a source are worth writing as one.
MIN_RUN = 4
MAX_RUN = 128
# A file is written again once it speaks for no more than this share of its rows.
SPOKEN_SHARE = 0.5

Lift = Callable[[Callable[[], SegmentFile | None]], SegmentFile | None]


class SourceMerger:
    """Merges files of the prediction sources of a pool.

    Args:
        segment_bytes: a merged file has at most this many bytes.
        lift: does the reading and writing, which needs no lock, on another thread; the commit stays on this one.
    """

    def __init__(self, segments: SegmentStore, segment_bytes: int, lift: Lift) -> None:
        self._segments = segments
        self._segment_bytes = segment_bytes
        self._lift = lift
        # What of a pool there was nothing to do about: looking for it takes a pass over the rows.
        self._settled: dict[int, tuple[object, ...]] = {}

    def merge_once(self, pool: Pool) -> bool:
        """Merges one run of files, if there is one; returns whether there was. Raises AssayError(SEGMENT_DAMAGED)."""
        snapshot = pool.snapshot
        if not snapshot.sources:
            return False
        seen = (sorted(snapshot.file_names), snapshot.row_count, snapshot.counts[State.DELETED], snapshot.live_count)
        if self._settled.get(snapshot.pool.uid) == seen:
            return False
        for source in snapshot.sources.values():
            run = self._run_of(snapshot, source)
            if run:
                self._merge(pool, snapshot, source, run)
                return True
        self._settled[snapshot.pool.uid] = seen
        return False

    def _run_of(self, snapshot: Snapshot, source: Source) -> Sequence[SourceFile]:
        """Files that follow each other and fit into one, or one that is mostly overruled; () if none is worth it."""
        for each in source.files:
            if each.opened is not None and _spoken(snapshot, each) <= SPOKEN_SHARE * each.file.count:
                return [each]
        run: list[SourceFile] = []
        for each in source.files:
            small = each.opened is not None and each.file.size <= self._segment_bytes // 2
            full = len(run) == MAX_RUN or sum(one.file.size for one in run) + each.file.size > self._segment_bytes
            if (full or not small) and len(_balanced(run)) >= MIN_RUN:
                break
            if full or not small:
                run = []
            if small:
                run.append(each)
        found = _balanced(run)
        return found if len(found) >= MIN_RUN else ()

    def _merge(self, pool: Pool, snapshot: Snapshot, source: Source, run: Sequence[SourceFile]) -> None:
        file = self._lift(lambda: self._write(snapshot, source.name, run))
        opened: PredictionFile | None = None if file is None else self._segments.open_predictions(file, verify=False)
        old: list[str] = []
        with pool.leftovers.of_change(new=[file.file] if file else [], old=old), pool.change() as change:
            now = change.before.sources.get(source.name)
            names = {each.file.file for each in run}
            if now is None or not names <= {each.file.file for each in now.files if each.opened is not None}:
                raise Overtaken
            rewritten = now.rewritten(run, file, opened)
            put(change, source.name, rewritten, old)
            if file is None:
                return
            if rewritten is not None and file.file in {each.file.file for each in rewritten.files}:
                change.tx.add_segments(change.before.pool.uid, [file])
            else:
                # All of it was said anew meanwhile.
                old.append(file.file)

    def _write(self, snapshot: Snapshot, name: str, run: Sequence[SourceFile]) -> SegmentFile | None:
        for each in run:
            # A merge must not give damage a new checksum.
            self._segments.verify(each.file)
        rows = spoken_for(run)
        found = merged(run, ~np.isin(snapshot.states.at(rows), (State.DELETED, State.ABSENT)), rows)
        if found is None:
            return None
        file = self._segments.write_predictions(snapshot.pool.uid, name, *found)
        return replace(file, epoch=run[-1].file.epoch, rows=RowSet.of(found[0]).packed)


class Overtaken(Exception):
    """The files went away while they were merged: what they say was said anew, or the source was deleted."""


def _spoken(snapshot: Snapshot, each: SourceFile) -> int:
    """For how many rows that are there a file speaks."""
    states = snapshot.states.at(each.rows.array)
    return int((~np.isin(states, (State.DELETED, State.ABSENT))).sum())


def _balanced(run: Sequence[SourceFile]) -> Sequence[SourceFile]:
    """The longest part of a run in which no file is larger than the others together: a prediction is written again as
    often only as its file can double."""
    sizes = [each.file.size for each in run]
    if not sizes or 2 * max(sizes) <= sum(sizes):
        return run
    largest = sizes.index(max(sizes))
    return max(_balanced(run[:largest]), _balanced(run[largest + 1 :]), key=len)
