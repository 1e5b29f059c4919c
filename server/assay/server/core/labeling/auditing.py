"""Audits of pools: which labels are probably wrong."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from assay.server.core import checks
from assay.server.core.errors import AssayError, OutcomeUnknown, Reason
from assay.server.core.labeling import suspicion
from assay.server.core.labeling.surveying import Survey, part_of, survey
from assay.server.core.labeling.suspicion import KINDS, Found
from assay.server.core.limits import Limits
from assay.server.core.models.learning import targets_of
from assay.server.core.models.merged import fold
from assay.server.core.operations.messages import OperationView
from assay.server.core.operations.service import OperationService, Task
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.pool import NO_KEY, Pool
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.suspects import Suspects
from assay.server.core.ports.catalog import Catalog
from assay.server.core.ports.machine import Clock
from assay.server.core.ports.models import Heads
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.filters import Filter
from assay.server.core.records.models import ClassTargets, TrainedHead
from assay.server.core.records.pools import State
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.suspects import UNRATED, Rating, SuspectKind, SuspectRecord
from assay.strategies import Need, checkpoint

MAX_NEIGHBORS = 1000
_ANSWERED = (State.ANSWERED, State.LEASED, State.LABELED, State.DISPUTED)
# Folds of the cross-validation that predicts each sample by models that did not see its label.
_FOLDS = 5
_PREDICTED_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class AuditSpec:
    """What to audit: the kinds, in () all that the task serves; samples that match a filter; how many neighbours each
    label is compared with; and within which distance (L2) samples are copies of each other."""

    kinds: tuple[SuspectKind, ...] = ()
    filter: Filter | None = None
    neighbors: int = 10
    radius: float = 0.0


@dataclass(frozen=True, slots=True)
class KindResult:
    """What an audit of one kind looked at and found; why it was left out, "" where it was not. `kept`: those that
    are stored."""

    kind: SuspectKind
    samples: int = 0
    found: int = 0
    kept: int = 0
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What an audit found, by kind; `suspects`: different samples. epoch: of the pool afterwards."""

    kinds: tuple[KindResult, ...]
    suspects: int
    epoch: int


@dataclass(frozen=True, slots=True)
class SuspectView:
    """A suspect: place in the audit, sample, what contradicts its label and how strongly; names of its class and of the
    one that is likelier, "" where there is none."""

    place: int
    sample_id: str
    kind: SuspectKind
    score: float
    label: str
    suggested: str


@dataclass(frozen=True, slots=True)
class SuspectsView:
    """Suspects of the last audit of a pool, those with the highest scores first; `audit_epoch`, which names the audit,
    is 0 before the first."""

    suspects: list[SuspectView]
    audit_epoch: int


class AuditService:
    """Audits pools, and lists what was found."""

    def __init__(
        self,
        pools: PoolDirectory,
        catalog: Catalog,
        clock: Clock,
        heads: Heads,
        operations: OperationService,
        limits: Limits,
    ) -> None:
        self._pools = pools
        self._catalog = catalog
        self._clock = clock
        self._heads = heads
        self._operations = operations
        self._limits = limits

    def audit(
        self, pool_id: str, spec: AuditSpec, encode: Callable[[AuditResult], bytes], key: RequestKey
    ) -> OperationView:
        """Starts an audit, whose outcome takes the place of the one before. `encode` makes its response.

        Raises:
            AssayError: NEED_MISSING for a kind that the pool's task cannot serve; INVALID_ARGUMENT; as
                checks.filter_fits; BUSY. The operation ends with TOO_LARGE where the vectors are more than may be
                held at once.
            RequestReplayed: it was started before under the same key.
        """
        pool = self._pools.begin(pool_id, key)
        _check(spec, pool.snapshot)
        task = self._operations.prepare("audit_pool", pool.snapshot.pool, alone="audit")
        try:
            with pool.change(key) as change:
                change.answer(task.view)
                self._operations.record(change.tx, task)
        except OutcomeUnknown as error:
            self._operations.abandon(task, error)
            raise
        return self._operations.launch(task, lambda running: encode(self._audit(pool, spec, running)))

    def _audit(self, pool: Pool, spec: AuditSpec, task: Task) -> AuditResult:
        audited = _Audit(pool.snapshot, spec, task, self._catalog, self._heads, self._limits)
        kinds = spec.kinds or KINDS[pool.snapshot.pool.task.kind]
        stages = len(kinds) + 2
        results: list[KindResult] = []
        found: list[tuple[SuspectKind, Found]] = []
        for number, kind in enumerate(kinds):
            checkpoint()
            task.report(kind.name.lower(), number, stages)
            try:
                samples, of_kind = audited.of(kind)
            except _LeftOut as reason:
                results.append(KindResult(kind, left_out=str(reason)))
                continue
            found.append((kind, of_kind))
            results.append(KindResult(kind, samples, of_kind.count, len(of_kind.rows_M)))
        checkpoint()
        task.report("rate", len(kinds), stages)
        rating = audited.rating(np.unique(np.concatenate([_NO_ROWS, *(each.rows_M for _, each in found)])))
        task.report("store", len(kinds) + 1, stages)
        with pool.change(NO_KEY) as change:
            record = self._record(audited.snapshot, change.before, found, rating)
            change.replace(suspects=Suspects(record))
            change.tx.put_suspects(change.before.pool.uid, record)
            epoch = change.epoch
        return AuditResult(tuple(results), len(record.rows_S), epoch)

    def _record(
        self, audited: Snapshot, now: Snapshot, found: Sequence[tuple[SuspectKind, Found]], rating: Rating
    ) -> SuspectRecord:
        """What was found, less the samples that somebody has spoken of meanwhile."""
        rows_M = np.concatenate([np.empty(0, np.int64), *(each.rows_M for _, each in found)])
        scores_M = np.concatenate([np.empty(0, np.float32), *(each.scores_M for _, each in found)])
        kinds_M = np.concatenate([np.full(len(each.rows_M), kind, np.uint8) for kind, each in found] or [_NO_KINDS])
        suggested_M = np.concatenate([np.empty(0, np.int32), *(each.suggested_M for _, each in found)])
        same_M = audited.last_events.at(rows_M) == now.last_events.at(rows_M)
        # A reviewer has the last word.
        same_M &= ~now.workers.judged.holds(rows_M) & np.isin(now.states.at(rows_M), _ANSWERED)
        order = np.lexsort((rows_M, kinds_M, -scores_M))
        order = order[same_M[order]]
        return SuspectRecord(
            self._clock.now(),
            now.pool.epoch + 1,
            now.pool.next_event,
            kinds_M[order],
            rows_M[order],
            scores_M[order],
            suggested_M[order],
            rating,
        )

    def suspects(self, pool_id: str, kind: SuspectKind | None, minimum: float, after: int, limit: int) -> SuspectsView:
        """Suspects of the last audit that nobody has spoken of since, those with the highest scores first, after a
        place; of a kind, and with scores from a minimum on, if they are given. Raises AssayError(POOL_NOT_FOUND)."""
        snapshot = self._pools.get(pool_id).snapshot
        audited = snapshot.suspects
        if audited is None:
            return SuspectsView([], 0)
        record = audited.record
        wanted_M = record.scores_M >= minimum
        if kind is not None:
            wanted_M &= record.kinds_M == kind
        wanted_M[: after + 1] = False
        places = np.flatnonzero(wanted_M)
        places = places[_shown(snapshot, record.rows_M[places])][:limit]
        return SuspectsView(list(_views(snapshot, audited, places)), record.epoch)


_NO_KINDS = np.empty(0, np.uint8)
_NO_ROWS = np.empty(0, np.int64)


class _LeftOut(Exception):
    """A kind has nothing to go by; says why."""


class _Audit:
    """One audit of a snapshot. What several kinds go by is read once."""

    def __init__(
        self, snapshot: Snapshot, spec: AuditSpec, task: Task, catalog: Catalog, heads: Heads, limits: Limits
    ) -> None:
        self.snapshot = snapshot
        self._spec = spec
        self._task = task
        self._catalog = catalog
        self._heads = heads
        self._limits = limits
        rows = np.flatnonzero(snapshot.mask([State.LABELED], spec.filter))
        self._rows = rows[~snapshot.workers.judged.holds(rows)]
        self._embeddings: FloatArray | None = None
        self._survey: Survey | None = None
        self._trained: TrainedHead | None = None
        self._of = {
            SuspectKind.MODEL: self._by_model,
            SuspectKind.NEIGHBORS: self._by_neighbors,
            SuspectKind.ANNOTATORS: self._by_annotators,
            SuspectKind.DUPLICATES: self._by_duplicates,
        }

    def of(self, kind: SuspectKind) -> tuple[int, Found]:
        """How many samples a kind looked at, and what it found. Raises _LeftOut."""
        return self._of[kind]()

    def _by_model(self) -> tuple[int, Found]:
        classes = self._two_classes()
        try:
            trained = self._heads.train(
                self._vectors(),
                classes,
                l2=None,
                balanced=False,
                members=1,
                folds=_FOLDS,
                seed=0,
                progress=lambda done, total: self._task.report("model", done, total),
                stop=self._task.stopped,
            )
        except AssayError as error:
            if error.reason not in (Reason.TOO_FEW_CLASSES, Reason.TOO_FEW_LABELS):
                raise
            raise _LeftOut(error.message) from error
        held_M = trained.held_M
        if len(held_M) == 0:
            raise _LeftOut("No class has labels enough to be predicted by models that did not see them.")
        self._trained = trained
        found = suspicion.by_model(self._rows[held_M], trained.predictions_MC, classes.classes_N[held_M])
        return len(held_M), found

    def _by_neighbors(self) -> tuple[int, Found]:
        classes = self._two_classes()
        found = suspicion.by_neighbors(self._rows, self._vectors(), classes.classes_N, self._spec.neighbors)
        return len(self._rows), found

    def _by_duplicates(self) -> tuple[int, Found]:
        if len(self._rows) < 2:
            raise _LeftOut("Fewer than two samples have labels.")
        codes_N = self.snapshot.labels.at(self._rows).astype(np.int64)
        if self.snapshot.values is None:
            codes_N = self._classes().classes_N
        return len(self._rows), suspicion.by_duplicates(self._rows, self._vectors(), codes_N, self._spec.radius)

    def _by_annotators(self) -> tuple[int, Found]:
        said = self._said()
        shared_N = np.bincount(said.given.samples_A, minlength=said.given.samples) > 1
        found = suspicion.by_annotators(said.rows_N, said.given, self.snapshot.task)
        if self._spec.filter is not None:
            matches = self.snapshot.matches(self._spec.filter)
            kept = matches[found.rows_M]
            found = Found(found.rows_M[kept], found.scores_M[kept], found.suggested_M[kept], int(kept.sum()))
            shared_N &= matches[said.rows_N]
        return int(shared_N.sum()), found

    def rating(self, suspects: RowArray) -> Rating:
        """What one more answer is worth to suspects and to samples without a label that have answers; nothing, where no
        model was trained."""
        if self._trained is None:
            return UNRATED
        snapshot, said = self.snapshot, self._said()
        rows_N = np.intersect1d(said.rows_N, np.concatenate([self._rows[self._trained.held_M], self._unsettled()]))
        if len(rows_N) == 0:
            return UNRATED
        rating = suspicion.rating(rows_N, self._predicted(rows_N), part_of(said, rows_N), snapshot.task)
        shown = np.isin(rows_N, suspects) | (snapshot.states.at(rows_N) != State.LABELED)
        worst = np.argsort(-rating.worth_R[shown], kind="stable")[: suspicion.MOST_SUSPECTS]
        kept = np.sort(np.flatnonzero(shown)[worst])
        return replace(rating, rows_R=rows_N[kept], worth_R=rating.worth_R[kept])

    def _unsettled(self) -> RowArray:
        """Samples with answers that have no label; of them no model has seen any."""
        return np.flatnonzero(self.snapshot.mask((State.ANSWERED, State.DISPUTED, State.LEASED), self._spec.filter))

    def _predicted(self, rows_N: RowArray) -> FloatArray:
        """Class probabilities of rows, by models that did not see what was said of them."""
        assert self._trained is not None
        held, columns = self._rows[self._trained.held_M], self._trained.predictions_MC.shape[1]
        probs_NC = np.empty((len(rows_N), columns), np.float32)
        places = np.minimum(np.searchsorted(held, rows_N), len(held) - 1)
        seen = held[places] == rows_N
        probs_NC[seen] = self._trained.predictions_MC[places[seen]]
        fresh = np.flatnonzero(~seen)
        for start in range(0, len(fresh), _PREDICTED_AT_ONCE):
            checkpoint()
            part = fresh[start : start + _PREDICTED_AT_ONCE]
            vectors_MD = self.snapshot.gather(rows_N[part])
            members_KNC = self._heads.predict_members(self._trained.weights, vectors_MD, columns)
            fold(self.snapshot.task.merges, Need.PROBS, members_KNC)
            probs_NC[part] = members_KNC[0]
        return probs_NC

    def _said(self) -> Survey:
        if self._survey is None:
            self._survey = survey(self._catalog, self.snapshot)
        return self._survey

    def _classes(self) -> ClassTargets:
        targets = targets_of(self.snapshot, self._rows)
        assert isinstance(targets, ClassTargets)  # KINDS
        return targets

    def _two_classes(self) -> ClassTargets:
        classes = self._classes()
        count = len(np.unique(classes.classes_N))
        if count < 2:
            raise _LeftOut(f"There are {len(self._rows)} labels of {count} classes; it takes two to confuse.")
        return classes

    def _vectors(self) -> FloatArray:
        """Vectors of the labeled samples. Raises AssayError(TOO_LARGE) for more than may be held at once."""
        if self._embeddings is None:
            needed = len(self._rows) * self.snapshot.pool.dimension * 4
            if needed > self._limits.max_selector_bytes:
                raise AssayError(
                    Reason.TOO_LARGE,
                    f"The vectors of {len(self._rows):,} labeled samples take {needed:,} bytes, more than "
                    f"{self._limits.max_selector_bytes:,}. Audit parts of them: give a filter.",
                    bytes=needed,
                )
            self._embeddings = self.snapshot.gather(self._rows)
        return self._embeddings


def _check(spec: AuditSpec, snapshot: Snapshot) -> None:
    task = snapshot.pool.task.kind
    foreign = [kind for kind in spec.kinds if kind not in KINDS[task]]
    if foreign:
        served = ", ".join(kind.name for kind in KINDS[task])
        raise AssayError(
            Reason.NEED_MISSING,
            f"An audit by {foreign[0].name} compares classes of samples, and the pool's task is {task}. Its labels can "
            f"be audited by {served}.",
            kind=foreign[0].name,
            task=task,
        )
    if len(set(spec.kinds)) < len(spec.kinds):
        raise AssayError(Reason.INVALID_ARGUMENT, "A kind is named twice; name it once.", field="kinds")
    if not 1 <= spec.neighbors <= MAX_NEIGHBORS:
        raise AssayError(
            Reason.INVALID_ARGUMENT,
            f"A label is compared with 1 to {MAX_NEIGHBORS} neighbors, not {spec.neighbors}.",
            field="neighbors",
        )
    if not (math.isfinite(spec.radius) and spec.radius >= 0):
        raise AssayError(
            Reason.INVALID_ARGUMENT,
            "duplicate_radius is a distance: give a finite number of 0 or more.",
            field="duplicate_radius",
        )
    checks.filter_fits(spec.filter, snapshot.attributes)


def _shown(snapshot: Snapshot, rows: RowArray) -> MaskArray:
    """Which of the suspects are there still, and not spoken of."""
    assert snapshot.suspects is not None
    shown: MaskArray = np.isin(snapshot.states.at(rows), _ANSWERED) & ~snapshot.suspects.settled.holds(rows)
    return shown


def _views(snapshot: Snapshot, audited: Suspects, places: RowArray) -> Iterator[SuspectView]:
    record, names = audited.record, snapshot.pool.class_names
    rows = record.rows_M[places]
    labels = snapshot.labels.at(rows).tolist()
    for place, sample_id, label in zip(places.tolist(), snapshot.ids(rows), labels, strict=True):
        suggested = int(record.suggested_M[place])
        yield SuspectView(
            place,
            sample_id,
            SuspectKind(int(record.kinds_M[place])),
            float(record.scores_M[place]),
            names[label] if label >= 0 and snapshot.values is None else "",
            names[suggested] if suggested >= 0 else "",
        )
