"""Kills the real server at random moments, again and again, and looks for anything lost, halved, doubled or made up."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from random import SystemRandom

import pytest

from tests.crash.database import Database
from tests.crash.run import TARGETS, CrashRun
from tests.crash.wall_clock import WallClock
from tests.small_disk import mount_small_disk

KILLS = int(os.environ.get("ASSAY_CRASH_KILLS", "200"))
SEED = int(os.environ.get("ASSAY_CRASH_SEED", "0")) or SystemRandom().randrange(1, 1 << 31)
# The share of kills over each catalog.
SHARES = {"sqlite": 0.6, "postgresql": 0.4}
# Every so many restarts are killed themselves before they serve.
START_KILL_EVERY = 8
DISK_BYTES = 2 << 30


@pytest.mark.crash
@pytest.mark.timeout(60 + 60 * KILLS)
@pytest.mark.parametrize("catalog", SHARES)
def test_nothing_acknowledged_is_lost(tmp_path: Path, catalog: str) -> None:
    kills = round(KILLS * SHARES[catalog])
    with surroundings(tmp_path, catalog) as run:
        say(f"\n{kills} kills over {catalog}, ASSAY_CRASH_SEED={SEED}, data in {tmp_path}")
        say(f"besides, in turn: {', '.join(sorted(set(run.faults) - {''}))}")
        try:
            run.begin()
            targets, faults = cycle(TARGETS), cycle(run.faults)
            while run.tally.kills < kills:
                target, fault = next(targets), next(faults)
                run.kill(target, fault)
                if run.tally.kills % START_KILL_EVERY == 0:
                    run.kill_while_starting()
                run.restart(fault)
                say(run.progress(target, fault))
            run.end()
        finally:
            run.server.kill()
        say(*run.tally.lines(run.ledger))


@contextmanager
def surroundings(folder: Path, catalog: str) -> Iterator[CrashRun]:
    """A run with all that may go wrong around it; what cannot be had here (root for a small disk, a C compiler for the
    clock) is left out, and without PostgreSQL its run is skipped."""
    with ExitStack() as stack:
        database = None
        if catalog == "postgresql":
            try:
                database = Database()
            except LookupError as error:
                pytest.skip(str(error))
            stack.callback(database.close)
        clock = WallClock(folder / "clock") if WallClock.available() else None
        small = stack.enter_context(mount_small_disk(folder / "data", DISK_BYTES))
        yield CrashRun(folder, SEED, database, clock, small)


def say(*lines: str) -> None:
    """Shows progress where output is not captured."""
    print(*lines, sep="\n", flush=True)  # noqa: T201 - make crash shows it
