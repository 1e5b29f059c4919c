"""Events of one request, put after what the pool knows already."""

from typing import Any

import numpy as np

from assay.server.core.pools.pool import Change
from assay.server.core.records.annotations import NO_CLASS, Blobs, ByteArray, EventBlock, EventKind, Origin, Values
from assay.server.core.records.arrays import RowArray


def said(
    change: Change,
    worker: str,
    now: float,
    lease_id: str,
    rows: RowArray,
    kinds: ByteArray,
    values: Values,
    answered_after: ByteArray,
    **columns: Any,
) -> None:
    """Appends a worker's events on distinct, ascending rows; see EventBlock for the columns."""
    change.append(
        EventBlock(
            change.next_event,
            worker,
            now,
            lease_id,
            Origin.WORKER,
            rows_N=rows,
            kinds_N=kinds,
            values=values,
            answered_after_N=answered_after,
            previous_N=change.after.last_events.at(rows).astype(np.int64, copy=False),
            **columns,
        )
    )


def skipped(change: Change, worker: str, now: float, lease_id: str, rows: RowArray, reason: str) -> None:
    """Appends that a worker does not want to say anything of distinct, ascending rows: what holds of them stays."""
    after = change.after
    labels = after.labels.at(rows).astype(np.int32, copy=False)
    said(
        change,
        worker,
        now,
        lease_id,
        rows,
        np.full(len(rows), EventKind.SKIP, np.uint8),
        np.full(len(rows), NO_CLASS, np.int32),
        after.answered.at(rows).astype(np.uint8, copy=False),
        labels_after=labels,
        comments=Blobs.of_texts([reason] * len(rows)) if reason else None,
    )
