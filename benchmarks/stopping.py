"""How long work goes on after its caller left: `make bench-stopping`.

Every preset is mined, scored and leased from on a pool of 200,000 x 128, with thousands of picks; besides, exact
searches, training and the library's audits. Each begins in a thread, is asked to stop after a second, and the time
until it has ended is printed. The domain is asked directly: over gRPC a call's way to the server comes on top.
"""

import argparse
import dataclasses
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay import strategies
from assay.server.adapters.vector_index import FaissIndexBuilder
from assay.server.app import wiring
from assay.server.app.config import Config
from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling.messages import AnnotateSpec, BatchSpec
from assay.server.core.mining.messages import MineSpec, ScoreSpec
from assay.server.core.mining.plan import presets
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.models.messages import TrainSpec
from assay.server.core.pools.messages import IngestBatch, PoolSpec, SearchMode, SearchSpec
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.ports.machine import unheard
from assay.server.core.records.pools import Metric
from assay.server.core.records.samples import OnConflict, SampleColumns
from assay.server.core.records.tasks import TaskKind, TaskRecord
from assay.server.core.stop import Stop, current_stop
from assay.strategies import audit

POOL, DIMENSION, CLASSES, LABELED = "bench", 128, 10, 2000
QUERIES = tuple(f"s{row}" for row in range(50))
AIM_MS = 500.0
# Longer than anything may go on after it was stopped.
GIVEN_UP_S = 120.0


@dataclass(frozen=True)
class Case:
    """A call, and what it is called in the table."""

    name: str
    call: str
    run: Callable[[], object]


@dataclass(frozen=True)
class Outcome:
    """How a case ended: "stopped", "done" before it was stopped, or why it was refused; and ms from the stop to the
    end, 0 where it had ended before."""

    case: Case
    ended: str
    took_ms: float


def main() -> None:
    """Runs all cases and prints the table."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="assay-stopping-", dir=arguments.scratch) as folder:
        vectors_ND, core = _filled(Path(folder), arguments.rows)
        try:
            wanted = [case for case in _cases(core, vectors_ND) if not arguments.only or case.name in arguments.only]
            outcomes = [_shown(_stopped(case, arguments.after)) for case in wanted]
        finally:
            core.close()
    stopped = sorted((each.took_ms, each.case.name, each.case.call) for each in outcomes if each.ended == "stopped")
    if stopped:
        slow = [each for each in stopped if each[0] > AIM_MS]
        print(f"{len(outcomes)} cases, {len(stopped)} stopped, {len(slow)} of them in more than {AIM_MS:.0f} ms")
        took_ms, name, call = stopped[-1]
        print(f"worst: {name} {call}, {took_ms:.0f} ms; median {stopped[len(stopped) // 2][0]:.0f} ms")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--after", type=float, default=1.0, help="seconds until each is stopped")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--scratch", type=Path, default=None, help="folder for the pool")
    return parser.parse_args()


def _filled(folder: Path, rows: int) -> tuple[np.ndarray, Assay]:
    """Clustered vectors, and an open core with a pool of them, some labeled, and a head with three members."""
    rng = np.random.default_rng(0)
    topics_N = rng.integers(0, CLASSES, rows)
    vectors_ND = rng.standard_normal((rows, DIMENSION)).astype(np.float32)
    vectors_ND += rng.standard_normal((CLASSES, DIMENSION)).astype(np.float32)[topics_N]
    config = Config(data_dir=folder)
    # An index of its own would take minutes to build; SEALS then searches exactly, which takes longer.
    used = dataclasses.replace(
        wiring.ports(config, unheard), indexes=FaissIndexBuilder(folder / "derived", hnsw_from=2 * rows)
    )
    core = Assay.open(used, wiring.limits(config))
    names = tuple(f"class{number}" for number in range(CLASSES))
    task = TaskRecord.of_classes(TaskKind.CLASSIFICATION, names)
    core.pools.create(PoolSpec(POOL, metric=Metric.L2, task=task), NO_KEY)
    for start in range(0, rows, 50_000):
        ids = [f"s{row}" for row in range(start, min(rows, start + 50_000))]
        batch = IngestBatch(SampleColumns(ids), vectors_ND[start : start + len(ids)])
        core.samples.add(POOL, batch, OnConflict.ERROR, NO_KEY)
    said = [names[topics_N[row]] for row in range(LABELED)]
    core.annotations.annotate(POOL, AnnotateSpec("ada", [f"s{row}" for row in range(LABELED)], said), NO_KEY)
    operation = core.models.train(POOL, TrainSpec(members=3, activate=True), NO_KEY, lambda view: b"")
    trained = core.operations.wait(operation.record.operation_id, 600).record
    if not trained.done or trained.error_reason:
        raise RuntimeError(f"the head was not trained: {trained}")
    return vectors_ND, core


def _cases(core: Assay, vectors_ND: np.ndarray) -> Iterator[Case]:
    for view in presets.listed(strategies):
        plan = dataclasses.replace(view.plan, query=QUERIES)
        yield Case(view.name, "Mine", lambda plan=plan: core.mining.mine(POOL, MineSpec(20_000, plan), NO_KEY))
        if plan.scores:
            yield Case(view.name, "Score", lambda plan=plan: _drained(core, plan))
        yield Case(
            view.name,
            "NextBatch",
            lambda plan=plan: core.labeling.next_batch(POOL, BatchSpec("ada", 10_000, plan), NO_KEY),
        )
    for queries, k in ((1000, 10), (10, 1000)):
        spec = SearchSpec(vectors_QD=vectors_ND[:queries], k=k, mode=SearchMode.EXACT)
        yield Case("search", f"{queries} x {k}", lambda spec=spec: core.samples.search(POOL, spec))
    yield Case("train", "operation", lambda: _train(core))
    yield Case("near_duplicates", "audit", lambda: audit.near_duplicates(vectors_ND, 0.1))
    yield Case("uniqueness", "audit", lambda: audit.uniqueness(vectors_ND))
    yield Case("knn_disagreement", "audit", lambda: audit.knn_disagreement(vectors_ND, np.zeros(len(vectors_ND), int)))


def _drained(core: Assay, plan: Plan) -> None:
    for _ in core.mining.score(POOL, ScoreSpec(plan)).chunks:
        pass


def _train(core: Assay) -> None:
    """An operation has a stop of its own: who leaves has to cancel it."""
    operation_id = core.models.train(POOL, TrainSpec(members=50), NO_KEY, lambda view: b"").record.operation_id
    stop = current_stop()
    while not core.operations.wait(operation_id, 0.005).record.done:
        if stop.requested():
            core.operations.cancel(operation_id)
    stop.check()


def _stopped(case: Case, after: float) -> Outcome:
    """Begins a case, asks it to stop after so many seconds, and waits for its end."""
    stop, ended = Stop(), ["done"]

    def run() -> None:
        try:
            with stop.scope():
                case.run()
        except AssayError as error:
            ended[0] = "stopped" if error.reason is Reason.CANCELLED else str(error.reason)
        except Exception as error:
            ended[0] = f"{type(error).__name__}: {error}"

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(after)
    stop.request()
    began = time.perf_counter()
    thread.join(GIVEN_UP_S)
    took = time.perf_counter() - began
    return Outcome(case, "goes on" if thread.is_alive() else ended[0], took * 1e3)


def _shown(outcome: Outcome) -> Outcome:
    mark = "  <-- over the aim" if outcome.ended == "stopped" and outcome.took_ms > AIM_MS else ""
    print(
        f"{outcome.case.name:<28}{outcome.case.call:<12}{outcome.ended:<22}{outcome.took_ms:8.1f} ms{mark}", flush=True
    )
    return outcome


if __name__ == "__main__":
    main()
