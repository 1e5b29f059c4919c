"""Measures a real server on one pool, beside what the machine can do bare: `make bench`.

Every aim is printed with what was reached. Times vary with the machine's other tenants: read the ratios.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from statistics import median

import machine
import measures
import report
import workload
from rich.console import Console
from serving import ServerProcess

from assay.client import Client

console = Console(stderr=True)


def main() -> None:
    """Runs all measurements and writes the table and the JSON file."""
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="assay-bench-", dir=arguments.scratch))
    try:
        results = _measure(arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "bench.json").write_text(json.dumps(results, indent=2) + "\n")
    table = report.markdown(results)
    (arguments.out / "bench.md").write_text(table)
    print(table)


def _measure(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    rows, dimension = arguments.rows, arguments.dimension
    console.log(f"making {rows:,} x {dimension} vectors")
    vectors_ND, classes_N = workload.embeddings(rows, dimension)
    results: dict[str, object] = {"machine": machine.describe(), "rows": rows, "dimension": dimension}
    # The first write has to find its blocks on the disk, as an ingest has; the later ones find them warm. The aim is
    # held to the warm ones.
    first_s, *warm_s = [machine.raw_write_seconds(folder, vectors_ND) for _ in range(4)]
    raw_write_s = median(warm_s)
    results["raw_write"] = {
        "seconds": raw_write_s,
        "mb_per_s": vectors_ND.nbytes / 1e6 / raw_write_s,
        "first_seconds": first_s,
    }
    results["grpc_stream"] = {"seconds": median(machine.grpc_stream_seconds(vectors_ND) for _ in range(3))}
    server = ServerProcess(folder / "data")
    server.start()
    try:
        with Client(server.target, timeout=600) as client:
            bench = measures.Bench(client, server.target, vectors_ND, classes_N)
            results |= _steps(bench, raw_write_s, arguments)
        results["memory"] = {**server.memory(), "embeddings": vectors_ND.nbytes}
    finally:
        server.stop()
    console.log("restart")
    results["restart"] = {"seconds": server.start()}
    server.stop()
    return results


def _steps(bench: measures.Bench, raw_write_s: float, arguments: argparse.Namespace) -> dict[str, object]:
    results: dict[str, object] = {}
    for name, step in (
        ("ingest", lambda: measures.ingest(bench, raw_write_s)),
        ("swap_and_mine", lambda: measures.swap_and_mine(bench)),
        ("mine_k_center", lambda: measures.mine_k_center(bench, min(50_000, len(bench.vectors_ND) // 2))),
        ("next_batch_idle", lambda: measures.next_batch(bench, arguments.calls)),
        ("next_batch_ingesting", lambda: _while_ingesting(bench, arguments.calls)),
    ):
        console.log(name)
        figures = step()
        results |= figures if name == "swap_and_mine" else {name: figures}
        if name == "ingest":
            measures.wait_for_quiet(bench, arguments.settle)
    return results


def _while_ingesting(bench: measures.Bench, calls: int) -> dict[str, float]:
    with measures.ingesting(bench) as added:
        figures = measures.next_batch(bench, calls)
        return {**figures, "rows_ingested_meanwhile": added["rows"]}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--calls", type=int, default=100, help="NextBatch calls of each worker")
    parser.add_argument("--settle", type=float, default=600, help="longest wait for merging and indexing, in seconds")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--scratch", type=Path, default=None, help="where the pool is kept meanwhile")
    return parser.parse_args()


if __name__ == "__main__":
    main()
