"""Models: upload, list, activate, roll back, delete, train, predict."""

import math
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from assay.server.core import checks
from assay.server.core.errors import AssayError, OutcomeUnknown, Reason
from assay.server.core.limits import MAX_ID_BYTES, Limits
from assay.server.core.models.activation import Activation
from assay.server.core.models.learning import measured, require_head, softened, targets_of
from assay.server.core.models.messages import ModelView, PredictResult, PredictSpec, TrainSpec, UploadSpec
from assay.server.core.models.predicting import Prediction
from assay.server.core.models.uploading import BackboneUpload
from assay.server.core.operations.messages import OperationView
from assay.server.core.operations.service import OperationService, Task, Work
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.pool import NO_KEY, Pool
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.catalog import Catalog
from assay.server.core.ports.machine import Clock
from assay.server.core.ports.models import BackboneLoader, Heads
from assay.server.core.ports.search import IndexBuilder
from assay.server.core.ports.segments import SegmentStore
from assay.server.core.records.arrays import FloatArray, RowArray
from assay.server.core.records.changes import ModelAction, ModelChanged
from assay.server.core.records.models import ModelKind, ModelRecord
from assay.server.core.records.pools import space_id
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.tasks import TaskKind

# How sure the labels of rows are, in (0, 1].
Confidences = Callable[[Snapshot, RowArray], FloatArray]
EncodeModel = Callable[[ModelView], bytes]


class ModelService:
    """The model versions of each pool."""

    def __init__(
        self,
        pools: PoolDirectory,
        catalog: Catalog,
        segments: SegmentStore,
        indexes: IndexBuilder,
        backbones: BackboneLoader,
        heads: Heads,
        activation: Activation,
        operations: OperationService,
        clock: Clock,
        limits: Limits,
        confidences: Confidences,
    ) -> None:
        self._pools = pools
        self._catalog = catalog
        self._segments = segments
        self._indexes = indexes
        self._backbones = backbones
        self._heads = heads
        self._activation = activation
        self._operations = operations
        self._clock = clock
        self._limits = limits
        self._confidences = confidences
        self._prediction = Prediction(heads)

    # --- versions --------------------------------------------------------------------------------------------------

    def receive(self, pool_id: str, spec: UploadSpec, key: RequestKey) -> BackboneUpload:
        """Begins to take a backbone in, which is stored once it has passed its trial.

        Raises:
            AssayError: MODEL_EXISTS, TOO_LARGE, INVALID_NAME, STORAGE_FULL.
            RequestReplayed: it was accepted before under the same key.
        """
        pool = self._pools.begin(pool_id, key)
        model_id = checks.name(spec.model_id or f"backbone-{secrets.token_hex(4)}", "model")
        checks.text(spec.display_name, "display_name", MAX_ID_BYTES)
        self._refuse_size(spec.total_bytes)
        self._refuse_existing(pool.snapshot, model_id)
        incoming = self._segments.receive_model(pool.snapshot.pool.uid, model_id)
        return BackboneUpload(spec, incoming, partial(self._accept, pool, model_id, spec, key))

    def _accept(
        self, pool: Pool, model_id: str, spec: UploadSpec, key: RequestKey, file: str, sha256: str
    ) -> ModelView:
        with pool.leftovers.of_change(new=[file]):
            if spec.sha256 and spec.sha256 != sha256:
                raise _invalid(f"The file arrived with SHA-256 {sha256}, not {spec.sha256}. Send it again.")
            info = self._backbones.examine(self._segments.model_path(file), spec.backbone, sha256, spec.data_files)
            self._refuse_dimension(info.dimension)
            _refuse_classes(pool.snapshot, info.classes)
            now = self._clock.now()
            with pool.change(key) as change:
                number = change.before.pool.next_space
                record = ModelRecord(model_id, ModelKind.BACKBONE, spec.display_name, now, file, space_id(number), info)
                change.replace_pool(next_space=number + 1)
                result = ModelView(record, active=False, task=change.before.pool.task)
                change.answer(result)
                change.tell(ModelChanged(ModelAction.ADDED, model_id, record.kind))
                change.tx.add_model(pool.snapshot.pool.uid, record)
        return result

    def _refuse_size(self, size_bytes: int) -> None:
        if not 1 <= size_bytes <= self._limits.max_model_bytes:
            raise AssayError(
                Reason.TOO_LARGE, f"A backbone has 1 to {self._limits.max_model_bytes:,} bytes, not {size_bytes:,}."
            )

    def _refuse_dimension(self, dimension: int) -> None:
        if dimension > self._limits.max_dimension:
            raise _invalid(
                f"The backbone's embeddings have {dimension:,} numbers; a pool's have at most "
                f"{self._limits.max_dimension:,}. Name another output, or pool it in the model."
            )

    def _refuse_existing(self, snapshot: Snapshot, model_id: str) -> None:
        with self._catalog.reading() as tx:
            if tx.model(snapshot.pool.uid, model_id) is not None:
                raise AssayError(
                    Reason.MODEL_EXISTS,
                    f"The pool already has a model {model_id!r}. Choose another id.",
                    model=model_id,
                )

    def get(self, pool_id: str, model_id: str) -> ModelView:
        """A model version. Raises AssayError(MODEL_NOT_FOUND)."""
        snapshot = self._pools.get(pool_id).snapshot
        return _view(snapshot, self._record(snapshot, model_id))

    def list(self, pool_id: str, kind: ModelKind | None, below: int, limit: int) -> "list[ModelView]":
        """Model versions, newest first, those below a number."""
        snapshot = self._pools.get(pool_id).snapshot
        with self._catalog.reading() as tx:
            return [
                _view(snapshot, model) for model in tx.models(snapshot.pool.uid, kind=kind, below=below, limit=limit)
            ]

    def delete(self, pool_id: str, model_id: str, key: RequestKey) -> None:
        """Deletes a version that is not active, a backbone with its embedding space. Raises
        AssayError(MODEL_NOT_FOUND | MODEL_ACTIVE)."""
        pool = self._pools.begin(pool_id, key)
        files: list[str] = []
        with pool.leftovers.of_change(old=files), pool.change(key) as change:
            uid = change.before.pool.uid
            record = self._record(change.before, model_id)
            backbone = record.kind is ModelKind.BACKBONE
            if _view(change.before, record).active or (backbone and record.space == change.before.pool.space):
                raise AssayError(
                    Reason.MODEL_ACTIVE, f"Model {model_id!r} is active. Activate another one first.", model=model_id
                )
            change.answer(None)
            change.tell(ModelChanged(ModelAction.DELETED, model_id, record.kind))
            vectors = [file for file in change.tx.segments(uid) if backbone and file.kind == "vectors"]
            spaces = [file.file for file in vectors if file.space == record.space]
            files += [record.file, *spaces]
            change.tx.remove_segments(uid, spaces)
            change.tx.delete_model(uid, model_id)
        if backbone:
            self._indexes.forget(uid, record.space)

    def _record(self, snapshot: Snapshot, model_id: str) -> ModelRecord:
        with self._catalog.reading() as tx:
            record = tx.model(snapshot.pool.uid, model_id)
        if record is not None:
            return record
        raise AssayError(
            Reason.MODEL_NOT_FOUND,
            f"Pool {snapshot.pool.pool_id!r} has no model {model_id!r}. List its models.",
            model=model_id,
        )

    # --- the current model -----------------------------------------------------------------------------------------

    def activate(self, pool_id: str, model_id: str, key: RequestKey, encode: EncodeModel) -> OperationView:
        """Starts making a version the active one. Raises AssayError(MODEL_NOT_FOUND | MODEL_SPACE_MISMATCH |
        INPUTS_NOT_KEPT | BUSY)."""
        pool = self._pools.begin(pool_id, key)
        record = self._record(pool.snapshot, model_id)
        self._activation.check(pool.snapshot, record)

        def work(task: Task) -> bytes:
            self._activation.run(pool, record, task)
            return encode(_view(pool.snapshot, record))

        return self._start("activate_model", record.kind, pool, key, work)

    def rollback(self, pool_id: str, kind: ModelKind, key: RequestKey, encode: EncodeModel) -> OperationView:
        """Starts activating the version that was active before. Raises AssayError(NOTHING_TO_ROLL_BACK |
        BUSY)."""
        pool = self._pools.begin(pool_id, key)
        return self.activate(pool_id, self._activation.previous(pool.snapshot, kind), key, encode)

    def train(self, pool_id: str, spec: TrainSpec, key: RequestKey, encode: EncodeModel) -> OperationView:
        """Starts training a head on the labels. Raises AssayError(INVALID_ARGUMENT | TOO_FEW_CLASSES | BUSY); the
        operation ends with TOO_FEW_CLASSES or TOO_FEW_LABELS where a head of the task has nothing to learn."""
        pool = self._pools.begin(pool_id, key)
        _check_train_spec(spec)
        require_head(pool.snapshot)
        _require_two_classes(pool.snapshot)

        def work(task: Task) -> bytes:
            record = self._train(pool, spec, task)
            if spec.activate:
                self._activation.run(pool, record, task)
            return encode(_view(pool.snapshot, record))

        return self._start("train_head", ModelKind.HEAD, pool, key, work)

    def _start(self, kind: str, model: ModelKind, pool: Pool, key: RequestKey, work: Work) -> OperationView:
        """Starts an operation. Two on heads of a pool would only undo each other, and two on backbones embed every
        sample twice into one space: so they take turns."""
        task = self._operations.prepare(kind, pool.snapshot.pool, alone=str(model))
        try:
            with pool.change(key) as change:
                change.answer(task.view)
                self._operations.record(change.tx, task)
        except OutcomeUnknown as error:
            self._operations.abandon(task, error)
            raise
        return self._operations.launch(task, work)

    def _train(self, pool: Pool, spec: TrainSpec, task: Task) -> ModelRecord:
        snapshot = pool.snapshot
        rows = snapshot.learned_rows
        targets, weights_N = targets_of(snapshot, rows), None
        if spec.soft_targets:
            targets, weights_N = softened(targets, self._confidences(snapshot, rows))
        trained = self._heads.train(
            snapshot.gather(rows),
            targets,
            weights_N,
            l2=spec.l2,
            balanced=spec.balanced,
            members=spec.members,
            folds=spec.folds,
            seed=spec.seed,
            progress=lambda done, total: task.report("train", done, total),
            stop=task.stopped,
        )
        info = replace(measured(snapshot, rows, trained, self._heads, spec.seed), soft_targets=spec.soft_targets)
        model_id = f"head-{secrets.token_hex(4)}"
        uid = snapshot.pool.uid
        file, _, _ = self._segments.write_model(uid, model_id, [self._heads.encode(trained.weights)])
        now, space = self._clock.now(), snapshot.pool.space
        record = ModelRecord(model_id, ModelKind.HEAD, spec.display_name, now, file, space, info)
        with pool.leftovers.of_change(new=[file]), pool.change(NO_KEY) as change:
            change.tell(ModelChanged(ModelAction.ADDED, model_id, record.kind))
            change.tx.add_model(uid, record)
        return record

    # --- prediction ------------------------------------------------------------------------------------------------

    def predict(self, pool_id: str, spec: PredictSpec) -> PredictResult:
        """What is predicted of samples of the pool, or of fresh embeddings or inputs; see Prediction.run."""
        pool = self._pools.get(pool_id)
        snapshot = pool.snapshot
        head = None
        if spec.head and (snapshot.head is None or spec.head != snapshot.head.record.model_id):
            record = self._record(snapshot, spec.head)
            self._activation.check_head(snapshot, record)
            head = self._activation.load_head(record)
        return self._prediction.run(pool, snapshot, spec, head)


def _view(snapshot: Snapshot, record: ModelRecord) -> ModelView:
    active = record.model_id in (snapshot.pool.backbone, snapshot.pool.head)
    return ModelView(record, active, snapshot.pool.task)


def _refuse_classes(snapshot: Snapshot, classes: int) -> None:
    if classes and snapshot.pool.task.kind is not TaskKind.CLASSIFICATION:
        raise _invalid(
            f"The backbone gives logits, which are read as those of one class a sample, and the pool's task is "
            f"{snapshot.pool.task.kind}. Name no logits output, or export the model without it."
        )
    known = len(snapshot.pool.task.classes)
    if classes not in (0, known):
        raise _invalid(
            f"The backbone gives logits of {classes} classes; the pool has {known}. "
            "Name no logits output, or export the model without it."
        )


def _check_train_spec(spec: TrainSpec) -> None:
    """A head to train. Raises AssayError(INVALID_ARGUMENT)."""
    checks.text(spec.display_name, "display_name", MAX_ID_BYTES)
    if spec.l2 is not None and not (math.isfinite(spec.l2) and spec.l2 > 0):
        raise AssayError(Reason.INVALID_ARGUMENT, f"l2 is a finite number above 0, not {spec.l2}.")
    if not 1 <= spec.members <= 64:
        raise AssayError(Reason.INVALID_ARGUMENT, f"A committee has 1 to 64 members, not {spec.members}.")
    if not 2 <= spec.folds <= 20:
        raise AssayError(Reason.INVALID_ARGUMENT, f"Cross-validation takes 2 to 20 folds, not {spec.folds}.")


def _require_two_classes(snapshot: Snapshot) -> None:
    if snapshot.pool.task.kind is not TaskKind.CLASSIFICATION:
        return  # Heads of other tasks say themselves what they lack.
    rows = snapshot.learned_rows
    classes = np.unique(snapshot.labels.at(rows))
    if len(classes) < 2:
        raise AssayError(
            Reason.TOO_FEW_CLASSES,
            f"A head needs labels of at least two classes; the pool has {len(rows)} labels of {len(classes)}, those "
            "that are set apart not counted. Label more samples.",
            labels=len(rows),
            classes=len(classes),
        )


def _invalid(message: str) -> AssayError:
    return AssayError(Reason.MODEL_INVALID, message)
