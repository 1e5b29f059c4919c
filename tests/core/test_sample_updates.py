"""Updates of samples: new values in every reader, across restarts, merges and damage; nothing else moves."""

import random
from typing import Any

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason, RequestReplayed
from assay.server.core.mining.messages import MineSpec
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.pools.messages import SampleUpdate, UpdateSamplesResult
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.filters import AllOf, Compare, Filter, HasId, Not
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.samples import AttributeColumn, OnConflict, SampleColumns
from tests.core.kit import (
    POOL,
    House,
    add,
    annotate,
    counts,
    fill,
    flip_byte,
    key,
    make_pool,
    names,
    next_batch,
    numbers,
    pool_of,
    refused,
)


def texts(values: list[str | None]) -> AttributeColumn:
    """An attribute of texts; None where a sample lacks it."""
    present = np.array([value is not None for value in values])
    return AttributeColumn("string", [value or "" for value in values], None if present.all() else present)


def update(
    core: Assay, ids: list[str], request: RequestKey = NO_KEY, removed: tuple[str, ...] = (), **columns: Any
) -> UpdateSamplesResult:
    """Updates samples."""
    return core.samples.update(POOL, SampleUpdate(SampleColumns(ids, **columns), removed), request)


def tag(core: Assay, ids: list[str], value: str | None, **columns: Any) -> UpdateSamplesResult:
    """Gives samples a tag."""
    return update(core, ids, attributes={"tag": texts([value] * len(ids))}, **columns)


def found(core: Assay, condition: Filter) -> list[str]:
    """Ids of the samples that match."""
    return [view.record.id for view in core.samples.list(POOL, condition, (), -1, 1000, False)[0]]


def merge_all(house: House, core: Assay) -> int:
    """Merges until nothing is left to merge; returns how often."""
    merger, times = house.merger(), 0
    while merger.merge_once(pool_of(core)):
        times += 1
    return times


def overlays(house: House) -> list[str]:
    """Files of overlays."""
    return sorted(file for file in house.files() if "/overlays/" in file)


TAGGED = Compare("tag", "==", "new")


def test_an_update_is_seen_everywhere_and_touches_nothing_else(house: House, core: Assay) -> None:
    embeddings = fill(core, 20, step=10, uris=[f"file:{i}" for i in range(20)])
    annotate(core, {"s3": "ant"})
    lease = next_batch(core, 2).lease.record
    before, standing = core.samples.get(POOL, "s3"), counts(core)
    result = update(
        core,
        ["s12", "s3", "s4"],
        attributes={"tag": texts(["new", "new", None]), "n": numbers([120, 30, 40])},
        payloads=[b"twelve", b"three", b""],
        payload_media_type="text/plain",
    )
    assert result == UpdateSamplesResult(3, pool_of(core).snapshot.pool.epoch)
    after = core.samples.get(POOL, "s3")
    assert (after.row, after.state, after.label) == (before.row, before.state, "ant")
    assert (after.record.uri, after.record.payload) == ("file:3", b"three")
    assert after.record.payload_media_type == "text/plain"
    assert after.record.attributes == {"n": 30, "tag": "new"}
    assert core.samples.get(POOL, "s4").record.attributes == {"n": 40}, "what is not present is not there"
    assert core.samples.get(POOL, "s5").record.payload == b"s5"
    assert found(core, TAGGED) == ["s3", "s12"]
    assert found(core, AllOf((Not(TAGGED), Compare("n", ">=", 18)))) == ["s4", "s18", "s19"]
    assert found(core, AllOf((HasId(("s3", "s5")), Not(Compare("n", "==", 3))))) == ["s3", "s5"]
    picks = core.mining.mine(POOL, MineSpec(1, Plan(preset="random", filter=TAGGED)), NO_KEY).picks
    assert [pick.sample.record.id for pick in picks] == ["s12"]
    assert counts(core) == standing
    assert core.labeling.lease(POOL, lease.lease_id).record == lease
    np.testing.assert_array_equal(pool_of(core).snapshot.gather(np.arange(20)), embeddings)


@pytest.mark.parametrize("seed", range(3))
def test_any_course_of_changes_is_read_alike_after_merges_and_restarts(house: House, seed: int) -> None:
    rng, core = random.Random(seed), house.open()
    make_pool(core)
    expected: dict[str, dict[str, Any]] = {}
    for step in range(45):
        ids = rng.sample(sorted(expected), min(len(expected), rng.randrange(1, 6)))
        match rng.randrange(8) if expected else 0:
            case 0:
                fresh = [f"s{step}-{i}" for i in range(rng.randrange(1, 6))]
                add(core, fresh, attributes={"n": numbers([step] * len(fresh))})
                expected |= {each: {"n": step} for each in fresh}
            case 1:
                core.samples.delete(POOL, ids, True, NO_KEY)
                for each in ids:
                    del expected[each]
            case 2:
                add(core, ids, on_conflict=OnConflict.REPLACE, attributes={"n": numbers([step] * len(ids))})
                expected |= {each: {"n": step} for each in ids}
            case 3:
                house.merger().merge_once(pool_of(core))
            case 4:
                core = house.open()
            case _:
                value = rng.choice(("new", "old", None))
                tag(core, ids, value)
                for each in ids:
                    expected[each].pop("tag", None)
                    expected[each] |= {"tag": value} if value else {}
        views = core.samples.list(POOL, None, (), -1, 1000, False)[0]
        assert {view.record.id: dict(view.record.attributes) for view in views} == expected
        if "tag" in pool_of(core).snapshot.attributes:
            assert sorted(found(core, TAGGED)) == sorted(i for i, a in expected.items() if a.get("tag") == "new")
    files = {file.file for file in _files(house, core)}
    assert house.files() == files, "what the catalog does not name is gone"


def _files(house: House, core: Assay) -> list[Any]:
    with house.catalog.reading() as tx:
        return tx.segments(pool_of(core).snapshot.pool.uid)


def test_merges_fold_what_was_changed_and_drop_the_overlays(house: House, core: Assay) -> None:
    fill(core, 40, step=10)
    tag(core, names(0, 15), "old")
    tag(core, ["s3", "s39"], "new")
    assert len(overlays(house)) == 2
    assert merge_all(house, core) == 2, "samples, then vectors"
    assert overlays(house) == []
    assert found(core, TAGGED) == ["s3", "s39"]
    core = house.open()
    assert found(core, TAGGED) == ["s3", "s39"]
    assert core.samples.get(POOL, "s14").record.attributes == {"n": 14, "tag": "old"}
    tag(core, names(0, 4), "new")
    assert merge_all(house, core) == 0, "too little to write the file again"
    tag(core, names(4, 5), "new")
    assert merge_all(house, core) == 1
    assert overlays(house) == []
    assert found(house.open(), TAGGED) == ["s0", "s1", "s2", "s3", "s4", "s39"]


def test_an_update_during_a_merge_lies_over_what_it_made(
    house: House, core: Assay, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(core, 40, step=10)
    tag(core, ["s1", "s2"], "old")
    merged = house.store.merge_samples

    def overtaken(*given: Any) -> Any:
        file = merged(*given)
        tag(core, ["s2"], "new")
        return file

    monkeypatch.setattr(house.store, "merge_samples", overtaken)
    assert house.merger().merge_once(pool_of(core))
    monkeypatch.undo()
    for opened in (core, house.open()):
        assert found(opened, TAGGED) == ["s2"]
        assert found(opened, Compare("tag", "==", "old")) == ["s1"]


def test_a_split_that_is_changed_moves_the_sample(core: Assay) -> None:
    fill(core, 6)

    def offered(size: int = 4) -> list[str]:
        picks = core.mining.mine(POOL, MineSpec(size, Plan(preset="random")), NO_KEY).picks
        return sorted(pick.sample.record.id for pick in picks)

    update(core, ["s1", "s4"], attributes={"split": texts(["test", "validation"])})
    assert offered() == ["s0", "s2", "s3", "s5"]
    update(core, ["s1", "s2"], attributes={"split": texts([None, "test"])})
    assert offered() == ["s0", "s1", "s3", "s5"]
    update(core, ["s2", "s4"], removed=("split",))
    assert offered(6) == names(0, 6)


def test_what_cannot_be_updated_changes_nothing(house: House, core: Assay) -> None:
    fill(core, 5)
    core.samples.delete(POOL, ["s4"], False, NO_KEY)
    before = pool_of(core).snapshot
    error = refused(Reason.SAMPLE_NOT_FOUND, lambda: tag(core, ["s1", "s4", "s9"], "new"))
    assert error.metadata["id"] == "s4"
    refused(Reason.ATTRIBUTE_TYPE_MISMATCH, lambda: update(core, ["s1"], attributes={"n": texts(["one"])}))
    refused(Reason.UNKNOWN_ATTRIBUTE, lambda: update(core, ["s1"], removed=("m",)))
    refused(Reason.DUPLICATE_ID, lambda: tag(core, ["s1", "s1"], "new"))
    refused(Reason.TOO_LARGE, lambda: update(core, ["s1"], payloads=[b"x" * 70_000]))
    refused(Reason.INVALID_ARGUMENT, lambda: update(core, ["s1"], payloads=[b"{"], payload_media_type="text/json"))
    assert pool_of(core).snapshot is before
    assert overlays(house) == []


def test_a_repeated_update_is_made_once(core: Assay) -> None:
    fill(core, 3)
    update(core, ["s1"], key("u1"), attributes={"tag": texts(["new"])})
    tag(core, ["s1"], "old")
    with pytest.raises(RequestReplayed):
        update(core, ["s1"], key("u1"), attributes={"tag": texts(["new"])})
    assert found(core, TAGGED) == []


def test_a_failed_change_leaves_no_file(house: House, core: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(core, 3)

    def full(*_: object) -> None:
        raise OSError(28, "no space left")

    pool = pool_of(core)
    monkeypatch.setattr(house.store, "open_overlay", lambda *_, **__: full())
    with pytest.raises(OSError, match="no space"):
        tag(core, ["s1"], "new")
    monkeypatch.undo()
    assert overlays(house) == []
    assert pool_of(core) is pool
    assert "tag" not in pool.snapshot.attributes


def test_a_damaged_overlay_takes_its_samples_along_and_no_others(house: House, core: Assay) -> None:
    fill(core, 40, step=10)
    tag(core, ["s1", "s39"], "new")
    tag(core, ["s2"], "new")
    damaged = house.root / overlays(house)[0]
    whole = damaged.read_bytes()
    flip_byte(damaged)
    core = house.open()
    view = core.pools.get(POOL)
    assert [(file.file, file.samples) for file in view.damaged] == [(str(damaged.relative_to(house.root)), 2)]
    assert counts(core) == {"UNLABELED": 38, "DAMAGED": 2}
    refused(Reason.SEGMENT_DAMAGED, lambda: core.samples.get(POOL, "s1"))
    refused(Reason.SEGMENT_DAMAGED, lambda: tag(core, ["s1"], "newer"))
    refused(Reason.SAMPLE_NOT_FOUND, lambda: core.samples.get(POOL, "nobody"))
    assert found(core, TAGGED) == ["s2"]
    merge_all(house, core)
    assert counts(house.open()) == {"UNLABELED": 38, "DAMAGED": 2}, "no merge makes old values true again"
    damaged.write_bytes(whole)
    core = house.open()
    assert found(core, TAGGED) == ["s1", "s2", "s39"]


def test_an_overlay_that_turns_out_damaged_is_put_out_of_service(house: House, core: Assay) -> None:
    fill(core, 40, step=10)
    tag(core, names(0, 9), "new")
    flip_byte(house.root / overlays(house)[0])
    assert house.merger().merge_once(pool_of(core))
    assert counts(core) == {"UNLABELED": 31, "DAMAGED": 9}
    core.samples.delete(POOL, ["s3"], True, NO_KEY)
    add(core, ["s1"], on_conflict=OnConflict.REPLACE)
    assert core.samples.get(POOL, "s1").record.attributes == {}
    core = house.open()
    assert counts(core) == {"UNLABELED": 32, "DAMAGED": 7, "DELETED": 2}
