"""Work that nobody waits for: done for every pool, whatever happens to one of them."""

import threading

import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason
from assay.server.core.pools.merging import Merger
from assay.server.core.pools.pool import Pool
from assay.server.core.pools.upkeep import Upkeep
from assay.server.core.records.samples import SegmentFile
from tests.core.kit import POOL, House, add, counts, fill, flip_byte, make_pool, next_batch, pool_of


class FailingOnOne(Merger):
    """Merges all pools but one."""

    def __init__(self, house: House, failing: Pool) -> None:
        super().__init__(house.store, 1 << 28)
        self._failing = failing

    def merge_once(self, pool: Pool) -> bool:
        if pool is self._failing:
            raise AssayError(Reason.STORAGE_FULL, "No room.")
        return super().merge_once(pool)


def test_one_pool_that_cannot_be_merged_does_not_stop_the_others(
    house: House, core: Assay, caplog: pytest.LogCaptureFixture
) -> None:
    make_pool(core, "aaa")
    for pool in ("aaa", POOL):
        fill(core, 8, step=2, pool=pool)
    core._upkeep._merger = FailingOnOne(house, pool_of(core, "aaa"))
    assert core._upkeep.tidy()
    while core._upkeep.tidy():
        pass
    assert core.pools.get(POOL).segments == 2
    assert core.pools.get("aaa").segments == 8
    assert len(caplog.records) == 1, "said once, and not twice a second"


def test_leases_of_all_pools_run_out(house: House, core: Assay) -> None:
    fill(core, 3)
    next_batch(core, 3, ttl=60.0)
    background: Upkeep = core._upkeep
    assert not background.expire()
    house.clock.advance(61)
    assert background.expire()
    assert counts(core) == {"UNLABELED": 3}
    assert not background.expire()


def test_a_damaged_file_found_while_merging_is_named(house: House, core: Assay) -> None:
    fill(core, 12, step=2)
    segment = pool_of(core).snapshot.vectors[3]
    flip_byte(house.root / segment.file.file)
    while core._upkeep.tidy():
        pass
    view = core.pools.get(POOL)
    assert [damage.file for damage in view.damaged] == [segment.file.file]
    assert counts(core) == {"UNLABELED": 10, "DAMAGED": 2}
    assert view.segments < 11


class Telling(Merger):
    """Says when there is nothing left to merge."""

    def __init__(self, house: House) -> None:
        super().__init__(house.store, 1 << 28)
        self.rested = threading.Event()

    def merge_once(self, pool: Pool) -> bool:
        merged = super().merge_once(pool)
        if not merged:
            self.rested.set()
        return merged


def test_the_threads_do_their_work_and_end(house: House, core: Assay) -> None:
    fill(core, 12, step=2)
    merger = core._upkeep._merger = Telling(house)
    core.start_background()
    assert merger.rested.wait(60)
    assert core.pools.get(POOL).segments == 2
    core = house.open()
    assert not [thread for thread in threading.enumerate() if thread.name in ("leases", "merging", "indexing")]
    assert add(core, ["new"]).added == 1


def test_a_file_that_could_not_be_read_once_is_verified_later(house: House, core: Assay) -> None:
    fill(core, 30, step=10)
    core = house.with_limits(verify_bytes=0).open()
    files = set(pool_of(core).snapshot.file_names)
    verify, verified = house.store.verify, set()

    def failing_first(file: SegmentFile) -> None:
        if not verified:
            verified.add("")
            raise AssayError(Reason.STORAGE_FAILED, "Input/output error")
        verify(file)
        verified.add(file.file)

    house.store.verify = failing_first  # type: ignore[method-assign]
    verification = core._upkeep._verification
    assert not verification.step(), "a pause"
    while verification.step():
        pass
    assert verified == files | {""}
    assert core.pools.get(POOL).damaged == ()


def test_a_file_that_cannot_be_read_at_all_is_taken_out_of_service(house: House, core: Assay) -> None:
    fill(core, 20, step=10)
    core = house.with_limits(verify_bytes=0).open()
    bad = pool_of(core).snapshot.vectors[0].file.file
    verify = house.store.verify

    def failing(file: SegmentFile) -> None:
        if file.file == bad:
            raise AssayError(Reason.STORAGE_FAILED, "Input/output error")
        verify(file)

    house.store.verify = failing  # type: ignore[method-assign]
    verification = core._upkeep._verification
    while len(verification):
        verification.step()
    assert [damage.file for damage in core.pools.get(POOL).damaged] == [bad]
    assert counts(core) == {"UNLABELED": 10, "DAMAGED": 10}
