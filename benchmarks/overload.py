"""Three hundred heavy callers on one pool, and what everybody else feels of them: `make overload`.

A pool of 200,000 x 128 gets 300 whole-pool selections at once. Meanwhile health is asked and another pool's worker
takes batches; then all 300 leave, and it is seen how long the server goes on working for nobody.
"""

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
import numpy as np
import workload
from rich.console import Console
from serving import ServerProcess, cpu_seconds

from assay.client import AssayError, AsyncClient, Classification, Client, RetryPolicy

console = Console(stderr=True)
CLASSES = [f"class {index}" for index in range(10)]
# Whole-pool selections, each of which would take from seconds to minutes here.
HEAVY = ("k_center", "facility_location", "badge", "typiclust", "log_det", "kmeans_pp")
PAUSE_SECONDS = 0.02
IDLE_CORES = 0.1
WATCH_SECONDS = 60.0
MIB = 1 << 20


@dataclass
class Felt:
    """Milliseconds that calls took, and how those went that failed."""

    ms: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def at(self, share: float) -> float:
        """The time within which a share of the calls ended."""
        return float(np.quantile(self.ms, share)) if self.ms else float("nan")

    def figures(self) -> dict[str, Any]:
        """For the report."""
        times = {"calls": len(self.ms), "p50_ms": self.at(0.5), "p99_ms": self.at(0.99), "max_ms": self.at(1.0)}
        return {**times, "failed": dict(self.failed)}


def main() -> None:
    """Runs it and prints the table."""
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="assay-overload-", dir=arguments.scratch))
    server = ServerProcess(folder / "data")
    try:
        server.start()
        _fill(server.target, arguments.rows)
        results = asyncio.run(_measure(server, arguments))
        results["memory"] = server.memory()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "overload.json").write_text(json.dumps(results, indent=2) + "\n")
    table = _table(results)
    (arguments.out / "overload.md").write_text(table)
    print(table)


def _fill(target: str, rows: int) -> None:
    with Client(target, timeout=600) as client:
        for pool, count in (("big", rows), ("small", 2_000)):
            console.log(f"filling {pool}: {count:,} x 128")
            vectors_ND, classes_N = workload.embeddings(count, 128)
            ids = [f"s{index}" for index in range(count)]
            client.create_pool(pool, task=Classification(CLASSES))
            client.add_samples(pool, ids, embeddings=vectors_ND)
            client.annotate(pool, {ids[i]: CLASSES[int(classes_N[i]) % len(CLASSES)] for i in range(500)}, "ann")
            client.train_head(pool, l2=0.01).result(timeout=300)


async def _measure(server: ServerProcess, arguments: argparse.Namespace) -> dict[str, Any]:
    async with AsyncClient(server.target, timeout=120, retry=RetryPolicy(attempts=1)) as client:
        console.log("idle")
        idle = await _probe(client, arguments.seconds)
        before = server.private_bytes()
        console.log(f"{arguments.callers} heavy callers")
        heavy = [asyncio.create_task(_mine(server.target, number)) for number in range(arguments.callers)]
        await asyncio.sleep(0.5)
        busy = await _probe(client, arguments.seconds)
        outcomes = Counter(task.result() if task.done() else "still waiting" for task in heavy)
        console.log("all of them leave")
        for task in heavy:
            task.cancel()
        await asyncio.gather(*heavy, return_exceptions=True)
        quiet = await _seconds_until_quiet(server)
        after = await _probe(client, 5.0)
    return {
        "machine": machine.describe(),
        "rows": arguments.rows,
        "callers": arguments.callers,
        "idle": {name: felt.figures() for name, felt in idle.items()},
        "busy": {name: felt.figures() for name, felt in busy.items()},
        "after": {name: felt.figures() for name, felt in after.items()},
        "outcomes": dict(outcomes),
        "quiet_seconds": quiet,
        "private_before": before,
        "private_peak": server.peak_private_bytes,
        "private_after": server.private_bytes(),
    }


async def _mine(target: str, number: int) -> str:
    """A heavy call over a connection of its own; how it ended."""
    async with AsyncClient(target, timeout=120, retry=RetryPolicy(attempts=1)) as client:
        try:
            await client.mine("big", 5_000, HEAVY[number % len(HEAVY)], seed=number)
        except AssayError as error:
            return error.reason or type(error).__name__
        return "served"


async def _probe(client: AsyncClient, seconds: float) -> dict[str, Felt]:
    """Asks for health, and takes and gives back batches of the other pool, for so long."""
    felt = {"health": Felt(), "next_batch": Felt()}
    end = time.monotonic() + seconds

    async def health() -> None:
        await client.health()

    async def batch() -> None:
        taken = await client.next_batch("small", "ann", 10, include_released=True)
        leases.append(taken)

    leases: list[Any] = []

    async def work(name: str, call: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < end:
            await _timed(felt[name], call)
            while leases:
                await client.release_lease(leases.pop().lease)
            await asyncio.sleep(PAUSE_SECONDS)

    await asyncio.gather(work("health", health), work("next_batch", batch))
    return felt


async def _timed(felt: Felt, call: Callable[[], Awaitable[None]]) -> None:
    begin = time.perf_counter()
    try:
        await call()
    except AssayError as error:
        felt.failed[error.reason or type(error).__name__] += 1
    felt.ms.append((time.perf_counter() - begin) * 1e3)


async def _seconds_until_quiet(server: ServerProcess) -> float:
    """Seconds until the server takes less than a tenth of a core; infinite if it does not within a minute."""
    begin = time.monotonic()
    while time.monotonic() - begin < WATCH_SECONDS:
        used, since = cpu_seconds(server.pid), time.monotonic()
        await asyncio.sleep(0.25)
        if (cpu_seconds(server.pid) - used) / (time.monotonic() - since) < IDLE_CORES:
            return since - begin
    return float("inf")


def _table(results: dict[str, Any]) -> str:
    found, idle, busy = results["machine"], results["idle"], results["busy"]
    ratio = busy["next_batch"]["p99_ms"] / idle["next_batch"]["p99_ms"]
    growth = (results["private_peak"] - results["private_before"]) / MIB
    health, batch, quiet = busy["health"], busy["next_batch"], results["quiet_seconds"]
    private = f"{results['private_before'] / MIB:,.0f} MiB"
    rows = (
        (
            "health, longest",
            _ms(idle, "health", "max_ms"),
            _ms(busy, "health", "max_ms"),
            "< 1,000 ms",
            health["max_ms"] < 1_000 and not health["failed"],
        ),
        (
            "`NextBatch(10)` of another pool, p99",
            _ms(idle, "next_batch", "p99_ms"),
            f"{_ms(busy, 'next_batch', 'p99_ms')}, {ratio:.1f}x",
            "< 5x",
            ratio < 5 and not batch["failed"],
        ),
        ("work goes on after all left", "", f"{quiet:.2f} s", "< 0.5 s", quiet < 0.5),
        ("private memory, most", private, f"+{growth:,.0f} MiB", "bounded", None),
    )
    lines = [
        f"{results['callers']} selections from all of {results['rows']:,} x 128 at once, of 5,000 picks each: "
        f"{', '.join(HEAVY)}. "
        f"Machine: {found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB.",
        "",
        "| what | idle | meanwhile | aim | reached |",
        "|---|---|---|---|---|",
        *(f"| {w} | {i} | {b} | {a} | {'' if r is None else 'yes' if r else 'no'} |" for w, i, b, a, r in rows),
        "",
        f"What became of the {results['callers']}: {results['outcomes']}. Calls of others that failed meanwhile: "
        f"health {busy['health']['failed'] or 'none'}, NextBatch {busy['next_batch']['failed'] or 'none'}. "
        f"Private memory once they left: {results['private_after'] / MIB:,.0f} MiB.",
    ]
    return "\n".join(lines) + "\n"


def _ms(figures: Any, name: str, which: str) -> str:
    return f"{figures[name][which]:,.0f} ms"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--callers", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long others are watched")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--scratch", type=Path, default=None, help="where the pools are kept meanwhile")
    return parser.parse_args()


if __name__ == "__main__":
    main()
