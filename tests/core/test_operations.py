"""Operations: followed, awaited, cancelled, deleted; their ends survive."""

import threading

import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason, RequestReplayed
from assay.server.core.models.messages import TrainSpec
from assay.server.core.operations.messages import OperationView
from assay.server.core.operations.service import BOUNDS, OperationService, Task, Work
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.operations import OperationRecord
from tests.core.kit import (
    POOL,
    House,
    done,
    fill,
    key,
    label_by_sign,
    make_pool,
    model_id_of,
    pool_of,
    refused,
    standing,
)


def start(house: House, service: OperationService, work: Work, alone: str = "head") -> str:
    task = service.prepare("train_head", pool_of(house.opened[-1]).snapshot.pool, alone)
    with house.catalog.transaction() as tx:
        service.record(tx, task)
    return service.launch(task, work).record.operation_id


class Steps:
    """Work that stops where a test wants it to."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()

    def __call__(self, task: Task) -> bytes:
        task.report("score", 3, 10)
        self.began.set()
        while not self.go_on.wait(0.01):
            if task.stopped():
                raise AssayError(Reason.CANCELLED, "Stopped.")
        return b"answer"


@pytest.fixture
def steps() -> Steps:
    return Steps()


def test_an_operation_is_followed_to_its_end(house: House, core: Assay, steps: Steps) -> None:
    operation_id = start(house, core.operations, steps)
    assert steps.began.wait(30)
    running = core.operations.wait(operation_id, 0.0)
    assert not running.record.done
    assert (running.progress.stage, running.progress.done, running.progress.total) == ("score", 3, 10)
    assert [view.progress.stage for view in core.operations.list(None, 10)] == ["score"]
    refused(Reason.OPERATION_RUNNING, lambda: core.operations.delete(operation_id))
    steps.go_on.set()
    ended = core.operations.wait(operation_id, 30)
    assert (ended.record.done, ended.record.response, ended.record.error_reason) == (True, b"answer", "")
    house.open()
    assert house.opened[-1].operations.get(operation_id).record == ended.record


def test_a_cancelled_operation_ends_as_cancelled(house: House, core: Assay, steps: Steps) -> None:
    operation_id = start(house, core.operations, steps)
    assert steps.began.wait(30)
    core.operations.cancel(operation_id)
    ended = core.operations.wait(operation_id, 30)
    assert ended.record.error_reason == Reason.CANCELLED
    core.operations.cancel(operation_id)
    core.operations.delete(operation_id)
    refused(Reason.OPERATION_NOT_FOUND, lambda: core.operations.get(operation_id))
    assert core.operations.list(None, 10) == []


def test_one_that_waits_for_its_turn_can_be_cancelled(house: House, core: Assay, steps: Steps) -> None:
    running = start(house, core.operations, steps)
    assert steps.began.wait(30)
    waiting = Steps()
    operation_id = start(house, core.operations, waiting)
    core.operations.cancel(operation_id)
    ended = core.operations.get(operation_id).record  # at once, without its turn
    assert (ended.done, ended.error_reason) == (True, Reason.CANCELLED)
    steps.go_on.set()
    assert core.operations.wait(running, 30).record.response == b"answer"
    assert not waiting.began.is_set()


def test_operations_that_would_undo_each_other_take_turns_and_others_do_not_wait(house: House, core: Assay) -> None:
    """Of one turn one runs; another turn of the pool, and every other pool, has threads left."""
    first, second, other = Steps(), Steps(), Steps()
    ids = [start(house, core.operations, steps) for steps in (first, second)]
    ids.append(start(house, core.operations, other, "backbone"))
    assert first.began.wait(30)
    assert other.began.wait(30)
    make_pool(core, "elsewhere")
    elsewhere = core.operations.prepare("train_head", pool_of(core, "elsewhere").snapshot.pool, "head")
    core.operations.launch(elsewhere, lambda task: b"done")
    assert elsewhere.ended.wait(30)
    assert not second.began.is_set()
    first.go_on.set()
    assert second.began.wait(30)
    for steps in (second, other):
        steps.go_on.set()
    assert [core.operations.wait(operation_id, 30).record.response for operation_id in ids] == [b"answer"] * 3


def test_too_many_that_wait_for_each_other_are_refused_and_not_recorded(house: House, core: Assay) -> None:
    running = Steps()
    ids = [start(house, core.operations, running)]
    assert running.began.wait(30)
    ids += [start(house, core.operations, lambda task: b"answer") for _ in range(BOUNDS.queue)]
    refused(Reason.BUSY, lambda: start(house, core.operations, lambda task: b"too many"))
    assert len(core.operations.list(None, 100)) == len(ids)
    ids.append(start(house, core.operations, lambda task: b"answer", "backbone"))
    running.go_on.set()
    assert [core.operations.wait(operation_id, 30).record.response for operation_id in ids] == [b"answer"] * len(ids)
    start(house, core.operations, lambda task: b"answer")


def test_whoever_watches_is_told_of_the_end_once(house: House, core: Assay, steps: Steps) -> None:
    operation_id = start(house, core.operations, steps)
    told, left = threading.Semaphore(0), threading.Semaphore(0)
    with core.operations.watching(operation_id, left.release):
        pass
    with core.operations.watching(operation_id, told.release):
        assert not told.acquire(blocking=False)
        steps.go_on.set()
        assert told.acquire(timeout=30)
    core.operations.wait(operation_id, 30)
    with core.operations.watching(operation_id, told.release):  # it has ended
        assert told.acquire(blocking=False)
    assert not told.acquire(blocking=False)
    assert not left.acquire(blocking=False)


def test_what_went_wrong_is_told(house: House, core: Assay, caplog: pytest.LogCaptureFixture) -> None:
    def fails(task: Task) -> bytes:
        raise AssayError(Reason.STORAGE_FULL, "No room.")

    def breaks(task: Task) -> bytes:
        raise ZeroDivisionError("secret at /var/lib/secret")

    full = core.operations.wait(start(house, core.operations, fails), 30).record
    assert (full.error_reason, full.error_message) == (Reason.STORAGE_FULL, "No room.")
    broken = core.operations.wait(start(house, core.operations, breaks), 30).record
    assert broken.error_reason == "INTERNAL"
    assert "secret" not in broken.error_message
    (logged,) = caplog.records
    assert logged.exc_info is not None
    error_id = broken.error_message.split()[-1].rstrip(".")
    assert len(error_id) == 32
    assert error_id in logged.getMessage()


def test_an_end_that_could_not_be_stored_is_still_told(house: House, core: Assay, steps: Steps) -> None:
    operation_id = start(house, core.operations, steps)
    assert steps.began.wait(30)
    house.catalog.close()
    steps.go_on.set()
    ended = core.operations.wait(operation_id, 30)
    assert (ended.record.done, ended.record.response) == (True, b"answer")


def test_operations_cut_off_by_a_crash_are_told_so(house: House, core: Assay) -> None:
    uid = pool_of(core).snapshot.pool.uid
    cut = OperationRecord("train-head-1", "train_head", uid, POOL, house.clock.now())
    kept = OperationRecord("train-head-2", "train_head", uid, POOL, house.clock.now(), True, b"answer")
    with house.catalog.transaction() as tx:
        tx.add_operation(cut)
        tx.add_operation(kept)
    core = house.open()
    assert core.operations.get("train-head-1").record.error_reason == Reason.SHUTTING_DOWN
    assert core.operations.get("train-head-2").record == kept
    views: list[OperationView] = core.operations.list(None, 1)
    rest = core.operations.list((views[0].record.create_time, views[0].record.operation_id), 10)
    assert [view.record.operation_id for view in (*views, *rest)] == ["train-head-1", "train-head-2"]


def test_a_repeated_request_starts_no_second_operation(core: Assay) -> None:
    label_by_sign(core, fill(core, 20), 10)
    operation = core.models.train(POOL, TrainSpec(), key("r1"), model_id_of)
    done(core, operation)
    before = standing(core)
    with pytest.raises(RequestReplayed) as replayed:
        core.models.train(POOL, TrainSpec(), key("r1"), model_id_of)
    assert operation.record.operation_id in replayed.value.response.decode()
    assert len(core.operations.list(None, 10)) == 1
    assert standing(core) == before


def test_closing_stops_what_runs(house: House, core: Assay, steps: Steps) -> None:
    operation_id = start(house, core.operations, steps)
    assert steps.began.wait(30)
    waiting = start(house, core.operations, lambda task: b"answer")
    core = house.open()
    for stopped in (operation_id, waiting):
        assert core.operations.get(stopped).record.error_reason == Reason.SHUTTING_DOWN


def test_deleting_a_pool_stops_its_operations(house: House, core: Assay, steps: Steps) -> None:
    operation_id = start(house, core.operations, steps)
    assert steps.began.wait(30)
    with core.operations._lock:
        task = core.operations._running[operation_id]
    core.pools.delete(POOL, NO_KEY)
    assert task.ended.wait(30)
    assert task.stopped()
