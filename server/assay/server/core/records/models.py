"""Model versions: backbones and heads."""

from dataclasses import dataclass, field
from enum import StrEnum

from assay.server.core.records.arrays import FloatArray


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
class HeadMetrics:
    """Held-out quality of a head. log_loss in nats; calibration_error over 15 equal-width bins. All None where no
    sample could be held out."""

    accuracy: float | None
    log_loss: float | None
    calibration_error: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """What is known of a head."""

    classes_seen: int
    members: int
    labels: int
    l2: float
    temperature: float
    metrics: HeadMetrics
    balanced: bool
    seed: int


@dataclass(frozen=True, slots=True)
class HeadWeights:
    """A linear head. Logits are (h @ weights + bias) / temperature, already divided: serve them as they are.

    Attributes:
        weights_KDC: float32 weights of the K members (K = 1 without a committee).
        bias_KC: float32 biases; classes without a label have a bias low enough for a probability near 0.
    """

    weights_KDC: FloatArray
    bias_KC: FloatArray


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
