"""Samples that are set aside, and taken back: nobody is offered them meanwhile."""

from collections.abc import Sequence

from assay.server.core.labeling.messages import AsideResult
from assay.server.core.pools.ingest import check_not_leased
from assay.server.core.pools.pool import Change
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.pools import State


def exclude(change: Change, ids: Sequence[str]) -> tuple[RowArray, AsideResult]:
    """Sets samples aside in the snapshot to come, all or none; returns the rows to write.

    Raises:
        AssayError: SAMPLE_NOT_FOUND; SAMPLE_LEASED for those in somebody's hands.
    """
    before = change.before
    rows = before.require(ids)
    check_not_leased(before, rows)
    states = before.states.at(rows)
    fresh = rows[states != State.EXCLUDED]
    change.exclude(fresh)
    return fresh, AsideResult(len(fresh), len(rows) - len(fresh), change.epoch)


def include(change: Change, ids: Sequence[str]) -> tuple[RowArray, AsideResult]:
    """Takes samples back, in the snapshot to come, that were set aside, all or none; returns the rows to write. Raises
    AssayError(SAMPLE_NOT_FOUND)."""
    before = change.before
    rows = before.require(ids)
    aside = rows[before.states.at(rows) == State.EXCLUDED]
    change.include(aside)
    return aside, AsideResult(len(aside), len(rows) - len(aside), change.epoch)
