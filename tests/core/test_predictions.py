"""Where predictions come from, and that growing them equals computing them anew."""

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.mining.messages import MineSpec, ScoreSpec
from assay.server.core.models.messages import PredictSpec
from assay.server.core.models.predictions import PredictionCache
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.filters import Compare
from assay.server.core.records.models import NEWEST, ModelKind
from assay.server.core.records.samples import OnConflict
from tests.core.kit import (
    POOL,
    House,
    add,
    annotate,
    fill,
    in_threads,
    label_by_sign,
    names,
    numbers,
    pool_of,
    probabilities,
    refused,
    train,
    vectors,
)


def scores(core: Assay, **spec: object) -> np.ndarray:
    stream = core.mining.score(POOL, ScoreSpec(**spec))  # type: ignore[arg-type]
    return np.concatenate([scores for _, scores in stream.chunks])


def naive_margin(probs: np.ndarray) -> np.ndarray:
    ordered = np.sort(probs.astype(np.float64), axis=1)
    return 1 - (ordered[:, -1] - ordered[:, -2])


def test_pushed_predictions_serve_where_no_head_exists(core: Assay) -> None:
    probs = probabilities(30)
    fill(core, 30, step=10, predictions_NC=probs)
    result = core.mining.mine(POOL, MineSpec(30), NO_KEY)
    assert result.provenance.source == "pushed"
    expected = np.argsort(-naive_margin(probs), kind="stable")
    assert [pick.sample.row for pick in result.picks] == expected.tolist()
    predicted = core.models.predict(POOL, PredictSpec(ids=("s3", "s20")))
    assert (predicted.source, predicted.head) == ("pushed", "")
    np.testing.assert_allclose(predicted.probs_NC, probs[[3, 20]], atol=1e-6)
    refused(Reason.NEED_MISSING, lambda: core.models.predict(POOL, PredictSpec(embeddings_ND=vectors(1))))


def test_a_head_comes_before_pushed_predictions(core: Assay) -> None:
    probs = probabilities(40)
    embeddings = fill(core, 40, predictions_NC=probs)
    label_by_sign(core, embeddings, 20)
    pushed = scores(core)
    train(core)
    result = core.mining.mine(POOL, MineSpec(5), NO_KEY)
    assert result.provenance.source == "head"
    assert not np.allclose(scores(core), pushed)


@pytest.mark.parametrize("first", [True, False])
def test_candidates_without_a_prediction_are_counted_and_refused(core: Assay, first: bool) -> None:
    """In either order of the batches; a filter leaves them out."""
    for bare in (first, not first):
        number = [0] * 5 if bare else [1] * 5
        ids = [f"{'bare' if bare else 'told'}{i}" for i in range(5)]
        more = {} if bare else {"predictions_NC": probabilities(5)}
        add(core, ids, attributes={"told": numbers(number)}, **more)
    error = refused(Reason.NEED_MISSING, lambda: core.mining.mine(POOL, MineSpec(1), NO_KEY))
    assert error.metadata == {"need": "probs", "strategy": "margin", "missing": "5"}
    result = core.mining.mine(POOL, MineSpec(5, filter=Compare("told", "==", 1)), NO_KEY)
    assert {pick.sample.record.id for pick in result.picks} == {f"told{i}" for i in range(5)}
    refused(Reason.NEED_MISSING, lambda: core.models.predict(POOL, PredictSpec(ids=("bare1", "told1"))))
    picks = core.mining.mine(POOL, MineSpec(5, filter=Compare("told", "==", 1), predictions=1), NO_KEY).picks
    assert all(len(pick.predictions) == 1 for pick in picks)


def test_growing_with_the_pool_equals_computing_anew(house: House, core: Assay) -> None:
    embeddings = fill(core, 40)
    label_by_sign(core, embeddings, 20)
    train(core)
    scores(core)
    for start in range(40, 100, 7):
        ids = names(start, min(100, start + 7))
        add(core, ids, vectors(len(ids), seed=start))
        core.samples.delete(POOL, [ids[0]], False, NO_KEY)
        grown = scores(core)
    anew = scores(house.open())
    np.testing.assert_allclose(grown, anew, atol=1e-6)
    assert len(grown) == 20 + 60 - 9


def test_scores_are_kept_until_the_predictions_change(core: Assay) -> None:
    embeddings = fill(core, 40)
    label_by_sign(core, embeddings, 20)
    train(core)
    first = scores(core)
    kept = pool_of(core).derived.get(PredictionCache).of(pool_of(core).snapshot)
    assert kept is not None
    assert pool_of(core).derived.get(PredictionCache).of(pool_of(core).snapshot) is kept
    annotate(core, {"s20": "cow"})
    np.testing.assert_array_equal(scores(core), first[1:])
    train(core)
    assert pool_of(core).derived.get(PredictionCache).of(pool_of(core).snapshot) is not kept
    assert not np.array_equal(scores(core), first[1:])


def test_an_older_snapshot_keeps_its_length(core: Assay) -> None:
    fill(core, 10, predictions_NC=probabilities(10))
    old = pool_of(core).snapshot
    cache = pool_of(core).derived.get(PredictionCache)
    add(core, ["new"], predictions_NC=probabilities(1, seed=5))
    newer = cache.of(pool_of(core).snapshot)
    assert newer is not None
    assert newer.values(pool_of(core).snapshot).shape == (11, 3)
    assert newer.values(old).shape == (10, 3)
    assert newer.known(old).shape == (10,)


def test_replaced_samples_take_their_new_predictions(core: Assay) -> None:
    fill(core, 5, predictions_NC=probabilities(5))
    scores(core)
    sure = np.array([[0.98, 0.01, 0.01]], np.float32)
    add(core, ["s2"], on_conflict=OnConflict.REPLACE, predictions_NC=sure)
    assert scores(core)[-1] == pytest.approx(1 - 0.97, abs=1e-6)
    assert core.mining.mine(POOL, MineSpec(5), NO_KEY).picks[-1].sample.record.id == "s2"


def test_many_readers_while_the_pool_grows(core: Assay) -> None:
    fill(core, 50, predictions_NC=probabilities(50))

    def read() -> None:
        for _ in range(15):
            found = scores(core)
            np.testing.assert_allclose(found[:50], naive_margin(probabilities(50)), atol=1e-5)

    def write() -> None:
        for number in range(10):
            add(core, [f"t{number}"], predictions_NC=probabilities(1, seed=number))

    start, join = in_threads([read, read, write])
    start()
    assert join() == [None] * 3
    assert len(scores(core)) == 60


def test_large_predictions_live_in_a_file_without_a_name(house: House, core: Assay) -> None:
    """The scratch space holds them beyond a megabyte; nothing is left on disk for a crash to leave behind."""
    many = 100_000
    probs = np.tile(probabilities(1000), (100, 1))
    for start in range(0, many, 50_000):
        add(core, names(start, start + 50_000), vectors(50_000), predictions_NC=probs[:50_000])
    assert len(core.mining.mine(POOL, MineSpec(3), NO_KEY).picks) == 3
    predictions = pool_of(core).derived.get(PredictionCache).of(pool_of(core).snapshot)
    assert predictions is not None
    assert predictions.values(pool_of(core).snapshot).nbytes > 1 << 20
    assert not list((house.root / "scratch").iterdir())


def test_heads_that_are_scored_beside_it_do_not_push_the_serving_one_out(core: Assay) -> None:
    label_by_sign(core, fill(core, 60), 40)
    train(core)
    for _ in range(3):
        train(core, activate=False)
    cache, snapshot = pool_of(core).derived.get(PredictionCache), pool_of(core).snapshot
    serving = cache.of(snapshot)
    others = [model.record for model in core.models.list(POOL, ModelKind.HEAD, NEWEST, 10) if not model.active]
    for record in others:
        head = core.models._activation.load_head(record)
        assert cache.of(snapshot, head) is cache.of(snapshot, head)
    assert cache.of(snapshot) is serving
    assert len(cache._kept) <= 3
