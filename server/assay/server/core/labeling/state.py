"""Samples that are set aside, taken back and reopened, without a lease."""

from collections.abc import Sequence

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling import history
from assay.server.core.labeling.messages import StateAction, StateResult, StateSpec
from assay.server.core.labeling.withdraw import withdraw_all
from assay.server.core.pools.ingest import check_not_leased
from assay.server.core.pools.pool import Change
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.pools import State


class StateChange:
    """One request's changes of states within one change of the pool.

    Args:
        change: the change that stores them.
        spec: what is to be done; checked already.
        ids: the ids of the samples, prepared.
        now: seconds since the Unix epoch.
        read: reads what was said before.
    """

    def __init__(self, change: Change, spec: StateSpec, ids: Sequence[str], now: float, read: history.Read) -> None:
        self._change = change
        self._spec = spec
        self._now = now
        self._read = read
        self._rows = np.sort(change.before.require(ids))
        self._moved: RowArray = np.empty(0, np.int64)

    def apply(self) -> StateResult:
        """Puts the samples into their state in the snapshot to come, all or none.

        Raises:
            AssayError: SAMPLE_NOT_FOUND; SAMPLE_LEASED to exclude what is in somebody's hands; SAMPLE_EXCLUDED to
                reopen what is set aside.
            Diverged: the log is not as the snapshot has it.
        """
        change, rows = self._change, self._rows
        aside = change.before.states.at(rows) == State.EXCLUDED
        match self._spec.action:
            case StateAction.EXCLUDE:
                check_not_leased(change.before, rows)
                self._moved = rows[~aside]
                change.exclude(self._moved)
            case StateAction.INCLUDE:
                self._moved = rows[aside]
                change.include(self._moved)
            case StateAction.REOPEN:
                check_included(change.before, rows)
                stood = withdraw_all(change, self._read, rows, self._spec.worker, self._spec.reason, self._now)
                self._moved = rows[stood]
        unchanged = len(rows) - len(self._moved)
        return StateResult(len(self._moved), unchanged, change.epoch, change.next_event - 1)

    def store(self) -> None:
        """Writes to the catalog what was applied."""
        uid, spec = self._change.before.pool.uid, self._spec
        if spec.action is StateAction.EXCLUDE:
            self._change.tx.exclude_rows(uid, self._moved, spec.worker, spec.reason)
        elif spec.action is StateAction.INCLUDE:
            self._change.tx.include_rows(uid, self._moved)


def check_included(snapshot: Snapshot, rows: RowArray) -> None:
    """Raises AssayError(SAMPLE_EXCLUDED) if one of the rows is set aside."""
    aside = rows[snapshot.states.at(rows) == State.EXCLUDED]
    if len(aside):
        sample_id = snapshot.ids(aside[:1])[0]
        raise AssayError(
            Reason.SAMPLE_EXCLUDED,
            f"{len(aside)} of the samples are set aside, the first is {sample_id!r}. Include them first, or leave "
            "them out.",
            id=sample_id,
            count=len(aside),
        )
