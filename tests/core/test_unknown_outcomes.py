"""A COMMIT whose answer is lost: whatever was being changed, nothing acknowledged is lost, nothing is built on sand,
and the request sent again gets the truth.

Each kind of change runs into a real PostgreSQL behind a proxy that breaks the connection at its COMMIT.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from assay.server.adapters.sql import outcomes
from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, OutcomeUnknown, Reason, RequestReplayed
from assay.server.core.labeling.leases import expire_due
from assay.server.core.models.messages import TrainSpec
from assay.server.core.pools.messages import PoolSpec, SampleUpdate
from assay.server.core.pools.quarantine import quarantine
from assay.server.core.records.models import NEWEST
from assay.server.core.records.pools import Metric
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.samples import OnConflict, SampleColumns
from assay.server.core.records.tasks import TaskKind
from tests.commit_proxy import CommitProxy
from tests.core.kit import (
    CLASSES,
    POOL,
    House,
    activate,
    add,
    annotate,
    batch,
    counts,
    done,
    fill,
    flip_byte,
    key,
    label_by_sign,
    make_pool,
    model_id_of,
    names,
    next_batch,
    numbers,
    of_classes,
    pool_of,
    receive,
    refused,
    standing,
    train,
    upload,
    vectors,
    with_inputs,
)
from tests.core.predictions import made, push
from tests.models.onnx_factory import linear_embedder
from tests.postgres import PostgresServer


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[CommitProxy]:
    with CommitProxy(postgres_url) as opened:
        yield opened


@pytest.fixture
def house(tmp_path: Path, proxy: CommitProxy) -> Iterator[House]:
    built = House(tmp_path / "data", catalog_url=proxy.url)
    yield built
    proxy.come_back()
    built.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away is not waited for."""
    monkeypatch.setattr(outcomes, "PATIENCE_S", 0.0)


@dataclass
class Case:
    """One kind of change: what comes before it, the change itself under a request key, what must hold once it has
    taken effect."""

    prepare: Callable[[House, Assay], Any]
    change: Callable[[House, Assay, Any, RequestKey], Any]
    holds: Callable[[House, Assay, Any], None]
    keyed: bool = True
    operation: bool = False


def _filled(house: House, core: Assay) -> None:
    make_pool(core)
    fill(core, 24, step=2)
    annotate(core, {"s0": "ant", "s1": "bee"})


def _leased(house: House, core: Assay) -> Any:
    _filled(house, core)
    return next_batch(core, 4, ttl=60.0)


def _labeled(house: House, core: Assay) -> None:
    make_pool(core)
    label_by_sign(core, fill(core, 24, step=6), 12)


def _graph(house: House) -> str:
    return linear_embedder(house.root / "one.onnx", features=5, dimension=3, seed=1)


def _with_inputs(house: House, core: Assay) -> str:
    make_pool(core)
    path = _graph(house)
    upload(core, path, "one")
    activate(core, "one")
    core.samples.add(POOL, with_inputs(names(0, 10)), OnConflict.ERROR, key("inputs"))
    upload(core, linear_embedder(house.root / "two.onnx", features=5, dimension=6, seed=2), "two")
    return path


def _added(house: House, core: Assay, _: Any) -> None:
    assert core.samples.get(POOL, "n3").record.id == "n3"
    snapshot = pool_of(core).snapshot
    np.testing.assert_array_equal(snapshot.gather(snapshot.find(["n0", "n1", "n2", "n3"])), vectors(4, 9))
    assert add(core, ["later"]).added == 1
    assert core.samples.get(POOL, "later").row == 28  # no row is given twice


def _reserved(house: House, core: Assay, _: Any) -> None:
    (lease,) = core.labeling.leases(POOL, "", 0, 10)
    other = next_batch(core, 4, worker="bob")
    assert other.lease.record.fencing_token > lease.record.fencing_token
    assert not set(other.lease.sample_ids) & set(lease.sample_ids)
    annotate(core, dict.fromkeys(other.lease.sample_ids, "cow"), other)


def _submitted(house: House, core: Assay, _: Any) -> None:
    assert core.samples.get(POOL, "s5").label == "cow"
    refused(Reason.ANNOTATION_EXISTS, lambda: annotate(core, {"s5": "ant"}))


def _renewed(house: House, core: Assay, taken: Any) -> None:
    (lease,) = core.labeling.leases(POOL, "", 0, 10)
    assert lease.record.expire_time > taken.lease.record.expire_time


def _released(house: House, core: Assay, taken: Any) -> None:
    assert core.labeling.leases(POOL, "", 0, 10) == []
    assert len(next_batch(core, 22, worker="bob").picks) == 22


def _deleted(house: House, core: Assay, _: Any) -> None:
    refused(Reason.SAMPLE_NOT_FOUND, lambda: core.samples.get(POOL, "s7"))
    assert counts(core)["DELETED"] == 1


def _uploaded(house: House, core: Assay, _: Any) -> None:
    assert [model.record.model_id for model in core.models.list(POOL, None, NEWEST, 10)] == ["new"]
    activate(core, "new")


def _model_deleted(house: House, core: Assay, _: Any) -> None:
    assert [model.record.model_id for model in core.models.list(POOL, None, NEWEST, 10)] == ["one"]


def _created(house: House, core: Assay, _: Any) -> None:
    assert add(core, names(0, 3), pool="fresh").added == 3
    refused(Reason.POOL_EXISTS, lambda: core.pools.create(PoolSpec("fresh", Metric.L2, of_classes(CLASSES)), key("")))


def _gone(house: House, core: Assay, _: Any) -> None:
    refused(Reason.POOL_NOT_FOUND, lambda: core.pools.get(POOL))
    core.settle()
    assert house.files() == set()
    make_pool(core)
    assert add(core, names(0, 3)).added == 3


def _merged(house: House, core: Assay, _: Any) -> None:
    assert counts(core) == {"UNLABELED": 22, "LABELED": 2}
    np.testing.assert_array_equal(pool_of(core).snapshot.gather(np.arange(24)), vectors(24))
    assert [core.samples.get(POOL, name).record.payload.decode() for name in names(0, 24)] == names(0, 24)


def _expired(house: House, core: Assay, taken: Any) -> None:
    expire_due(pool_of(core), house.clock.steady())
    assert core.labeling.leases(POOL, "", 0, 10) == []
    assert len(next_batch(core, 22).picks) == 22


def _expire(house: House, core: Assay, _: Any, __: RequestKey) -> None:
    house.clock.advance(61)
    expire_due(pool_of(core), house.clock.steady())


def _set_aside(house: House, core: Assay, file: str) -> None:
    quarantine(pool_of(core), file, "rotten")
    assert [damage.file for damage in core.pools.get(POOL).damaged] == [file]
    assert core.samples.get(POOL, "s20").record.id == "s20"
    assert add(core, ["later"]).added == 1


def _trained(house: House, core: Assay, _: Any) -> None:
    core.settle()
    assert all(view.record.done for view in core.operations.list(None, 10))
    assert train(core)


def _activated(house: House, core: Assay, _: Any) -> None:
    core.settle()
    assert all(view.record.done for view in core.operations.list(None, 10))
    activate(core, "two")
    assert core.pools.get(POOL).record.dimension == 6
    assert counts(core) == {"UNLABELED": 10}


def _rotten(house: House, core: Assay) -> str:
    _filled(house, core)
    file = pool_of(core).snapshot.samples[0].file.file
    flip_byte(house.root / file)
    return file


def _update(house: House, core: Assay, _: Any, request: RequestKey) -> Any:
    columns = SampleColumns(["s7"], attributes={"n": numbers([70])})
    return core.samples.update(POOL, SampleUpdate(columns), request)


def _updated(house: House, core: Assay, _: Any) -> None:
    assert core.samples.get(POOL, "s7").record.attributes == {"n": 70}


def _predict(house: House, core: Assay, _: Any, request: RequestKey) -> Any:
    return push(core, ["s7", "s2"], made(TaskKind.CLASSIFICATION, 2), request=request)


def _predicting(house: House, core: Assay) -> None:
    _filled(house, core)
    push(core, ["s7"], made(TaskKind.CLASSIFICATION, 1))


def _predicted(house: House, core: Assay, _: Any) -> None:
    assert [(view.name, view.samples) for view in core.sources.list(POOL)] == [("mine", 2)]


def _unpredicted(house: House, core: Assay, _: Any) -> None:
    assert core.sources.list(POOL) == []


CASES = {
    "AddSamples": Case(
        _filled,
        lambda house, core, _, request: core.samples.add(
            POOL, batch([f"n{i}" for i in range(4)], vectors(4, 9)), OnConflict.ERROR, request
        ),
        _added,
    ),
    "NextBatch": Case(_filled, lambda house, core, _, request: next_batch(core, 4, request=request), _reserved),
    "Annotate": Case(
        _filled, lambda house, core, _, request: annotate(core, {"s5": "cow"}, request=request), _submitted
    ),
    "RenewLease": Case(
        _leased,
        lambda house, core, taken, request: core.labeling.renew(
            POOL, taken.lease.record.lease_id, taken.lease.record.fencing_token, 600.0, request
        ),
        _renewed,
    ),
    "ReleaseLease": Case(
        _leased,
        lambda house, core, taken, request: core.labeling.release(
            POOL, taken.lease.record.lease_id, taken.lease.record.fencing_token, [], "", False, request
        ),
        _released,
    ),
    "UpdateSamples": Case(_filled, _update, _updated),
    "UpdatePredictions": Case(_filled, _predict, _predicted),
    "DeletePredictionSource": Case(
        _predicting, lambda house, core, _, request: core.sources.delete(POOL, "mine", request), _unpredicted
    ),
    "DeleteSamples": Case(
        _filled, lambda house, core, _, request: core.samples.delete(POOL, ["s7"], False, request), _deleted
    ),
    "UploadBackbone": Case(
        lambda house, core: (make_pool(core), Path(_graph(house)).read_bytes())[1],
        lambda house, core, content, request: receive(core, content, "new", key=request),
        _uploaded,
    ),
    "DeleteModel": Case(
        _with_inputs, lambda house, core, _, request: core.models.delete(POOL, "two", request), _model_deleted
    ),
    "CreatePool": Case(
        lambda house, core: None,
        lambda house, core, _, request: core.pools.create(PoolSpec("fresh", Metric.L2, of_classes(CLASSES)), request),
        _created,
    ),
    "DeletePool": Case(_filled, lambda house, core, _, request: core.pools.delete(POOL, request), _gone),
    "TrainHead": Case(
        _labeled,
        lambda house, core, _, request: core.models.train(POOL, TrainSpec(), request, model_id_of),
        _trained,
        operation=True,
    ),
    "ActivateModel": Case(
        _with_inputs,
        lambda house, core, _, request: core.models.activate(POOL, "two", request, model_id_of),
        _activated,
        operation=True,
    ),
    "merge": Case(
        _filled, lambda house, core, _, request: house.merger().merge_once(pool_of(core)), _merged, keyed=False
    ),
    "quarantine": Case(
        _rotten,
        lambda house, core, file, request: quarantine(pool_of(core), file, "rotten"),
        _set_aside,
        keyed=False,
    ),
    "expire": Case(_leased, _expire, _expired, keyed=False),
}


@contextmanager
def outcome_unknown() -> Iterator[None]:
    with pytest.raises(OutcomeUnknown) as raised:
        yield
    assert raised.value.reason is Reason.OUTCOME_UNKNOWN
    assert "same request id" in raised.value.message


def as_the_catalog_has_it(house: House, core: Assay) -> None:
    """What the server shows is what it shows after a restart, no file is lost, and none is left over."""
    core._upkeep.mend()
    shown = {view.record.pool_id: standing(core, view.record.pool_id) for view in core.pools.list("", 10)}
    files = house.files()
    again = house.open()
    assert {view.record.pool_id: standing(again, view.record.pool_id) for view in again.pools.list("", 10)} == shown
    assert house.files() == files
    assert not (house.root / "swept").exists()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("what", ["answer", "request"])
@pytest.mark.parametrize("kind", CASES)
def test_while_the_database_is_away_the_outcome_is_unknown_and_sent_again_the_request_gets_the_truth(
    house: House, proxy: CommitProxy, kind: str, what: str
) -> None:
    case, core = CASES[kind], house.open()
    given = case.prepare(house, core)
    proxy.lose(what, stay_away=True)
    with outcome_unknown():
        case.change(house, core, given, key("cut"))
    proxy.come_back()
    if case.keyed:
        try:
            result = case.change(house, core, given, key("cut"))
            assert what == "request", "a change that was stored was made again"
            if case.operation:
                done(core, result)
        except RequestReplayed:
            assert what == "answer", "a change that was not stored was taken for stored"
    case.holds(house, core, given)
    as_the_catalog_has_it(house, core)


@pytest.mark.parametrize("kind", CASES)
def test_a_database_that_can_be_asked_says_that_it_committed(house: House, proxy: CommitProxy, kind: str) -> None:
    case, core = CASES[kind], house.open()
    given = case.prepare(house, core)
    proxy.lose("answer")
    result = case.change(house, core, given, key("cut"))
    assert proxy.lost.is_set()
    if case.operation:
        done(core, result)
    case.holds(house, core, given)
    as_the_catalog_has_it(house, core)


@pytest.mark.parametrize("kind", ["AddSamples", "Annotate", "UploadBackbone", "CreatePool", "DeletePool", "merge"])
def test_a_database_that_can_be_asked_says_that_it_did_not_commit(house: House, proxy: CommitProxy, kind: str) -> None:
    case, core = CASES[kind], house.open()
    given = case.prepare(house, core)
    files = house.files()
    proxy.lose("request")
    with pytest.raises(AssayError) as failed:
        case.change(house, core, given, key("cut"))
    assert failed.value.reason is Reason.STORAGE_UNAVAILABLE
    assert house.files() == files
    result = case.change(house, core, given, key("cut"))
    if case.operation:
        done(core, result)
    case.holds(house, core, given)
    as_the_catalog_has_it(house, core)


def kill_who_waits_for_a_standby(postgres: PostgresServer) -> None:
    """Ends the connection whose COMMIT is done here and waits for a standby that will never come."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        while not connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        ).fetchall():
            pass


@contextmanager
def no_standby(postgres: PostgresServer) -> Iterator[None]:
    """Commits wait for a standby, and the first that does is killed."""
    postgres.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    try:
        postgres.execute("SELECT pg_reload_conf()")
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            while connection.execute("SHOW synchronous_standby_names").fetchone() != ("nobody",):
                pass
        killer = threading.Thread(target=kill_who_waits_for_a_standby, args=(postgres,))
        killer.start()
        yield
        killer.join(60)
    finally:
        postgres.execute("ALTER SYSTEM RESET synchronous_standby_names")
        postgres.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("kind", ["AddSamples", "NextBatch", "merge"])
def test_a_backend_that_is_killed_while_its_commit_waits(house: House, postgres: PostgresServer, kind: str) -> None:
    case, core = CASES[kind], house.open()
    given = case.prepare(house, core)
    with no_standby(postgres):
        case.change(house, core, given, key("cut"))
    case.holds(house, core, given)
    as_the_catalog_has_it(house, core)
