"""The change feed: in order, with its transaction or not at all, and forgotten in order."""

from contextlib import suppress

from assay.server.adapters.sql import SqlCatalog
from assay.server.core.records.annotations import EventKind
from assay.server.core.records.changes import (
    AnnotationsChanged,
    ChangeRecord,
    LeaseAction,
    LeaseChanged,
    ModelAction,
    ModelChanged,
    OperationAction,
    OperationChanged,
    Part,
    PoolChanged,
    Position,
    SamplesAction,
    SamplesChanged,
)
from assay.server.core.records.models import ModelKind
from assay.server.core.records.pools import PoolRecord
from tests.catalog.records import pool_record

START = Position(0, 0)
PARTS: tuple[Part, ...] = (
    SamplesChanged(SamplesAction.ADDED, 60_000, (0, 1, 2)),
    SamplesChanged(SamplesAction.DELETED, 1, ids=("ümlaut/\U0001f600",)),
    AnnotationsChanged("ann", "l1", 7, 3, {str(int(EventKind.ANNOTATE)): 2, str(int(EventKind.SKIP)): 1}, (4, 5, 9)),
    LeaseChanged(LeaseAction.DONE, "l1", "ann", 2, (1, 2)),
    ModelChanged(ModelAction.ACTIVATED, "head-1", ModelKind.HEAD),
    OperationChanged(OperationAction.ENDED, "train-1", "train_head", "CANCELLED"),
    PoolChanged(("task", "policy")),
)


def append(catalog: SqlCatalog, pool: PoolRecord, epoch: int, *parts: Part, now: float = 1.0) -> None:
    with catalog.transaction() as tx:
        if epoch:
            assert tx.advance_pool(pool.uid, epoch - 1)
        tx.append_change(pool.uid, parts, now)


def found(catalog: SqlCatalog, pool: PoolRecord, after: Position = START, limit: int = 100) -> list[ChangeRecord]:
    with catalog.reading() as tx:
        return tx.changes(pool.uid, after, limit)


def note(name: str) -> ModelChanged:
    return ModelChanged(ModelAction.ADDED, name, ModelKind.HEAD)


def names(records: list[ChangeRecord]) -> list[str]:
    return [part.model_id for record in records for part in record.parts if isinstance(part, ModelChanged)]


def test_all_kinds_come_back_as_they_were(catalog: SqlCatalog, pool: PoolRecord) -> None:
    append(catalog, pool, pool.epoch + 1, *PARTS, now=12.5)
    (record,) = found(catalog, pool)
    assert record.parts == PARTS
    assert (record.position.epoch, record.create_time) == (pool.epoch + 1, 12.5)


def test_changes_are_read_in_pages_by_position(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with catalog.transaction() as tx:
        other = tx.insert_pool(pool_record("other"))
        assert tx.last_change(pool.uid) is None
    for number in range(3):
        append(catalog, pool, pool.epoch + number + 1, note(f"a{number}"))
        append(catalog, other, 0, note(f"b{number}"))
        append(catalog, pool, 0, note(f"c{number}"))
    assert names(found(catalog, pool)) == ["a0", "c0", "a1", "c1", "a2", "c2"]
    position, pages = START, []
    while page := found(catalog, pool, position, 4):
        pages.append(names(page))
        position = page[-1].position
    assert pages == [["a0", "c0", "a1", "c1"], ["a2", "c2"]]
    with catalog.reading() as tx:
        assert tx.last_change(pool.uid) == position
        assert tx.forgotten_changes(pool.uid) is None


def test_a_change_that_is_undone_leaves_none(catalog: SqlCatalog, pool: PoolRecord) -> None:
    with suppress(ZeroDivisionError), catalog.transaction() as tx:
        tx.append_change(pool.uid, [note("never")], 1.0)
        raise ZeroDivisionError
    assert found(catalog, pool) == []


def test_of_a_pool_that_is_gone_nothing_is_kept_nor_said(catalog: SqlCatalog, pool: PoolRecord) -> None:
    append(catalog, pool, 0, note("a"))
    with catalog.transaction() as tx:
        assert tx.forget_changes(9.0, 0, 1) == 1
        tx.append_change(pool.uid, [note("b")], 1.0)
        tx.delete_pool(pool.uid)
        tx.append_change(pool.uid, [note("late")], 1.0)
    with catalog.reading() as tx:
        assert (tx.changes(pool.uid, START, 9), tx.forgotten_changes(pool.uid)) == ([], None)


def test_changes_are_forgotten_in_order_by_age_and_by_number(catalog: SqlCatalog, pool: PoolRecord) -> None:
    for at in range(10):
        append(catalog, pool, pool.epoch + at + 1, note(str(at)), now=float(at))
    with catalog.transaction() as tx:
        assert tx.forget_changes(4.0, 100, 3) == 3
        assert tx.forget_changes(4.0, 100, 3) == 1
        assert tx.forget_changes(4.0, 100, 3) == 0
    left = found(catalog, pool)
    assert names(left) == list("456789")
    with catalog.reading() as tx:
        gone = tx.forgotten_changes(pool.uid)
    assert gone is not None
    assert START < gone < left[0].position
    assert gone.epoch == pool.epoch + 4
    with catalog.transaction() as tx:
        assert tx.forget_changes(0.0, 3, 100) == 3
        assert tx.forgotten_changes(pool.uid) == left[2].position
    assert names(found(catalog, pool)) == list("789")


def test_what_is_younger_behind_a_step_of_the_clock_is_kept_until_its_turn(
    catalog: SqlCatalog, pool: PoolRecord
) -> None:
    """Whoever asks for what comes after a position gets all of it, or is told that it is forgotten."""
    for at, now in enumerate((100.0, 5.0, 101.0)):
        append(catalog, pool, pool.epoch + at + 1, note(str(at)), now=now)
    with catalog.transaction() as tx:
        assert tx.forget_changes(50.0, 100, 100) == 0
        assert tx.forget_changes(100.5, 100, 100) == 2
    assert names(found(catalog, pool)) == ["2"]


def test_numbers_are_not_given_again(catalog: SqlCatalog, pool: PoolRecord) -> None:
    append(catalog, pool, 0, note("a"))
    first = found(catalog, pool)[0].position
    with catalog.transaction() as tx:
        tx.forget_changes(9.0, 0, 9)
    append(catalog, pool, 0, note("b"))
    assert found(catalog, pool)[0].position > first
