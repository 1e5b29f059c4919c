"""A server that is started on a full disk serves what is there, and stores what it owes once there is room."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from assay.server.core.errors import Reason
from assay.server.core.pools import upkeep
from assay.server.core.pools.messages import SearchSpec
from assay.server.core.records.operations import OperationRecord
from tests.core.kit import POOL, House, annotate, counts, fill, make_pool, next_batch, refused, vectors
from tests.small_disk import small_disk

MIB = 1 << 20
COUNT = 300


@contextmanager
def no_room(disk: Path) -> Iterator[None]:
    """Takes all that is left of a disk."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(MIB)):
            pass
    try:
        yield
    finally:
        ballast.unlink()


def test_a_start_on_a_full_disk_owes_only_what_it_has_to_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that is lost, a lease that ran out and an operation that was cut off each have to be stored."""
    monkeypatch.setattr(upkeep, "FAILED_SECONDS", 0.0)
    with small_disk(tmp_path / "disk", 16 * MIB) as disk:
        house = House(disk, index_from=COUNT)
        core = house.open()
        make_pool(core)
        fill(core, COUNT)
        while core._upkeep.index():
            pass
        next_batch(core, 5, ttl=60.0)
        record = core.pools.get(POOL).record
        assert record.search_index
        with house.catalog.transaction() as tx:
            tx.add_operation(OperationRecord("cut-off", "train_head", record.uid, POOL, 1.0))
        house.close()
        shutil.rmtree(disk / "derived")
        house.clock.advance(61)
        # As a server that was killed leaves them: without the index of its log, SQLite does not open the catalog.
        (disk / "catalog.db-shm").write_bytes(bytes(1 << 15))
        (disk / "catalog.db-wal").touch()
        with no_room(disk):
            core = house.open()
            query = SearchSpec(vectors_QD=vectors(1), k=3)
            found = core.samples.search(POOL, query)
            assert (found.exact, found.epoch) == (True, record.epoch)
            assert core.operations.get("cut-off").record.error_reason == Reason.SHUTTING_DOWN
            refused(Reason.STORAGE_FULL, lambda: annotate(core, {"s9": "ant"}))
            refused(Reason.STORAGE_FULL, core.settle)
            assert not core._upkeep.index()
            assert not core._upkeep.expire()
            assert core.pools.get(POOL).record == record
        core.settle()
        assert core._upkeep.expire()
        while core._upkeep.index():
            pass
        assert core.pools.get(POOL).index_kind == "hnsw"
        again = core.samples.search(POOL, query)
        assert not again.exact
        assert again.epoch > record.epoch
        core = house.open()
        assert counts(core) == {"UNLABELED": COUNT}
        assert core.operations.get("cut-off").record.error_reason == Reason.SHUTTING_DOWN
        house.close()
