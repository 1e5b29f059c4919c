"""A caller that leaves while something is computed for it: the work ends, what is done is kept, and others go on."""

import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

from assay.server.adapters.vector_index import BlockedExactSearch
from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.mining.plan import presets
from assay.server.core.models import predictions
from assay.server.core.models.predictions import PredictionCache, Predictions
from assay.server.core.pools.messages import SearchMode, SearchSpec
from assay.server.core.stop import Stop
from assay.strategies import Candidates, Interrupted, Need, NoParams, interruptible
from assay.strategies.testing.examples import StopAfter
from tests.core.kit import POOL, House, fill, in_threads, label_by_sign, make_pool, pool_of, refused, train
from tests.core.mining import COUNT, LABELED, mine

BLOCK = 10


class Counted:
    """A scorer of somebody else's that never asks for a stop: it counts its blocks, and can be held up in one."""

    name: ClassVar[str] = "counted"
    summary: ClassVar[str] = "The first probability."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROBS})
    params: ClassVar[type[NoParams]] = NoParams

    def __init__(self, held_up_in: int = -1) -> None:
        self.blocks: list[int] = []
        self.reached, self.go_on = threading.Event(), threading.Event()
        self._held_up_in = held_up_in

    def score(self, block: Candidates, params: NoParams) -> Any:
        self.blocks.append(block.size)
        if len(self.blocks) == self._held_up_in:
            self.reached.set()
            assert self.go_on.wait(60.0)
        return block.unchecked(Need.LOGITS)[:, 0].copy()


@pytest.fixture
def kept(trained: Assay, monkeypatch: pytest.MonkeyPatch) -> Predictions:
    """Predictions of the pool of 80, none of them computed yet, in blocks of ten."""
    monkeypatch.setattr(predictions, "BLOCK_ROWS", BLOCK)
    cache, snapshot = pool_of(trained).derived.get(PredictionCache), pool_of(trained).snapshot
    cache._kept.clear()
    found = cache.of(snapshot)
    assert found is not None
    return found


def test_a_scorer_that_never_asks_is_stopped_between_blocks(trained: Assay, kept: Predictions) -> None:
    snapshot, scorer = pool_of(trained).snapshot, Counted()
    kept.values(snapshot)
    with pytest.raises(Interrupted), interruptible(StopAfter(3)):
        kept.scores(snapshot, scorer, NoParams(), {})
    assert scorer.blocks == [BLOCK] * 3
    scores_N = kept.scores(snapshot, scorer, NoParams(), {})
    assert scorer.blocks == [BLOCK] * (COUNT // BLOCK), "what was done is not done again"
    np.testing.assert_array_equal(scores_N, kept.values(snapshot)[:, 0])


def test_predictions_that_were_stopped_go_on_where_they_were(trained: Assay, kept: Predictions) -> None:
    snapshot = pool_of(trained).snapshot
    done: list[int] = []
    with pytest.raises(Interrupted), interruptible(lambda: len(done) == 3):
        kept.extend(snapshot, lambda rows, total: done.append(rows))
    assert done == [10, 20, 30]
    done.clear()
    kept.extend(snapshot, lambda rows, total: done.append(rows))
    assert done == [10, 20, 30, 40, 50], "of the 50 that were left"
    fresh = Predictions(kept.source, len(snapshot.pool.class_names), kept._scratch)
    np.testing.assert_array_equal(kept.values(snapshot), fresh.values(snapshot))
    assert kept.complete(snapshot)


def test_who_waits_takes_over_from_who_leaves(trained: Assay, kept: Predictions) -> None:
    snapshot, scorer, left = pool_of(trained).snapshot, Counted(held_up_in=3), Stop()

    def leave() -> None:
        with left.scope():
            kept.scores(snapshot, scorer, NoParams(), {})

    def stay() -> np.ndarray:
        scorer.reached.wait(60.0)
        left.request()
        scorer.go_on.set()
        return kept.scores(snapshot, scorer, NoParams(), {})

    start, join = in_threads([leave, stay])
    start()
    error, scores_N = join()
    assert getattr(error, "reason", None) is Reason.CANCELLED
    np.testing.assert_array_equal(scores_N, kept.values(snapshot)[:, 0])
    assert len(scorer.blocks) == COUNT // BLOCK


def test_who_waits_can_leave_while_another_works(trained: Assay, kept: Predictions) -> None:
    snapshot, scorer = pool_of(trained).snapshot, Counted(held_up_in=1)
    start, join = in_threads([lambda: kept.scores(snapshot, scorer, NoParams(), {})])
    start()
    assert scorer.reached.wait(60.0)
    with pytest.raises(Interrupted), interruptible(StopAfter(1)):
        kept.scores(snapshot, scorer, NoParams(), {})
    scorer.go_on.set()
    assert isinstance(join()[0], np.ndarray)


def test_other_scores_do_not_wait_for_a_slow_scorer(trained: Assay, kept: Predictions) -> None:
    snapshot, scorer = pool_of(trained).snapshot, Counted(held_up_in=1)
    start, join = in_threads([lambda: kept.scores(snapshot, scorer, NoParams(), {})])
    start()
    assert scorer.reached.wait(60.0)
    assert len(mine(trained, 5, "margin").picks) == 5
    scorer.go_on.set()
    join()


@pytest.fixture(scope="module")
def committee(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Assay]:
    """A pool whose head has two members, for all presets."""
    house = House(tmp_path_factory.mktemp("committee"))
    opened = house.open()
    make_pool(opened)
    label_by_sign(opened, fill(opened, COUNT, step=20), LABELED)
    train(opened, members=2)
    yield opened
    house.close()


@pytest.mark.parametrize("preset", [view.name for view in presets.listed(House.registry)])
def test_a_stopped_mine_leaves_no_trace(committee: Assay, preset: str) -> None:
    def picked(stop: StopAfter) -> list[tuple[int, float]]:
        with interruptible(stop):
            result = mine(committee, 9, preset, query=("s1", "s2"), seed=5)
        return [(pick.sample.row, pick.score) for pick in result.picks]

    never = StopAfter(10**9)
    expected = picked(never)
    assert never.asked > 0
    for times in (0, never.asked // 2):
        stop = StopAfter(times)
        try:
            picked(stop)
        except Interrupted:
            continue
        # Waiting for a busy machine asks too: then there were fewer questions this time.
        assert stop.asked <= times
    assert picked(StopAfter(10**9)) == expected


def test_a_deadline_ends_a_mine(trained: Assay) -> None:
    def late() -> None:
        with Stop.after(-1.0).scope():
            mine(trained, 5, "k_center")

    refused(Reason.DEADLINE_EXCEEDED, late)


@pytest.mark.parametrize("mode", [SearchMode.EXACT, SearchMode.AUTO])
def test_a_search_ends(trained: Assay, mode: SearchMode) -> None:
    queries = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
    watched = StopAfter(10**9)
    with interruptible(watched):
        trained.samples.search(POOL, SearchSpec(vectors_QD=queries, k=5, mode=mode))
    assert watched.asked > 200, "at each query's hits, at least"
    stop = StopAfter(20)
    with pytest.raises(Interrupted), interruptible(stop):
        trained.samples.search(POOL, SearchSpec(vectors_QD=queries, k=5, mode=mode))
    assert stop.asked == 21


def test_an_exact_search_ends_between_blocks(trained: Assay) -> None:
    snapshot, exact = pool_of(trained).snapshot, BlockedExactSearch(block_rows=5, block_queries=4)
    queries = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    stop = StopAfter(10)
    with pytest.raises(Interrupted), interruptible(stop):
        exact.search(snapshot.vectors, snapshot.pool.metric, queries, 3, None)
    assert stop.asked == 11
