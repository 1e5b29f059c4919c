"""Commits a second of one worker, and of 64 workers on 64 pools side by side: `make bench-commits`.

Each worker submits one label after the other, each of which is on disk when the call returns. Writers that wait for
each other share one commit. Read the ratio; the rest is the disk's and the other tenants'.
"""

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import machine
import numpy as np
import psycopg

from assay.server.app.config import load
from assay.server.app.wiring import open_core
from assay.server.core.assay import Assay
from assay.server.core.labeling.messages import AnnotateSpec
from assay.server.core.pools.messages import IngestBatch, PoolSpec
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.ports.machine import unheard
from assay.server.core.records.pools import Metric
from assay.server.core.records.samples import OnConflict, SampleColumns
from assay.server.core.records.tasks import TaskKind, TaskRecord

WORKERS = 64
AIM = 3.0
CLASSES = ("a", "b")
TASK = TaskRecord.of_classes(TaskKind.CLASSIFICATION, CLASSES)


def main() -> None:
    """Measures each catalog and prints a line for it."""
    arguments = _arguments()
    print("machine:", machine.describe())
    catalogs = {"SQLite": ""}
    if arguments.postgres:
        catalogs["PostgreSQL"] = arguments.postgres
    for name, url in catalogs.items():
        with _open(url, arguments.scratch) as core:
            one = _commits_per_second(core, 1, arguments.seconds)
            many = _commits_per_second(core, WORKERS, arguments.seconds)
        print(
            f"{name}: 1 worker {one:,.0f} commits/s, {WORKERS} workers on {WORKERS} pools {many:,.0f} commits/s: "
            f"{many / one:.1f}x (aim {AIM:.0f}x)"
        )


@contextmanager
def _open(url: str, scratch: Path | None) -> Iterator[Assay]:
    folder = Path(tempfile.mkdtemp(prefix="assay-commits-", dir=scratch))
    try:
        core = open_core(load({"data_dir": folder / "data", **({"catalog_url": url} if url else {})}), unheard)
        try:
            for number in range(WORKERS):
                core.pools.create(PoolSpec(f"pool-{number}", Metric.L2, TASK), NO_KEY)
                batch = IngestBatch(SampleColumns(["sample"]), np.ones((1, 2), np.float32))
                core.samples.add(f"pool-{number}", batch, OnConflict.ERROR, NO_KEY)
            yield core
        finally:
            core.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _commits_per_second(core: Assay, workers: int, seconds: float) -> float:
    done = [0] * workers
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        while time.monotonic() < end:
            # Another class each time: a label that is there already would be nothing to store.
            name = CLASSES[done[number] % 2]
            spec = AnnotateSpec(f"worker-{number}", ["sample"], [name], correct=True)
            core.annotations.annotate(f"pool-{number}", spec, NO_KEY)
            done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.monotonic() - start)


def _postgres(url: str) -> str:
    """The URL of an empty database that makes commits durable."""
    with psycopg.connect(url) as connection:
        fsync = connection.execute("SHOW fsync").fetchone()
    if fsync != ("on",):
        raise argparse.ArgumentTypeError("its fsync is off: there would be nothing to share")
    return url


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", type=_postgres, help="URL of an empty PostgreSQL database, to measure it too")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--scratch", type=Path, default=None, help="where the data directory is kept meanwhile")
    return parser.parse_args()


if __name__ == "__main__":
    main()
