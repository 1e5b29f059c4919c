"""Who follows a pool is told of every change of it, in order, over restarts."""

from contextlib import suppress

import numpy as np

from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling.updating import PoolUpdate
from assay.server.core.pools.feed import BEFORE_ALL
from assay.server.core.pools.messages import SampleUpdate
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.changes import (
    MOST_LISTED,
    AnnotationsChanged,
    LeaseChanged,
    ModelChanged,
    OperationChanged,
    Part,
    PoolChanged,
    Position,
    SamplesChanged,
)
from assay.server.core.records.samples import OnConflict, SampleColumns
from tests.core.kit import (
    POOL,
    House,
    add,
    annotate,
    fill,
    label_by_sign,
    make_pool,
    names,
    next_batch,
    pool_of,
    refused,
    set_state,
    train,
)
from tests.core.test_retention import forgetting, steps


def told(core: Assay, after: Position = BEFORE_ALL) -> list[Part]:
    return [part for record in core.changes.of(POOL).after(after, 1000).records for part in record.parts]


def words(parts: list[Part]) -> list[str]:
    """What happened, in short."""
    found = []
    for part in parts:
        match part:
            case SamplesChanged():
                found.append(f"samples {part.action} {part.count}")
            case AnnotationsChanged():
                found.append(f"{part.worker} said {part.count} from {part.first_event}")
            case LeaseChanged():
                found.append(f"lease {part.action} {part.count}")
            case ModelChanged():
                found.append(f"{part.kind} {part.action}")
            case OperationChanged():
                found.append(f"{part.kind} {part.action}{part.error_reason}")
            case PoolChanged():
                found.append(f"pool {','.join(part.fields)}")
    return found


def test_every_change_is_told_in_order_and_over_a_restart(house: House, core: Assay) -> None:
    embeddings = fill(core, 40)
    taken = next_batch(core, 3)
    ids = list(taken.lease.sample_ids)
    core.labeling.renew(POOL, taken.lease.record.lease_id, taken.lease.record.fencing_token, 60.0, NO_KEY)
    annotate(core, dict.fromkeys(ids[:2], "ant"), taken)
    core.labeling.release(POOL, taken.lease.record.lease_id, taken.lease.record.fencing_token, [], "", False, NO_KEY)
    next_batch(core, 2, "bob", ttl=10.0)
    house.clock.advance(11.0)
    core.tick()
    free = [name for name in names(0, 40) if name not in ids]
    set_state(core, "exclude", free[:2])
    set_state(core, "include", free[:1])
    core.samples.delete(POOL, free[2:4], False, NO_KEY)
    add(core, free[5:6], on_conflict=OnConflict.REPLACE)
    annotate(core, {name: "ant" if embeddings[int(name[1:]), 0] > 0 else "bee" for name in free[6:26]})
    train(core)
    core.updates.update(POOL, PoolUpdate(metadata={"team": "birds"}), NO_KEY)
    core.samples.update(POOL, SampleUpdate(SampleColumns(free[10:12], uris=["a", "b"])), NO_KEY)
    found = told(core)
    assert words(found) == [
        "samples added 40",
        "lease granted 3",
        "lease renewed 3",
        "lease reduced 2", "ada said 2 from 0",
        "ada said 1 from 2", "lease done 1",
        "lease granted 2",
        "lease expired 2",
        "samples excluded 2",
        "samples included 1",
        "samples deleted 2",
        "samples deleted 1", "samples added 1",
        "ada said 20 from 3",
        "train_head started", "head added", "head activated", "train_head ended",
        "pool metadata",
        "samples updated 2",
    ]  # fmt: skip
    deleted = next(part for part in found if isinstance(part, SamplesChanged) and part.action == "deleted")
    assert sorted(deleted.ids) == sorted(free[2:4]), "nobody can ask for their ids any more"
    assert told(house.open()) == found


def test_a_position_goes_on_and_an_epoch_begins_after_its_change(core: Assay) -> None:
    fill(core, 30, step=10)
    feed = core.changes.of(POOL)
    records = feed.after(BEFORE_ALL, 1000).records
    assert [record.position.epoch for record in records] == [1, 2, 3]
    assert feed.after(records[1].position, 1000).records == records[2:]
    assert feed.after(feed.since(1), 1000).records == records[1:]
    assert feed.since(0) == BEFORE_ALL
    assert feed.after(feed.now(), 1000).records == []
    view = feed.after(BEFORE_ALL, 2)
    assert view.ids == {row: f"s{row}" for row in range(20)}


def test_ends_of_operations_come_after_the_epoch_that_they_met(core: Assay) -> None:
    embeddings = fill(core, 20)
    label_by_sign(core, embeddings, 20)
    epoch = pool_of(core).snapshot.pool.epoch
    train(core)
    feed = core.changes.of(POOL)
    now = pool_of(core).snapshot.pool.epoch
    assert words([part for record in feed.after(feed.since(now), 9).records for part in record.parts]) == [
        "train_head ended"
    ]
    assert words([part for record in feed.after(feed.since(epoch), 9).records for part in record.parts])[0] == (
        "train_head started"
    )


def test_a_large_change_is_one_record_with_a_bounded_list(core: Assay) -> None:
    count = 70_000
    ids = names(0, count)
    for start in (0, count // 2):
        some = ids[start : start + count // 2]
        add(core, some, np.zeros((len(some), 4), np.float32) + 1)
    annotate(core, dict.fromkeys(ids[:60_000], "ant"))
    records = core.changes.of(POOL).after(BEFORE_ALL, 1000).records
    assert len(records) == 3
    (said,) = records[-1].parts
    assert isinstance(said, AnnotationsChanged)
    assert (said.count, said.counts, len(said.rows)) == (60_000, {"0": 60_000}, MOST_LISTED)


def test_what_is_refused_or_undone_is_not_told(core: Assay) -> None:
    fill(core, 3)
    before = told(core)
    refused(Reason.SAMPLE_NOT_FOUND, lambda: annotate(core, {"s0": "ant", "nobody": "bee"}))
    with suppress(ZeroDivisionError), pool_of(core).change() as change:
        change.delete(np.array([0], np.int64))
        assert change.tx
        raise ZeroDivisionError
    assert told(core) == before


def test_who_was_away_for_too_long_is_told_to_read_anew(house: House, core: Assay) -> None:
    fill(core, 30, step=10)
    feed = core.changes.of(POOL)
    first, *_, last = [record.position for record in feed.after(BEFORE_ALL, 9).records]
    house.clock.advance(100.0)
    annotate(core, {"s0": "ant"})
    steps(forgetting(house, core, keep_changes_s=50.0))
    uid = pool_of(core).snapshot.pool.uid
    for ask in (
        lambda: feed.at(uid, first),
        lambda: feed.after(first, 9),
        lambda: feed.since(2),
        lambda: feed.since(0),
    ):
        error = refused(Reason.CHANGES_FORGOTTEN, ask)
        assert error.metadata == {"pool": POOL, "epoch": "4"}
    assert words(told(core, feed.at(uid, last))) == ["ada said 1 from 0"]
    assert words(told(core, feed.since(3))) == ["ada said 1 from 0"], "the last that is forgotten is what it knows"
    house.clock.advance(100.0)
    steps(forgetting(house, core, keep_changes_s=50.0))
    assert feed.at(uid, feed.now()) == feed.since(4), "of a pool at rest nothing is missed however long it rests"


def test_a_cursor_of_another_past_is_refused(core: Assay) -> None:
    fill(core, 3)
    feed = core.changes.of(POOL)
    uid, now = pool_of(core).snapshot.pool.uid, feed.now()
    core.pools.delete(POOL, NO_KEY)
    refused(Reason.POOL_NOT_FOUND, lambda: feed.after(now, 9))
    make_pool(core)
    again = core.changes.of(POOL)
    refused(Reason.CHANGES_FORGOTTEN, lambda: again.at(uid, now))
    refused(Reason.CHANGES_FORGOTTEN, lambda: again.at(uid + 1, now))
    refused(Reason.CHANGES_FORGOTTEN, lambda: again.since(1))


def test_the_bell_rings_once_it_can_be_read(core: Assay) -> None:
    heard: list[list[str]] = []
    feed = core.changes.of(POOL)

    def listen() -> None:
        try:
            heard.append(words(told(core)))
        except AssayError as error:
            heard.append([error.reason])

    with feed.heard(listen):
        fill(core, 3)
        assert heard == [["samples added 3"]]
        core.pools.delete(POOL, NO_KEY)
    assert heard[1:] == [["POOL_NOT_FOUND"]]
