"""Merges small adjacent files in the background, leaving out deleted samples."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.pools.overlaying import needed, overlaid
from assay.server.core.pools.pool import Change, Pool
from assay.server.core.pools.quarantine import quarantine
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.source_merging import Lift, Overtaken, SourceMerger
from assay.server.core.ports.segments import SampleSegment, SegmentStore, VectorSegment
from assay.server.core.records.arrays import MaskArray, RowArray
from assay.server.core.records.pools import State
from assay.server.core.records.samples import SegmentFile

# Fewer files than this are not worth writing their bytes again.
MIN_RUN = 4
# So many at once, so that looking for them takes time in proportion to the files of the pool.
MAX_RUN = 128

# A file is written again once this share of its samples was changed, or by so many overlays; or by one, where the pool
# has so many.
CHANGED_SHARE = 0.125
MANY_OVERLAYS = 32
MAX_OVERLAYS = 256

S = TypeVar("S", SampleSegment, VectorSegment)


def _directly(work: Callable[[], SegmentFile | None]) -> SegmentFile | None:
    return work()


class Merger:
    """Merges files of a pool.

    Args:
        segment_bytes: files up to half of this are small; a merged file has at most this many bytes. No file of a merge
            is larger than the others together, so each merge at least doubles the file that a sample is in: a sample
            is rewritten at most log2(segment_bytes / bytes of a batch) times.
        lift: does the reading and writing, which needs no lock, on another thread; the commit stays on this one.
    """

    def __init__(self, segments: SegmentStore, segment_bytes: int, lift: Lift = _directly) -> None:
        self._segments = segments
        self._segment_bytes = segment_bytes
        self._lift = lift
        self._sources = SourceMerger(segments, segment_bytes, lift)

    def merge_once(self, pool: Pool) -> bool:
        """Merges one run of files, if there is one; returns whether there was."""
        pool.mend()
        snapshot = pool.snapshot
        damaged = [damage.first_row for damage in snapshot.damaged]
        samples = self._run_of(snapshot.samples, damaged, lambda run: self._whole(snapshot, run)) or _outdated(snapshot)
        vectors = self._run_of(snapshot.vectors, damaged, _alike)
        try:
            if samples:
                self._merge_samples(pool, snapshot, samples)
            elif vectors:
                self._merge_vectors(pool, snapshot, vectors)
            else:
                return self._sources.merge_once(pool)
        except Overtaken:
            return False
        except AssayError as error:
            if error.reason is not Reason.SEGMENT_DAMAGED:
                raise
            quarantine(pool, error.metadata["file"], error.message)
            return True
        return bool(samples or vectors)

    def _run_of(self, segments: Sequence[S], damaged: list[int], fit: Callable[[Sequence[S]], bool]) -> list[S]:
        """The longest run of adjacent small files that fit into one, if it is worth it; the first of MAX_RUN files.
        Files are not adjacent across a damaged one, given by its first row: it may come back from a backup."""
        best: list[S] = []
        run: list[S] = []
        total = 0
        for segment in segments:
            size = segment.file.size
            small = size <= self._segment_bytes // 2
            apart = bool(run) and any(run[-1].file.last_row < row < segment.file.first_row for row in damaged)
            if apart or not small or total + size > self._segment_bytes or not fit(run + [segment]):  # noqa: RUF005 - a list display would lose the type
                run, total = [], 0
            if small:
                run.append(segment)
                total += size
            if len(run) >= MIN_RUN and len(run) > len(best):
                best = max(best, _balanced(run), key=len)
            if len(best) == MAX_RUN:
                break
            if len(run) == MAX_RUN:
                run, total = [], 0
        return best if len(best) >= MIN_RUN else []

    def _merge_samples(self, pool: Pool, snapshot: Snapshot, run: list[SampleSegment]) -> None:
        file = self._lift(
            lambda: self._segments.merge_samples(snapshot.pool.uid, run, lambda rows: _keep(snapshot, rows))
        )
        # What the overlays of this epoch say is in it.
        file = None if file is None else replace(file, epoch=snapshot.pool.epoch)
        opened = None if file is None else self._segments.open_samples(file, verify=False)
        gone = np.concatenate([segment.rows_N for segment in run])
        if opened is not None:
            gone = gone[~np.isin(gone, opened.rows_N)]
        with self._replacing(pool, run, file) as (change, old):
            before = change.before
            # No file names these rows any more, so no tombstone is needed to hide them.
            change.tx.forget_deleted_rows(snapshot.pool.uid, gone)
            merged = None if opened is None else overlaid(opened, before.overlays)
            samples = _spliced(before.samples, run, merged)
            served = {segment.file.file for segment in samples}
            known = change.tx.segments(before.pool.uid)
            missing = [each for each in known if each.kind == "samples" and each.file not in served]
            kept = tuple(overlay for overlay in before.overlays if needed(overlay.file, samples, missing))
            folded = [overlay.file.file for overlay in before.overlays if overlay not in kept]
            change.tx.remove_segments(before.pool.uid, folded)
            old += folded
            change.replace(samples=samples, overlays=kept)

    def _whole(self, snapshot: Snapshot, run: Sequence[SampleSegment]) -> bool:
        """Whether files fit into one. One that an unread overlay lies over must wait for it."""
        return self._segments.mergeable(run) and not _has_damage(snapshot, run[-1])

    def _merge_vectors(self, pool: Pool, snapshot: Snapshot, run: list[VectorSegment]) -> None:
        file = self._lift(
            lambda: self._segments.merge_vectors(snapshot.pool.uid, run, lambda rows: _keep(snapshot, rows))
        )
        opened = None if file is None else self._segments.open_vectors(file, verify=False)
        with self._replacing(pool, run, file) as (change, _):
            change.replace(vectors=_spliced(change.before.vectors, run, opened))

    @contextmanager
    def _replacing(self, pool: Pool, run: Sequence[S], new: SegmentFile | None) -> Iterator[tuple[Change, list[str]]]:
        """A change that puts one file in the place of several, in the catalog and on disk; and the files that go, to
        which others may be added."""
        old = [segment.file.file for segment in run]
        with pool.leftovers.of_change(new=[new.file] if new else [], old=old), pool.change() as change:
            uid = change.before.pool.uid
            if not set(old) <= {file.file for file in change.tx.segments(uid)}:
                raise Overtaken
            change.tx.remove_segments(uid, old)
            change.tx.add_segments(uid, [new] if new else [])
            yield change, old


def _has_damage(snapshot: Snapshot, segment: SampleSegment) -> bool:
    return snapshot.counts[State.DAMAGED] > 0 and bool((snapshot.states.at(segment.rows_N) == State.DAMAGED).any())


def _outdated(snapshot: Snapshot) -> list[SampleSegment]:
    """A file worth writing again by itself, for much of it was changed, or by many overlays."""
    most = MANY_OVERLAYS if len(snapshot.overlays) < MAX_OVERLAYS else 1
    for segment in snapshot.samples:
        changed = segment.changed >= CHANGED_SHARE * segment.file.count or len(segment.overlays) >= most
        if segment.changed and changed and not _has_damage(snapshot, segment):
            return [segment]
    return []


def _alike(run: Sequence[VectorSegment]) -> bool:
    """Whether vectors files fit into one: all with logits, or none."""
    return len({segment.logits_NC is None for segment in run}) == 1


def _balanced(run: Sequence[S]) -> list[S]:
    """The longest part of a run in which no file is larger than the others together."""
    sizes = [segment.file.size for segment in run]
    if not sizes or 2 * max(sizes) <= sum(sizes):
        return list(run)
    largest = sizes.index(max(sizes))
    return max(_balanced(run[:largest]), _balanced(run[largest + 1 :]), key=len)


def _keep(snapshot: Snapshot, rows: RowArray) -> MaskArray:
    kept: MaskArray = ~np.isin(snapshot.states.at(rows), (State.DELETED, State.ABSENT))
    return kept


def _spliced(segments: tuple[S, ...], run: Sequence[S], merged: S | None) -> tuple[S, ...]:
    """Segments with a run of them replaced; as they are if another space became active meanwhile."""
    names = {segment.file.file for segment in run}
    if not any(segment.file.file in names for segment in segments):
        return segments
    spliced: list[S] = [segment for segment in segments if segment.file.file not in names]
    if merged is not None:
        spliced.append(merged)
    return tuple(sorted(spliced, key=lambda segment: segment.file.first_row))
