"""Labels, and all that was said, as tables for files: columns with a meaning, page by page, whatever the format."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling import history, lists
from assay.server.core.labeling.messages import LabelView
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.catalog import Catalog
from assay.server.core.records.annotations import NO_CLASS, NO_EVENT, Blobs, EventBlock, EventKind, NumberArray, Values
from assay.server.core.records.pools import State
from assay.server.core.records.samples import SampleRecord
from assay.server.core.records.tasks import TaskKind, TaskRecord
from assay.server.core.tasks.base import Task
from assay.server.core.tasks.coco import CocoImage
from assay.strategies import checkpoint

# Events a page: a few ten milliseconds, after which others have their turn.
PAGE = 2000
# Events that are in memory at once, where blocks are small, and blocks that are read at once.
_EVENTS_AT_ONCE = 1 << 16
_BLOCKS_AT_ONCE = 256
# Blocks of so many events are kept once they are read, and so many events of them.
_KEPT_FROM = 256
_KEPT_EVENTS = 1 << 20

_GONE = (State.DELETED, State.ABSENT, State.DAMAGED)
_KINDS = {kind.value: kind.name.lower() for kind in EventKind}
_MICROS = 1_000_000
_MS = 1000.0

Places = npt.NDArray[np.int64]
# The cells of one row, in the order of the columns; None for what there is none of.
Row = tuple[Any, ...]


class Form(Enum):
    """What the cells of a column are.

    TEXT: str. WHOLE: int. REAL: float. SHARE: float from 0 to 1, of 32 bits. TIME: int, microseconds since the Unix
    epoch. VALUE: what the pool's task makes of a value (`Task.export`).
    """

    TEXT = "text"
    WHOLE = "whole"
    REAL = "real"
    SHARE = "share"
    TIME = "time"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; one that is not `optional` has no None."""

    name: str
    form: Form
    optional: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What an export writes, whatever its format.

    Attributes:
        task: the pool's, which says of what type the cells of Form.VALUE are.
        columns: in the order of the cells.
        pages: rows, some at a time; read once.
    """

    task: TaskRecord
    columns: tuple[Column, ...]
    pages: Iterator[list[Row]]


def label_columns(task: Task) -> tuple[Column, ...]:
    """The columns of resolved labels; a class has its id beside it."""
    (value,) = task.export_columns
    index = (Column("class_index", Form.WHOLE),) if task.record.kind is TaskKind.CLASSIFICATION else ()
    return (
        Column("sample_id", Form.TEXT),
        Column(value, Form.VALUE),
        *index,
        Column("worker", Form.TEXT),
        Column("time", Form.TIME),
        Column("annotations", Form.WHOLE),
        Column("agreement", Form.SHARE, optional=True),
        Column("confidence", Form.SHARE, optional=True),
        Column("decided_by", Form.TEXT),
        Column("uri", Form.TEXT),
    )


def label_pages(snapshot: Snapshot, read: history.Read) -> Iterator[list[Row]]:
    """All labels of a snapshot by row. Raises Diverged: the log is not as the snapshot has it; Interrupted: the work is
    to stop."""
    recent, row = Recent(read), -1
    while len(rows := snapshot.answered_after(row, PAGE, lists.LABELED)):
        checkpoint()
        yield [label_row(view) for view in lists.label_views(snapshot, recent, rows)]
        row = int(rows[-1])


class Recent:
    """Reads blocks of a log and keeps some: one with many events is asked for again and again, a page at a time."""

    def __init__(self, read: history.Read) -> None:
        self._read = read
        self._kept: list[EventBlock] = []

    def __call__(self, numbers: NumberArray) -> list[EventBlock]:
        known_N = np.zeros(len(numbers), np.bool_)
        found = []
        for block in self._kept:
            here_N = (numbers >= block.first_number) & (numbers < block.first_number + len(block))
            if here_N.any():
                found.append(block)
                known_N |= here_N
        fresh = self._read(numbers[~known_N]) if not known_N.all() else []
        self._keep(block for block in fresh if len(block) >= _KEPT_FROM)
        return sorted([*found, *fresh], key=lambda block: block.first_number)

    def _keep(self, blocks: Iterable[EventBlock]) -> None:
        self._kept += blocks
        while sum(map(len, self._kept)) > _KEPT_EVENTS and len(self._kept) > 1:
            self._kept.pop(0)


def label_row(view: LabelView) -> Row:
    """The cells of a label."""
    index = () if view.class_index == NO_CLASS else (view.class_index,)
    return (
        view.sample_id,
        view.cell,
        *index,
        view.worker,
        view.time,
        view.annotations,
        share(view.agreement),
        share(view.confidence),
        view.decided_by,
        view.uri,
    )


def share(number: float) -> float | None:
    """A number of 32 bits as the shortest decimal that stands for it; None for NaN."""
    return None if np.isnan(number) else float(str(np.float32(number)))


def history_columns(task: Task) -> tuple[Column, ...]:
    """The columns of a history."""
    (value,) = task.export_columns
    return (
        Column("event", Form.WHOLE),
        Column("sample_id", Form.TEXT),
        Column("kind", Form.TEXT),
        Column("worker", Form.TEXT),
        Column("by", Form.TEXT),
        Column(value, Form.VALUE, optional=True),
        Column("time", Form.TIME),
        Column("create_time", Form.TIME),
        Column("duration", Form.REAL, optional=True),
        Column("confidence", Form.SHARE, optional=True),
        Column("comment", Form.TEXT),
        Column("external_id", Form.TEXT),
        Column("origin", Form.TEXT),
        Column("lease", Form.TEXT),
        Column("supersedes", Form.WHOLE, optional=True),
        Column("undoes", Form.WHOLE, optional=True),
    )


def history_pages(catalog: Catalog, snapshot: Snapshot) -> Iterator[list[Row]]:
    """All events up to the snapshot, in order, less those of samples that were deleted since or are in a damaged file.
    However long the log is, only some of its blocks are in memory. Raises Interrupted: the work is to stop."""
    parts: list[tuple[EventBlock, Places]] = []
    count = 0
    for block in _blocks(catalog, snapshot):
        known = np.flatnonzero((block.numbers_N < snapshot.pool.next_event) & (block.rows_N < snapshot.row_count))
        known = known[~np.isin(snapshot.states.at(block.rows_N[known]), _GONE)]
        while count + len(known) >= PAGE:
            cut = PAGE - count
            yield _rows(snapshot, [*parts, (block, known[:cut])])
            parts, count, known = [], 0, known[cut:]
        parts.append((block, known))
        count += len(known)
    if count:
        yield _rows(snapshot, parts)


def _blocks(catalog: Catalog, snapshot: Snapshot) -> Iterator[EventBlock]:
    """The blocks of the log up to the snapshot, in order."""
    number, at_once = 0, 1
    while number < snapshot.pool.next_event:
        checkpoint()
        with catalog.reading() as tx:
            blocks = tx.event_blocks(snapshot.pool.uid, from_number=number, limit=at_once)
        if not blocks:
            return
        yield from blocks
        number = blocks[-1].first_number + len(blocks[-1])
        # Of small ones more at once.
        largest = max(map(len, blocks))
        at_once = max(1, min(_BLOCKS_AT_ONCE, 2 * at_once, _EVENTS_AT_ONCE // largest))


def _rows(snapshot: Snapshot, parts: Sequence[tuple[EventBlock, Places]]) -> list[Row]:
    rows_N = np.concatenate([block.rows_N[places] for block, places in parts])
    distinct_N, which_N = np.unique(rows_N, return_inverse=True)
    ids = snapshot.ids(distinct_N)
    sample_ids = iter([ids[place] for place in which_N.tolist()])
    return [row for block, places in parts for row in _of_block(snapshot.task, block, places, sample_ids)]


def _of_block(task: Task, block: EventBlock, places: Places, sample_ids: Iterator[str]) -> Iterator[Row]:
    """The rows of some events of a block; takes as many ids."""
    stored = round(block.create_time * _MICROS)
    said = _said(block, places)
    cells = zip(
        block.numbers_N[places].tolist(),
        block.kinds_N[places].tolist(),
        [None] * len(places) if said is None else lists.cells_of(task, said),
        block.said_times_N[places].tolist(),
        _each(block.durations_N, places, -1),
        _shares(block, places),
        _texts(block.comments, places),
        _texts(block.external_ids, places),
        _each(block.supersedes_N, places, NO_EVENT),
        strict=True,
    )
    for number, kind, cell, time, duration, confidence, comment, external_id, supersedes in cells:
        yield (
            number,
            next(sample_ids),
            _KINDS[kind],
            block.worker,
            block.by,
            cell,
            time,
            stored,
            None if duration is None else duration / _MS,
            confidence,
            comment,
            external_id,
            block.origin.value,
            block.lease_id,
            supersedes,
            None if block.undoes == NO_EVENT else block.undoes,
        )


def _said(block: EventBlock, places: Places) -> Values | None:
    """What events say; of labels that were derived anew, what they are. None where they say nothing."""
    column = block.labels if (block.kinds_N[places] == EventKind.RESOLVE).all() else block.values
    if column is None:
        return None
    return Blobs.of(column.at(places)) if isinstance(column, Blobs) else column[places]


def coco_images(snapshot: Snapshot) -> Iterator[list[CocoImage]]:
    """The labeled images of a pool of boxes. Raises AssayError(UNKNOWN_ATTRIBUTE): the size of one is not known."""
    row = -1
    while len(rows := snapshot.answered_after(row, PAGE, (State.LABELED,))):
        checkpoint()
        values = snapshot.label_values(rows)
        assert isinstance(values, Blobs)
        said = dict(zip(rows.tolist(), values.at(np.arange(len(rows))), strict=True))
        described = snapshot.describe(rows, payload=False)
        yield [
            CocoImage(
                sample.record.id,
                _pixels(sample.record, "width"),
                _pixels(sample.record, "height"),
                sample.record.uri,
                snapshot.task.decode(boxes),
            )
            for sample in described
            if (boxes := said[sample.row]) is not None
        ]
        row = int(rows[-1])


def _pixels(sample: SampleRecord, side: str) -> int:
    size = sample.attributes.get(side)
    if isinstance(size, bool) or not isinstance(size, int | float) or size <= 0 or size != int(size):
        raise AssayError(
            Reason.UNKNOWN_ATTRIBUTE,
            f"Sample {sample.id!r} has {size!r} as attribute {side!r}; COCO has boxes in pixels. Update the samples "
            "with the attributes width and height of their images, in pixels.",
            id=sample.id,
            attribute=side,
        )
    return int(size)


def _each(column: npt.NDArray[np.int64] | None, places: Places, none: int) -> list[int | None]:
    if column is None:
        return [None] * len(places)
    return [None if number == none else number for number in column[places].tolist()]


def _shares(block: EventBlock, places: Places) -> list[float | None]:
    column = block.confidences_N
    return [None] * len(places) if column is None else [share(number) for number in column[places]]


def _texts(column: Blobs | None, places: Places) -> list[str]:
    return [""] * len(places) if column is None else column.texts(places)
