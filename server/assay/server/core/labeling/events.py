"""What was said, event by event and page by page: of one sample, of one worker, of a time, or all from a number on. The
history of a sample is a walk over its own events, and the rest is found by an index."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from assay.server.core.labeling import history
from assay.server.core.labeling import standing as standings
from assay.server.core.labeling.messages import EventPage, EventQuery, EventView
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.values import shown
from assay.server.core.ports.catalog import Catalog
from assay.server.core.records.annotations import NO_EVENT, Blobs, EventBlock, EventKind, Values
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.pools import State

Places = npt.NDArray[np.int64]
# Some events of a block, by where they are in it.
Part = tuple[EventBlock, Places]

# Samples that nobody can ask for.
GONE = (State.DELETED, State.ABSENT, State.DAMAGED)
# Blocks that are read at once, twice as many each time: one may hold all events of a page, or a single one. A page is
# cut short, and goes on there, once it took so many blocks or events to find what is asked.
BLOCKS_AT_ONCE = 64
BLOCKS_A_PAGE = 4096
EVENTS_A_PAGE = 1 << 20


def page(
    snapshot: Snapshot, catalog: Catalog, read: history.Read, query: EventQuery, after: int, limit: int
) -> EventPage:
    """The first events after a number, ascending, of samples that are still there.

    Args:
        after: events with greater numbers; -1 for all.
        limit: events at most, above 0.

    Raises:
        AssayError: SAMPLE_NOT_FOUND.
        Diverged: the log is not as the snapshot has it.
    """
    if query.sample_id:
        return EventPage(_views(snapshot, read, _of_sample(snapshot, read, query, after)[:limit]))
    if query.external_id:
        return EventPage(_views(snapshot, read, _some(list(_of_external_id(snapshot, catalog, read, query, after)))))
    parts: list[Part] = []
    count, blocks_read, events_read, at_once = 0, 0, 0, 1
    number, end = after + 1, snapshot.pool.next_event
    while count < limit and number < end:
        if blocks_read >= BLOCKS_A_PAGE or events_read >= EVENTS_A_PAGE:
            return EventPage(_views(snapshot, read, _some(parts)), number - 1)
        with catalog.reading() as tx:
            blocks = tx.event_blocks(
                snapshot.pool.uid,
                from_number=number,
                limit=at_once,
                worker=query.worker,
                start_time=query.start_time,
                end_time=query.end_time,
            )
        if not blocks:
            break
        for block, places in _known(snapshot, blocks, number):
            parts.append((block, places[: limit - count]))
            count += len(parts[-1][1])
        number = blocks[-1].first_number + len(blocks[-1])
        blocks_read += len(blocks)
        events_read += sum(map(len, blocks))
        at_once = min(2 * at_once, BLOCKS_AT_ONCE)
    return EventPage(_views(snapshot, read, _some(parts)))


def _some(parts: list[Part]) -> list[Part]:
    return [part for part in parts if len(part[1])]


def _known(snapshot: Snapshot, blocks: Sequence[EventBlock], number: int) -> Iterator[Part]:
    """The events of blocks from a number on that are in the snapshot, of samples that are still there and can be
    read."""
    numbers_N = np.concatenate([block.numbers_N for block in blocks])
    rows_N = np.concatenate([block.rows_N for block in blocks])
    known_N = (numbers_N >= number) & (numbers_N < snapshot.pool.next_event) & (rows_N < snapshot.row_count)
    known_N[known_N] = np.isin(snapshot.states.at(rows_N[known_N]), GONE, invert=True)
    start = 0
    for block in blocks:
        yield block, np.flatnonzero(known_N[start : start + len(block)])
        start += len(block)


def _matches(query: EventQuery, block: EventBlock) -> bool:
    return (
        query.worker in ("", block.worker)
        and (query.start_time is None or block.create_time >= query.start_time)
        and (query.end_time is None or block.create_time < query.end_time)
    )


def _of_sample(snapshot: Snapshot, read: history.Read, query: EventQuery, after: int) -> list[Part]:
    """The history of a sample, from its last event back to a number; the oldest first."""
    rows = snapshot.require([query.sample_id])
    last_events = snapshot.last_events.at(rows).astype(np.int64, copy=False)
    done = np.zeros(1, np.bool_)
    parts: list[Part] = []
    for found in history.walk(read, last_events, done):
        if found.numbers[0] <= after:
            break
        if _matches(query, found.block):
            parts.append((found.block, found.positions))
    return parts[::-1]


def _of_external_id(
    snapshot: Snapshot, catalog: Catalog, read: history.Read, query: EventQuery, after: int
) -> Iterator[Part]:
    with catalog.reading() as tx:
        known = tx.external_events(snapshot.pool.uid, [query.external_id])
    number = known.get(query.external_id, NO_EVENT)
    if number <= after:
        return
    for block, places in _known(snapshot, read(np.array([number])), number):
        if _matches(query, block):
            yield block, places[block.numbers_N[places] == number]


def _views(snapshot: Snapshot, read: history.Read, parts: Sequence[Part]) -> tuple[EventView, ...]:
    if not parts:
        return ()
    rows = np.concatenate([block.rows_N[places] for block, places in parts])
    unique = np.unique(rows)
    ids = dict(zip(unique.tolist(), snapshot.ids(unique), strict=True))
    last_events = snapshot.last_events.at(unique).astype(np.int64, copy=False)
    told = standings.told(read, last_events, classes=snapshot.values is None)
    stands = frozenset(standings.standing(told).numbers_A.tolist())
    return tuple(view for block, places in parts for view in _of_block(snapshot, block, places, ids, stands))


def _of_block(
    snapshot: Snapshot, block: EventBlock, places: Places, ids: dict[int, str], stands: frozenset[int]
) -> Iterator[EventView]:
    values = shown(snapshot.task, _said(snapshot, block, places))
    supersedes = None if block.supersedes_N is None else block.supersedes_N[places].tolist()
    durations = None if block.durations_N is None else block.durations_N[places].tolist()
    times = None if block.times_N is None else block.times_N[places].tolist()
    comments, external_ids = _texts(block.comments, places), _texts(block.external_ids, places)
    confidences = _floats(block.confidences_N, places)
    columns = (block.numbers_N[places].tolist(), block.rows_N[places].tolist(), block.kinds_N[places].tolist())
    for place, (number, row, kind) in enumerate(zip(*columns, strict=True)):
        said = times[place] if times is not None and times[place] >= 0 else None
        yield EventView(
            number=number,
            sample_id=ids[row],
            kind=EventKind(kind),
            value=values[place],
            worker=block.worker,
            by=block.by,
            create_time=block.create_time,
            time=block.create_time if said is None else said / 1e6,
            duration=durations[place] / 1000 if durations is not None and durations[place] >= 0 else None,
            lease=block.lease_id,
            origin=block.origin,
            external_id=external_ids[place],
            comment=comments[place],
            confidence=confidences[place],
            supersedes=NO_EVENT if supersedes is None else supersedes[place],
            undoes=block.undoes,
            standing=number in stands,
        )


def _said(snapshot: Snapshot, block: EventBlock, places: Places) -> Values:
    """What events say; what the server derived, where it is that which they tell."""
    classes = snapshot.values is None
    empty: Values = np.full(len(places), -1, np.int32) if classes else Blobs.of([None] * len(places))
    # A block of what the server derived says nothing else.
    resolved = block.kinds_N[0] == EventKind.RESOLVE
    column = block.labels if resolved else block.values
    return empty if column is None else standings.take(column, places)


def _texts(column: Blobs | None, places: Places) -> list[str]:
    return [""] * len(places) if column is None else column.texts(places)


def _floats(column: FloatArray | None, places: Places) -> list[float]:
    return [float("nan")] * len(places) if column is None else column[places].tolist()
