"""Models and what they predict."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input of a backbone; -1 stands for dimensions that vary, the first is the batch."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """What is known of an ONNX backbone. `logits_output` and `mask_input` are empty where it has none; `size_bytes` and
    `sha256` are of the file and the `data_files` that came with it."""

    inputs: tuple[TensorSpec, ...]
    embedding_output: str
    logits_output: str
    pooling: str
    mask_input: str
    normalize: bool
    dimension: int
    size_bytes: int
    sha256: str
    embedding_space: str
    data_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HeadMetrics:
    """Quality of a head on labels that it was not trained on; log loss is natural, the rest from 0 to 1. All None where
    there were none (`samples` is 0): no class had two labels."""

    accuracy: float | None
    log_loss: float | None
    calibration_error: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """What is known of a trained head."""

    embedding_space: str
    classes_seen: int
    members: int
    labels: int
    l2: float
    temperature: float
    metrics: HeadMetrics
    balanced: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Model:
    """A version of a model: kind "backbone" with `backbone` set, or kind "head" with `head` set."""

    name: str
    kind: str
    display_name: str
    active: bool
    create_time: datetime | None
    backbone: BackboneInfo | None
    head: HeadInfo | None

    @property
    def id(self) -> str:
        """The id: the last part of the name."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True, eq=False)
class PredictResult:
    """Class probabilities, one row per sample, one column per class.

    Attributes:
        probs_NC: float32; None where no model predicts and only embeddings were asked for.
        embeddings_ND: float32, if asked for.
        head: resource name of the head in use; None where the probabilities came from elsewhere.
        prediction_source: "head", "backbone", "pushed" or "none".
    """

    probs_NC: NDArray[np.float32] | None
    class_names: tuple[str, ...]
    embeddings_ND: NDArray[np.float32] | None
    head: str | None
    prediction_source: str
    embedding_space: str
    timings: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A class that a model gives a sample, and its probability."""

    class_name: str
    probability: float
