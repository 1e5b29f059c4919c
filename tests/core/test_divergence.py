"""Somebody else changed the catalog: found at the next change, mended, and never built upon."""

import numpy as np
import pytest
from sqlalchemy import insert, text

from assay.server.adapters.sql.blocks import pack
from assay.server.adapters.sql.schema import annotation_blocks
from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.annotations import EventBlock, Origin
from tests.catalog.records import direct
from tests.core.kit import (
    POOL,
    House,
    add,
    annotate,
    counts,
    fill,
    make_pool,
    names,
    next_batch,
    pool_of,
    refused,
    standing,
    vectors,
)


def a_label(house: House) -> None:
    """What another server does when somebody labels s5."""
    block = pack(EventBlock(
        0, "eve", 1.0, "", Origin.WORKER, np.array([5]), np.zeros(1, np.uint8), np.array([2], np.int32),
        np.ones(1, np.uint8), np.array([-1]),
    ))  # fmt: skip
    with direct(f"sqlite:///{house.root}/catalog.db") as connection:
        given = {"pool_uid": 1, **{name: getattr(block, name) for name in annotation_blocks.c.keys()[1:]}}
        connection.execute(insert(annotation_blocks).values(given))
        connection.execute(text("UPDATE pools SET epoch = epoch + 1, next_event = 1"))


def elsewhere(house: House, *statements: str) -> None:
    """What another process does to the catalog."""
    with direct(f"sqlite:///{house.root}/catalog.db") as connection:
        for statement in statements:
            connection.execute(text(statement))


ANOTHER_EPOCH = "UPDATE pools SET epoch = epoch + 1"
A_LEASE = (
    "INSERT INTO leases VALUES (1, 'theirs', 'eve', 7, 1.0, 1e12, 'live')",
    "INSERT INTO lease_rows VALUES (1, 0, 'eve', 'theirs')",
    "UPDATE pools SET next_fencing_token = 8",
)


def test_a_label_from_elsewhere_is_not_overwritten(house: House, core: Assay) -> None:
    fill(core, 10)
    a_label(house)
    refused(Reason.CONFLICT, lambda: annotate(core, {"s5": "ant"}))
    assert core.samples.get(POOL, "s5").label == "cow"
    refused(Reason.ANNOTATION_EXISTS, lambda: annotate(core, {"s5": "ant"}, worker="eve"))
    assert annotate(core, {"s6": "ant"}).epoch == 3


def test_a_lease_from_elsewhere_blocks_no_batch_for_ever(house: House, core: Assay) -> None:
    fill(core, 10)
    elsewhere(house, ANOTHER_EPOCH, *A_LEASE)
    refused(Reason.CONFLICT, lambda: next_batch(core, 9))
    taken = next_batch(core, 9)
    assert taken.lease.record.fencing_token == 8
    assert "s0" not in taken.lease.sample_ids


def test_rows_are_not_given_twice(house: House, core: Assay) -> None:
    fill(core, 10)
    elsewhere(house, "UPDATE pools SET epoch = epoch + 1, next_row = 20")
    refused(Reason.CONFLICT, lambda: add(core, ["new"]))
    assert add(core, ["new"]).added == 1
    assert core.samples.get(POOL, "new").row == 20


def test_a_refused_batch_leaves_no_file(house: House, core: Assay) -> None:
    fill(core, 10)
    files = house.files()
    elsewhere(house, ANOTHER_EPOCH)
    refused(Reason.CONFLICT, lambda: add(core, ["new"]))
    assert house.files() == files


@pytest.mark.parametrize("change", ["merge", "delete"])
def test_other_changes_find_it_too(house: House, core: Assay, change: str) -> None:
    fill(core, 12, step=2)
    a_label(house)
    pool = pool_of(core)
    if change == "merge":
        refused(Reason.CONFLICT, lambda: house.merger().merge_once(pool))
        assert house.merger().merge_once(pool)
    else:
        refused(Reason.CONFLICT, lambda: core.samples.delete(POOL, ["s1"], False, NO_KEY))
        assert core.samples.delete(POOL, ["s1"], False, NO_KEY).deleted == 1
    assert core.samples.get(POOL, "s5").label == "cow"
    before = standing(core)
    core = house.open()
    assert standing(core) == before
    np.testing.assert_array_equal(pool_of(core).snapshot.gather(np.arange(12)), vectors(12))


def test_a_pool_that_was_deleted_elsewhere_is_gone(house: House, core: Assay) -> None:
    fill(core, 4)
    elsewhere(house, "PRAGMA foreign_keys = ON", "DELETE FROM pools")
    refused(Reason.POOL_NOT_FOUND, lambda: annotate(core, {"s1": "ant"}))
    refused(Reason.POOL_NOT_FOUND, lambda: core.pools.get(POOL))
    assert core.pools.list("", 10) == []


def test_deleting_a_pool_finds_it_too(house: House, core: Assay) -> None:
    fill(core, 4)
    elsewhere(house, ANOTHER_EPOCH)
    refused(Reason.CONFLICT, lambda: core.pools.delete(POOL, NO_KEY))
    assert counts(core) == {"UNLABELED": 4}
    core.pools.delete(POOL, NO_KEY)
    assert house.files() == set()


def test_nothing_is_read_anew_while_all_agree(house: House, core: Assay, caplog: pytest.LogCaptureFixture) -> None:
    fill(core, 4)
    pool = pool_of(core)
    pool.stale = True
    snapshot = pool.snapshot
    assert add(core, names(4, 6)).added == 2
    assert pool.snapshot.samples[0] is snapshot.samples[0]
    assert not caplog.records


def test_the_next_change_withdraws_an_index_that_is_not_there(house: House) -> None:
    """Its files may come back, and do not belong to the epochs that were served without them."""
    house.index_from = 200
    core = house.open()
    make_pool(core)
    fill(core, 200)
    while core._upkeep.index():
        pass
    elsewhere(house, "UPDATE pools SET epoch = epoch + 1, search_index = 'of another server'")
    refused(Reason.CONFLICT, lambda: annotate(core, {"s5": "ant"}))
    pool = pool_of(core)
    assert pool.snapshot.index_lost
    annotate(core, {"s5": "ant"})
    assert (pool.snapshot.index_lost, pool.snapshot.pool.search_index) == (False, "")
    with house.catalog.reading() as tx:
        assert tx.pools() == [pool.snapshot.pool]
