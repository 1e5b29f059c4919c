"""Hostile requests over all RPCs: no INTERNAL, no UNKNOWN, no hang, no death, and the memory comes back."""

import asyncio
import time
from pathlib import Path
from random import SystemRandom

import pytest

from assay.client import Client
from assay.client.testing import ServerProcess
from tests.fuzz.corpus import CORPUS
from tests.fuzz.run import Fuzz, environment, keep, memory_kib
from tests.fuzz.world import FEATURES, World
from tests.models.onnx_factory import linear_embedder

CALLS = environment("ASSAY_FUZZ_CALLS", 100_000)
SEED = environment("ASSAY_FUZZ_SEED", 0) or SystemRandom().randrange(1, 1 << 31)
ONLY = environment("ASSAY_FUZZ_ONLY", -1)
ROUND = 5_000
WARM_CALLS = 15_000
# What the server may keep of its own beside what it had once everything was warm.
KEPT = 1.25
SETTLE_SECONDS = 60.0


@pytest.mark.fuzz
@pytest.mark.timeout(7200)
def test_hostile_requests_are_refused_and_leave_nothing_behind(tmp_path: Path) -> None:
    say(f"\n{CALLS:,} calls, ASSAY_FUZZ_SEED={SEED}, data in {tmp_path}")
    world = World(Path(linear_embedder(tmp_path / "model.onnx", features=FEATURES)).read_bytes())
    server = ServerProcess(tmp_path, log_level="warning", log_format="json", max_batch_rows=4096)
    server.start()
    try:
        fuzz = Fuzz(SEED, world)
        with server.client() as client:
            world.build(client)
            client.train_head("main").result(timeout=60)
            rounds = [range(ONLY, ONLY + 1)] if ONLY >= 0 else _rounds()
            warm = 0
            for numbers in rounds:
                asyncio.run(fuzz.run(server.target, iter(numbers)))
                if fuzz.tally.failures:
                    break
                tidy(client, world)
                # The first rounds fill caches and the allocator's arenas.
                if fuzz.tally.calls <= WARM_CALLS:
                    warm = settled(server.pid, 0)
                say(f"{fuzz.tally.calls:,} calls, {memory_kib(server.pid) >> 10} MiB, {dict(fuzz.tally.codes)}")
            keep(Path("fuzz-failures"), fuzz.tally.failures)
            left = 0 if fuzz.tally.failures else settled(server.pid, int(warm * KEPT))
            _report(fuzz, warm, left)
            assert not fuzz.tally.failures, f"{len(fuzz.tally.failures)} calls broke the server; see fuzz-failures/"
            assert client.health() == "SERVING"
        if ONLY < 0:
            assert set(fuzz.tally.methods) == set(CORPUS) or CALLS < 10_000
            assert left <= warm * KEPT, f"{warm} KiB once warm, {left} KiB at the end"
        assert server.stop() == 0
    finally:
        server.kill()


def _rounds() -> list[range]:
    return [range(start, min(start + ROUND, CALLS)) for start in range(0, CALLS, ROUND)]


def tidy(client: Client, world: World) -> None:
    """Takes away all that the calls made and begins anew, so that memory is what the server keeps of its own."""
    for pool in list(client.list_pools()):
        client.delete_pool(pool.name)
    world.build(client)
    client.train_head("main").result(timeout=60)


def settled(pid: int, most: int) -> int:
    """Memory once it is low enough, or no longer falls."""
    end = time.monotonic() + SETTLE_SECONDS
    while (now := memory_kib(pid)) > most and time.monotonic() < end:
        if not most:
            return now
        time.sleep(1.0)
    return now


def _report(fuzz: Fuzz, warm: int, left: int) -> None:
    tally = fuzz.tally
    say(
        f"calls: {tally.calls:,} over {len(tally.methods)} RPCs, seed {SEED}",
        f"codes: {dict(tally.codes.most_common())}",
        f"without details: {dict(tally.bare.most_common(8))}",
        f"memory of its own: {warm >> 10} MiB once warm, {left >> 10} MiB at the end",
        f"broken: {len(tally.failures)}",
    )
    for call, what in tally.failures[:10]:
        say(f"  number {call.number} {call.method}: {what[:300]}")


def say(*lines: str) -> None:
    """Shows progress where output is not captured."""
    print(*lines, sep="\n", flush=True)  # noqa: T201 - make fuzz shows it
