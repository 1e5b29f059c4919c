"""Labels that come with samples, and the texts and labels of samples that are there."""

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import SampleError
from assay.server.core.pools.messages import IngestBatch
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.values import checked
from assay.server.core.records.annotations import Values
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.base import Task

Places = npt.NDArray[np.int64]


def labels_of(batch: IngestBatch, task: Task) -> tuple[Places, Values]:
    """The positions of a batch that have a label, and their labels. Raises SampleError as Task.check_all."""
    labels = batch.labels or ()
    places = np.flatnonzero(np.fromiter((label is not None for label in labels), np.bool_, len(labels)))
    given = labels if len(places) == len(labels) else [labels[place] for place in places.tolist()]
    try:
        return places, checked(task, given, _lengths_in(batch, places) if _of_texts(task) else None)
    except SampleError as error:
        raise error.moved(int(places[error.row])) from None


def text_lengths(snapshot: Snapshot, rows: RowArray) -> list[int | None] | None:
    """Characters of the texts of rows, where the pool's task is about texts and they are kept here; see
    Task.check_all."""
    if not _of_texts(snapshot.task):
        return None
    texts = {view.row: view.record for view in snapshot.describe(rows, payload=True, attributes=False)}
    found = (texts.get(row) for row in rows.tolist())
    return [None if each is None else _characters(each.payload, each.payload_media_type) for each in found]


def _lengths_in(batch: IngestBatch, places: Places) -> list[int | None]:
    columns = batch.columns
    if columns.payloads is None:
        return [None] * len(places)
    return [_characters(columns.payloads[place], columns.payload_media_type) for place in places.tolist()]


def _of_texts(task: Task) -> bool:
    return task.record.kind is TaskKind.SPANS


def _characters(payload: bytes, media_type: str) -> int | None:
    """Characters of a text; None where the payload is none."""
    if not payload or not media_type.startswith("text/"):
        return None
    try:
        return len(payload.decode())
    except UnicodeDecodeError:
        return None
