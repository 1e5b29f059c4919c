"""Models and what they predict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

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
class Measure:
    """A measure, and the ends of its 95 % interval; None where it is undefined, or where no interval was made."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """What a head is worth for one class, or for one number of a regression (`class_id` is None then).

    Attributes:
        samples: how many have the class; of a number, all.
        measures: by name: "precision", "recall" and "f1", or those of the number.
    """

    name: str
    class_id: int | None
    samples: int
    measures: Mapping[str, Measure]


@dataclass(frozen=True, slots=True)
class ConfusionCell:
    """How often one class was predicted where people said another, or the same."""

    label: str
    predicted: str
    samples: int


@dataclass(frozen=True, slots=True)
class HeadMetrics:
    """Quality of a head on labeled samples that it was not trained on.

    Attributes:
        split: which samples: "test", "validation" or "cross_validation"; None where nothing could be held out.
        samples: how many.
        measures: by name. Of one class a sample "accuracy", "macro_f1", "log_loss" (natural) and "calibration_error";
            of a set of classes "micro_f1", "macro_f1", "subset_accuracy", "hamming_loss" and "log_loss"; of numbers
            "mae", "rmse" and "r2".
        classes: the same for each class that people said or that was predicted, or for each number; not given by
            `list_models`.
        confusion: of one class a sample, the pairs that occurred, most samples first; not given by `list_models`.
    """

    split: str | None = None
    samples: int = 0
    measures: Mapping[str, Measure] = field(default_factory=dict)
    classes: tuple[ClassMetrics, ...] = ()
    confusion: tuple[ConfusionCell, ...] = ()

    def value(self, name: str) -> float | None:
        """A measure by name; None where it is undefined, and all are where nothing could be held out, never 0.

        Raises:
            KeyError: others were taken, and none of the name.
        """
        if not self.measures:
            return None
        if name not in self.measures:
            raise KeyError(f"{name!r} is none of {', '.join(self.measures)}")
        return self.measures[name].value


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """What is known of a trained head.

    Attributes:
        task: what it predicts: "classification", "multilabel" or "regression".
        classes_seen: for how many classes it was trained.
        all_metrics: quality on each split that there is, the one to go by first; see `metrics`.
        trained_classes: ids of the classes that it was trained for; none for numbers, and of heads of assay 0.1.0.
        unseen_classes: ids of the classes in use now that it was not trained for: it gives them a probability of 0 or
            nearly.
        soft_targets: whether it learned labels as sure as they were.
    """

    embedding_space: str
    classes_seen: int
    members: int
    labels: int
    l2: float
    temperature: float
    balanced: bool
    seed: int
    task: str = "classification"
    all_metrics: tuple[HeadMetrics, ...] = ()
    trained_classes: tuple[int, ...] = ()
    unseen_classes: tuple[int, ...] = ()
    soft_targets: bool = False

    @property
    def metrics(self) -> HeadMetrics:
        """The quality to go by: on the test samples where there are any with a label, else on those for validation,
        else by cross-validation; without measures where nothing could be held out."""
        return self.all_metrics[0] if self.all_metrics else HeadMetrics()


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
    """What is predicted, one row per sample.

    Attributes:
        probs_NC: float32 probabilities, one column per class id; in a pool of sets of classes, each for itself. None
            where numbers are predicted, or where no model predicts and only embeddings were asked for.
        embeddings_ND: float32, if asked for.
        head: resource name of the head in use; None where the predictions came from elsewhere.
        prediction_source: "head", "backbone", "pushed" or "none".
        thresholds_C: of sets of classes, the probability from which on each is said to be there.
        numbers_NT: float32, of a regression, one column per target.
        deviations_NT: of these, the standard deviation among the members of a committee; None without one.
        target_names: of their columns.
    """

    probs_NC: NDArray[np.float32] | None
    class_names: tuple[str, ...]
    embeddings_ND: NDArray[np.float32] | None
    head: str | None
    prediction_source: str
    embedding_space: str
    timings: Mapping[str, float]
    thresholds_C: NDArray[np.float32] | None = None
    numbers_NT: NDArray[np.float32] | None = None
    deviations_NT: NDArray[np.float32] | None = None
    target_names: tuple[str, ...] = ()

    @property
    def values(self) -> list[Any]:
        """What is predicted of each sample, as people would say it: a class name, the names of the classes that reach
        their thresholds (an empty tuple where none does), or numbers by target; empty where no model predicts."""
        if self.numbers_NT is not None:
            return [dict(zip(self.target_names, numbers_T, strict=True)) for numbers_T in self.numbers_NT.tolist()]
        if self.probs_NC is None:
            return []
        if self.thresholds_C is None:
            return [self.class_names[place] for place in self.probs_NC.argmax(axis=1).tolist()]
        reached_NC = self.probs_NC >= self.thresholds_C
        return [tuple(self.class_names[place] for place in np.flatnonzero(reached_C)) for reached_C in reached_NC]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A class that a model gives a sample, and its probability."""

    class_name: str
    probability: float


@dataclass(frozen=True, slots=True)
class NumberPrediction:
    """A number that a model gives a sample, and its standard deviation among the members of a committee; None without
    one."""

    target: str
    value: float
    deviation: float | None
