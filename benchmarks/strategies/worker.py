"""One runner on one work, in a process of its own: `python -m benchmarks.strategies.worker KEY RUNNER FOLDER ...`.

Writes one JSON object per line: {"event": "ready"}, {"event": "run", "seconds": ...} for each repeat, and at the end
{"event": "done", ...}; or {"event": "failed", "reason": ...}. Whatever a library prints goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from benchmarks.strategies import data as datasets
from benchmarks.strategies.data import Size
from benchmarks.strategies.works import HERE, Peer, Work, find

_WARM = Size(rows=400, picks=8)
# What an environment is for, to name its versions.
_DISTRIBUTIONS = {
    HERE: ("assay", "faiss-cpu", "numpy", "scikit-learn", "scipy", "torch"),
    "mundig": ("lightly-mundig",),
    "skactiveml": ("scikit-activeml",),
    "small_text": ("small-text",),
    "baal": ("baal",),
    "apricot": ("apricot-select",),
    "submodlib": ("submodlib-py",),
    "modal": ("modal-python",),
}


def main() -> None:
    """Measures and reports on what was stdout."""
    arguments = _arguments()
    report = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _limit_memory(arguments.memory)
    work = find(arguments.work)
    try:
        _measure(work, work.peer(arguments.runner), arguments, report)
    except MemoryError:
        _say(report, event="failed", reason="out of memory")
    except Exception as error:
        _say(report, event="failed", reason=f"{type(error).__name__}: {error}"[:300])
        raise


def _measure(work: Work, peer: Peer, arguments: argparse.Namespace, report: TextIO) -> None:
    _warm_up(work, peer)
    data = datasets.load(arguments.folder)
    call = peer.prepare(data)
    _say(report, event="ready")
    base, seconds, result = _fresh_peak(), 0.0, None
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        result = call()
        spent = time.perf_counter() - start
        seconds += spent
        _say(report, event="run", seconds=spent)
        if seconds > arguments.patience:
            break
    peak = _status("VmHWM") - base
    _say(
        report,
        event="done",
        peak_bytes=peak,
        quality=work.quality.measure(np.asarray(result), data),
        versions=_versions(peer),
    )


def _warm_up(work: Work, peer: Peer) -> None:
    """One small run: imports, threads and compiled code are there before the clock runs."""
    size = work.size
    small = Size(_WARM.rows, size.dim, min(size.classes, 10), min(size.members, 3), _WARM.picks if size.picks else 0)
    peer.prepare(datasets.make(work.kind, small, work.arrays, seed=0))()


def _fresh_peak() -> int:
    """Forget the peak of resident memory so far; bytes resident now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(field: str) -> int:
    """A memory figure of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) << 10


def _limit_memory(limit: int) -> None:
    """So that a peer that wants more than there is fails alone."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _versions(peer: Peer) -> list[str]:
    return [f"{name} {metadata.version(name)}" for name in _DISTRIBUTIONS[peer.environment]]


def _say(report: TextIO, **fields: Any) -> None:
    report.write(json.dumps(fields) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work")
    parser.add_argument("runner")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--patience", type=float, required=True)
    parser.add_argument("--memory", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
