"""Measures the strategies beside their peers and writes the table and the plot: `make bench-strategies`.

The results of each work are kept under .cache/bench-strategies, so that a run can go on where another one stopped
(--resume), works can be measured anew one by one (--only), and the report can be written again (--report-only).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.strategies import plot, report, runs
from benchmarks.strategies.environments import REPOSITORY, interpreters
from benchmarks.strategies.works import HERE, Work, named

_KEPT = REPOSITORY / ".cache" / "bench-strategies"


def main(arguments: list[str] | None = None) -> None:
    """Measures, keeps the results and writes the report."""
    options = _options(arguments)
    results = options.results or _KEPT / ("results" if options.scale == 1 else f"results-scale-{options.scale}")
    works = named(options.only)
    if not options.report_only:
        _measure(
            [work for work in works if not (options.resume and runs.result_path(results, work).exists())],
            options,
            results,
        )
    # The report is of all that is kept, whatever was measured now.
    folder = options.out or (REPOSITORY / "docs" if options.scale == 1 else results)
    lines = report.load(results)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "strategy-benchmarks.md").write_text(report.markdown(lines, options.scale))
    plot.draw(lines, folder / "strategy-benchmarks.png")
    print(f"wrote {folder / 'strategy-benchmarks.md'} and its plot")


def _measure(works: list[Work], options: argparse.Namespace, results: Path) -> None:
    environments = (
        {HERE, *options.peers} if options.peers else {peer.environment for work in works for peer in work.peers}
    )
    found, failed = interpreters(environments)
    for name, reason in failed.items():
        _say(f"peer {name} could not be installed: {reason}")
    limits = runs.machine_limits()
    _say(report.machine(limits))
    with tempfile.TemporaryDirectory(prefix="assay-bench-", dir=options.scratch) as scratch:
        settings = runs.Settings(
            interpreters=found,
            failed_environments=failed,
            results=results,
            scratch=Path(scratch),
            limits=limits,
            repeats=options.repeats,
            timeout_s=options.timeout,
            scale=options.scale,
            say=_say,
        )
        for work in works:
            runs.run(work, settings)


def _say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", flush=True)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strategies", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these works, by name or key")
    parser.add_argument(
        "--peers", nargs="+", default=[], metavar="ENVIRONMENT", help="only peers of these environments"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each; fewer of slow ones")
    parser.add_argument("--timeout", type=float, default=300, help="longest wait for one run of a peer, in seconds")
    parser.add_argument("--scale", type=int, default=1, help="divide all sizes, to try the benchmark itself")
    parser.add_argument("--resume", action="store_true", help="leave out works that have results")
    parser.add_argument("--report-only", action="store_true", help="measure nothing, write the report again")
    parser.add_argument("--out", type=Path, help="folder of the report (docs/)")
    parser.add_argument("--results", type=Path, help="folder of the results (.cache/bench-strategies/results)")
    parser.add_argument("--scratch", type=Path, help="folder for the data (the system's temporary folder)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
