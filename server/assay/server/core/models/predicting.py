"""What is predicted of samples of a pool, or of fresh embeddings or inputs."""

from dataclasses import dataclass

import numpy as np

from assay.server.core import checks
from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import MAX_PREDICTED
from assay.server.core.models.merged import UNSEEN_LOGIT, fold, reached
from assay.server.core.models.messages import PredictResult, PredictSpec
from assay.server.core.models.predictions import HeadSource, PredictionCache, deviations, probabilities, source_of
from assay.server.core.pools.pool import Pool
from assay.server.core.pools.snapshot import ActiveHead, Snapshot
from assay.server.core.ports.models import Heads
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.tasks import TaskKind
from assay.server.core.stopwatch import Stopwatch
from assay.strategies import Need
from assay.strategies.candidates import softmax


@dataclass(frozen=True, slots=True)
class _Predicted:
    """Embeddings, and what a source says of them: probabilities or numbers; None where nothing predicts."""

    embeddings_ND: FloatArray
    values_NC: FloatArray | None = None
    source: str = "none"
    head: HeadSource | None = None


class Prediction:
    """Answers Predict."""

    def __init__(self, heads: Heads) -> None:
        self._heads = heads

    def run(self, pool: Pool, snapshot: Snapshot, spec: PredictSpec, head: ActiveHead | None) -> PredictResult:
        """Predicts with a given head, or with the best source of the pool.

        Raises:
            AssayError: INVALID_ARGUMENT; SAMPLE_NOT_FOUND; DIMENSION_MISMATCH, NOT_FINITE; NO_BACKBONE, INPUTS_INVALID,
                INFERENCE_FAILED; NEED_MISSING where nothing predicts and no embeddings were asked for.
        """
        given = (bool(spec.ids), spec.embeddings_ND is not None, bool(spec.inputs))
        if sum(given) != 1:
            raise AssayError(Reason.INVALID_ARGUMENT, "Predict for samples, embeddings or inputs: give exactly one.")
        watch = Stopwatch()
        if spec.ids:
            predicted = self._stored(pool, snapshot, spec, head, watch)
        else:
            predicted = self._fresh(snapshot, spec, head, watch)
        if predicted.values_NC is None and not spec.embeddings:
            raise _nothing_predicts()
        record = snapshot.pool.task
        numbers = record.kind is TaskKind.REGRESSION
        return PredictResult(
            probs_NC=None if numbers else predicted.values_NC,
            embeddings_ND=predicted.embeddings_ND if spec.embeddings else None,
            class_names=record.class_names,
            head=predicted.head.head_id if predicted.head else "",
            source=predicted.source,
            space=snapshot.pool.space,
            timings=watch.timings,
            thresholds_C=_thresholds(snapshot, predicted.head),
            values_NT=predicted.values_NC if numbers else None,
            deviations_NT=deviations(predicted.head, predicted.embeddings_ND) if numbers else None,
            target_names=tuple(target.name for target in record.targets),
        )

    def _stored(
        self, pool: Pool, snapshot: Snapshot, spec: PredictSpec, head: ActiveHead | None, watch: Stopwatch
    ) -> _Predicted:
        checks.ids(spec.ids, MAX_PREDICTED)
        rows = snapshot.require(spec.ids)
        embeddings_ND = snapshot.gather(rows)
        with watch.stage("predict"):
            source = source_of(snapshot, self._heads, head)
            if source is None:
                return _Predicted(embeddings_ND)
            if isinstance(source, HeadSource):
                # A few rows cost less than the whole pool, and another head's cache would push out the active one's.
                return self._apply(snapshot, source, embeddings_ND)
            predictions = pool.derived.get(PredictionCache).of(snapshot)
            assert predictions is not None
            if not predictions.known(snapshot)[rows].all():
                return _Predicted(embeddings_ND)
            values_NC = predictions.values(snapshot)[rows]
        return _Predicted(embeddings_ND, probabilities(source, values_NC), source.name)

    def _fresh(self, snapshot: Snapshot, spec: PredictSpec, head: ActiveHead | None, watch: Stopwatch) -> _Predicted:
        with watch.stage("embed"):
            embeddings_ND, logits_NC = self._embed(snapshot, spec)
        with watch.stage("predict"):
            chosen = head or snapshot.head
            if chosen is not None:
                source = HeadSource(chosen.record.model_id, chosen.weights, self._heads)
                return self._apply(snapshot, source, embeddings_ND)
            if logits_NC is not None:
                return _Predicted(embeddings_ND, softmax(_of_all_classes(snapshot, logits_NC)), "backbone")
        return _Predicted(embeddings_ND)

    def _embed(self, snapshot: Snapshot, spec: PredictSpec) -> tuple[FloatArray, FloatArray | None]:
        pool = snapshot.pool
        if spec.embeddings_ND is not None:
            _check_count(len(spec.embeddings_ND))
            return checks.embeddings(spec.embeddings_ND, pool.dimension, pool.metric), None
        if snapshot.backbone is None or spec.inputs is None:
            raise AssayError(
                Reason.NO_BACKBONE, f"Pool {pool.pool_id!r} has no active backbone. Upload and activate one."
            )
        _check_count(snapshot.backbone.runtime.check_inputs(spec.inputs))
        embeddings_ND, logits_NC = snapshot.backbone.runtime.embed(spec.inputs)
        return checks.embeddings(embeddings_ND, pool.dimension, pool.metric), logits_NC

    def _apply(self, snapshot: Snapshot, source: HeadSource, embeddings_ND: FloatArray) -> _Predicted:
        values_NC = np.empty((len(embeddings_ND), source.columns(snapshot)), np.float32)
        source.apply(embeddings_ND, values_NC)
        fold(snapshot.task.merges, source.need, values_NC)
        return _Predicted(embeddings_ND, probabilities(source, values_NC), source.name, source)


def _of_all_classes(snapshot: Snapshot, logits_NC: FloatArray) -> FloatArray:
    """Logits of a backbone as those of the pool's classes: it has not seen those that are newer than it."""
    all_NC = np.full((len(logits_NC), len(snapshot.pool.task.classes)), UNSEEN_LOGIT, np.float32)
    all_NC[:, : logits_NC.shape[1]] = logits_NC
    fold(snapshot.task.merges, Need.LOGITS, all_NC)
    return all_NC


def _thresholds(snapshot: Snapshot, head: HeadSource | None) -> FloatArray | None:
    """Of all classes; those that are newer than the head have 0.5."""
    if head is None or head.weights.thresholds_C is None:
        return None
    thresholds_C = np.full(len(snapshot.pool.task.classes), 0.5, np.float32)
    thresholds_C[: len(head.weights.thresholds_C)] = head.weights.thresholds_C
    return reached(snapshot.task.merges, thresholds_C)


def _nothing_predicts() -> AssayError:
    return AssayError(
        Reason.NEED_MISSING,
        "Nothing predicts here yet. Label samples (of at least two classes) and train a head, or ask for embeddings.",
        need="probs",
    )


def _check_count(count: int) -> None:
    if not 1 <= count <= MAX_PREDICTED:
        raise AssayError(Reason.INVALID_ARGUMENT, f"Predict for 1 to {MAX_PREDICTED} samples at once, not {count}.")
