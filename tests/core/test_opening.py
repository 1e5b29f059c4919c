"""What was there before a restart is there after it; what is damaged is named, and the rest served."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason, RequestReplayed
from assay.server.core.mining.messages import MineSpec
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.models.messages import PredictSpec
from assay.server.core.pools.messages import SearchSpec
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.pools import State
from assay.server.core.records.samples import OnConflict
from tests.core.kit import (
    POOL,
    House,
    add,
    annotate,
    counts,
    done,
    fill,
    flip_byte,
    label_by_sign,
    labels_of,
    make_pool,
    model_id_of,
    names,
    next_batch,
    pool_of,
    receive,
    refused,
    set_state,
    standing,
    train,
    vectors,
    with_inputs,
)
from tests.models.onnx_factory import linear_embedder

RANDOM = Plan(preset="random")


def file_of(core: Assay, kind: str, number: int) -> str:
    snapshot = pool_of(core).snapshot
    return (snapshot.samples if kind == "samples" else snapshot.vectors)[number].file.file


def background(core: Assay):  # type: ignore[no-untyped-def]
    return core._upkeep


def test_everything_is_there_after_a_restart(house: House, core: Assay) -> None:
    embeddings = fill(core, 60, step=20)
    label_by_sign(core, embeddings, 12)
    taken = next_batch(core, 5)
    core.labeling.release(
        POOL,
        taken.lease.record.lease_id,
        taken.lease.record.fencing_token,
        [taken.lease.sample_ids[0]],
        "",
        True,
        NO_KEY,
    )
    core.samples.delete(POOL, ["s59"] if "s59" not in taken.lease.sample_ids else ["s58"], False, NO_KEY)
    head = train(core)
    before, labels = standing(core), labels_of(core)
    picks = core.mining.mine(POOL, MineSpec(10), NO_KEY).picks
    core = house.open()
    assert standing(core) == before
    assert labels_of(core) == labels
    assert core.models.get(POOL, head).active
    assert core.mining.mine(POOL, MineSpec(10), NO_KEY).picks == picks
    assert add(core, ["new"]).epoch == before[0].epoch + 1  # type: ignore[attr-defined]
    assert core.samples.get(POOL, "new").row == 60


def test_an_empty_pool_comes_back(house: House, core: Assay) -> None:
    before = standing(core)
    assert standing(house.open()) == before


def test_leftovers_of_a_crash_are_swept(house: House, core: Assay) -> None:
    fill(core, 4)
    kept = house.files()
    uid = pool_of(core).snapshot.pool.uid
    for name in ("samples/samples-000000000004-aa.arrow", "samples/x.tmp", "models/m.model", "../99/samples/y.arrow"):
        path = house.root / "pools" / str(uid) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half a file")
    core = house.open()
    assert house.files() == kept
    assert counts(core) == {"UNLABELED": 4}


@pytest.mark.parametrize("later", ["batch", "pool"])
def test_an_older_catalog_loses_no_files_of_what_came_later(
    house: House, core: Assay, later: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(core, 4)
    core.close()
    older = (house.root / "catalog.db").read_bytes()
    core = house.open()
    if later == "batch":
        for start in (4, 8):
            add(core, names(start, start + 4))
    else:
        make_pool(core, "new")
        add(core, names(0, 4), pool="new")
    written = {file: (house.root / file).read_bytes() for file in house.files()}
    house.close()
    newer = (house.root / "catalog.db").read_bytes()
    (house.root / "catalog.db").write_bytes(older)
    core = house.open()
    assert "the catalog is older than the data directory" in caplog.text
    assert counts(core) == {"UNLABELED": 4}
    house.close()
    # The way back that the operator is told.
    shutil.copytree(house.root / "swept" / "pools", house.root / "pools", dirs_exist_ok=True)
    (house.root / "catalog.db").write_bytes(newer)
    core = house.open()
    assert {file: (house.root / file).read_bytes() for file in house.files()} == written
    assert counts(core, "new" if later == "pool" else POOL) == {"UNLABELED": 4 if later == "pool" else 12}


def test_a_deletion_that_a_crash_cut_off_is_swept(house: House, core: Assay) -> None:
    make_pool(core, "new")
    add(core, names(0, 4), pool="new")
    left = {file: (house.root / file).read_bytes() for file in house.files()}
    core.pools.delete("new", NO_KEY)
    house.close()
    for file, content in left.items():
        (house.root / file).parent.mkdir(parents=True, exist_ok=True)
        (house.root / file).write_bytes(content)
    house.open()
    assert house.files() == set()
    assert not (house.root / "swept").exists()


@pytest.mark.parametrize("kind", ["samples", "vectors"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_file_is_named_and_the_rest_served(house: House, core: Assay, kind: str, harm: str) -> None:
    embeddings = fill(core, 30, step=10)
    annotate(core, {"s12": "ant", "s3": "bee"})
    core.samples.delete(POOL, ["s14"], False, NO_KEY)
    file = file_of(core, kind, 1)
    path = house.root / file
    house.close()
    if harm == "flip":
        flip_byte(path)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
    core = house.open()
    (damage,) = core.pools.get(POOL).damaged
    assert (damage.file, damage.samples) == (file, 10)
    assert file in damage.reason
    assert counts(core) == {"UNLABELED": 19, "LABELED": 1, "DELETED": 1, "DAMAGED": 9}
    error = refused(Reason.SEGMENT_DAMAGED, lambda: core.samples.get(POOL, "s11"))
    assert error.metadata == {"id": "s11", "files": file}
    refused(Reason.SEGMENT_DAMAGED, lambda: annotate(core, {"s12": "ant"}))
    assert core.samples.get(POOL, "s25").record.payload == b"s25"
    assert core.samples.get(POOL, "s3").label == "bee"
    picks = core.mining.mine(POOL, MineSpec(19, RANDOM), NO_KEY).picks
    assert not {pick.sample.row for pick in picks} & set(range(10, 20))
    hits = core.samples.search(POOL, SearchSpec(vectors_QD=embeddings[11:12], k=30)).hits[0]
    assert len(hits) == 20
    refused(Reason.POOL_EXHAUSTED, lambda: core.mining.mine(POOL, MineSpec(20, RANDOM), NO_KEY))


def test_a_restored_file_is_served_again_with_its_labels(house: House, core: Assay) -> None:
    fill(core, 20, step=10)
    annotate(core, {"s12": "ant"})
    before = standing(core)
    path = house.root / file_of(core, "samples", 1)
    content = path.read_bytes()
    house.close()
    flip_byte(path)
    assert counts(house.open())["DAMAGED"] == 10
    house.close()
    path.write_bytes(content)
    core = house.open()
    assert standing(core) == before
    assert core.samples.get(POOL, "s12").label == "ant"


def test_labels_of_a_damaged_file_do_not_hide_those_behind_it(house: House, core: Assay) -> None:
    fill(core, 30, step=10)
    annotate(core, dict.fromkeys(names(0, 30), "ant"))
    path = house.root / file_of(core, "samples", 1)
    house.close()
    flip_byte(path)
    core = house.open()
    page = core.annotations.labels(POOL, "", "", 7, 5)
    assert [label.sample_id for label in page] == ["s8", "s9", "s20", "s21", "s22"]
    assert len(labels_of(core)) == 20


def test_lost_samples_can_be_added_again(house: House, core: Assay) -> None:
    fill(core, 20, step=10)
    path = house.root / file_of(core, "vectors", 1)
    house.close()
    flip_byte(path)
    core = house.open()
    assert add(core, names(10, 20), on_conflict=OnConflict.REPLACE).replaced == 10
    assert counts(core) == {"UNLABELED": 20, "DELETED": 10}
    assert core.samples.get(POOL, "s15").row == 25


def test_rows_merged_away_are_not_reported_as_damaged(house: House, core: Assay) -> None:
    """A vectors file may still hold rows whose samples are gone for good."""
    fill(core, 12, step=2)
    core.samples.delete(POOL, names(2, 8), False, NO_KEY)
    pool = pool_of(core)
    assert house.merger().merge_once(pool)
    assert len(pool.snapshot.samples) == 1
    paths = [house.root / file_of(core, "vectors", number) for number in (1, 4)]
    house.close()
    for path in paths:
        flip_byte(path)
    core = house.open()
    assert counts(core) == {"UNLABELED": 4, "DAMAGED": 2}


def test_leased_samples_of_a_damaged_file_stay_out_of_service(house: House, core: Assay) -> None:
    fill(core, 20, step=10)
    taken = next_batch(core, 20, ttl=60.0)
    path = house.root / file_of(core, "vectors", 1)
    house.close()
    flip_byte(path)
    core = house.open()
    assert counts(core) == {"LEASED": 10, "DAMAGED": 10}
    house.clock.advance(61)
    core.tick()
    assert counts(core) == {"UNLABELED": 10, "DAMAGED": 10}
    assert len(next_batch(core, 20, plan=RANDOM).picks) == 10
    refused(Reason.LEASE_EXPIRED, lambda: annotate(core, {"s1": "ant"}, taken))


def test_releasing_a_lease_leaves_damaged_samples_out_of_service(house: House, core: Assay) -> None:
    fill(core, 20, step=10)
    record = next_batch(core, 20).lease.record
    path = house.root / file_of(core, "samples", 0)
    house.close()
    flip_byte(path)
    core = house.open()
    core.labeling.release(POOL, record.lease_id, record.fencing_token, [], "", False, NO_KEY)
    assert counts(core) == {"UNLABELED": 10, "DAMAGED": 10}
    assert len(core.mining.mine(POOL, MineSpec(10, RANDOM), NO_KEY).picks) == 10


@pytest.mark.parametrize("kind", ["samples", "vectors"])
def test_what_is_not_read_at_start_is_read_behind(house: House, core: Assay, kind: str) -> None:
    fill(core, 20, step=10)
    next_batch(core, 3, ttl=60.0)
    path = house.root / file_of(core, kind, 1)
    house.close()
    # A payload or a number: nothing that opening the file looks at.
    content = bytearray(path.read_bytes())
    place = content.rindex(b"s17") if kind == "samples" else content.rindex(vectors(20)[17].tobytes())
    content[place] ^= 0x01
    path.write_bytes(content)
    core = house.with_limits(verify_bytes=0).open()
    assert core.pools.get(POOL).damaged == ()
    assert sum(counts(core).values()) == 20
    for _ in range(4):
        assert background(core).tidy()
    assert [damage.file for damage in core.pools.get(POOL).damaged] == [str(path.relative_to(house.root))]
    assert counts(core)["DAMAGED"] == 10
    refused(Reason.SEGMENT_DAMAGED, lambda: core.samples.get(POOL, "s17"))
    house.clock.advance(61)
    core.tick()
    assert counts(core) == {"UNLABELED": 10, "DAMAGED": 10}
    assert not background(core).tidy()


def test_a_file_that_went_away_before_it_was_read_is_no_damage(
    house: House, core: Assay, caplog: pytest.LogCaptureFixture
) -> None:
    make_pool(core, "other")
    fill(core, 4)
    fill(core, 4, pool="other")
    core = house.with_limits(verify_bytes=0).open()
    core.pools.delete("other", NO_KEY)
    for _ in range(4):
        assert background(core).tidy()
    assert not background(core).tidy()
    assert core.pools.get(POOL).damaged == ()
    assert not caplog.records


def test_a_damaged_head_is_named_and_the_pool_served_without_it(house: House, core: Assay) -> None:
    embeddings = fill(core, 20)
    label_by_sign(core, embeddings, 10)
    head = train(core)
    file = core.models.get(POOL, head).record.file
    house.close()
    flip_byte(house.root / file)
    core = house.open()
    assert [damage.file for damage in core.pools.get(POOL).damaged] == [file]
    refused(Reason.NEED_MISSING, lambda: core.mining.mine(POOL, MineSpec(1), NO_KEY))
    refused(Reason.SEGMENT_DAMAGED, lambda: core.models.predict(POOL, PredictSpec(ids=("s1",), head=head)))
    assert len(core.mining.mine(POOL, MineSpec(10, RANDOM), NO_KEY).picks) == 10
    fresh = train(core)
    assert core.models.get(POOL, fresh).active
    assert len(core.mining.mine(POOL, MineSpec(3), NO_KEY).picks) == 3


def test_a_damaged_backbone_is_named_and_the_pool_served_without_it(house: House, core: Assay, tmp_path: Path) -> None:
    """A single flipped bit, which ONNX Runtime would not notice."""
    make_pool(core, "embedding")
    content = Path(linear_embedder(tmp_path / "m.onnx", features=5, dimension=4)).read_bytes()
    receive(core, content, "backbone", pool="embedding")
    done(core, core.models.activate("embedding", "backbone", NO_KEY, model_id_of))
    core.samples.add("embedding", with_inputs(names(0, 20)), OnConflict.ERROR, NO_KEY)
    file = core.models.get("embedding", "backbone").record.file
    house.close()
    flip_byte(house.root / file)
    core = house.open()
    (damage,) = core.pools.get("embedding").damaged
    assert damage.file == file
    assert "not what was stored" in damage.reason
    refused(Reason.NO_BACKBONE, lambda: core.samples.add("embedding", with_inputs(["x"]), OnConflict.ERROR, NO_KEY))
    refused(Reason.NO_BACKBONE, lambda: core.models.predict("embedding", fresh_inputs()))
    assert len(core.mining.mine("embedding", MineSpec(10, RANDOM), NO_KEY).picks) == 10
    operation = core.models.activate("embedding", "backbone", NO_KEY, model_id_of)
    assert core.operations.wait(operation.record.operation_id, 60).record.error_reason == Reason.SEGMENT_DAMAGED
    receive(core, content, "again", pool="embedding")
    done(core, core.models.activate("embedding", "again", NO_KEY, model_id_of))
    core.samples.add("embedding", with_inputs(["x"]), OnConflict.ERROR, NO_KEY)


def fresh_inputs() -> PredictSpec:
    """Inputs to embed."""
    return PredictSpec(inputs={"features": vectors(2, 0, 5)}, embeddings=True)


def test_requests_are_remembered_for_a_time(house: House, core: Assay) -> None:
    from tests.core.kit import key

    add(core, ["a"], request=key("r1"))
    house.clock.advance(house.limits.keep_requests_s - 1)
    core = house.open()
    assert not core.retention.forget()
    with pytest.raises(RequestReplayed):
        add(core, ["a"], request=key("r1"))
    house.clock.advance(2)
    assert core.retention.forget()
    refused(Reason.SAMPLE_EXISTS, lambda: add(core, ["a"], request=key("r1")))


def test_states_after_a_restart_are_those_of_the_catalog(house: House, core: Assay) -> None:
    fill(core, 5)
    record = next_batch(core, 5).lease.record
    core.labeling.release(POOL, record.lease_id, record.fencing_token, ["s0", "s1", "s4"], "", True, NO_KEY)
    set_state(core, "include", ["s0"])
    annotate(core, {"s0": "ant"})
    core.samples.delete(POOL, ["s1"], False, NO_KEY)
    core = house.open()
    assert pool_of(core).snapshot.states.array.tolist() == [
        State.LABELED,
        State.DELETED,
        State.LEASED,
        State.LEASED,
        State.EXCLUDED,
    ]


def test_two_restarts_in_a_row_change_nothing_on_disk(house: House, core: Assay) -> None:
    fill(core, 10, step=2)
    files = {file: Path(house.root, file).read_bytes() for file in house.files()}
    house.open()
    core = house.open()
    assert {file: Path(house.root, file).read_bytes() for file in house.files()} == files
    np.testing.assert_array_equal(pool_of(core).snapshot.gather(np.arange(10)), vectors(10))


@pytest.mark.parametrize("kind", ["samples", "vectors"])
def test_a_restored_file_comes_back_whole_after_its_neighbours_were_merged(
    house: House, core: Assay, kind: str
) -> None:
    fill(core, 24, step=2)
    segments = getattr(pool_of(core).snapshot, kind)
    path = house.root / segments[5].file.file
    whole = path.read_bytes()
    core.close()
    flip_byte(path)
    core = house.open()
    merger = house.merger()
    while merger.merge_once(pool_of(core)):
        pass
    assert len(getattr(pool_of(core).snapshot, kind)) == 2  # one before the damaged file, one behind it
    core.close()
    path.write_bytes(whole)
    core = house.open()
    assert core.pools.get(POOL).damaged == ()
    assert counts(core) == {"UNLABELED": 24}
    assert [view.record.id for view in core.samples.list(POOL, None, (), -1, 100, False)[0]] == names(0, 24)
    assert len(next_batch(core, 24).picks) == 24


def test_a_catalog_that_is_not_its_own_empties_no_directory(house: House, core: Assay) -> None:
    fill(core, 4)
    core.close()
    files = house.files()
    catalog = house.root / "catalog.db"
    catalog.rename(house.root / "kept.db")
    error = refused("STORAGE_FAILED", house.open)
    assert "belongs to another catalog" in error.message
    assert house.files() == files
    house.catalog.close()
    for made in house.root.glob("catalog.db*"):
        made.unlink()
    (house.root / "kept.db").rename(catalog)
    assert counts(house.open()) == {"UNLABELED": 4}
