"""The core over its real adapters, in a directory of the test, and short ways to fill and to ask it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import assay.strategies
from assay.server.adapters.arrow import ArrowSegmentStore
from assay.server.adapters.onnx_backbone import OnnxBackboneLoader
from assay.server.adapters.scratch import ScratchSpace
from assay.server.adapters.sql import open_catalog
from assay.server.adapters.torch_head import TorchHeads
from assay.server.adapters.vector_index import BlockedExactSearch, FaissIndexBuilder
from assay.server.core.assay import Assay, Limits, Ports
from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling.messages import (
    AnnotateResult,
    AnnotateSpec,
    BatchResult,
    BatchSpec,
    EventQuery,
    EventView,
    LabelView,
    ReviewAction,
    ReviewResult,
    ReviewSpec,
    SkipResult,
    SkipSpec,
    StateAction,
    StateResult,
    StateSpec,
    UndoResult,
    UndoSpec,
    WithdrawResult,
    WithdrawSpec,
)
from assay.server.core.mining.plan.presets import Registry
from assay.server.core.models.messages import ModelView, TrainSpec, UploadSpec
from assay.server.core.operations.messages import OperationView
from assay.server.core.pools.merging import Merger
from assay.server.core.pools.messages import AddResult, IngestBatch, PoolSpec
from assay.server.core.pools.pool import NO_KEY, Pool
from assay.server.core.records.models import BackboneSpec, DataFile
from assay.server.core.records.pools import Metric, State
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.samples import AttributeColumn, OnConflict, SampleColumns
from assay.server.core.records.tasks import TaskKind, TaskRecord
from assay.server.core.tasks.given import Given

CLASSES = ("ant", "bee", "cow")
DIMENSION = 4
POOL = "zoo"


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 1_000_000.0
        self.set_by = 0.0

    def now(self) -> float:
        return self.time + self.set_by

    def steady(self) -> float:
        return self.time

    def shown(self, steady: float) -> float:
        return steady + self.set_by

    def keep(self) -> None:
        """It goes on in the test's own memory."""

    def set(self, seconds: float) -> None:
        """Sets what people read, as an operator or a time server does."""
        self.set_by += seconds

    def advance(self, seconds: float) -> None:
        self.time += seconds


class Turnstile:
    """A lock that tells how many threads came to it, so that a test can let them go all at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._came = threading.Semaphore(0)

    def __enter__(self) -> None:
        self._came.release()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def held_until(self, count: int, start: Callable[[], None]) -> None:
        """Holds the lock, calls start, and lets go once so many threads wait."""
        with self._lock:
            start()
            for _ in range(count):
                assert self._came.acquire(timeout=30)


def in_threads(calls: Sequence[Callable[[], object]]) -> tuple[Callable[[], None], Callable[[], list[object]]]:
    """Threads for some calls: what starts them, and what waits for their results or exceptions, in order."""
    results: list[object] = [None] * len(calls)

    def run(place: int) -> None:
        try:
            results[place] = calls[place]()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]

    def start() -> None:
        for thread in threads:
            thread.start()

    def join() -> list[object]:
        for thread in threads:
            thread.join(60)
        return results

    return start, join


@dataclass
class House:
    """One data directory, opened as often as a test likes."""

    root: Path
    clock: SetClock = field(default_factory=SetClock)
    limits: Limits = field(default_factory=lambda: Limits(quiet_seconds=0.0))
    registry: Registry = assay.strategies
    index_from: int = 10**9
    catalog_url: str = ""  # of its own, in the directory, where empty
    opened: list[Assay] = field(default_factory=list)

    @property
    def url(self) -> str:
        """URL of its catalog."""
        return self.catalog_url or f"sqlite:///{self.root / 'catalog.db'}"

    def open(self, *, adopt: bool = False) -> Assay:
        """Opens the directory; what was open before is closed."""
        self.close()
        self.store = ArrowSegmentStore(self.root)
        ports = Ports(
            catalog=open_catalog(self.url),
            segments=self.store,
            exact=BlockedExactSearch(),
            indexes=FaissIndexBuilder(self.root / "derived", hnsw_from=self.index_from, build_threads=1),
            backbones=OnnxBackboneLoader(threads=1),
            heads=TorchHeads(),
            scratch=ScratchSpace(self.root / "scratch", 1 << 20),
            clock=self.clock,
        )
        self.catalog = ports.catalog
        try:
            self.opened.append(Assay.open(ports, self.limits, self.registry, adopt=adopt))
        except BaseException:
            self.catalog.close()
            raise
        return self.opened[-1]

    def close(self) -> None:
        """Closes what is open."""
        while self.opened:
            self.opened.pop().close()

    def with_limits(self, **changes: Any) -> "House":
        """The same house under other bounds, from the next opening on."""
        self.limits = replace(self.limits, **changes)
        return self

    def merger(self, segment_bytes: int = 1 << 28) -> Merger:
        """A merger over its files."""
        return Merger(self.store, segment_bytes)

    def files(self) -> set[str]:
        """Files of its pools, below the data directory."""
        return {str(path.relative_to(self.root)) for path in (self.root / "pools").rglob("*") if path.is_file()}


def key(request_id: str, body: str = "", method: str = "test") -> RequestKey:
    """A request key; the response is the result's text."""
    return RequestKey(request_id, method, body, lambda result: repr(result).encode())


def of_classes(names: Sequence[str]) -> TaskRecord:
    """The task of one of these classes."""
    return TaskRecord.of_classes(TaskKind.CLASSIFICATION, names)


def make_pool(core: Assay, pool_id: str = POOL, **spec: Any) -> None:
    """A pool, by default with three classes, and l2 as its metric so that vectors stay as they are given."""
    task = spec.pop("task", None) or of_classes(spec.pop("class_names", CLASSES))
    core.pools.create(PoolSpec(pool_id, **{"metric": Metric.L2, "task": task, **spec}), NO_KEY)


def names(start: int, stop: int) -> list[str]:
    """Ids s<start> .. s<stop - 1>."""
    return [f"s{number}" for number in range(start, stop)]


def vectors(count: int, seed: int = 0, dimension: int = DIMENSION) -> npt.NDArray[np.float32]:
    """Normal vectors."""
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def probabilities(count: int, seed: int = 0, classes: int = len(CLASSES)) -> npt.NDArray[np.float32]:
    """Random distributions."""
    return np.random.default_rng(seed).dirichlet(np.ones(classes), count).astype(np.float32)


def numbers(values: Sequence[int]) -> AttributeColumn:
    """An attribute of integers."""
    return AttributeColumn("int64", np.array(values, np.int64))


def batch(
    ids: Sequence[str], embeddings: Any = None, labels: Sequence[Given] | None = None, **columns: Any
) -> IngestBatch:
    """A batch; embeddings are made from the ids' count where neither they nor inputs are given."""
    if embeddings is None and "inputs" not in columns:
        embeddings = vectors(len(ids))
    return IngestBatch(SampleColumns(list(ids), **columns), embeddings, labels)


def add(
    core: Assay,
    ids: Sequence[str],
    embeddings: Any = None,
    on_conflict: OnConflict = OnConflict.ERROR,
    request: RequestKey = NO_KEY,
    pool: str = POOL,
    **columns: Any,
) -> AddResult:
    """Adds a batch."""
    return core.samples.add(pool, batch(ids, embeddings, **columns), on_conflict, request)


def fill(core: Assay, count: int, step: int = 0, pool: str = POOL, **columns: Any) -> npt.NDArray[np.float32]:
    """Adds s0 .. s<count - 1> in batches, with their number as the attribute n and their id as payload; returns their
    embeddings."""
    embeddings = vectors(count)
    for start in range(0, count, step or count):
        stop = min(count, start + (step or count))
        ids = names(start, stop)
        part = {name: values[start:stop] for name, values in columns.items()}
        add(
            core,
            ids,
            embeddings[start:stop],
            pool=pool,
            attributes={"n": numbers(range(start, stop))},
            payloads=[sample_id.encode() for sample_id in ids],
            **part,
        )
    return embeddings


def pool_of(core: Assay, pool_id: str = POOL) -> Pool:
    """The open pool behind the services."""
    return core._directory.get(pool_id)


def counts(core: Assay, pool_id: str = POOL) -> dict[str, int]:
    """Samples in each state that has any, by name."""
    found = core.pools.get(pool_id).counts
    return {state.name: count for state, count in found.items() if count and state is not State.ABSENT}


def standing(core: Assay, pool_id: str = POOL) -> tuple[object, ...]:
    """What a refused request must leave as it was."""
    view = core.pools.get(pool_id)
    leases = core.labeling.leases(pool_id, "", 0, 1000)
    return view.record, view.counts, view.attributes, view.segments, leases


def next_batch(core: Assay, size: int, worker: str = "ada", request: RequestKey = NO_KEY, **spec: Any) -> BatchResult:
    """Leases a batch."""
    return core.labeling.next_batch(POOL, BatchSpec(worker, size, **spec), request)


def under(taken: BatchResult) -> dict[str, Any]:
    """What a request under a lease says of it."""
    record = taken.lease.record
    return {"lease": record.lease_id, "fencing_token": record.fencing_token, "worker": record.worker}


def annotate(core: Assay, labels: Mapping[str, Given], taken: BatchResult | None = None, **spec: Any) -> AnnotateResult:
    """Says something of samples, under a lease or without one."""
    if taken is not None:
        spec = {**under(taken), **spec}
    request, pool = spec.pop("request", NO_KEY), spec.pop("pool", POOL)
    said = AnnotateSpec(spec.pop("worker", "ada"), tuple(labels), tuple(labels.values()), **spec)
    return core.annotations.annotate(pool, said, request)


def skip(core: Assay, ids: Sequence[str], taken: BatchResult | None = None, **spec: Any) -> SkipResult:
    """Skips samples, under a lease or without one."""
    request = spec.pop("request", NO_KEY)
    spec = {"worker": "ada", **(under(taken) if taken else {}), **spec}
    return core.annotations.skip(POOL, SkipSpec(sample_ids=ids, **spec), request)


def withdraw(core: Assay, ids: Sequence[str], worker: str = "ada", **spec: Any) -> WithdrawResult:
    """Takes annotations back."""
    request = spec.pop("request", NO_KEY)
    return core.annotations.withdraw(POOL, WithdrawSpec(worker, ids, **spec), request)


def review(core: Assay, decisions: Mapping[str, Any], worker: str = "rita", **spec: Any) -> ReviewResult:
    """What a reviewer decides of samples: a ReviewAction, the number of an annotation to accept, or a value."""
    actions = [
        each if isinstance(each, ReviewAction) else ReviewAction.ACCEPT if isinstance(each, int) else ReviewAction.VALUE
        for each in decisions.values()
    ]
    said = list(zip(actions, decisions.values(), strict=True))
    values = [each if action is ReviewAction.VALUE else None for action, each in said]
    accepts = [each if action is ReviewAction.ACCEPT else -1 for action, each in said]
    request = spec.pop("request", NO_KEY)
    return core.annotations.review(POOL, ReviewSpec(worker, list(decisions), actions, values, accepts, **spec), request)


def undo(core: Assay, worker: str, event: int | None = None, **spec: Any) -> UndoResult:
    """Undoes what somebody did last."""
    request = spec.pop("request", NO_KEY)
    return core.annotations.undo(POOL, UndoSpec(worker, event, **spec), request)


def set_state(core: Assay, action: str, ids: Sequence[str], worker: str = "ann", **spec: Any) -> StateResult:
    """Sets samples aside, takes them back or reopens them."""
    request = spec.pop("request", NO_KEY)
    return core.annotations.set_state(POOL, StateSpec(worker, ids, StateAction(action), **spec), request)


def events_of(core: Assay, after: int = -1, limit: int = 100, **asked: Any) -> tuple[EventView, ...]:
    """Events of the log by number."""
    return core.annotations.events(POOL, EventQuery(**asked), after, limit).events


def labels_of(core: Assay, after: int = -1, limit: int = 100, **asked: Any) -> list[LabelView]:
    """Labels by row."""
    return core.annotations.labels(POOL, asked.pop("worker", ""), asked.pop("class_name", ""), after, limit, **asked)


def with_inputs(ids: Sequence[str], seed: int = 0, features: int = 5, **columns: Any) -> IngestBatch:
    """A batch of inputs for `linear_embedder`."""
    return batch(ids, inputs={"features": vectors(len(ids), seed, features)}, **columns)


def label_by_sign(core: Assay, embeddings: npt.NDArray[np.float32], count: int) -> None:
    """Labels the first samples by the sign of their first component."""
    annotate(core, {f"s{i}": "ant" if embeddings[i, 0] > 0 else "bee" for i in range(count)})


def done(core: Assay, operation: OperationView) -> OperationView:
    """The operation once it has ended well."""
    ended = core.operations.wait(operation.record.operation_id, 60)
    assert ended.record.done, ended
    assert not ended.record.error_reason, ended.record.error_message
    return ended


def model_id_of(view: Any) -> bytes:
    """An encoding of a model for operations."""
    return bytes(view.record.model_id, "utf-8")


def train(core: Assay, **spec: Any) -> str:
    """Trains a head, activated by default; returns its id."""
    operation = core.models.train(POOL, TrainSpec(**{"activate": True, **spec}), NO_KEY, model_id_of)
    return done(core, operation).record.response.decode()


def activate(core: Assay, model_id: str) -> None:
    """Activates a model and waits."""
    done(core, core.models.activate(POOL, model_id, NO_KEY, model_id_of))


def receive(
    core: Assay,
    content: bytes,
    model_id: str,
    *,
    pool: str = POOL,
    size: int | None = None,
    data_files: Mapping[str, int] | None = None,
    sha256: str = "",
    key: RequestKey = NO_KEY,
    **declared: Any,
) -> ModelView:
    """Uploads the bytes of an ONNX file, and of data files of these sizes after it."""
    files = tuple(DataFile(name, size) for name, size in (data_files or {}).items())
    given = len(content) - sum(file.size_bytes for file in files) if size is None else size
    spec = UploadSpec(model_id, "", BackboneSpec(**declared), given, files, sha256)
    arriving = core.models.receive(pool, spec, key)
    try:
        for start in range(0, len(content), 1000):
            arriving.write(content[start : start + 1000])
        return arriving.finish()
    finally:
        arriving.abandon()


def upload(core: Assay, path: str, model_id: str, **declared: Any) -> None:
    """Uploads a backbone from a file."""
    content = Path(path).read_bytes()
    receive(core, content, model_id, **declared)


def refused(reason: Reason | str, call: Callable[[], object]) -> AssayError:
    """The error of a call that must be refused for a reason."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - StrategyError and AssayError share only their reason
        call()
    assert getattr(caught.value, "reason", None) == reason, repr(caught.value)
    assert str(caught.value)
    return caught.value  # type: ignore[return-value]


def flip_byte(path: Path) -> None:
    """Damages the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
