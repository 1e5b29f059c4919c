"""The current model: trained, swapped, rolled back, filled beside; a failed or cancelled try changes nothing."""

import threading
from pathlib import Path

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.mining.messages import MineSpec
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.models import predictions
from assay.server.core.models.messages import PredictSpec, TrainSpec
from assay.server.core.operations.service import Task
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.ports.segments import VectorSegment
from assay.server.core.records.models import NEWEST, ModelKind
from assay.server.core.records.operations import OperationRecord
from assay.server.core.records.samples import OnConflict, SegmentFile
from tests.core.kit import (
    POOL,
    House,
    activate,
    add,
    annotate,
    counts,
    done,
    fill,
    in_threads,
    label_by_sign,
    make_pool,
    model_id_of,
    names,
    pool_of,
    receive,
    refused,
    standing,
    train,
    upload,
    vectors,
    with_inputs,
)
from tests.models.onnx_factory import linear_embedder, weights_of


@pytest.fixture
def graphs(tmp_path: Path) -> dict[str, str]:
    """Two backbones of other dimensions, and one with logits."""
    folder = tmp_path / "graphs"
    folder.mkdir()
    return {
        "one": linear_embedder(folder / "one.onnx", features=5, dimension=3, seed=1),
        "two": linear_embedder(folder / "two.onnx", features=5, dimension=6, seed=2),
        "logits": linear_embedder(folder / "logits.onnx", features=5, dimension=4, classes=3, seed=3),
    }


def ingest(core: Assay, start: int, stop: int) -> None:
    core.samples.add(POOL, with_inputs(names(start, stop), start), OnConflict.ERROR, NO_KEY)


def features(start: int, stop: int) -> np.ndarray:
    return vectors(stop - start, start, 5)


def with_backbone(core: Assay, graphs: dict[str, str], name: str = "one", count: int = 30) -> None:
    """A pool that a backbone has embedded, in batches of ten."""
    upload(core, graphs[name], name, logits_output="logits" if name == "logits" else "")
    activate(core, name)
    for start in range(0, count, 10):
        ingest(core, start, start + 10)


def embedded(core: Assay, count: int) -> np.ndarray:
    return pool_of(core).snapshot.gather(np.arange(count))


def test_a_space_whose_files_are_replaced_while_it_is_looked_at_is_opened_as_it_is_then(
    house: House, core: Assay, graphs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a request has opened the files of a space that the catalog named, the space is the pool's, and they are
    merged."""
    with_backbone(core, graphs, count=60)
    upload(core, graphs["two"], "two")
    activate(core, "two")
    pool = pool_of(core)
    before = pool.snapshot
    record = core.models.get(POOL, "one").record
    activate(core, "one")
    opening = house.store.open_vectors
    merges = iter([house.merger().merge_once])

    def overtaken(file: SegmentFile, *, verify: bool) -> VectorSegment:
        for merge in merges:
            while merge(pool):
                pass
        return opening(file, verify=verify)

    monkeypatch.setattr(house.store, "open_vectors", overtaken)
    named = {segment.file.file for segment in pool.snapshot.vectors}
    core.models._activation.check(before, record)
    assert not named & {segment.file.file for segment in pool.snapshot.vectors}


# --- heads -------------------------------------------------------------------------------------------------------


def test_a_trained_head_serves_the_pool(core: Assay) -> None:
    embeddings = fill(core, 60)
    label_by_sign(core, embeddings, 30)
    operation = core.models.train(POOL, TrainSpec("first", activate=True), NO_KEY, model_id_of)
    assert not operation.record.error_reason
    head = done(core, operation).record.response.decode()
    view = core.models.get(POOL, head)
    assert view.active
    assert (view.record.kind, view.record.display_name) == (ModelKind.HEAD, "first")
    assert core.pools.get(POOL).record.head == head
    result = core.models.predict(POOL, PredictSpec(ids=tuple(names(30, 60)), embeddings=True))
    assert (result.source, result.head, result.space) == ("head", head, "space-1")
    assert result.probs_NC is not None
    np.testing.assert_allclose(result.probs_NC.sum(axis=1), 1, atol=1e-5)
    right = (result.probs_NC.argmax(axis=1) == (embeddings[30:, 0] <= 0)).mean()
    assert right > 0.8
    np.testing.assert_array_equal(result.embeddings_ND, embeddings[30:])
    fresh = core.models.predict(POOL, PredictSpec(embeddings_ND=embeddings[30:]))
    np.testing.assert_allclose(fresh.probs_NC, result.probs_NC, atol=1e-6)


def test_a_head_that_is_not_activated_waits(core: Assay) -> None:
    embeddings = fill(core, 30)
    label_by_sign(core, embeddings, 20)
    head = train(core, activate=False)
    assert not core.models.get(POOL, head).active
    refused(Reason.NEED_MISSING, lambda: core.mining.mine(POOL, MineSpec(1), NO_KEY))
    assert core.models.predict(POOL, PredictSpec(ids=("s1",), head=head)).head == head
    activate(core, head)
    assert core.mining.mine(POOL, MineSpec(1), NO_KEY).provenance.head == head


def test_heads_are_swapped_and_rolled_back(house: House, core: Assay) -> None:
    embeddings = fill(core, 40)
    label_by_sign(core, embeddings, 10)
    first = train(core)
    before = core.mining.mine(POOL, MineSpec(5), NO_KEY).picks
    annotate(core, {f"s{i}": "cow" for i in range(10, 20)})
    second = train(core)
    assert [(view.record.model_id, view.active) for view in core.models.list(POOL, None, NEWEST, 10)] == [
        (second, True),
        (first, False),
    ]
    assert [
        view.record.model_id
        for view in core.models.list(POOL, ModelKind.HEAD, core.models.get(POOL, second).record.number, 10)
    ] == [first]
    assert core.models.list(POOL, ModelKind.BACKBONE, NEWEST, 10) == []
    done(core, core.models.rollback(POOL, ModelKind.HEAD, NO_KEY, model_id_of))
    assert core.pools.get(POOL).record.head == first
    still = [pick for pick in before if pick.sample.row >= 20]
    again = core.mining.mine(POOL, MineSpec(20), NO_KEY).picks
    scores = {pick.sample.row: pick.score for pick in again}
    assert all(scores[pick.sample.row] == pytest.approx(pick.score, abs=1e-6) for pick in still)
    core = house.open()
    assert core.pools.get(POOL).record.head == first
    done(core, core.models.rollback(POOL, ModelKind.HEAD, NO_KEY, model_id_of))
    assert core.pools.get(POOL).record.head == second


def test_an_active_model_is_not_deleted(house: House, core: Assay) -> None:
    embeddings = fill(core, 30)
    label_by_sign(core, embeddings, 20)
    first, second = train(core), train(core, seed=1)
    refused(Reason.MODEL_ACTIVE, lambda: core.models.delete(POOL, second, NO_KEY))
    files = house.files()
    core.models.delete(POOL, first, NO_KEY)
    assert len(house.files()) == len(files) - 1
    refused(Reason.MODEL_NOT_FOUND, lambda: core.models.get(POOL, first))
    refused(Reason.NOTHING_TO_ROLL_BACK, lambda: core.models.rollback(POOL, ModelKind.HEAD, NO_KEY, model_id_of))


def test_a_committee_is_trained_when_asked(core: Assay) -> None:
    embeddings = fill(core, 40)
    label_by_sign(core, embeddings, 30)
    train(core, members=3)
    head = pool_of(core).snapshot.head
    assert head is not None
    assert head.weights.weights_KDC.shape == (3, 4, 3)


# --- backbones ---------------------------------------------------------------------------------------------------


def test_a_backbone_embeds_inputs_and_fresh_ones_alike(core: Assay, graphs: dict[str, str]) -> None:
    with_backbone(core, graphs, count=10)
    expected = features(0, 10) @ weights_of(graphs["one"])["W"]
    np.testing.assert_allclose(embedded(core, 10), expected, atol=1e-5)
    assert core.pools.get(POOL).record.dimension == 3
    fresh = core.models.predict(POOL, PredictSpec(inputs={"features": features(0, 10)}, embeddings=True))
    np.testing.assert_allclose(fresh.embeddings_ND, expected, atol=1e-5)
    assert (fresh.probs_NC, fresh.source) == (None, "none")


def test_a_new_backbone_embeds_the_pool_beside_and_swaps(house: House, core: Assay, graphs: dict[str, str]) -> None:
    with_backbone(core, graphs)
    old = pool_of(core).snapshot
    core.samples.delete(POOL, ["s3"], False, NO_KEY)
    upload(core, graphs["two"], "two")
    activate(core, "two")
    kept = [row for row in range(30) if row != 3]
    all_features = np.concatenate([features(start, start + 10) for start in (0, 10, 20)])
    for opened in (core, None):
        opened = opened or house.open()
        snapshot = pool_of(opened).snapshot
        expected = (all_features @ weights_of(graphs["two"])["W"])[kept]
        np.testing.assert_allclose(snapshot.gather(np.array(kept)), expected, atol=1e-5)
        assert (snapshot.pool.space, snapshot.pool.backbone, snapshot.pool.dimension) == ("space-3", "two", 6)
        assert counts(opened) == {"UNLABELED": 29, "DELETED": 1}
    assert old.gather(np.arange(30)).shape == (30, 3), "who began before goes on with the old space"


def test_going_back_to_a_space_brings_its_head_and_embeds_what_is_new(core: Assay, graphs: dict[str, str]) -> None:
    with_backbone(core, graphs)
    label_by_sign(core, embedded(core, 30), 20)
    head = train(core)
    upload(core, graphs["two"], "two")
    activate(core, "two")
    assert core.pools.get(POOL).record.head == ""
    refused(Reason.NEED_MISSING, lambda: core.mining.mine(POOL, MineSpec(1), NO_KEY))
    refused(Reason.MODEL_SPACE_MISMATCH, lambda: core.models.activate(POOL, head, NO_KEY, model_id_of))
    refused(Reason.MODEL_SPACE_MISMATCH, lambda: core.models.predict(POOL, PredictSpec(ids=("s1",), head=head)))
    refused(Reason.NOTHING_TO_ROLL_BACK, lambda: core.models.rollback(POOL, ModelKind.HEAD, NO_KEY, model_id_of))
    ingest(core, 30, 40)
    done(core, core.models.rollback(POOL, ModelKind.BACKBONE, NO_KEY, model_id_of))
    record = core.pools.get(POOL).record
    assert (record.backbone, record.space, record.dimension, record.head) == ("one", "space-2", 3, head)
    expected = features(30, 40) @ weights_of(graphs["one"])["W"]
    np.testing.assert_allclose(embedded(core, 40)[30:], expected, atol=1e-5)
    assert len(core.mining.mine(POOL, MineSpec(20), NO_KEY).picks) == 20


def test_pushed_embeddings_come_into_the_space_only_with_its_dimension(core: Assay, graphs: dict[str, str]) -> None:
    with_backbone(core, graphs, count=10)
    refused(Reason.DIMENSION_MISMATCH, lambda: add(core, ["p"], vectors(1, dimension=4)))
    add(core, ["p"], vectors(1, dimension=3))
    upload(core, graphs["two"], "two")
    before = standing(core)
    error = refused(Reason.INPUTS_NOT_KEPT, lambda: core.models.activate(POOL, "two", NO_KEY, model_id_of))
    assert error.message.startswith("1 samples")
    assert standing(core) == before


def test_inputs_that_were_not_kept_cannot_be_embedded_again(core: Assay, graphs: dict[str, str]) -> None:
    make_pool(core, "lean", keep_inputs=False)
    for name in ("one", "two"):
        content = Path(graphs[name]).read_bytes()
        receive(core, content, name, pool="lean")
    done(core, core.models.activate("lean", "one", NO_KEY, model_id_of))
    core.samples.add("lean", with_inputs(names(0, 5)), OnConflict.ERROR, NO_KEY)
    refused(Reason.INPUTS_NOT_KEPT, lambda: core.models.activate("lean", "two", NO_KEY, model_id_of))
    assert core.pools.get("lean").record.backbone == "one"


def test_logits_of_the_backbone_serve_where_no_head_is(core: Assay, graphs: dict[str, str]) -> None:
    with_backbone(core, graphs, "logits", 10)
    weights = weights_of(graphs["logits"])
    logits = features(0, 10) @ weights["W"] @ weights["V"]
    result = core.models.predict(POOL, PredictSpec(ids=tuple(names(0, 10))))
    assert result.source == "backbone"
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(result.probs_NC, shares / shares.sum(axis=1, keepdims=True), atol=1e-5)
    assert core.mining.mine(POOL, MineSpec(2), NO_KEY).provenance.source == "backbone"
    fresh = core.models.predict(POOL, PredictSpec(inputs={"features": features(0, 10)}))
    np.testing.assert_allclose(fresh.probs_NC, result.probs_NC, atol=1e-5)


def test_logits_of_other_classes_are_refused_at_upload(house: House, core: Assay, graphs: dict[str, str]) -> None:
    path = linear_embedder(Path(graphs["one"]).with_name("five.onnx"), features=5, classes=5)
    files = house.files()
    error = refused(Reason.MODEL_INVALID, lambda: upload(core, path, "five", logits_output="logits"))
    assert "5 classes" in error.message
    assert house.files() == files
    assert core.models.list(POOL, None, NEWEST, 10) == []


def test_a_model_id_is_taken_once(house: House, core: Assay, graphs: dict[str, str]) -> None:
    upload(core, graphs["one"], "one")
    files = house.files()
    refused(Reason.MODEL_EXISTS, lambda: upload(core, graphs["two"], "one"))
    assert house.files() == files
    start, join = in_threads([lambda: upload(core, graphs["two"], "two")] * 3)
    start()
    outcomes = sorted(str(getattr(result, "reason", "stored")) for result in join())
    assert outcomes == ["MODEL_EXISTS", "MODEL_EXISTS", "stored"]
    activate(core, "two")


def test_deleting_a_backbone_frees_the_files_of_its_space(house: House, core: Assay, graphs: dict[str, str]) -> None:
    with_backbone(core, graphs)
    upload(core, graphs["two"], "two")
    activate(core, "two")
    refused(Reason.MODEL_ACTIVE, lambda: core.models.delete(POOL, "two", NO_KEY))
    core.models.delete(POOL, "one", NO_KEY)
    assert not [file for file in house.files() if "/one" in file or "/space-2/" in file]
    refused(Reason.NOTHING_TO_ROLL_BACK, lambda: core.models.rollback(POOL, ModelKind.BACKBONE, NO_KEY, model_id_of))
    core = house.open()
    assert counts(core) == {"UNLABELED": 30}
    assert core.pools.get(POOL).record.backbone == "two"


class StoppedAfter(Task):
    """An operation that is cancelled once it has done so much."""

    def __init__(self, done: int) -> None:
        super().__init__(OperationRecord("test", "activate_model", 1, POOL, 0.0))
        self._most = done

    def report(self, stage: str, done: int, total: int) -> None:
        super().report(stage, done, total)
        if done >= self._most:
            self.stop()


@pytest.mark.parametrize("done_before", [10, 20, 30])
def test_a_cancelled_activation_changes_nothing(
    house: House, core: Assay, graphs: dict[str, str], done_before: int
) -> None:
    with_backbone(core, graphs)
    label_by_sign(core, embedded(core, 30), 20)
    head = train(core)
    upload(core, graphs["two"], "two")
    pool, task = pool_of(core), StoppedAfter(done_before)
    record = core.models.get(POOL, "two").record
    refused(Reason.CANCELLED, lambda: core.models._activation.run(pool, record, task))
    assert task.view.progress.total == 30
    for opened in (core, house.open()):
        after = pool_of(opened).snapshot
        assert (after.pool.backbone, after.pool.space, after.pool.head) == ("one", "space-2", head)
        assert after.gather(np.arange(30)).shape == (30, 3)
        core = opened
    files = {file for file in house.files() if "/space-3/" in file}
    assert len(files) == done_before // 10, "what is done is kept for the next try"
    activate(core, "two")
    assert files < house.files()
    assert embedded(core, 30).shape == (30, 6)


def test_a_cancelled_head_swap_changes_nothing(core: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "BLOCK_ROWS", 10)
    embeddings = fill(core, 40, step=10)
    label_by_sign(core, embeddings, 20)
    first, second = train(core), train(core, activate=False, seed=1)
    record = core.models.get(POOL, second).record
    task = StoppedAfter(10)

    def swap() -> None:
        with task.scope():
            core.models._activation.run(pool_of(core), record, task)

    refused(Reason.CANCELLED, swap)
    assert task.view.progress.done == 10, "of 40: the rest is left alone"
    assert core.pools.get(POOL).record.head == first
    activate(core, second)
    assert core.mining.mine(POOL, MineSpec(3), NO_KEY).provenance.head == second


def test_a_backbone_activated_twice_at_once_embeds_each_sample_once(core: Assay, graphs: dict[str, str]) -> None:
    with_backbone(core, graphs)
    upload(core, graphs["two"], "two")
    operations = [core.models.activate(POOL, "two", NO_KEY, model_id_of) for _ in range(3)]
    for operation in operations:
        done(core, operation)
    rows = np.concatenate([segment.rows_N for segment in pool_of(core).snapshot.vectors])
    assert rows.tolist() == list(range(30))


def test_a_model_deleted_while_it_is_activated_does_not_become_active(
    house: House, core: Assay, graphs: dict[str, str]
) -> None:
    with_backbone(core, graphs)
    upload(core, graphs["two"], "two")
    pool = pool_of(core)
    filled = threading.Event()
    gate = pool.ingest_lock

    class Gate:
        def __enter__(self) -> None:
            filled.set()
            gate.acquire()

        def __exit__(self, *_: object) -> None:
            gate.release()

    pool.ingest_lock = Gate()  # type: ignore[assignment]
    with gate:
        operation = core.models.activate(POOL, "two", NO_KEY, model_id_of)
        assert filled.wait(60)
        core.models.delete(POOL, "two", NO_KEY)
    ended = core.operations.wait(operation.record.operation_id, 60)
    assert ended.record.error_reason == Reason.MODEL_NOT_FOUND
    core = house.open()
    assert core.pools.get(POOL).record.backbone == "one"
    assert embedded(core, 30).shape == (30, 3)
    assert not [file for file in house.files() if "/two" in file or "/space-3/" in file]


def test_another_version_under_the_id_of_one_that_is_activated_does_not_take_its_place(
    core: Assay, graphs: dict[str, str]
) -> None:
    with_backbone(core, graphs)
    upload(core, graphs["two"], "two")
    pool = pool_of(core)
    with pool.ingest_lock:
        operation = core.models.activate(POOL, "two", NO_KEY, model_id_of)
        while not pool_vectors(core, "space-3"):
            core.operations.wait(operation.record.operation_id, 0.01)
        core.models.delete(POOL, "two", NO_KEY)
        upload(core, graphs["two"], "two")
    ended = core.operations.wait(operation.record.operation_id, 60)
    assert ended.record.error_reason == Reason.MODEL_NOT_FOUND
    assert core.models.get(POOL, "two").record.space == "space-4"
    activate(core, "two")
    assert embedded(core, 30).shape == (30, 6)


def pool_vectors(core: Assay, space: str) -> int:
    """Vectors that the catalog names of a space."""
    pool = pool_of(core)
    with pool._catalog.reading() as tx:
        return sum(file.count for file in tx.segments(pool.snapshot.pool.uid) if file.space == space)


@pytest.mark.parametrize("model_id", ["pushed", "space-1", "space-2"])
def test_no_name_of_a_model_touches_pushed_embeddings(
    house: House, core: Assay, graphs: dict[str, str], model_id: str
) -> None:
    pushed = fill(core, 20, step=10)
    before = house.files()
    upload(core, graphs["one"], model_id)
    assert core.models.get(POOL, model_id).record.space == "space-2"
    refused(Reason.INPUTS_NOT_KEPT, lambda: core.models.activate(POOL, model_id, NO_KEY, model_id_of))
    core.models.delete(POOL, model_id, NO_KEY)
    assert house.files() == before
    core = house.open()
    assert core.pools.get(POOL).damaged == ()
    assert (embedded(core, 20) == pushed).all()


def test_a_space_is_never_given_again(core: Assay, graphs: dict[str, str]) -> None:
    with_backbone(core, graphs)
    label_by_sign(core, embedded(core, 30), 20)
    train(core)
    upload(core, graphs["two"], "two")
    activate(core, "two")
    head = train(core)
    activate(core, "one")
    core.models.delete(POOL, "two", NO_KEY)
    upload(core, graphs["two"], "two")
    activate(core, "two")
    assert core.pools.get(POOL).record.space == "space-4"
    refused(Reason.MODEL_SPACE_MISMATCH, lambda: core.models.activate(POOL, head, NO_KEY, model_id_of))


def test_samples_added_while_the_pool_is_embedded_are_not_missed(core: Assay, graphs: dict[str, str]) -> None:
    with_backbone(core, graphs)
    upload(core, graphs["two"], "two")
    start, join = in_threads([lambda: [ingest(core, first, first + 5) for first in range(30, 60, 5)]])
    start()
    activate(core, "two")
    assert not isinstance(join()[0], Exception)
    snapshot = pool_of(core).snapshot
    assert sorted(np.concatenate([segment.rows_N for segment in snapshot.vectors]).tolist()) == list(range(60))
    weights = weights_of(graphs["two"])["W"]
    np.testing.assert_allclose(snapshot.gather(np.arange(55, 60)), features(55, 60) @ weights, atol=1e-5)


def test_plans_that_need_no_model_outlive_a_swap(core: Assay, graphs: dict[str, str]) -> None:
    with_backbone(core, graphs)
    before = core.mining.mine(POOL, MineSpec(5, Plan(preset="random")), NO_KEY).picks
    upload(core, graphs["two"], "two")
    activate(core, "two")
    assert core.mining.mine(POOL, MineSpec(5, Plan(preset="random")), NO_KEY).picks == before


def test_an_upload_sent_again_is_not_embedded_again(core: Assay, graphs: dict[str, str]) -> None:
    with_backbone(core, graphs, count=10)
    again = core.samples.add(POOL, with_inputs(names(0, 10)), OnConflict.SKIP, NO_KEY)
    assert (again.added, again.skipped) == (0, 10)
    assert "embed" not in dict(again.timings)
    partly = core.samples.add(POOL, with_inputs(names(5, 15)), OnConflict.SKIP, NO_KEY)
    assert (partly.added, partly.skipped) == (5, 5)
    assert "embed" in dict(partly.timings)
    weights = weights_of(graphs["one"])["W"]
    np.testing.assert_allclose(embedded(core, 15)[10:], features(0, 10)[5:] @ weights, atol=1e-5)
