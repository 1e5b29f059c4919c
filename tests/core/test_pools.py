"""Pools come and go whole, also while others use them."""

import threading
from functools import partial

import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason, RequestReplayed
from assay.server.core.mining.messages import MineSpec
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.models.messages import TrainSpec
from assay.server.core.operations.service import Task
from assay.server.core.pools.messages import PoolSpec
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.pools.service import LATE_S
from assay.server.core.records.pools import Metric
from tests.core.kit import (
    POOL,
    House,
    Turnstile,
    add,
    counts,
    done,
    fill,
    in_threads,
    key,
    label_by_sign,
    make_pool,
    model_id_of,
    names,
    next_batch,
    of_classes,
    pool_of,
    refused,
)


def test_a_pool_is_what_was_asked_for(house: House, core: Assay) -> None:
    spec = PoolSpec("new", Metric.INNER_PRODUCT, of_classes(("a", "b")), dimension=8, keep_inputs=False)
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


# --- one name, several lives ---------------------------------------------------------------------------------------


def test_requests_of_a_deleted_pool_are_not_taken_for_those_of_its_successor(core: Assay) -> None:
    """A nightly job with one id for each of its requests."""
    for _ in range(3):
        make_pool(core, "nightly")
        added = add(core, names(0, 10), request=key("add", method="AddSamples"), pool="nightly")
        assert added.added == 10
        with pytest.raises(RequestReplayed):
            add(core, names(0, 10), request=key("add", method="AddSamples"), pool="nightly")
        assert counts(core, "nightly") == {"UNLABELED": 10}
        core.pools.delete("nightly", NO_KEY)


def test_a_request_that_made_a_pool_is_repeated_while_the_pool_is_there(core: Assay) -> None:
    for _ in range(2):
        core.pools.create(PoolSpec("nightly"), key("create"))
        with pytest.raises(RequestReplayed):
            core.pools.create(PoolSpec("nightly"), key("create"))
        core.pools.delete("nightly", NO_KEY)


def test_a_late_repetition_of_a_deletion_spares_the_new_pool(house: House, core: Assay) -> None:
    fill(core, 3)
    core.pools.delete(POOL, key("delete"))
    with pytest.raises(RequestReplayed):
        core.pools.delete(POOL, key("delete"))
    make_pool(core)
    fill(core, 5)
    error = refused(Reason.REQUEST_ID_REUSED, lambda: core.pools.delete(POOL, key("delete")))
    assert "new request id" in error.message
    assert counts(core) == {"UNLABELED": 5}
    core = house.open()
    refused(Reason.REQUEST_ID_REUSED, lambda: core.pools.delete(POOL, key("delete")))
    house.clock.advance(LATE_S)
    core.pools.delete(POOL, key("delete"))
    refused(Reason.POOL_NOT_FOUND, lambda: core.pools.get(POOL))
    with pytest.raises(RequestReplayed):
        core.pools.delete(POOL, key("delete"))


def test_a_pool_created_while_its_namesake_is_being_deleted(core: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each step of a deletion after its commit, a creation either waits or makes a pool that stays."""
    deleting = core.pools
    steps: list[tuple[object, str]] = [
        (core._directory, "remove"),
        (deleting._segments, "discard"),
        (deleting._indexes, "forget"),
    ]
    for number, (owner, step) in enumerate(steps):
        pool_id = f"race-{number}"
        make_pool(core, pool_id)
        add(core, names(0, 4), pool=pool_id)
        work = getattr(owner, step)

        def create_first(*given: object, work=work, pool_id=pool_id) -> object:  # type: ignore[no-untyped-def]
            start, join = in_threads([partial(make_pool, core, pool_id), partial(add, core, ["new"], pool=pool_id)])
            start()
            assert join()[0] is None
            return work(*given)

        with monkeypatch.context() as patched:
            patched.setattr(owner, step, create_first)
            core.pools.delete(pool_id, NO_KEY)
        add(core, ["newer"], pool=pool_id)
        assert core.samples.get(pool_id, "newer").record.id == "newer"
        refused(Reason.POOL_EXISTS, partial(make_pool, core, pool_id))


def test_the_same_deletion_twice_at_once_is_answered_twice(core: Assay) -> None:
    pool = pool_of(core)
    gate = pool.ingest_lock = Turnstile()  # type: ignore[assignment]
    start, join = in_threads([partial(core.pools.delete, POOL, key("delete"))] * 2)
    gate.held_until(2, start)
    assert sorted(type(result).__name__ for result in join()) == ["NoneType", "RequestReplayed"]


def test_operations_go_with_their_pool_and_not_with_its_name(core: Assay) -> None:
    label_by_sign(core, fill(core, 20), 10)
    first = done(core, core.models.train(POOL, TrainSpec(), key("train"), model_id_of))
    core.pools.delete(POOL, NO_KEY)
    refused(Reason.OPERATION_NOT_FOUND, lambda: core.operations.get(first.record.operation_id))
    make_pool(core)
    label_by_sign(core, fill(core, 20), 10)
    second = done(core, core.models.train(POOL, TrainSpec(), key("train"), model_id_of))
    assert second.record.operation_id != first.record.operation_id


def test_an_operation_that_runs_while_its_pool_is_deleted_leaves_nothing(core: Assay) -> None:
    label_by_sign(core, fill(core, 20), 10)
    pool, began = pool_of(core), threading.Event()

    def work(task: Task) -> bytes:
        began.set()
        while not task.stopped():
            pass
        raise AssayError(Reason.CANCELLED, "Stopped.")

    task = core.operations.prepare("train_head", pool.snapshot.pool, "head")
    with pool.change() as change:
        core.operations.record(change.tx, task)
    core.operations.launch(task, work)
    assert began.wait(30)
    core.pools.delete(POOL, NO_KEY)
    make_pool(core)
    assert task.ended.wait(30)
    refused(Reason.OPERATION_NOT_FOUND, lambda: core.operations.get(task.record.operation_id))
    assert core.operations.list(None, 10) == []
