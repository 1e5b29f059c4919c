"""Twenty minutes of work of 64 people: what the server keeps in memory and in its catalog does not grow."""

import asyncio
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from assay.client.testing import ServerProcess
from tests.fuzz.run import environment, memory_kib
from tests.soak.load import WORKERS, Load

SECONDS = environment("ASSAY_SOAK_SECONDS", 1_200)
# Until then caches fill, and what is kept for a time has not run out yet.
WARM_SHARE = 0.3
LOOK_SECONDS = 2.0
# What is still called flat: arrays and pages come and go with the moment that is looked at.
MEMORY_GROWTH, CATALOG_GROWTH = 1.05, 1.10
# Rows are never given twice, and this load replaces its samples all the time: what a row takes in the columns of a pool
# that has a head of three classes, for the snapshot in service and the one before it.
ROW_BYTES = 64
# What people say is kept for ever, of samples that are gone too: what a request of ten events takes in the log.
SAYING, SAID_BYTES = ("Annotate", "ReleaseLease"), 160
MIB = 1 << 20
# Short, so that within the run as much is forgotten as is remembered.
RETENTION = {"keep_requests": 5_000, "keep_leases_seconds": 60, "keep_operations_seconds": 60, "keep_heads": 5}


@dataclass(frozen=True)
class Look:
    """What the server took at a moment of the monotonic clock, in bytes."""

    at: float
    memory: int
    catalog: int


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 900)
def test_twenty_minutes_leave_nothing_behind(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, log_level="warning", quiet_seconds=0, **RETENTION)
    server.start()
    looks: list[Look] = []
    done = threading.Event()
    try:
        load = Load(server.target, 0.0)
        asyncio.run(load.fill())
        begin, end = time.monotonic(), time.monotonic() + SECONDS
        load = Load(server.target, end)
        watcher = threading.Thread(target=_watch, args=(server, looks, done))
        watcher.start()
        try:
            asyncio.run(load.run())
        finally:
            done.set()
            watcher.join()
        with server.client() as client:
            assert client.health() == "SERVING"
        _judge(load, looks, begin, end)
        assert server.stop() == 0
    finally:
        server.kill()


def _watch(server: ServerProcess, looks: list[Look], done: threading.Event) -> None:
    while not done.wait(LOOK_SECONDS):
        catalog = sum(_size(path) for path in server.data_dir.glob("catalog.db*"))
        looks.append(Look(time.monotonic(), memory_kib(server.pid) << 10, catalog))


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _judge(load: Load, looks: list[Look], begin: float, end: float) -> None:
    """Prints the figures, and holds memory and catalog to what is called flat."""
    warm = begin + WARM_SHARE * (end - begin)
    middle = (warm + end) / 2
    early, late = [look for look in looks if warm <= look.at < middle], [look for look in looks if look.at >= middle]
    seen = load.seen
    say(f"\n{seen.requests:,} requests of {WORKERS} workers in {end - begin:,.0f} s")
    say(f"failed: {dict(seen.failed) or 'none'}")
    for kind in sorted(seen.calls):
        first, second = (seen.milliseconds(kind, *span, 0.5) for span in ((warm, middle), (middle, end)))
        first_p99, second_p99 = (seen.milliseconds(kind, *span, 0.99) for span in ((warm, middle), (middle, end)))
        say(
            f"{kind}: p50 {first:.1f} ms, then {second:.1f} ms ({second / first:.2f}x); "
            f"p99 {first_p99:.1f} ms, then {second_p99:.1f} ms ({second_p99 / first_p99:.2f}x)"
        )
    memory = [median(look.memory for look in part) for part in (early, late)]
    catalog = [median(look.catalog for look in part) for part in (early, late)]
    added = _counted_by(load.seen.rows, late) - _counted_by(load.seen.rows, early)
    saying = sorted((at, 1) for kind in SAYING for at, _ in seen.calls[kind])
    said = _counted_by(saying, late) - _counted_by(saying, early)
    share = sum(1 for calls in seen.calls.values() for at, _ in calls if at >= warm) / 2
    per_10k = (catalog[1] - catalog[0]) / MIB / max(share, 1) * 10_000
    say(
        f"memory of its own: {memory[0] / MIB:,.0f}, then {memory[1] / MIB:,.0f} MiB ({memory[1] / memory[0]:.3f}x), "
        f"{added:,.0f} rows more between, which take {added * ROW_BYTES / MIB:,.0f} MiB",
        f"catalog: {catalog[0] / MIB:,.1f} MiB, then {catalog[1] / MIB:,.1f} MiB ({catalog[1] / catalog[0]:.3f}x), "
        f"{per_10k:+.2f} MiB per 10,000 requests; what {said:,.0f} requests said between takes "
        f"{said * SAID_BYTES / MIB:,.1f} MiB",
    )
    assert not seen.failed, seen.failed
    assert memory[1] - added * ROW_BYTES <= memory[0] * MEMORY_GROWTH
    assert catalog[1] - said * SAID_BYTES <= catalog[0] * CATALOG_GROWTH


def _counted_by(counts: list[tuple[float, int]], looks: list[Look]) -> float:
    """The sum of counts until a look, on average over some looks."""
    moments, each = zip(*counts, strict=True)
    return float(np.interp([look.at for look in looks], moments, np.cumsum(each)).mean())


def say(*lines: str) -> None:
    """Shows progress where output is not captured."""
    print(*lines, sep="\n", flush=True)  # noqa: T201 - make soak shows it
