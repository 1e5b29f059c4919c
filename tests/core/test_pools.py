"""Pools come and go whole, also while others use them."""

import threading
from functools import partial

import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason, RequestReplayed
from assay.server.core.mining.messages import MineSpec
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.pools.messages import PoolSpec
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.pools import Metric
from tests.core.kit import (
    POOL,
    House,
    Turnstile,
    add,
    counts,
    fill,
    in_threads,
    key,
    make_pool,
    names,
    next_batch,
    pool_of,
    refused,
)


def test_a_pool_is_what_was_asked_for(house: House, core: Assay) -> None:
    spec = PoolSpec("new", Metric.INNER_PRODUCT, ("a", "b"), dimension=8, keep_inputs=False)
    record = core.pools.create(spec, NO_KEY).record
    assert (record.metric, record.class_names, record.dimension, record.keep_inputs) == (
        Metric.INNER_PRODUCT,
        ("a", "b"),
        8,
        False,
    )
    assert record.create_time == house.clock.now()
    refused(Reason.DIMENSION_MISMATCH, lambda: add(core, ["x"], pool="new"))
    assert house.open().pools.get("new").record == record


def test_pools_are_listed_by_id(core: Assay) -> None:
    for pool_id in ("b", "a", "c"):
        make_pool(core, pool_id)
    assert [view.record.pool_id for view in core.pools.list("", 2)] == ["a", "b"]
    assert [view.record.pool_id for view in core.pools.list("b", 10)] == ["c", POOL]


def test_creating_again_with_the_same_request(core: Assay) -> None:
    core.pools.create(PoolSpec("new"), key("r1"))
    with pytest.raises(RequestReplayed):
        core.pools.create(PoolSpec("new"), key("r1"))
    refused(Reason.POOL_EXISTS, lambda: core.pools.create(PoolSpec("new"), key("r2")))


def test_a_deleted_pool_leaves_nothing(house: House, core: Assay) -> None:
    fill(core, 10, step=2)
    next_batch(core, 2)
    make_pool(core, "other")
    add(core, names(0, 3), pool="other")
    core.pools.delete(POOL, key("r1"))
    assert [view.record.pool_id for view in core.pools.list("", 10)] == ["other"]
    assert len(house.files()) == 2
    with pytest.raises(RequestReplayed):
        core.pools.delete(POOL, key("r1"))
    make_pool(core)
    assert counts(core) == {}
    fill(core, 3)
    core = house.open()
    assert counts(core) == {"UNLABELED": 3}
    assert counts(core, "other") == {"UNLABELED": 3}


def test_who_reads_a_snapshot_goes_on_when_the_pool_is_deleted(core: Assay) -> None:
    embeddings = fill(core, 10)
    pool = pool_of(core)
    old = pool.snapshot
    core.pools.delete(POOL, NO_KEY)
    assert (old.gather(old.find(["s4"])) == embeddings[4]).all()
    with pytest.raises(AssayError) as caught, pool.change():
        pass
    assert caught.value.reason == Reason.POOL_NOT_FOUND


def test_an_ingest_that_waited_for_the_deletion_finds_no_pool(house: House, core: Assay) -> None:
    fill(core, 4)
    pool = pool_of(core)
    gate = pool.ingest_lock = Turnstile()  # type: ignore[assignment]
    start, join = in_threads([partial(add, core, [f"new{number}"]) for number in range(3)])
    with pool._lock:
        gate.held_until(3, start)
        pool.closed = True
    assert {getattr(result, "reason", result) for result in join()} == {Reason.POOL_NOT_FOUND}
    pool.closed = False
    assert counts(core) == {"UNLABELED": 4}
    assert len(house.files()) == 2


def test_a_pool_deleted_under_its_users(house: House, core: Assay) -> None:
    """Each call either works or says that the pool is gone; no file is left."""
    fill(core, 40, step=10)
    begun = threading.Barrier(4)
    background = core._upkeep

    def use(call) -> None:  # type: ignore[no-untyped-def]
        begun.wait()
        while True:
            try:
                call()
            except AssayError as error:
                if error.reason == Reason.POOL_NOT_FOUND:
                    return
                if error.reason != Reason.POOL_EXHAUSTED:
                    raise

    number = iter(range(10_000))
    calls = (
        lambda: add(core, [f"t{next(number)}"]),
        lambda: next_batch(core, 1),
        lambda: core.mining.mine(POOL, MineSpec(1, Plan(preset="random")), NO_KEY),
    )

    def delete() -> None:
        begun.wait()
        background.tidy()
        core.pools.delete(POOL, NO_KEY)

    start, join = in_threads([*(partial(use, call) for call in calls), delete])
    start()
    assert join() == [None] * 4
    assert house.files() == set()
    assert house.open().pools.list("", 10) == []
