"""What labels cost: an import of labeled samples, a submission of 60,000 labels, opening the pool, and a batch.

    python benchmarks/annotations.py [--against CHECKOUT] [--rows N] [--postgres URL]

With --against, another checkout (`git worktree add ../before COMMIT`) does the same in the same run, turn about. The
URL is that of a PostgreSQL server: each measurement makes a database of its own there, and drops it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
POOL = "zoo"
CLASSES = tuple(f"class {number}" for number in range(10))
DIMENSION = 16
BATCH = 50_000
SUBMITTED = 60_000
BATCHES = 60
REPEATS = 3
MEASURES = {
    "import": "import of labeled samples, seconds for a million",
    "import held": "of these, the catalog is held",
    "plain import": "import of the same without labels, seconds for a million",
    "annotate": "Annotate(60,000), seconds",
    "annotate held": "of these, the catalog is held",
    "correct held": "the same labels corrected, the catalog is held",
    "bytes": "catalog bytes a label",
    "open": "opening, seconds for a million labels",
    "batch": "NextBatch(100), milliseconds",
}


class Held:
    """How long the catalog was held by its writers."""

    def __init__(self) -> None:
        from assay.server.adapters.sql import SqlCatalog

        self.seconds = 0.0
        begin: Callable[..., Any] = SqlCatalog.transaction

        @contextmanager
        def timed(catalog: SqlCatalog) -> Iterator[Any]:
            start = 0.0
            try:
                with begin(catalog) as tx:
                    start = time.perf_counter()
                    yield tx
            finally:
                self.seconds += time.perf_counter() - start

        SqlCatalog.transaction = timed  # type: ignore[method-assign, assignment]

    def take(self) -> float:
        """Seconds since the last time it was asked."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def verbs() -> tuple[Any, Callable[[Any, list[str], list[str]], Any]]:
    """How this checkout is told the classes of a pool, and what somebody says of samples of pool "plain"; checkouts
    from before the tasks know class names alone, and call it SubmitLabels."""
    from assay.server.core.labeling import messages
    from assay.server.core.pools.pool import NO_KEY

    if not hasattr(messages, "AnnotateSpec"):
        submit = messages.SubmitSpec
        return CLASSES, lambda core, ids, said: core.labeling.submit(
            "plain", submit("ann", tuple(zip(ids, said, strict=True)), overwrite=True), NO_KEY
        )
    from assay.server.core.records.tasks import TaskKind, TaskRecord

    spec = messages.AnnotateSpec
    return TaskRecord.of_classes(TaskKind.CLASSIFICATION, CLASSES), lambda core, ids, said: core.annotations.annotate(
        "plain", spec("ann", ids, said, correct=True), NO_KEY
    )


def measure(rows: int, url: str) -> dict[str, float]:
    """All of it once, in this process."""
    from assay.server.app.config import load
    from assay.server.app.wiring import open_core
    from assay.server.core.labeling.messages import BatchSpec
    from assay.server.core.mining.plan.terms import Plan
    from assay.server.core.pools.messages import IngestBatch, PoolSpec
    from assay.server.core.pools.pool import NO_KEY
    from assay.server.core.ports.machine import unheard
    from assay.server.core.records.pools import Metric
    from assay.server.core.records.samples import OnConflict, SampleColumns

    classes, say = verbs()
    held, found = Held(), dict[str, float]()
    rng = np.random.default_rng(0)
    labels = [CLASSES[number] for number in rng.integers(0, len(CLASSES), rows).tolist()]
    embeddings = rng.standard_normal((BATCH, DIMENSION)).astype(np.float32)

    def fill(core: Any, pool: str, given: list[str] | None) -> float:
        core.pools.create(PoolSpec(pool, Metric.L2, classes), NO_KEY)
        held.take()
        start = time.perf_counter()
        for first in range(0, rows, BATCH):
            ids = [f"s{number:08d}" for number in range(first, min(first + BATCH, rows))]
            part = None if given is None else given[first : first + BATCH]
            batch = IngestBatch(SampleColumns(ids), embeddings[: len(ids)], part)
            core.samples.add(pool, batch, OnConflict.ERROR, NO_KEY)
        return (time.perf_counter() - start) * 1e6 / rows

    def annotate(core: Any, ids: list[str], shift: int) -> float:
        said = [CLASSES[(place + shift) % len(CLASSES)] for place in range(len(ids))]
        held.take()
        start = time.perf_counter()
        say(core, ids, said)
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory(prefix="assay-annotations-") as folder:
        data = Path(folder) / "data"
        config = load({"data_dir": data, **({"catalog_url": url} if url else {})})
        core = open_core(config, unheard)
        found["plain import"] = fill(core, "plain", None)
        before = _catalog_bytes(data, url)
        found["import"] = fill(core, POOL, labels)
        found["import held"] = held.take() * 1e6 / rows
        found["bytes"] = (_catalog_bytes(data, url) - before) / rows
        core.close()
        start = time.perf_counter()
        core = open_core(config, unheard)
        both = time.perf_counter() - start
        some = [f"s{number:08d}" for number in rng.permutation(rows)[:SUBMITTED].tolist()]
        found["annotate"], found["annotate held"] = annotate(core, some, 0), held.take()
        annotate(core, some, 1)
        found["correct held"] = held.take()
        seconds = []
        for number in range(BATCHES):
            start = time.perf_counter()
            core.labeling.next_batch("plain", BatchSpec(f"w{number}", 100, Plan(preset="random")), NO_KEY)
            seconds.append(time.perf_counter() - start)
        found["batch"] = statistics.median(seconds) * 1e3
        core.pools.delete(POOL, NO_KEY)
        core.close()
        start = time.perf_counter()
        core = open_core(config, unheard)
        found["open"] = (both - (time.perf_counter() - start)) * 1e6 / rows
        core.close()
    return found


def _catalog_bytes(data: Path, url: str) -> int:
    if url:
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            (size,) = connection.execute("SELECT pg_database_size(current_database())").fetchone()  # type: ignore[misc]
            return int(size)
    import sqlite3

    with sqlite3.connect(data / "catalog.db") as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return int(size) * (int(pages) - int(free))


@contextmanager
def _database(server: str) -> Iterator[str]:
    """URL of a database of our own, "" for SQLite."""
    if not server:
        yield ""
        return
    import psycopg

    name = f"annotations_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        try:
            yield f"{server.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


def measured(checkout: Path, rows: int, server: str) -> dict[str, float]:
    """All of it once, in a process of its own, with the code of a checkout."""
    path = os.pathsep.join(str(checkout / part) for part in ("server", "strategies", "clients", "proto"))
    with _database(server) as url:
        command = [sys.executable, __file__, "--rows", str(rows), "--measure", *(["--postgres", url] if url else [])]
        environment = os.environ | {"PYTHONPATH": path}
        answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measures each database and prints a table for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--postgres", default="", help="URL of a PostgreSQL server, to measure it too")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.rows, arguments.postgres)))
        return
    checkouts = {"now": ROOT} | ({"before": arguments.against.resolve()} if arguments.against else {})
    for database, server in {"SQLite": "", "PostgreSQL": arguments.postgres}.items():
        if database == "PostgreSQL" and not server:
            continue
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
        for _ in range(REPEATS):
            for name, checkout in checkouts.items():
                runs[name].append(measured(checkout, arguments.rows, server))
        print(f"{database}, {arguments.rows:,} rows, median of {REPEATS}: {', '.join(checkouts)}")
        for measure_name, words in MEASURES.items():
            values = [statistics.median(run[measure_name] for run in runs[name]) for name in checkouts]
            print(f"  {words:62}" + "".join(f"{value:12.3f}" for value in values), flush=True)


if __name__ == "__main__":
    main()
