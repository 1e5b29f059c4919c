"""How sure labels are: the share of what was said that stands behind each."""

from collections.abc import Callable

import numpy as np

from assay.server.core.labeling import history
from assay.server.core.labeling import standing as standings
from assay.server.core.labeling.deriving import derive
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.catalog import Catalog
from assay.server.core.records.annotations import EventBlock
from assay.server.core.records.arrays import FloatArray, RowArray
from assay.strategies import checkpoint

# Rows whose last events are looked up at once.
_AT_ONCE = 1 << 16


def confidences(catalog: Catalog) -> Callable[[Snapshot, RowArray], FloatArray]:
    """What gives the confidence of the labels of rows, in (0, 1].

    A label that one annotator gave, or a reviewer, has a confidence of 1. Reads the events of the others only. The
    returned function raises Diverged: the log is not as the snapshot has it; Interrupted: the work is to stop.
    """

    def of(snapshot: Snapshot, rows: RowArray) -> FloatArray:
        found_N = np.ones(len(rows), np.float32)
        several_N = snapshot.answered.at(rows).astype(np.uint8, copy=False) > 1
        several = np.flatnonzero(several_N & ~snapshot.workers.judged.holds(rows))
        for start in range(0, len(several), _AT_ONCE):
            checkpoint()
            places = several[start : start + _AT_ONCE]
            found_N[places] = _of_several(catalog, snapshot, rows[places])
        return found_N

    return of


def _of_several(catalog: Catalog, snapshot: Snapshot, rows: RowArray) -> FloatArray:
    def read(numbers: RowArray) -> list[EventBlock]:
        with catalog.reading() as tx:
            return tx.blocks_of_events(snapshot.pool.uid, numbers)

    last_events = snapshot.last_events.at(rows).astype(np.int64, copy=False)
    found_N = np.full(len(rows), np.nan, np.float32)
    done = np.zeros(len(rows), np.bool_)
    for found in history.walk(read, last_events, done):
        settles = ~np.isin(found.kinds, history.SILENT)
        column = found.block.confidences_after_N
        if column is not None:
            found_N[found.chains[settles]] = column[found.positions[settles]]
        done[found.chains[settles]] = True
    # Where the newest counts, nobody compared what was said.
    asked = np.flatnonzero(np.isnan(found_N))
    if len(asked):
        events = standings.standing(standings.told(read, last_events[asked], classes=snapshot.values is None))
        derived = derive(snapshot.task, snapshot.pool.policy, events, snapshot.wanted(rows[asked]))
        found_N[asked] = 1 if derived.confidences_N is None else derived.confidences_N
    return found_N
