"""From which samples a plan draws: those that want their first answers, or those that want a second look."""

import numpy as np

from assay.server.core.mining.plan.terms import DrawFrom, Plan
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.records.arrays import MaskArray, RowArray
from assay.server.core.records.pools import OPEN_STATES, State
from assay.strategies.kernels.hashing import hash_keys

# States of rows that a plan may draw whatever an audit says of them.
_STATES: dict[DrawFrom, tuple[State, ...]] = {
    DrawFrom.UNLABELED: OPEN_STATES,
    DrawFrom.SUSPECTS: (),
    DrawFrom.DISPUTED: (State.DISPUTED,),
    DrawFrom.ALL: (*OPEN_STATES, State.DISPUTED),
}
# No draw of ours has it: what is picked at random must not be what is picked for overlap.
_OVERLAP_SEED = 0x0DDB1A5E
_WITH_SUSPECTS = (DrawFrom.SUSPECTS, DrawFrom.ALL)


def drawable(snapshot: Snapshot, source: DrawFrom) -> MaskArray:
    """Rows that may be drawn, over all rows. A suspect that somebody holds is not: one second look at a time."""
    states = _STATES[source]
    mask_N = snapshot.mask(states) if states else np.zeros(snapshot.row_count, np.bool_)
    if source in _WITH_SUSPECTS and snapshot.suspects is not None:
        rows = snapshot.suspects.rows
        mask_N[rows[_free(snapshot, rows)]] = True
    return mask_N


def still_drawable(snapshot: Snapshot, source: DrawFrom, rows: RowArray) -> MaskArray:
    """Which of some rows may be drawn."""
    found: MaskArray = np.isin(snapshot.states.at(rows), _STATES[source])
    if source in _WITH_SUSPECTS and snapshot.suspects is not None:
        found |= snapshot.suspects.holds(rows) & _free(snapshot, rows)
    return found


def known_rows(snapshot: Snapshot, source: DrawFrom, open_N: MaskArray) -> RowArray:
    """Rows that a selection takes for known: those with a label or in somebody's hands, less the candidates, since
    nobody is to be kept from a sample by its own label."""
    rows = snapshot.conditioned_rows
    # Who is open has no label.
    return rows if source is DrawFrom.UNLABELED else rows[~open_N[rows]]


def overlapping(snapshot: Snapshot, plan: Plan, rows: RowArray) -> RowArray:
    """The rows of which the plan wants more answers than are wanted so far: of those that wait for their answers, a
    share by their hashes, so that it is the same share whatever the batches."""
    if not plan.overlap_share:
        return rows[:0]
    drawn = hash_keys(rows, _OVERLAP_SEED) < plan.overlap_share * 2.0**64
    waiting: MaskArray = np.isin(snapshot.states.at(rows), OPEN_STATES)
    return rows[drawn & waiting & (snapshot.wanted(rows) < plan.overlap_annotations)]


def _free(snapshot: Snapshot, rows: RowArray) -> MaskArray:
    """Suspects that may be drawn: those with a label that nobody holds, and what may be drawn without being one."""
    states = snapshot.states.at(rows)
    labeled = (states == State.LABELED) & (snapshot.held.at(rows) == 0)
    free: MaskArray = labeled | np.isin(states, (*OPEN_STATES, State.DISPUTED))
    return free
