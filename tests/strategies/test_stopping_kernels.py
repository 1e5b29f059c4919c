"""What a stop ends: no block runs after it, nobody waits behind somebody else's work, and nothing is half done."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from assay.strategies import Interrupted, checkpoint, interruptible, select
from assay.strategies.composition.seals import Frontier
from assay.strategies.interrupt import holding
from assay.strategies.kernels import tensors
from assay.strategies.kernels.clustering import kmeans
from assay.strategies.kernels.search import nearest, within
from assay.strategies.kernels.tensors import alone, spread
from assay.strategies.testing.examples import StopAfter

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(3000, 8)).astype(np.float32)


class Blocks:
    """A task that counts its blocks."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def __call__(self, start: int, stop: int) -> None:
        self.done.append(start)


@pytest.mark.parametrize("allowed", [0, 1, 7, 40])
def test_no_block_runs_after_the_stop(allowed):
    blocks = Blocks()
    with pytest.raises(Interrupted), interruptible(StopAfter(allowed)):
        spread(blocks, 1000, 1)
    # Each was preceded by a question that was answered with no; one is asked before them all.
    assert len(blocks.done) <= max(0, allowed - 1)
    after = len(blocks.done)
    spread(Blocks(), 1000, 1)
    assert len(blocks.done) == after


def test_a_stop_reaches_blocks_of_a_sequence():
    blocks = Blocks()
    with pytest.raises(Interrupted), interruptible(StopAfter(5)):
        alone(lambda: spread(blocks, 1000, 1))
    assert len(blocks.done) < 5


def test_a_block_can_ask_by_itself():
    def block(start: int, stop: int) -> None:
        for _ in range(1000):
            checkpoint()

    stop = StopAfter(100)
    with pytest.raises(Interrupted), interruptible(stop):
        spread(block, 4, 1)
    assert stop.asked < 200


def test_all_blocks_run_without_a_stop():
    blocks = Blocks()
    with interruptible(StopAfter(10**9)):
        spread(blocks, 1000, 3)
    assert sorted(blocks.done) == list(range(0, 1000, 3))


def test_the_first_failing_block_is_told_of_and_the_rest_is_left():
    done = []

    def block(start: int, stop: int) -> None:
        if start >= 3:
            raise ValueError(start)
        done.append(start)

    with pytest.raises(ValueError, match=r"^3$"):
        spread(block, 1000, 1)
    assert sorted(done) == [0, 1, 2]


def occupied(submit) -> tuple[threading.Event, threading.Thread, threading.Semaphore]:
    """Work that keeps all threads busy until the event is set."""
    busy, release = threading.Semaphore(0), threading.Event()

    def block(start: int, stop: int) -> None:
        busy.release()
        release.wait(60.0)

    thread = threading.Thread(target=submit, args=(block,))
    thread.start()
    return release, thread, busy


def test_who_waits_behind_blocks_of_others_can_leave():
    threads = tensors._pools.get().threads
    release, thread, busy = occupied(lambda block: spread(block, 100 * threads, 1))
    try:
        for _ in range(threads):
            assert busy.acquire(timeout=60.0)
        # What others can be behind of is a few blocks for each thread, however many are to come.
        assert tensors._pools.get().blocks._work_queue.qsize() <= 3 * threads
        blocks = Blocks()
        with pytest.raises(Interrupted), interruptible(StopAfter(2)):
            spread(blocks, 10, 1)
        assert blocks.done == []
        assert not release.is_set()
    finally:
        release.set()
        thread.join()


def test_a_short_sequence_does_not_wait_for_long_ones():
    release = threading.Event()
    threads = [threading.Thread(target=alone, args=(lambda: release.wait(60.0),)) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        assert alone(lambda: 7) == 7
        assert not release.is_set()
    finally:
        release.set()
        for thread in threads:
            thread.join()


def test_a_lock_is_waited_for_only_until_the_stop():
    lock = threading.Lock()
    with lock, pytest.raises(Interrupted), interruptible(StopAfter(1)), holding(lock):
        pass
    with holding(lock):
        assert lock.locked()
    assert not lock.locked()


def parts_of(result) -> tuple[np.ndarray, ...]:
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize(
    "run",
    [
        lambda: nearest(POINTS, POINTS, 5, exclude_self=True),
        lambda: within(POINTS, POINTS, 1.0),
        lambda: kmeans(POINTS, 50, seed=1).assignment_N,
        lambda: select("k_center", size=200, embeddings=POINTS).indices,
        lambda: select("facility_location", size=50, embeddings=POINTS, memory_gib=0.001).indices,
        lambda: select("max_herding", size=50, embeddings=POINTS, neighbors=20).indices,
        lambda: select("discriminative", size=50, embeddings=POINTS).indices,
        lambda: select("typiclust", size=50, embeddings=POINTS).indices,
        lambda: select("log_det", size=50, embeddings=POINTS, labeled_embeddings=POINTS[:300]).indices,
    ],
)
def test_results_are_the_same_with_a_stop_and_after_one(run):
    plain = run()
    watched = StopAfter(10**9)
    with interruptible(watched):
        again = run()
    with pytest.raises(Interrupted), interruptible(StopAfter(1)):
        run()
    for found in (again, run()):
        for left, right in zip(parts_of(plain), parts_of(found), strict=True):
            np.testing.assert_array_equal(left, right)


def test_a_frontier_that_was_stopped_goes_on_where_it_was():
    asked: list[int] = []

    def search(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        return np.stack([rows, rows + 1], axis=1)

    frontier, labeled = Frontier(2), np.arange(0, 7000, 2)
    with pytest.raises(Interrupted), interruptible(StopAfter(2)):
        frontier.candidates(labeled, search)
    assert asked == labeled[:2000].tolist()
    assert frontier.candidates(labeled, search).tolist() == list(range(7000))
    assert asked == labeled.tolist(), "nothing is searched for twice"
    assert frontier.candidates(labeled[:2000], search).tolist() == list(range(4000))
