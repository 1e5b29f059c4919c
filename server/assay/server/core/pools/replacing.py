"""What samples lose when others are put in their place."""

import numpy as np
import numpy.typing as npt

from assay.server.core.pools.messages import IngestBatch
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.records.arrays import RowArray

# Old samples whose attributes are read at once.
_BLOCK = 8192


def dropped(
    snapshot: Snapshot, batch: IngestBatch, replacing: npt.NDArray[np.int64], replaced: RowArray
) -> tuple[int, int]:
    """How many of the replaced rows lose their label, and how many some attribute, to the batch's samples at the
    positions that replace them."""
    if not len(replaced):
        return 0, 0
    return _labels(snapshot, batch, replacing, replaced), _attributes(snapshot, batch, replacing, replaced)


def _labels(snapshot: Snapshot, batch: IngestBatch, replacing: npt.NDArray[np.int64], replaced: RowArray) -> int:
    had_N = snapshot.labels.at(replaced).astype(np.int32, copy=False) >= 0
    if batch.labels is not None:
        had_N &= np.array([batch.labels[position] is None for position in replacing.tolist()], np.bool_)
    return int(had_N.sum())


def _attributes(snapshot: Snapshot, batch: IngestBatch, replacing: npt.NDArray[np.int64], replaced: RowArray) -> int:
    if not snapshot.attributes:
        return 0
    columns = batch.columns.attributes
    everywhere = {name for name, column in columns.items() if column.present_N is None}
    somewhere = {name: column.present_N for name, column in columns.items() if column.present_N is not None}
    count = 0
    for start in range(0, len(replaced), _BLOCK):
        rows = replaced[start : start + _BLOCK]
        positions = dict(zip(rows.tolist(), replacing[start : start + _BLOCK].tolist(), strict=True))
        # Of rows in damaged files nothing is known, and so nothing is described.
        for view in snapshot.describe(rows, payload=False):
            position = positions[view.row]
            lacking = view.record.attributes.keys() - everywhere
            count += any(name not in somewhere or not somewhere[name][position] for name in lacking)
    return count
