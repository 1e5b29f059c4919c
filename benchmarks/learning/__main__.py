"""Simulates labeling with every strategy on real data: `make bench-learning`, or `python -m benchmarks.learning`."""

import argparse
import json
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from threadpoolctl import threadpool_limits

from assay.strategies.serving import PredictionKind
from benchmarks.learning.data import DataSet, load
from benchmarks.learning.entries import BASELINE, ENTRIES
from benchmarks.learning.report import Runs, write
from benchmarks.learning.simulate import Entry, curve

ROOT = Path(__file__).resolve().parent.parent.parent
console = Console(stderr=True)

Key = tuple[str, str, int]


def main() -> None:
    """Runs what is not in the cache yet, and writes the tables and the pictures of the kinds that were asked for."""
    arguments = _arguments()
    kinds = [PredictionKind(name) for name in arguments.kinds]
    data_sets = load(kinds, arguments.cache, console.log)
    kept = arguments.cache / "curves.json"
    curves = {} if arguments.fresh or not kept.exists() else _read(kept)
    entries = {kind: [e for e in ENTRIES[kind] if _entered(e, arguments.only)] for kind in kinds}
    wanted = [(d, e, seed) for seed in range(arguments.seeds) for d in data_sets for e in entries[d.kind]]
    missing = [(d, e, s) for d, e, s in wanted if (d.name, e.label, s) not in curves]
    with ProcessPoolExecutor(arguments.jobs, initializer=_quiet) as pool:
        futures = [pool.submit(_run, *job) for job in missing]
        for future in track(as_completed(futures), "simulating", len(futures), console=console):
            key, qualities = future.result()
            curves[key] = qualities
            _write(kept, curves)
    for kind in kinds:
        labels = [entry.label for entry in entries[kind]]
        of_kind = [data for data in data_sets if data.kind is kind]
        stacked = {data.name: _stacked(curves, data.name, labels, arguments.seeds) for data in of_kind}
        write(Runs(kind, labels, stacked, {data.name: data.batch for data in of_kind}), arguments.out)
    console.log(f"wrote {', '.join(kinds)} to {arguments.out}")


def _entered(entry: Entry, only: list[str] | None) -> bool:
    return not only or entry.label in {BASELINE, *only}


def _quiet() -> None:
    """One core a simulation, numpy's products too; scikit-learn need not tell that a round shows nearly as many classes
    as labels."""
    torch.set_num_threads(1)
    threadpool_limits(1)
    warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)


def _run(data: DataSet, entry: Entry, seed: int) -> tuple[Key, list[float]]:
    return (data.name, entry.label, seed), curve(data, entry, seed)


def _stacked(curves: dict[Key, list[float]], data: str, labels: list[str], seeds: int) -> np.ndarray:
    return np.array([[curves[data, label, seed] for seed in range(seeds)] for label in labels])


def _read(path: Path) -> dict[Key, list[float]]:
    return {(data, label, seed): values for data, label, seed, values in json.loads(path.read_text())}


def _write(path: Path, curves: dict[Key, list[float]]) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps([[*key, values] for key, values in curves.items()]))
    unfinished.replace(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=list(ENTRIES), choices=list(ENTRIES), help="of predictions")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2, help="simulations at once")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache/bench-learning", help="downloads, vectors, curves")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument("--only", nargs="*", help="these strategies beside the baseline")
    parser.add_argument("--fresh", action="store_true", help="forget the curves in the cache")
    return parser.parse_args()


if __name__ == "__main__":
    main()
