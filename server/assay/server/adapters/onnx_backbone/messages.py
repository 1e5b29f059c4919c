"""What a trial's process is told and answers, as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from assay.server.adapters.onnx_backbone.batching import BatchLimits
from assay.server.adapters.onnx_backbone.trial import TrialLimits
from assay.server.core.records.models import BackboneInfo, BackboneSpec, DataFile, Pooling, TensorSpec

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A trial to be made.

    Attributes:
        path: the stored file.
        spec, data_files, sha256: as `trial.examine` takes them.
        limits: what the model may take.
        trial_seconds: of the whole process.
        weight_bytes: what the model's weights may take, all copies of them included.
    """

    path: str
    spec: BackboneSpec
    data_files: tuple[DataFile, ...]
    sha256: str
    limits: TrialLimits
    trial_seconds: float
    weight_bytes: int


def request_from_json(value: Json) -> Request:
    """Inverse of `dataclasses.asdict`."""
    spec, limits = value["spec"], value["limits"]
    return Request(
        path=value["path"],
        spec=BackboneSpec(**{**spec, "pooling": Pooling(spec["pooling"]) if spec["pooling"] else None}),
        data_files=tuple(DataFile(**file) for file in value["data_files"]),
        sha256=value["sha256"],
        limits=TrialLimits(**{**limits, "batch": BatchLimits(**limits["batch"])}),
        trial_seconds=value["trial_seconds"],
        weight_bytes=value["weight_bytes"],
    )


def info_to_json(info: BackboneInfo) -> Json:
    """What is known of a backbone."""
    return asdict(info)


def info_from_json(value: Json) -> BackboneInfo:
    """Inverse of info_to_json."""
    return BackboneInfo(
        **{
            **value,
            "inputs": tuple(TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in value["inputs"]),
            "pooling": Pooling(value["pooling"]),
            "data_files": tuple(DataFile(**file) for file in value["data_files"]),
        }
    )
