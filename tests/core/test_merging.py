"""Merging changes files, and nothing that a reader can see."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError
from assay.server.core.mining.messages import MineSpec
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.models.messages import PredictSpec
from assay.server.core.pools import merging
from assay.server.core.pools.messages import SearchSpec
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.filters import Compare
from assay.server.core.records.samples import OnConflict
from assay.strategies import Interrupted, interruptible
from assay.strategies.testing.examples import StopAfter
from tests.core.kit import (
    POOL,
    House,
    activate,
    add,
    annotate,
    batch,
    counts,
    fill,
    flip_byte,
    in_threads,
    names,
    next_batch,
    numbers,
    pool_of,
    probabilities,
    refused,
    upload,
    vectors,
    with_inputs,
)
from tests.models.onnx_factory import linear_embedder


def merge_all(house: House, core: Assay, segment_bytes: int = 1 << 28, pool: str = POOL) -> int:
    """Merges until nothing is left to merge; returns how often."""
    merger, times = house.merger(segment_bytes), 0
    while merger.merge_once(pool_of(core, pool)):
        times += 1
    return times


def seen(core: Assay) -> list[object]:
    """All that readers see of a pool."""
    snapshot = pool_of(core).snapshot
    views, _ = core.samples.list(POOL, None, (), -1, 10_000, True)
    rows = np.array([view.row for view in views])
    return [
        views,
        counts(core),
        snapshot.gather(rows).tolist(),
        core.samples.list(POOL, Compare("n", ">=", 5), (), -1, 10_000, False),
        core.annotations.labels(POOL, "", "", -1, 1000),
        core.labeling.leases(POOL, "", 0, 1000),
        core.mining.mine(POOL, MineSpec(5, Plan(preset="random")), NO_KEY).picks,
        core.samples.search(POOL, SearchSpec(vectors_QD=vectors(2, seed=9), k=7)).hits,
        [core.samples.get(POOL, view.record.id).row for view in views],
    ]


def test_many_small_batches_become_few_files(house: House, core: Assay) -> None:
    fill(core, 60, step=3, predictions_NC=probabilities(60), uris=[f"file:{i}" for i in range(60)])
    annotate(core, {"s3": "ant", "s40": "bee"})
    next_batch(core, 4)
    core.samples.delete(
        POOL, [view.record.id for view in core.samples.list(POOL, None, (), 50, 3, False)[0]], True, NO_KEY
    )
    before = seen(core)
    probs = core.models.predict(POOL, PredictSpec(ids=("s7", "s33"))).probs_NC
    assert core.pools.get(POOL).segments == 40
    assert merge_all(house, core) == 2
    assert core.pools.get(POOL).segments == 2
    assert len(house.files()) == 2, "the old ones are gone from the disk"
    assert seen(core) == before
    np.testing.assert_array_equal(core.models.predict(POOL, PredictSpec(ids=("s7", "s33"))).probs_NC, probs)
    assert merge_all(house, core) == 0
    after_restart = house.open()
    # Those merged away are remembered no longer, and counted no more.
    before[1] = {name: count for name, count in counts(core).items() if name != "DELETED"}
    assert seen(after_restart) == before


def test_deleted_rows_leave_the_files(house: House, core: Assay) -> None:
    fill(core, 20, step=2)
    core.samples.delete(POOL, names(3, 9), False, NO_KEY)
    merge_all(house, core)
    snapshot = pool_of(core).snapshot
    kept = [row for row in range(20) if not 3 <= row < 9]
    assert snapshot.samples[0].rows_N.tolist() == kept
    assert snapshot.vectors[0].rows_N.tolist() == kept
    with house.catalog.reading() as tx:
        assert tx.deleted_rows(snapshot.pool.uid).tolist() == []
    add(core, ["s4"])
    assert core.samples.get(POOL, "s4").row == 20


def test_a_pool_of_deleted_rows_only_keeps_no_file(house: House, core: Assay) -> None:
    fill(core, 10, step=2)
    core.samples.delete(POOL, names(0, 10), False, NO_KEY)
    merge_all(house, core)
    assert house.files() == set()
    core = house.open()
    assert counts(core) == {}
    fill(core, 3)
    assert core.samples.get(POOL, "s0").row == 10, "rows are never given out again"


def test_a_snapshot_from_before_is_still_readable(house: House, core: Assay) -> None:
    embeddings = fill(core, 12, step=2)
    old = pool_of(core).snapshot
    core.samples.delete(POOL, ["s5"], False, NO_KEY)
    merge_all(house, core)
    np.testing.assert_array_equal(old.gather(np.arange(12)), embeddings)
    assert [view.record.payload.decode() for view in old.describe(np.arange(12), payload=True)] == names(0, 12)
    assert old.find(["s5"]).tolist() == [5]


def test_rows_deleted_while_files_were_merged_stay_deleted(house: House, core: Assay) -> None:
    fill(core, 12, step=2)
    pool, merger = pool_of(core), house.merger()
    stale = pool.snapshot
    core.samples.delete(POOL, ["s5"], False, NO_KEY)
    merger._merge_samples(pool, stale, list(stale.samples))
    assert pool.snapshot.samples[0].file.count == 12, "the merge did not know of it"
    refused("SAMPLE_NOT_FOUND", lambda: core.samples.get(POOL, "s5"))
    core = house.open()
    refused("SAMPLE_NOT_FOUND", lambda: core.samples.get(POOL, "s5"))
    assert counts(core)["UNLABELED"] == 11


def test_no_merge_writes_a_large_file_again_for_a_few_small_ones(house: House, core: Assay) -> None:
    add(core, names(0, 2000), payloads=[b"x" * 100] * 2000)
    for number in range(5):
        add(core, [f"late{number}"])
    merge_all(house, core)
    assert [segment.file.count for segment in pool_of(core).snapshot.samples] == [2000, 5]


def test_a_trickle_of_batches_is_not_rewritten_at_every_merge(house: House, core: Assay) -> None:
    """The rows written again grow as N log N, not as N squared."""
    pool, merger, rewritten = pool_of(core), house.merger(), 0
    for number in range(32):
        add(core, [f"s{number}"], payloads=[b"x" * 5000])
        old = {segment.file.file for segment in pool.snapshot.samples}
        while merger.merge_once(pool):
            rewritten += sum(s.file.count for s in pool.snapshot.samples if s.file.file not in old)
            old = {segment.file.file for segment in pool.snapshot.samples}
    assert len(pool.snapshot.samples) < 12
    assert 0 < rewritten < 32 * np.log2(32)


def test_files_of_types_that_differ_are_left_apart(house: House, core: Assay, tmp_path: Path) -> None:
    upload(core, linear_embedder(tmp_path / "m.onnx", features=5), "m")
    activate(core, "m")
    for kind in (np.float32, np.float64):
        for number in range(4):
            inputs = {"features": vectors(1, number, 5).astype(kind)}
            core.samples.add(POOL, batch([f"{kind.__name__}{number}"], inputs=inputs), OnConflict.ERROR, NO_KEY)
    merge_all(house, core)
    assert [segment.file.count for segment in pool_of(core).snapshot.samples] == [4, 4]
    assert [segment.file.count for segment in pool_of(core).snapshot.vectors] == [8]


def test_attributes_that_only_some_files_have_stay_with_their_samples(house: House, core: Assay) -> None:
    for number in range(2):
        add(core, [f"a{number}"], attributes={"n": numbers([number])})
        add(core, [f"b{number}"])
    merge_all(house, core)
    assert core.pools.get(POOL).segments == 2
    assert core.samples.get(POOL, "a1").record.attributes == {"n": 1}
    assert core.samples.get(POOL, "b1").record.attributes == {}


def test_pushed_vectors_beside_those_with_logits_do_not_stop_merging(house: House, core: Assay, tmp_path: Path) -> None:
    path = linear_embedder(tmp_path / "m.onnx", features=5, dimension=4, classes=3)
    upload(core, path, "m", logits_output="logits")
    activate(core, "m")
    for number in range(5):
        core.samples.add(POOL, with_inputs([f"i{number}"], number), OnConflict.ERROR, NO_KEY)
    for number in range(5):
        add(core, [f"p{number}"], vectors(1, seed=number))
    merge_all(house, core)
    assert [segment.logits_NC is None for segment in pool_of(core).snapshot.vectors] == [False, True]


def test_merging_under_ingest_deletion_and_labels(house: House, core: Assay) -> None:
    fill(core, 40, step=2)
    stop: list[bool] = []

    def ingest() -> None:
        for number in range(40, 70, 2):
            add(core, names(number, number + 2), attributes={"n": numbers([number, number + 1])})

    def label() -> None:
        for number in range(20):
            annotate(core, {f"s{number}": "ant"})

    def delete() -> None:
        for number in range(20, 40):
            core.samples.delete(POOL, [f"s{number}"], False, NO_KEY)

    def merge() -> None:
        merger = house.merger()
        while not stop:
            merger.merge_once(pool_of(core))

    calls: list[Callable[[], None]] = [ingest, label, delete]
    start, join = in_threads(calls)
    start_merging, join_merging = in_threads([merge])
    start_merging()
    start()
    results = join()
    stop.append(True)
    assert [*results, *join_merging()] == [None] * 4
    for again in range(2):
        opened = house.open() if again else core
        merge_all(house, opened)
        views, _ = opened.samples.list(POOL, None, (), -1, 1000, False)
        assert [view.record.id for view in views] == [*names(0, 20), *names(40, 70)]
        assert [view.label for view in views] == ["ant"] * 20 + [None] * 30
        snapshot = pool_of(opened).snapshot
        rows = np.array([view.row for view in views])
        assert np.isfinite(snapshot.gather(rows)).all()
        for segments in (snapshot.samples, snapshot.vectors):
            assert np.concatenate([segment.rows_N for segment in segments]).tolist() == sorted(
                row for segment in segments for row in segment.rows_N.tolist()
            )


def test_a_damaged_source_is_set_aside_and_the_rest_merged(house: House, core: Assay) -> None:
    fill(core, 12, step=2)
    file = pool_of(core).snapshot.samples[2].file.file
    flip_byte(house.root / file)
    merger = house.merger()
    assert merger.merge_once(pool_of(core))
    view = core.pools.get(POOL)
    assert [damage.file for damage in view.damaged] == [file]
    assert counts(core) == {"UNLABELED": 10, "DAMAGED": 2}
    while merger.merge_once(pool_of(core)):
        pass
    error = refused("SEGMENT_DAMAGED", lambda: core.samples.get(POOL, "s4"))
    assert file in error.message
    assert core.samples.get(POOL, "s11").record.payload == b"s11"
    assert len(core.mining.mine(POOL, MineSpec(10, Plan(preset="random")), NO_KEY).picks) == 10


@pytest.mark.parametrize("kind", ["samples", "vectors"])
def test_a_merge_whose_pool_went_away_leaves_no_file(house: House, core: Assay, kind: str) -> None:
    fill(core, 12, step=2)
    pool, merger = pool_of(core), house.merger()
    stale = pool.snapshot
    core.pools.delete(POOL, NO_KEY)
    merge: Callable[[], None] = (
        partial(merger._merge_samples, pool, stale, list(stale.samples))
        if kind == "samples"
        else partial(merger._merge_vectors, pool, stale, list(stale.vectors))
    )
    with pytest.raises(AssayError):
        merge()
    assert house.files() == set()


def test_a_backlog_of_files_is_merged_in_parts(house: House, core: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "MAX_RUN", 6)
    embeddings = fill(core, 20, step=1)
    merger, pool = house.merger(), pool_of(core)
    assert merger.merge_once(pool)
    assert [segment.file.count for segment in pool.snapshot.samples] == [6] + [1] * 14
    while merger.merge_once(pool):
        pass
    assert len(pool.snapshot.samples) < 8
    np.testing.assert_array_equal(pool.snapshot.gather(np.arange(20)), embeddings)


@pytest.mark.parametrize("times", [0, 3, 6])
def test_a_stopped_merge_changes_nothing(house: House, core: Assay, times: int) -> None:
    fill(core, 40, step=10, predictions_NC=probabilities(40))
    before, files = seen(core), house.files()
    stop = StopAfter(times)
    with pytest.raises(Interrupted), interruptible(stop):
        house.merger().merge_once(pool_of(core))
    assert stop.asked == times + 1
    assert seen(core) == before
    assert house.files() == files
    assert merge_all(house, core)
    assert seen(core) == before
