"""Overlays over the samples files of a pool: which apply to a file, and which are no longer needed."""

from collections.abc import Iterable, Sequence

import numpy as np

from assay.server.core.pools.row_sets import RowSet
from assay.server.core.ports.segments import Overlay, SampleSegment
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.samples import SegmentFile


def overlaid(segment: SampleSegment, overlays: Iterable[Overlay]) -> SampleSegment:
    """A file with those of some overlays, by epoch, that are newer than what is in it."""
    for overlay in overlays:
        if overlay.file.epoch > segment.file.epoch and _meet(overlay.file, segment.file):
            segment = segment.overlaid(overlay)
    return segment


def with_overlay(segments: Sequence[SampleSegment], overlay: Overlay) -> tuple[SampleSegment, ...]:
    """Files with one overlay more, newer than all."""
    return tuple(overlaid(segment, [overlay]) for segment in segments)


def pending_rows(file: SegmentFile, segments: Iterable[SampleSegment]) -> RowArray:
    """Rows of an overlay, which may be damaged, whose new values are not in the samples files that hold them."""
    rows = RowSet.unpacked(file.rows).array
    held = [
        rows[np.isin(rows, each.rows_N)] for each in segments if each.file.epoch < file.epoch and _meet(file, each.file)
    ]
    return np.concatenate(held) if held else np.empty(0, np.int64)


def needed(file: SegmentFile, segments: Sequence[SampleSegment], missing: Iterable[SegmentFile]) -> bool:
    """Whether an overlay says anything that samples files do not, the missing ones among them: they may come back."""
    if len(pending_rows(file, segments)):
        return True
    rows = RowSet.unpacked(file.rows).array
    return any(
        bool(((rows >= lost.first_row) & (rows <= lost.last_row)).any()) for lost in missing if _meet(file, lost)
    )


def _meet(one: SegmentFile, other: SegmentFile) -> bool:
    return one.first_row <= other.last_row and other.first_row <= one.last_row
