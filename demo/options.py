"""The demo's command line."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.rounds import Schedule

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Options:
    """How large a demo to run, and where it writes."""

    docs: int
    test_docs: int
    seeds: int
    schedule: Schedule
    out: Path
    cache: Path
    keep_data: bool


def parse(argv: Sequence[str] | None = None) -> Options:
    """Read the command line; prints what is wrong and exits with 2 if it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="demo/run.py", description="Mine and label 20 Newsgroups against a live assay server."
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small run: 400 documents, 200 held out, 1 seed, 2 rounds"
    )
    parser.add_argument("--docs", type=int, help="documents in the pool, up to 11,293 (default 2,400)")
    parser.add_argument("--test-docs", type=int, help="documents held out, up to 7,528 (default 1,000)")
    parser.add_argument("--seeds", type=int, help="runs of each strategy (default 5)")
    parser.add_argument("--rounds", type=int, help="batches of 20 labels after the 40 random ones (default 8)")
    parser.add_argument("--out", type=Path, default=ROOT / "demo-out", help="folder for what it writes (demo-out)")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache/demo", help="folder of downloads (.cache/demo)")
    parser.add_argument("--keep-data", action="store_true", help="keep the server's data folder")
    given = parser.parse_args(argv)
    docs, test_docs, seeds, rounds = (400, 200, 1, 2) if given.quick else (2400, 1000, 5, 8)
    options = Options(
        docs=docs if given.docs is None else given.docs,
        test_docs=test_docs if given.test_docs is None else given.test_docs,
        seeds=seeds if given.seeds is None else given.seeds,
        schedule=Schedule(start=40, size=20, rounds=rounds if given.rounds is None else given.rounds),
        out=given.out,
        cache=given.cache,
        keep_data=given.keep_data,
    )
    if wrong := _wrong(options):
        parser.error(wrong)
    return options


def _wrong(options: Options) -> str | None:
    if options.schedule.rounds < 1 or options.seeds < 1:
        return "--rounds and --seeds are at least 1"
    if not options.schedule.labels[-1] <= options.docs <= 11_293:
        return f"--docs is from {options.schedule.labels[-1]} (all labels of a run) to 11293, not {options.docs}"
    if not 20 <= options.test_docs <= 7_528:
        return f"--test-docs is from 20 to 7528, not {options.test_docs}"
    return None
