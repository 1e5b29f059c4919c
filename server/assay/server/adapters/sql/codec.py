"""What is known of a model, to and from JSON."""

import math
from collections.abc import Mapping
from typing import Any

from assay.server.core.records.metrics import ClassScores, HeadMetrics, Score
from assay.server.core.records.models import (
    BackboneInfo,
    DataFile,
    HeadInfo,
    ModelKind,
    Pooling,
    TensorSpec,
)
from assay.server.core.records.tasks import TaskKind

Json = dict[str, Any]


# What a catalog of 0.1.0 does not say of a backbone: the slow way is right for all of them.
_UNTRIED: Json = {"data_files": [], "classes": 0, "trims_padding": False, "one_by_one": True}


# Nor of a head.
_SINGLE_LABEL: Json = {"kind": "classification", "classes": [], "split_metrics": {}, "deviations": []}


def info_to_json(info: BackboneInfo | HeadInfo) -> Json:
    """A JSON object for what is known of a model."""
    return _backbone_to_json(info) if isinstance(info, BackboneInfo) else _head_to_json(info)


def info_from_json(kind: ModelKind, value: Json) -> BackboneInfo | HeadInfo:
    """Inverse of info_to_json."""
    return _backbone_from_json(value) if kind is ModelKind.BACKBONE else _head_from_json(value)


def _backbone_to_json(info: BackboneInfo) -> Json:
    return {
        "inputs": [{"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)} for spec in info.inputs],
        "embedding_output": info.embedding_output,
        "logits_output": info.logits_output,
        "pooling": info.pooling.value,
        "mask_input": info.mask_input,
        "normalize": info.normalize,
        "dimension": info.dimension,
        "size_bytes": info.size_bytes,
        "sha256": info.sha256,
        "data_files": [{"name": file.name, "size_bytes": file.size_bytes} for file in info.data_files],
        "classes": info.classes,
        "trims_padding": info.trims_padding,
        "one_by_one": info.one_by_one,
    }


def _backbone_from_json(value: Json) -> BackboneInfo:
    inputs = tuple(TensorSpec(spec["name"], spec["dtype"], tuple(spec["shape"])) for spec in value["inputs"])
    known = {**_UNTRIED, **value}
    data_files = tuple(DataFile(file["name"], file["size_bytes"]) for file in known["data_files"])
    pooling = Pooling(value["pooling"])
    return BackboneInfo(**{**known, "inputs": inputs, "pooling": pooling, "data_files": data_files})


def _head_to_json(info: HeadInfo) -> Json:
    return {
        "kind": info.kind.value,
        "classes": list(info.classes),
        "classes_seen": info.classes_seen,
        "members": info.members,
        "labels": info.labels,
        "l2": _float_to_json(info.l2),
        "temperature": _float_to_json(info.temperature),
        "metrics": _metrics_to_json(info.metrics),
        "balanced": info.balanced,
        "seed": info.seed,
        "split_metrics": {split: _metrics_to_json(metrics) for split, metrics in info.split_metrics.items()},
        "deviations": list(info.deviations),
        "soft_targets": info.soft_targets,
    }


def _head_from_json(value: Json) -> HeadInfo:
    known = {**_SINGLE_LABEL, **value}
    return HeadInfo(
        **{
            **known,
            "kind": TaskKind(known["kind"]),
            "classes": tuple(known["classes"]),
            "l2": float(value["l2"]),
            "temperature": float(value["temperature"]),
            "metrics": _metrics_from_json(value["metrics"]),
            "split_metrics": {split: _metrics_from_json(each) for split, each in known["split_metrics"].items()},
            "deviations": tuple(known["deviations"]),
        }
    )


def _metrics_to_json(metrics: HeadMetrics) -> Json:
    classes = [[each.id, each.samples, _scores_to_json(each.scores)] for each in metrics.classes]
    return {
        "samples": metrics.samples,
        "scores": _scores_to_json(metrics.scores),
        "classes": classes,
        "confusion": [list(cell) for cell in metrics.confusion],
    }


def _metrics_from_json(value: Json) -> HeadMetrics:
    if "scores" not in value:
        # Of 0.1.0: measures without an interval.
        measures = {name: each for name, each in value.items() if name != "samples" and each is not None}
        return HeadMetrics(value["samples"], {name: Score(float(each)) for name, each in measures.items()})
    classes = tuple(ClassScores(id, samples, _scores_from_json(scores)) for id, samples, scores in value["classes"])
    confusion = tuple((said, predicted, samples) for said, predicted, samples in value.get("confusion", []))
    return HeadMetrics(value["samples"], _scores_from_json(value["scores"]), classes, confusion)


def _scores_to_json(scores: Mapping[str, Score | None]) -> Json:
    return {
        name: None if score is None else [_measure_to_json(part) for part in (score.value, score.low, score.high)]
        for name, score in scores.items()
    }


def _scores_from_json(value: Json) -> dict[str, Score | None]:
    return {name: None if each is None else _score_from_json(*each) for name, each in value.items()}


def _score_from_json(value: float | str, low: float | str | None, high: float | str | None) -> Score:
    return Score(float(value), _measure_from_json(low), _measure_from_json(high))


def _float_to_json(value: float) -> float | str:
    """JSON has no NaN and no infinity; float() reads both from text."""
    return value if math.isfinite(value) else str(value)


def _measure_to_json(value: float | None) -> float | str | None:
    return None if value is None else _float_to_json(value)


def _measure_from_json(value: float | str | None) -> float | None:
    return None if value is None else float(value)
