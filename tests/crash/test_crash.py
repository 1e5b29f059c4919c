"""Kills the real server at random moments, again and again, and looks for anything lost, halved, doubled or made up."""

import os
from itertools import cycle
from pathlib import Path
from random import SystemRandom

import pytest

from tests.crash.run import TARGETS, CrashRun

KILLS = int(os.environ.get("ASSAY_CRASH_KILLS", "50"))
SEED = int(os.environ.get("ASSAY_CRASH_SEED", "0")) or SystemRandom().randrange(1, 1 << 31)
# Every so many restarts are killed themselves before they serve.
START_KILL_EVERY = 8


@pytest.mark.crash
@pytest.mark.timeout(60 + 60 * KILLS)
def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    say(f"\n{KILLS} kills, ASSAY_CRASH_SEED={SEED}, data in {tmp_path}")
    run = CrashRun(tmp_path, SEED)
    try:
        run.begin()
        targets = cycle(TARGETS)
        while run.tally.kills < KILLS:
            target = next(targets)
            run.kill(target)
            if run.tally.kills % START_KILL_EVERY == 0:
                run.kill_while_starting()
            run.restart()
            say(run.progress(target))
        run.end()
    finally:
        run.server.kill()
    say(*run.tally.lines(run.ledger))


def say(*lines: str) -> None:
    """Shows progress where output is not captured."""
    print(*lines, sep="\n", flush=True)  # noqa: T201 - make crash shows it
