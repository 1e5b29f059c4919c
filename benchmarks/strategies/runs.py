"""Runs the works: data once, then ours, the peers and ours again, each in a fresh process; ours on twice the rows."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import IO, Any

from benchmarks.strategies import data as datasets
from benchmarks.strategies.data import Size
from benchmarks.strategies.environments import REPOSITORY
from benchmarks.strategies.works import OURS, Peer, Work

# A peer is waited for at least so long, and until the aim is exceeded so many times.
_LEAST_WAIT_S = 60
_ENOUGH = 2
# No further repeat after so many seconds of measured time; fewer where no aim is at stake.
_PATIENCE_S, _LITTLE_PATIENCE_S = 60, 15
# For starting, importing, warming up and converting the data.
_GET_READY_S = 300
# Of the memory that is free, so that a greedy peer fails instead of the machine.
_MEMORY_SHARE = 0.85
_SEED = 0


@dataclass(frozen=True)
class Settings:
    """How everything is measured."""

    interpreters: Mapping[str, Path]
    results: Path
    scratch: Path
    limits: Mapping[str, Any]
    failed_environments: Mapping[str, str] = field(default_factory=dict)
    repeats: int = 5
    timeout_s: float = 300
    scale: int = 1
    say: Callable[[str], None] = print


@dataclass
class Outcome:
    """What came of one runner: its times, or why there are none."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    quality: float | None = None
    versions: list[str] = field(default_factory=list)
    # "timeout", or another reason in words; empty where it finished.
    failure: str = ""
    waited_s: float = 0

    @property
    def median(self) -> float:
        return median(self.seconds)

    def joined(self, other: Outcome) -> Outcome:
        """Both as one: ours runs before and after the peers."""
        if other.failure or self.failure:
            return other if other.failure else self
        peak = max(self.peak_bytes, other.peak_bytes)
        return Outcome(self.seconds + other.seconds, peak, self.quality, self.versions)


def run(work: Work, settings: Settings) -> None:
    """Measure one work and keep its results as JSON."""
    scaled = work.divided(settings.scale)
    folder = settings.scratch / work.key
    try:
        outcomes = _measure_all(scaled, work.key, folder / "once", settings)
        growth = _measure_growth(scaled, work.key, folder / "twice", settings) if work.grows else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    kept = {
        "size": asdict(scaled.size),
        "limits": dict(settings.limits),
        "outcomes": {name: asdict(outcome) for name, outcome in outcomes.items()},
        "growth": asdict(growth) if growth else None,
    }
    settings.results.mkdir(parents=True, exist_ok=True)
    result_path(settings.results, work).write_text(json.dumps(kept, indent=1) + "\n")


def result_path(results: Path, work: Work) -> Path:
    """Where the results of a work are kept."""
    return results / f"{work.key}.json"


def _measure_all(work: Work, key: str, folder: Path, settings: Settings) -> dict[str, Outcome]:
    datasets.save(datasets.make(work.kind, work.size, work.arrays, _SEED), folder)
    ours = work.peer(OURS)
    half = (settings.repeats + 1) // 2
    outcomes = {OURS: _measure(work, key, ours, folder, settings, half)}
    for peer in work.peers:
        outcomes[peer.name] = _measure(work, key, peer, folder, settings, settings.repeats, outcomes[OURS])
    if settings.repeats > half and not outcomes[OURS].failure:
        again = _measure(work, key, ours, folder, settings, settings.repeats - half)
        outcomes[OURS] = outcomes[OURS].joined(again)
    return outcomes


def _measure_growth(work: Work, key: str, folder: Path, settings: Settings) -> Outcome:
    size = work.size.doubled()
    datasets.save(datasets.make(work.kind, size, work.arrays, _SEED), folder)
    return _measure(work, key, work.peer(OURS), folder, settings, settings.repeats, size=size)


def _measure(
    work: Work,
    key: str,
    peer: Peer,
    folder: Path,
    settings: Settings,
    repeats: int,
    ours: Outcome | None = None,
    size: Size | None = None,
) -> Outcome:
    if peer.environment in settings.failed_environments:
        outcome = Outcome(failure=f"could not be installed: {settings.failed_environments[peer.environment]}")
    elif peer.environment not in settings.interpreters:
        outcome = Outcome(failure="left out")
    else:
        outcome = _in_process(key, peer, folder, settings, repeats, _wait(work, ours, settings))
    settings.say(f"{work.name} ({size or work.size}) {peer.name}: {describe(outcome)}")
    return outcome


def _wait(work: Work, ours: Outcome | None, settings: Settings) -> float:
    """Seconds to wait for each run of a peer; for ours the whole timeout."""
    if ours is None or ours.failure:
        return settings.timeout_s
    return min(settings.timeout_s, max(_LEAST_WAIT_S, _ENOUGH * work.aim * ours.median))


def describe(outcome: Outcome) -> str:
    """A result in a few words."""
    if outcome.failure == "timeout":
        return f"did not finish in {outcome.waited_s:,.0f} s"
    if outcome.failure:
        return outcome.failure
    runs = "1 run" if len(outcome.seconds) == 1 else f"{len(outcome.seconds)} runs"
    return f"{outcome.median:.4g} s ({runs}), peak {outcome.peak_bytes / 2**20:,.0f} MiB, {outcome.quality:.6g}"


def _in_process(key: str, peer: Peer, folder: Path, settings: Settings, repeats: int, wait_s: float) -> Outcome:
    command = [
        str(settings.interpreters[peer.environment]), "-m", "benchmarks.strategies.worker", key, peer.name, str(folder),
        "--repeats", str(repeats), "--patience", str(_PATIENCE_S if peer.aimed else _LITTLE_PATIENCE_S),
        "--memory", str(int(_available_memory() * _MEMORY_SHARE)),
    ]  # fmt: skip
    log = settings.results / "logs" / f"{key}-{peer.name.replace(' ', '_')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, cwd=REPOSITORY) as process,
    ):
        assert process.stdout is not None
        try:
            return _follow(process.stdout, wait_s)
        finally:
            process.kill()


def _follow(stdout: IO[bytes], wait_s: float) -> Outcome:
    """Read what the worker says, waiting so long for each run."""
    outcome, lines = Outcome(), _Lines(stdout)
    deadline = time.monotonic() + _GET_READY_S
    while line := lines.next(deadline):
        match json.loads(line):
            case {"event": "run", "seconds": float(seconds)}:
                outcome.seconds.append(seconds)
            case {"event": "failed", "reason": str(reason)}:
                return Outcome(failure=reason)
            case {"event": "done", "peak_bytes": int(peak), "quality": float(quality), "versions": list(versions)}:
                return Outcome(outcome.seconds, peak, quality, versions)
        deadline = time.monotonic() + wait_s
    if line is None:
        return Outcome(failure="timeout", waited_s=wait_s)
    return Outcome(failure="ended without a result, likely for want of memory")


class _Lines:
    """Lines of a pipe, each waited for until a deadline."""

    def __init__(self, stdout: IO[bytes]) -> None:
        self._fileno = stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(stdout, selectors.EVENT_READ)
        self._held = b""

    def next(self, deadline: float) -> bytes | None:
        """The next line; empty at the end, None where the deadline has passed."""
        while b"\n" not in self._held:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                return None
            piece = os.read(self._fileno, 1 << 16)
            if not piece:
                return b""
            self._held += piece
        line, _, self._held = self._held.partition(b"\n")
        return line


def _available_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) << 10


def machine_limits() -> dict[str, Any]:
    """The machine's rates, measured in a process of their own."""
    command = [sys.executable, "-m", "benchmarks.strategies.limits"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout
    return dict(json.loads(output))
