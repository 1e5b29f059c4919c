"""Messages of models.proto."""

import re
from collections.abc import Mapping

from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import MAX_PREDICTED
from assay.server.core.models.messages import ModelView, PredictResult, PredictSpec, TrainSpec, UploadSpec
from assay.server.core.records.metrics import HeadMetrics, Score
from assay.server.core.records.models import (
    BackboneInfo,
    BackboneSpec,
    DataFile,
    HeadInfo,
    ModelKind,
    Pooling,
    TensorSpec,
)
from assay.server.core.records.tasks import TaskKind, TaskRecord
from assay.server.rpc.convert import names
from assay.server.rpc.convert.arrays import dtype_message, matrix_message, to_matrix, to_tensors
from assay.server.rpc.convert.scalars import bounded, bounded_or, choice, finite, timestamp_message
from assay.server.rpc.convert.tasks import kind_message
from assay.server.rpc.convert.types import source_message, timing_messages
from assay.v1 import models_pb2

_KINDS: Mapping[int, ModelKind] = {
    models_pb2.MODEL_KIND_BACKBONE: ModelKind.BACKBONE,
    models_pb2.MODEL_KIND_HEAD: ModelKind.HEAD,
}
_WIRE_KINDS = {kind: models_pb2.ModelKind.ValueType(value) for value, kind in _KINDS.items()}
_POOLINGS: Mapping[int, Pooling | None] = {
    models_pb2.POOLING_UNSPECIFIED: None,
    models_pb2.POOLING_NONE: Pooling.NONE,
    models_pb2.POOLING_MEAN: Pooling.MEAN,
    models_pb2.POOLING_CLS: Pooling.CLS,
    models_pb2.POOLING_SPATIAL_MEAN: Pooling.SPATIAL_MEAN,
}
_WIRE_POOLINGS = {pooling: models_pb2.Pooling.ValueType(value) for value, pooling in _POOLINGS.items()}
# Splits that are set apart, the one to go by first.
SPLITS = {"test": models_pb2.MEASURED_SPLIT_TEST, "validation": models_pb2.MEASURED_SPLIT_VALIDATION}
_SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_DATA_FILES = 4096
MAX_DATA_NAME = 1000


def to_model_kind(value: int) -> ModelKind:
    """A kind of model. Raises AssayError(INVALID_ARGUMENT) where unspecified or unknown."""
    return choice(_KINDS, value, "kind")


def to_kind_filter(value: int) -> ModelKind | None:
    """A kind to list, None for all. Raises AssayError(INVALID_ARGUMENT) for an unknown one."""
    return None if value == models_pb2.MODEL_KIND_UNSPECIFIED else to_model_kind(value)


def to_upload_spec(header: models_pb2.UploadBackboneHeader) -> UploadSpec:
    """A backbone that is to arrive. Raises AssayError(INVALID_ARGUMENT)."""
    if header.size_bytes < 1:
        raise AssayError(Reason.INVALID_ARGUMENT, "size_bytes must be the size of the file, 1 or more.")
    return UploadSpec(
        model_id=header.model_id,
        display_name=header.display_name,
        backbone=to_backbone_spec(header),
        size_bytes=header.size_bytes,
        data_files=to_data_files(header),
        sha256=to_sha256(header.sha256),
    )


def to_backbone_spec(header: models_pb2.UploadBackboneHeader) -> BackboneSpec:
    """What the user declares of a backbone. Raises AssayError(INVALID_ARGUMENT) for an unknown pooling."""
    return BackboneSpec(
        embedding_output=header.embedding_output,
        logits_output=header.logits_output,
        pooling=choice(_POOLINGS, header.pooling, "pooling"),
        mask_input=header.mask_input,
        normalize=header.normalize,
    )


def to_data_files(header: models_pb2.UploadBackboneHeader) -> tuple[DataFile, ...]:
    """The data files that an upload announces. Raises AssayError(INVALID_ARGUMENT) for too many, a bad name or size."""
    # As the file's tensors name them, which exporters write with or without the "./".
    names = [file.name.removeprefix("./") for file in header.data_files]
    if len(names) > MAX_DATA_FILES or len(set(names)) < len(names):
        raise _bad_data_files(f"must be at most {MAX_DATA_FILES:,} files, each under a name of its own.")
    for name, file in zip(names, header.data_files, strict=True):
        if not 1 <= len(name.encode()) <= MAX_DATA_NAME:
            raise _bad_data_files(f"have names of 1 to {MAX_DATA_NAME} bytes.")
        if file.size_bytes < 1:
            raise _bad_data_files(f"have 1 byte or more; {file.name!r} has {file.size_bytes}.")
    return tuple(DataFile(name, file.size_bytes) for name, file in zip(names, header.data_files, strict=True))


def _bad_data_files(problem: str) -> AssayError:
    return AssayError(Reason.INVALID_ARGUMENT, f"data_files {problem}", field="data_files")


def to_sha256(value: str) -> str:
    """A SHA-256 in lower case, or "" where none is given. Raises AssayError(INVALID_ARGUMENT)."""
    lowered = value.lower()
    if lowered and not _SHA256.fullmatch(lowered):
        raise AssayError(Reason.INVALID_ARGUMENT, "sha256 must be 64 hexadecimal digits, or empty.", field="sha256")
    return lowered


def to_train_spec(request: models_pb2.TrainHeadRequest) -> TrainSpec:
    """A head to train. Raises AssayError(INVALID_ARGUMENT | NOT_FINITE) beyond the bounds."""
    return TrainSpec(
        display_name=request.display_name,
        l2=_l2(request),
        balanced=request.balanced,
        soft_targets=request.soft_targets,
        members=bounded_or(request, "members", 1, 64, 1),
        folds=bounded_or(request, "folds", 2, 20, 5),
        seed=request.seed,
        activate=request.activate,
    )


def _l2(request: models_pb2.TrainHeadRequest) -> float | None:
    if not request.HasField("l2"):
        return None
    if finite(request.l2, "l2") <= 0:
        raise AssayError(
            Reason.INVALID_ARGUMENT, "l2 must be above 0; leave it unset to have it chosen by cross-validation."
        )
    return request.l2


def to_predict_spec(pool_id: str, request: models_pb2.PredictRequest) -> PredictSpec:
    """What to predict. Raises AssayError: INVALID_ARGUMENT without a query or beyond the bounds, INVALID_NAME,
    INVALID_MATRIX, INPUTS_INVALID."""
    head = names.model_within(pool_id, request.head)
    match request.WhichOneof("query"):
        case "samples":
            bounded(len(request.samples.ids), 1, MAX_PREDICTED, "number of samples")
            return PredictSpec(ids=tuple(request.samples.ids), head=head, embeddings=request.include_embeddings)
        case "embeddings":
            embeddings_ND = to_matrix(request.embeddings, "embeddings")
            bounded(len(embeddings_ND), 1, MAX_PREDICTED, "number of embeddings")
            return PredictSpec(embeddings_ND=embeddings_ND, head=head, embeddings=request.include_embeddings)
        case "inputs":
            inputs = to_tensors(request.inputs.tensors)
            bounded(len(next(iter(inputs.values()), ())), 1, MAX_PREDICTED, "number of samples")
            return PredictSpec(inputs=inputs, head=head, embeddings=request.include_embeddings)
        case _:
            raise AssayError(Reason.INVALID_ARGUMENT, "A prediction needs samples, embeddings or inputs.")


def model_message(pool_id: str, view: ModelView, *, detailed: bool = True) -> models_pb2.Model:
    """A model version for the wire; detailed with what a head is worth for each class."""
    record = view.record
    info = record.info
    return models_pb2.Model(
        name=names.model_name(pool_id, record.model_id),
        kind=_WIRE_KINDS[record.kind],
        display_name=record.display_name,
        active=view.active,
        create_time=timestamp_message(record.create_time),
        backbone=_backbone_message(info, record.space) if isinstance(info, BackboneInfo) else None,
        head=_head_message(info, record.space, view.task, detailed) if isinstance(info, HeadInfo) else None,
    )


def _backbone_message(info: BackboneInfo, space: str) -> models_pb2.BackboneInfo:
    return models_pb2.BackboneInfo(
        inputs=[_tensor_message(spec) for spec in info.inputs],
        embedding_output=info.embedding_output,
        logits_output=info.logits_output,
        pooling=_WIRE_POOLINGS[info.pooling],
        mask_input=info.mask_input,
        normalize=info.normalize,
        dimension=info.dimension,
        size_bytes=info.size_bytes,
        sha256=info.sha256,
        data_files=[models_pb2.DataFile(name=file.name, size_bytes=file.size_bytes) for file in info.data_files],
        embedding_space=space,
    )


def _tensor_message(spec: TensorSpec) -> models_pb2.TensorSpec:
    return models_pb2.TensorSpec(name=spec.name, dtype=dtype_message(spec.dtype), shape=spec.shape)


def _head_message(info: HeadInfo, space: str, task: TaskRecord, detailed: bool) -> models_pb2.HeadInfo:
    measured = [(split, info.split_metrics.get(name)) for name, split in SPLITS.items()]
    measured.append((models_pb2.MEASURED_SPLIT_CROSS_VALIDATION, info.metrics))
    return models_pb2.HeadInfo(
        embedding_space=space,
        classes_seen=info.classes_seen,
        members=info.members,
        labels=info.labels,
        l2=info.l2,
        temperature=info.temperature,
        metrics=[
            metrics_message(split, metrics, task, detailed)
            for split, metrics in measured
            if metrics and metrics.samples
        ],
        balanced=info.balanced,
        soft_targets=info.soft_targets,
        seed=info.seed,
        task=kind_message(info.kind),
        trained_classes=info.classes,
        unseen_classes=info.unseen(task),
    )


def metrics_message(
    split: models_pb2.MeasuredSplit.ValueType, metrics: HeadMetrics, task: TaskRecord, detailed: bool
) -> models_pb2.HeadMetrics:
    """What a model is worth, for the wire; its classes if detailed."""
    message = models_pb2.HeadMetrics(split=split, samples=metrics.samples, measures=_measure_messages(metrics.scores))
    if not detailed:
        return message
    of_classes = task.kind is not TaskKind.REGRESSION
    shown = task.class_names if of_classes else [target.name for target in task.targets]
    for each in metrics.classes:
        message.classes.add(
            name=shown[each.id],
            class_id=each.id if of_classes else None,
            samples=each.samples,
            measures=_measure_messages(each.scores),
        )
    for label, predicted, samples in metrics.confusion:
        message.confusion.add(label=shown[label], predicted=shown[predicted], samples=samples)
    return message


def _measure_messages(scores: Mapping[str, Score | None]) -> list[models_pb2.Measure]:
    return [
        models_pb2.Measure(name=name)
        if score is None
        else models_pb2.Measure(name=name, value=score.value, low=score.low, high=score.high)
        for name, score in scores.items()
    ]


def predict_message(pool_id: str, result: PredictResult) -> models_pb2.PredictResponse:
    """Predictions for the wire."""
    return models_pb2.PredictResponse(
        probabilities=matrix_message(result.probs_NC),
        class_names=result.class_names,
        embeddings=matrix_message(result.embeddings_ND),
        head=names.model_name(pool_id, result.head),
        prediction_source=source_message(result.source),
        embedding_space=result.space,
        timings=timing_messages(result.timings),
        thresholds=() if result.thresholds_C is None else result.thresholds_C.tolist(),
        numbers=matrix_message(result.values_NT),
        deviations=matrix_message(result.deviations_NT),
        target_names=result.target_names,
    )
