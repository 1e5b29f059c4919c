"""Who is next where many pools share few threads."""

import random
from collections import Counter

import pytest

from assay.server.core.fair_queue import Bounds, FairQueue, QueueFull


def _queue(**bounds):
    return FairQueue(Bounds(**{"threads": 2, "spare": 2, "per_pool": 2, "queue": 3, "queue_in_all": 5, **bounds}))


def _all(queue):
    taken = []
    while (item := queue.take()) is not None:
        taken.append(item)
    return taken


def test_a_pool_has_its_turns_in_order():
    queue = _queue(threads=1, spare=0)
    for item in ("a1", "a2"):
        queue.put("a", item)
    assert _all(queue) == ["a1"]
    queue.done("a")
    assert _all(queue) == ["a2"]
    assert (queue.waiting, queue.running) == (0, 1)


def test_pools_take_turns_however_much_one_of_them_has():
    queue = _queue(threads=1, spare=0)
    for item in ("a1", "a2", "a3"):
        queue.put("a", item)
    queue.put("b", "b1")
    taken = []
    for pool in ("a", "b", "a", "a"):
        taken += _all(queue)
        queue.done(pool)
    assert taken == ["a1", "b1", "a2", "a3"]


def test_a_pool_with_nothing_running_never_waits_for_others():
    queue = _queue()
    for item in ("a1", "a2", "a3"):
        queue.put("a", item)
    assert _all(queue) == ["a1", "a2"]  # both threads
    queue.put("b", "b1")
    queue.put("b", "b2")
    queue.put("c", "c1")
    assert _all(queue) == ["b1", "c1"]  # a spare one each, and b's second waits as everybody's does
    queue.put("d", "d1")
    assert _all(queue) == []  # there are no more spare ones
    queue.done("a")
    assert _all(queue) == ["d1"]


def test_work_of_a_pool_that_must_not_run_beside_itself_leaves_threads_to_others():
    queue = _queue(per_pool=1)
    queue.put("a", "a1")
    queue.put("a", "a2")
    assert _all(queue) == ["a1"]
    queue.put("b", "b1")
    assert _all(queue) == ["b1"]


def test_a_full_queue_of_a_pool_leaves_room_to_others():
    queue = _queue(threads=1, spare=0)
    queue.put("a", "a1")
    assert _all(queue) == ["a1"]
    for item in range(3):
        queue.put("a", item)
    with pytest.raises(QueueFull):
        queue.put("a", "too many")
    for item in ("b1", "b2"):
        queue.put("b", item)
    with pytest.raises(QueueFull):  # five wait in all
        queue.put("b", "b3")
    queue.put("c", "the first of a pool")
    queue.put("a", "goes on with what was begun", bounded=False)
    assert queue.waiting == 7


def test_without_a_queue_only_what_may_start_is_taken():
    queue = _queue(queue=0, spare=0)
    for item in ("a1", "a2"):
        queue.put("a", item)
        assert _all(queue) == [item]
    with pytest.raises(QueueFull):
        queue.put("b", "b1")


def test_what_waits_can_be_taken_out_and_what_runs_cannot():
    queue = _queue(threads=1, spare=0)
    queue.put("a", "a1")
    assert queue.take() == "a1"
    queue.put("a", "a2")
    assert not queue.remove("a", "a1")
    assert not queue.remove("b", "a2")
    assert queue.remove("a", "a2")
    assert not queue.remove("a", "a2")
    queue.put("b", "b1")
    assert queue.clear() == ["b1"]
    assert (queue.waiting, queue.running) == (0, 1)


def test_bounds_hold_whatever_comes():
    rng, queue = random.Random(0), _queue()
    running, waiting = Counter(), Counter()
    for index in range(5000):
        pool = rng.choice("abcdef")
        match rng.randrange(4):
            case 0 | 1:
                try:
                    queue.put(pool, (pool, index))
                except QueueFull:
                    assert waiting[pool]
                else:
                    waiting[pool] += 1
            case 2:
                if (item := queue.take()) is not None:
                    waiting[item[0]] -= 1
                    running[item[0]] += 1
            case _:
                if running[pool]:
                    running[pool] -= 1
                    queue.done(pool)
        assert (queue.waiting, queue.running) == (waiting.total(), running.total())
        assert queue.running <= queue.bounds.most
        assert max(running.values(), default=0) <= queue.bounds.per_pool
        assert max(waiting.values(), default=0) <= queue.bounds.queue
