"""What is known of a model, to and from JSON."""

import math
from typing import Any

from assay.server.core.records.models import (
    BackboneInfo,
    DataFile,
    HeadInfo,
    HeadMetrics,
    ModelKind,
    Pooling,
    TensorSpec,
)

Json = dict[str, Any]


# What a catalog of 0.1.0 does not say of a backbone: the slow way is right for all of them.
_UNTRIED: Json = {"data_files": [], "classes": 0, "trims_padding": False, "one_by_one": True}


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
    metrics = info.metrics
    return {
        "classes_seen": info.classes_seen,
        "members": info.members,
        "labels": info.labels,
        "l2": _float_to_json(info.l2),
        "temperature": _float_to_json(info.temperature),
        "metrics": {
            "accuracy": _measure_to_json(metrics.accuracy),
            "log_loss": _measure_to_json(metrics.log_loss),
            "calibration_error": _measure_to_json(metrics.calibration_error),
            "samples": metrics.samples,
        },
        "balanced": info.balanced,
        "seed": info.seed,
    }


def _head_from_json(value: Json) -> HeadInfo:
    metrics = value["metrics"]
    return HeadInfo(
        **{
            **value,
            "l2": float(value["l2"]),
            "temperature": float(value["temperature"]),
            "metrics": HeadMetrics(
                accuracy=_measure_from_json(metrics["accuracy"]),
                log_loss=_measure_from_json(metrics["log_loss"]),
                calibration_error=_measure_from_json(metrics["calibration_error"]),
                samples=metrics["samples"],
            ),
        }
    )


def _float_to_json(value: float) -> float | str:
    """JSON has no NaN and no infinity; float() reads both from text."""
    return value if math.isfinite(value) else str(value)


def _measure_to_json(value: float | None) -> float | str | None:
    return None if value is None else _float_to_json(value)


def _measure_from_json(value: float | str | None) -> float | None:
    return None if value is None else float(value)
