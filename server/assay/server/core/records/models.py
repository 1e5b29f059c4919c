"""Model versions: backbones and heads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.metrics import HeadMetrics
from assay.server.core.records.tasks import TaskKind, TaskRecord


class ModelKind(StrEnum):
    """Kind of a model version."""

    BACKBONE = "backbone"
    HEAD = "head"


class Pooling(StrEnum):
    """How an output of a backbone becomes one vector a sample."""

    NONE = "none"
    MEAN = "mean"
    CLS = "cls"
    SPATIAL_MEAN = "spatial_mean"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input of a backbone; dimensions that vary are -1."""

    name: str
    dtype: str  # numpy name
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of tensors that came with an ONNX file, which names it."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """What is known of a backbone: declared by the user, or found out in its trial.

    Attributes:
        inputs: what it takes.
        embedding_output, logits_output: names of its outputs; no logits are "".
        pooling: how its output becomes one vector.
        mask_input: name of the input that is 1 on tokens, "" without one.
        normalize: whether embeddings are scaled to length 1.
        dimension: length of an embedding.
        size_bytes, sha256: of the stored file, data files included.
        data_files: files of tensors that came with it, in the order in which the stored file holds them, at its end.
        classes: columns of the logits; 0 without logits.
        trims_padding: trailing padding may be cut off: it changes nothing.
        one_by_one: a sample's embedding would depend on what is embedded beside it, so samples are embedded alone.
    """

    inputs: tuple[TensorSpec, ...]
    embedding_output: str
    logits_output: str
    pooling: Pooling
    mask_input: str
    normalize: bool
    dimension: int
    size_bytes: int
    sha256: str
    data_files: tuple[DataFile, ...]
    classes: int
    trims_padding: bool
    one_by_one: bool


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """What the user declared of a backbone; empty fields are discovered."""

    embedding_output: str = ""
    logits_output: str = ""
    pooling: Pooling | None = None
    mask_input: str = ""
    normalize: bool = False


@dataclass(frozen=True, slots=True)
class ClassTargets:
    """One class of each of N samples.

    Attributes:
        classes_N: int64 ids of the classes; of soft targets, of the likeliest.
        class_count: ids are below it.
        probs_NC: how probable each class is [N, class_count], rows sum to 1; None where each sample is of its class.
    """

    classes_N: RowArray
    class_count: int
    probs_NC: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class SetTargets:
    """The classes of each of N samples, by their ids: any number of them."""

    members_NC: MaskArray


@dataclass(frozen=True, slots=True)
class NumberTargets:
    """T numbers of each of N samples, float64 and finite."""

    values_NT: npt.NDArray[np.float64]


Targets = ClassTargets | SetTargets | NumberTargets


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """What is known of a head.

    Attributes:
        kind: what it predicts: a class, a set of classes, or numbers.
        classes: ids of the classes that it was trained for, ascending: those with labels that tell them from others.
            Every other class is unseen: its probability is 0 or nearly. Empty for numbers, and for heads of 0.1.0,
            which did not write it down.
        classes_seen: how many these are.
        members: 1, or the size of the bootstrap committee.
        labels: samples that it was trained on.
        l2: strength of the penalty, for raw embeddings.
        temperature: what the logits were divided by; 1 where classes are calibrated each for itself.
        metrics: held-out quality by cross-validation.
        balanced: whether classes counted alike.
        seed: of folds and bootstraps.
        split_metrics: quality on the samples that are set apart, by the name of their split.
        deviations: of numbers, the standard deviation of each over the labels; 1 where they are all equal. Else empty.
        soft_targets: whether it learned the labels as sure as they were.
    """

    kind: TaskKind
    classes: tuple[int, ...]
    classes_seen: int
    members: int
    labels: int
    l2: float
    temperature: float
    metrics: HeadMetrics
    balanced: bool
    seed: int
    split_metrics: Mapping[str, HeadMetrics] = field(default_factory=dict)
    deviations: tuple[float, ...] = ()
    soft_targets: bool = False

    def unseen(self, task: TaskRecord) -> tuple[int, ...]:
        """Ids of the classes in use that came after its training, or had no labels then. None of a head that did not
        write down what it was trained for."""
        if not self.classes:
            return ()
        seen = set(self.classes)
        return tuple(class_id for class_id in task.order if class_id not in seen)


@dataclass(frozen=True, slots=True)
class HeadWeights:
    """A linear head of K members (K = 1 without a committee), the first of which serves: embeddings @ weights + bias.

    Of one class these are logits, calibrated already, of all classes that the pool had when it was trained; classes
    without a label have a bias low enough for a probability near 0. Of a set of classes they are the logits of each for
    itself, calibrated too. Else they are the numbers.

    Attributes:
        weights_KDC: float32 weights, a column for every class id or number.
        bias_KC: float32 biases.
        kind: what it predicts.
        thresholds_C: of a set of classes, the probability from which on each is said to be there; else None.
    """

    weights_KDC: FloatArray
    bias_KC: FloatArray
    kind: TaskKind = TaskKind.CLASSIFICATION
    thresholds_C: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A head as it comes from training.

    Attributes:
        weights: what serves.
        info: what is known of it.
        held_M: places of the samples that cross-validation held out, ascending.
        predictions_MC: what was predicted of them by fits that did not see them: class probabilities, each class's own
            probability, or numbers.
        decided_MC: of sets of classes, which are said to be there by the thresholds of the other folds; else None.
    """

    weights: HeadWeights
    info: HeadInfo
    held_M: RowArray
    predictions_MC: FloatArray
    decided_MC: MaskArray | None = None


# Above the number of every version.
NEWEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model version as the catalog keeps it.

    Attributes:
        model_id: id that the user chose, or the server; another version may get it once this one is deleted.
        kind: backbone or head.
        display_name: the user's text.
        create_time: seconds since the Unix epoch.
        file: what holds the ONNX graph or the head's weights.
        space: id of the embedding space that a backbone embeds into, its own, or that a head was trained in.
        info: what is known of it.
        number: grows with every version that is stored; 0 before.
    """

    model_id: str
    kind: ModelKind
    display_name: str
    create_time: float
    file: str
    space: str
    info: BackboneInfo | HeadInfo
    number: int = field(default=0, compare=False)
