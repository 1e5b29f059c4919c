"""What is old is forgotten while the server runs, a little at a time, and nothing that is needed goes with it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason, RequestReplayed
from assay.server.core.models.messages import TrainSpec
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.models import NEWEST, ModelKind
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.samples import OnConflict
from assay.server.core.retention import STEP_ROWS, Retention
from tests.core.kit import (
    POOL,
    House,
    add,
    annotate,
    counts,
    done,
    fill,
    key,
    label_by_sign,
    model_id_of,
    names,
    next_batch,
    pool_of,
    refused,
    train,
    upload,
    with_inputs,
)
from tests.core.kit import activate as start_activation
from tests.models.onnx_factory import linear_embedder

DAY = 86_400.0


def forgetting(house: House, core: Assay, **limits: float) -> Retention:
    """Retention under other limits."""
    return Retention(house.catalog, core._directory, house.clock, replace(house.limits, **limits))


def steps(retention: Retention) -> int:
    """Steps until nothing is left to forget."""
    count = 0
    while retention.forget():
        count += 1
    return count


def heads(core: Assay) -> list[str]:
    return [view.record.model_id for view in core.models.list(POOL, ModelKind.HEAD, NEWEST, 1000)]


def pages(house: House) -> tuple[int, int]:
    """(pages of the catalog, free ones)."""
    with house.catalog._writer.connect() as connection:
        size = connection.exec_driver_sql("PRAGMA page_count").scalar()
        return int(size), int(connection.exec_driver_sql("PRAGMA freelist_count").scalar())


def test_the_catalog_shrinks_while_the_server_runs(house: House, core: Assay) -> None:
    fill(core, 4)
    pool = pool_of(core)
    large = np.random.default_rng(0).bytes(4000)
    for number in range(1500):
        with house.catalog.transaction() as tx:
            tx.remember(
                pool.snapshot.pool.uid, RequestKey(f"r{number}", "test", "", lambda _: b""), large, house.clock.steady()
            )
    full, _ = pages(house)
    house.clock.advance(2 * DAY)
    assert steps(core.retention) >= 1500 // STEP_ROWS + 2
    size, free = pages(house)
    assert size < full / 10
    assert free <= 64
    assert counts(core) == {"UNLABELED": 4}


def test_ended_leases_go_and_live_ones_stay(house: House, core: Assay) -> None:
    fill(core, 8)
    live = next_batch(core, 2, ttl=7 * DAY)
    ended = next_batch(core, 2, ttl=60.0)
    core.labeling.release(
        POOL, ended.lease.record.lease_id, ended.lease.record.fencing_token, [ended.lease.sample_ids[0]], "dark", False,
        NO_KEY,
    )  # fmt: skip
    done_with = next_batch(core, 1, ttl=60.0)
    annotate(core, dict.fromkeys(done_with.lease.sample_ids, "ant"), done_with)
    house.clock.advance(61)
    core.tick()
    kept = forgetting(house, core, keep_leases_s=DAY)
    steps(kept)
    assert core.labeling.lease(POOL, ended.lease.record.lease_id).record.state == "expired"
    house.clock.advance(DAY)
    assert steps(kept) == 1
    for batch in (ended, done_with):
        refused(Reason.LEASE_NOT_FOUND, lambda batch=batch: core.labeling.lease(POOL, batch.lease.record.lease_id))
    assert core.labeling.lease(POOL, live.lease.record.lease_id).record.state == "live"
    annotate(core, dict.fromkeys(live.lease.sample_ids, "ant"), live)
    assert house.open().pools.get(POOL).record == core.pools.get(POOL).record


def test_ended_operations_go(house: House, core: Assay) -> None:
    label_by_sign(core, fill(core, 20), 10)
    operation = done(core, core.models.train(POOL, TrainSpec(), NO_KEY, model_id_of)).record.operation_id
    kept = forgetting(house, core, keep_operations_s=DAY)
    steps(kept)
    core.operations.get(operation)
    house.clock.advance(DAY + 1)
    steps(kept)
    refused(Reason.OPERATION_NOT_FOUND, lambda: core.operations.get(operation))


def test_old_heads_go_but_not_those_that_may_come_back(house: House, core: Assay) -> None:
    label_by_sign(core, fill(core, 40), 20)
    first, second = train(core), train(core)
    rest = [train(core, activate=False) for _ in range(5)]
    files = house.files()
    steps(forgetting(house, core, keep_heads=2))
    assert heads(core) == [rest[4], rest[3], second, first]
    assert len(files) - len(house.files()) == 3
    back = core.models.rollback(POOL, ModelKind.HEAD, NO_KEY, model_id_of)
    assert done(core, back).record.response.decode() == first
    core = house.open()
    assert core.pools.get(POOL).record.head == first
    assert steps(forgetting(house, core, keep_heads=2)) == 0


def test_the_head_of_a_space_that_may_be_gone_back_to_stays(house: House, core: Assay, tmp_path: Path) -> None:
    for name, dimension in (("one", 3), ("two", 6)):
        upload(core, linear_embedder(tmp_path / f"{name}.onnx", features=5, dimension=dimension, seed=dimension), name)
    start_activation(core, "one")
    core.samples.add(POOL, with_inputs(names(0, 40)), OnConflict.ERROR, NO_KEY)
    label_by_sign(core, pool_of(core).snapshot.gather(np.arange(40)), 20)
    of_one = train(core)
    start_activation(core, "two")
    later = [train(core) for _ in range(3)]
    steps(forgetting(house, core, keep_heads=0, keep_activations=10))
    assert heads(core) == [later[2], later[1], of_one]
    steps(forgetting(house, core, keep_heads=0, keep_activations=1))
    assert heads(core) == [later[2], of_one]
    start_activation(core, "one")
    assert core.pools.get(POOL).record.head == of_one


def test_heads_are_found_by_key_and_page_among_thousands(core: Assay) -> None:
    """As many as one a round over years: neither looking one up nor a page reads the others."""
    label_by_sign(core, fill(core, 20), 10)
    head = core.models.get(POOL, train(core)).record
    pool = pool_of(core)
    with pool._catalog.transaction() as tx:
        for number in range(2000):
            tx.add_model(pool.snapshot.pool.uid, replace(head, model_id=f"h{number}", file=f"{head.file}{number}"))
    seen: list[str] = []
    below = NEWEST
    while page := core.models.list(POOL, None, below, 500):
        seen += [view.record.model_id for view in page]
        below = page[-1].record.number
    assert seen == [*(f"h{number}" for number in reversed(range(2000))), head.model_id]
    assert core.models.get(POOL, "h7").record.model_id == "h7"


def test_a_step_is_small_and_the_loop_rests_when_nothing_is_left(house: House, core: Assay) -> None:
    uid = pool_of(core).snapshot.pool.uid
    with house.catalog.transaction() as tx:
        for number in range(STEP_ROWS + 1):
            tx.remember(uid, key(f"r{number}"), b"x", house.clock.steady())
    house.clock.advance(2 * DAY)
    assert core.retention.step()
    with house.catalog.reading() as tx:
        left = sum(tx.recall(uid, key(f"r{number}")) is not None for number in range(STEP_ROWS + 1))
    assert left == 1
    while core.retention.step():
        pass
    add(core, ["a"], request=key("late"))
    house.clock.advance(2 * DAY)
    assert not core.retention.step(), "it rests for a while"
    with pytest.raises(RequestReplayed):
        add(core, ["a"], request=key("late"))
