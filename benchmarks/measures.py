"""The measurements, each a function of a running server."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median

import machine
import numpy as np
import workload

from assay.client import Classification, Client, Plan, Shortlist

POOL = "bench"
REPEATS = 5
WORKERS = 8
BATCH = 10
LABELS = 1_000


@dataclass(frozen=True)
class Bench:
    """What every measurement works on."""

    client: Client
    target: str
    vectors_ND: np.ndarray
    classes_N: np.ndarray

    def ids(self, start: int, stop: int) -> list[str]:
        """Ids of rows."""
        return [f"sample-{row:09d}" for row in range(start, stop)]


def ingest(bench: Bench, raw_write_s: float) -> dict[str, float]:
    """All samples through one UploadSamples call; durable when it returns."""
    rows = len(bench.vectors_ND)
    bench.client.create_pool(POOL, task=Classification(workload.class_names()))
    ids = bench.ids(0, rows)
    start = time.perf_counter()
    bench.client.add_samples(POOL, ids, embeddings=bench.vectors_ND)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "rows_per_s": rows / seconds, "ratio_to_raw_write": raw_write_s / seconds}


def swap_and_mine(bench: Bench) -> dict[str, dict[str, float]]:
    """Heads that the server has never served, one after the other: activating one until the whole pool is scored,
    against the bare matrix product; the first Mine(margin, 100) after it, which computes the scores, against the bare
    pass over as many logits; and the next one, which has them."""
    names = workload.class_names()
    labels = {bench.ids(row, row + 1)[0]: names[bench.classes_N[row]] for row in range(LABELS)}
    bench.client.annotate(POOL, labels, "bench")
    logits_NC = np.random.default_rng(1).standard_normal((len(bench.vectors_ND), workload.CLASSES), np.float32) * 3
    swaps, products, firsts, nexts, passes = [], [], [], [], []
    for repeat in range(REPEATS + 1):
        head = bench.client.train_head(POOL, l2=1e-3 * (1 + repeat), activate=False).result(600).name
        swaps.append(_seconds(partial(_activate, bench, head)))
        firsts.append(_seconds(partial(bench.client.mine, POOL, 100, "margin")))
        nexts.append(_seconds(partial(bench.client.mine, POOL, 100, "margin")))
        products.append(machine.matrix_product_seconds(bench.vectors_ND, workload.CLASSES))
        passes.append(machine.margin_pass_seconds(logits_NC, 100))
    # The first round maps the files in and wakes the threads, on both sides.
    swap, product = median(swaps[1:]), median(products[1:])
    first, bare = median(firsts[1:]), median(passes[1:])
    return {
        "head_swap": {
            "seconds": swap,
            "bare_product_seconds": product,
            "ratio": swap / product,
            "first_seconds": swaps[0],
        },
        "mine_margin": {
            "first_seconds": first,
            "next_seconds": median(nexts[1:]),
            "bare_pass_seconds": bare,
            "ratio": first / bare,
        },
    }


def mine_k_center(bench: Bench, shortlist: int) -> dict[str, float]:
    """Mine(k_center, 100) on a shortlist by margin."""
    plan = Plan.preset("margin_k_center", shortlist=Shortlist(size=shortlist))
    result = bench.client.mine(POOL, 100, plan)
    seconds = median(_seconds(lambda: bench.client.mine(POOL, 100, plan)) for _ in range(REPEATS))
    return {"seconds": seconds, **{f"stage_{name}": spent for name, spent in result.timings.items()}}


def next_batch(bench: Bench, calls: int) -> dict[str, float]:
    """NextBatch(10) by 8 workers at once, each releasing nothing: leases pile up as they would."""
    times: list[float] = []
    lock = threading.Lock()

    def work(worker: int) -> None:
        with Client(bench.target) as client:
            client.health()
            spent = [_seconds(lambda: client.next_batch(POOL, f"worker-{worker}", BATCH)) for _ in range(calls)]
        with lock:
            times.extend(spent)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(WORKERS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    return {
        "p50_ms": p50,
        "p99_ms": p99,
        "max_ms": max(times) * 1e3,
        "calls": len(times),
        "calls_per_s": len(times) / elapsed,
    }


@contextmanager
def ingesting(bench: Bench) -> Iterator[dict[str, int]]:
    """A client that adds samples in batches for as long as the block runs."""
    stop = threading.Event()
    added = {"rows": 0}

    def work() -> None:
        rows, start = len(bench.vectors_ND), 0
        with Client(bench.target) as client:
            while not stop.is_set():
                block = np.arange(start, start + 5_000) % rows
                ids = [f"late-{row:09d}" for row in range(start, start + 5_000)]
                client.add_samples(POOL, ids, embeddings=bench.vectors_ND[block])
                start += 5_000
                added["rows"] = start

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield added
    finally:
        stop.set()
        thread.join()


def wait_for_quiet(bench: Bench, seconds: float) -> None:
    """Waits until merging and indexing have come to rest, at most so long."""
    end = time.perf_counter() + seconds
    before = -1
    while time.perf_counter() < end:
        pool = bench.client.get_pool(POOL)
        if not pool.index.building and pool.segments == before:
            return
        before = pool.segments
        time.sleep(3)


def _activate(bench: Bench, head: str) -> None:
    bench.client.activate_model(head).result(600)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
