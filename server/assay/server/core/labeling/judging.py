"""Annotators of a pool: what can be said of them, and labels by their skills."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from assay.server.core.errors import AssayError, OutcomeUnknown, Reason
from assay.server.core.labeling import resolving
from assay.server.core.labeling.annotators import Annotator, annotators
from assay.server.core.labeling.deriving import Derived
from assay.server.core.labeling.resolving import Rederived
from assay.server.core.labeling.surveying import compared, labels_of, survey
from assay.server.core.operations.messages import OperationView
from assay.server.core.operations.service import OperationService, Task
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.pool import NO_KEY, Pool
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.catalog import Catalog
from assay.server.core.ports.machine import Clock
from assay.server.core.records.annotations import Blobs, ClassArray, Policy, Values
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.pools import State
from assay.server.core.records.requests import RequestKey
from assay.server.core.tasks.base import Column
from assay.server.core.tasks.base import Task as PoolTask

STAGES = 3


@dataclass(frozen=True, slots=True)
class AnnotatorView:
    """What one annotator of a pool did."""

    worker: str
    report: Annotator


@dataclass(frozen=True, slots=True)
class AnnotatorsView:
    """Annotators by name, and the names of the classes that they are told by."""

    class_names: tuple[str, ...]
    annotators: tuple[AnnotatorView, ...]


@dataclass(frozen=True, slots=True)
class ResolveResult:
    """What ResolveLabels did.

    Attributes:
        samples: that several annotated and whose answers are all there.
        changed: whose label is another one now, or none.
        disputed: of `samples`, those where the answers do not decide.
        overtaken: of which something was said meanwhile: their labels are those that followed from that.
        converged: whether more iterations would have changed next to nothing.
        epoch: of the pool afterwards.
    """

    samples: int
    changed: int
    disputed: int
    overtaken: int
    converged: bool
    epoch: int


class JudgingService:
    """Reports on annotators, and estimates labels and skills together."""

    def __init__(self, pools: PoolDirectory, catalog: Catalog, clock: Clock, operations: OperationService) -> None:
        self._pools = pools
        self._catalog = catalog
        self._clock = clock
        self._operations = operations

    def annotators(self, pool_id: str) -> AnnotatorsView:
        """A report on each annotator with a standing answer, by name. Skills are estimated over the samples that
        several annotated.

        Raises:
            AssayError: POOL_NOT_FOUND; TOO_LARGE, see `crowd.dawid_skene`.
            Interrupted: the work is to stop.
        """
        snapshot = self._pools.get(pool_id).snapshot
        found = survey(self._catalog, snapshot)
        judged = compared(snapshot.task, found)
        labels = labels_of(snapshot, found.rows_N)
        skills_W = None if judged is None else judged[1].skills_W
        reports = annotators(snapshot.task, found.given, labels, found.seconds_A, skills_W)
        views = [AnnotatorView(worker, report) for worker, report in zip(found.workers, reports, strict=True)]
        # Of whom nothing stands there is nothing to say.
        some = sorted((view for view in views if view.report.annotations), key=lambda view: view.worker)
        return AnnotatorsView(snapshot.pool.class_names, tuple(some))

    def resolve(self, pool_id: str, encode: Callable[[ResolveResult], bytes], key: RequestKey) -> OperationView:
        """Starts to resolve the labels of a pool whose policy is `weighted`; see _resolve. `encode` makes its response.

        Raises:
            AssayError: POLICY_INFEASIBLE for a pool of another policy, whose labels follow at once from what is said;
                BUSY.
            RequestReplayed: it was started before under the same key.
        """
        pool = self._pools.begin(pool_id, key)
        _check_weighted(pool.snapshot)
        task = self._operations.prepare("resolve_labels", pool.snapshot.pool, alone="labels")
        try:
            with pool.change(key) as change:
                change.answer(task.view)
                self._operations.record(change.tx, task)
        except OutcomeUnknown as error:
            self._operations.abandon(task, error)
            raise
        return self._operations.launch(task, lambda running: encode(self._resolve(pool, running)))

    def _resolve(self, pool: Pool, task: Task) -> ResolveResult:
        """Labels of all samples with as many answers as are wanted, everybody counted by estimated skill. Where they
        are others than before, that is appended to the log; a reviewer's verdict stays, and so does what was derived
        from something said meanwhile."""
        snapshot = pool.snapshot
        task.report("read", 0, STAGES)
        found = survey(self._catalog, snapshot)
        task.report("weigh", 1, STAGES)
        judged = compared(snapshot.task, found)
        if judged is None:
            return ResolveResult(0, 0, 0, 0, True, snapshot.pool.epoch)
        samples, weighed = judged
        rows_N = found.rows_N[samples]
        counts_N = np.bincount(found.given.samples_A, minlength=found.given.samples)[samples]
        decided = np.flatnonzero((counts_N >= snapshot.wanted(rows_N)) & ~snapshot.workers.judged.holds(rows_N))
        rows_N = rows_N[decided]
        derived = Derived(
            _values(snapshot.task, weighed.values, decided),
            weighed.agreement_N[decided].astype(np.float32),
            weighed.confidence_N[decided].astype(np.float32),
        )
        last_events_N = snapshot.last_events.at(rows_N).astype(np.int64, copy=False)
        labels = Rederived(rows_N, last_events_N, derived)
        task.report("store", 2, STAGES)
        changed, overtaken, epoch = self._store(pool, snapshot, labels)
        disputed = int((~weighed.settled_N[decided]).sum())
        return ResolveResult(len(decided), changed, disputed, overtaken, weighed.converged, epoch)

    def _store(self, pool: Pool, snapshot: Snapshot, labels: Rederived) -> tuple[int, int, int]:
        """Stores labels that are others than before; how many, how many were overtaken, and the epoch."""
        with pool.change(NO_KEY) as change:
            before = change.before
            if _terms(before) != _terms(snapshot):
                raise AssayError(
                    Reason.CONFLICT,
                    f"Pool {before.pool.pool_id!r} was updated meanwhile: its classes, policy or answers per sample "
                    "are others now. Start it again.",
                )
            there = ~np.isin(before.states.at(labels.rows_N), (State.DELETED, State.ABSENT))
            same = before.last_events.at(labels.rows_N).astype(np.int64, copy=False) == labels.last_events_N
            current = resolving.part(labels, np.flatnonzero(there & same))
            other = resolving.part(current, np.flatnonzero(resolving.differ(before, current)))
            changed = resolving.append_resolved(change, other, self._clock.now())
        return changed, len(labels.rows_N) - len(current.rows_N), pool.snapshot.pool.epoch


def _check_weighted(snapshot: Snapshot) -> None:
    pool = snapshot.pool
    if pool.policy is not Policy.WEIGHTED:
        raise AssayError(
            Reason.POLICY_INFEASIBLE,
            f"The policy of pool {pool.pool_id!r} is {pool.policy.value!r}: its labels follow at once from what is "
            "said. Only those of 'weighted' are resolved: update the pool's policy first.",
            policy=pool.policy.value,
        )


def _terms(snapshot: Snapshot) -> tuple[object, ...]:
    """What labels follow from."""
    return snapshot.pool.task, snapshot.pool.policy, snapshot.pool.annotations_per_sample


def _values(task: PoolTask, values: Column, places: RowArray) -> Values:
    """Some labels as they are stored."""
    if isinstance(values, np.ndarray):
        classes_N: ClassArray = values[places].astype(np.int32)
        return classes_N
    some = [values[place] for place in places.tolist()]
    return Blobs.of([None if one is None else task.encode(one) for one in some])
