"""The nouns of the domain. All are immutable."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
RowArray = npt.NDArray[np.int64]
MaskArray = npt.NDArray[np.bool_]
Scalar = str | float | int | bool


class Metric(StrEnum):
    """How two embeddings are compared."""

    COSINE = "cosine"
    L2 = "l2"
    INNER_PRODUCT = "inner_product"


class State(IntEnum):
    """State of a row. ABSENT rows were reserved by an ingest that never committed, or merged away."""

    ABSENT = 0
    UNLABELED = 1
    LEASED = 2
    LABELED = 3
    EXCLUDED = 4
    DELETED = 5
    DAMAGED = 6


LIVE_STATES = (State.UNLABELED, State.LEASED, State.LABELED, State.EXCLUDED)


class OnConflict(StrEnum):
    """What an ingest does with an id that the pool already has."""

    ERROR = "error"
    SKIP = "skip"
    REPLACE = "replace"


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
class RequestKey:
    """Idempotency of one mutation.

    Attributes:
        request_id: the caller's key; empty means that the request is not remembered.
        scope: what the key is unique within: method and pool.
        fingerprint: digest of the request body; another body under the same key is refused.
        encode: turns the domain's result into the response to remember.
    """

    request_id: str
    scope: str
    fingerprint: str
    encode: Callable[[Any], bytes]


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """A pool as the catalog keeps it."""

    uid: int
    pool_id: str
    metric: Metric
    class_names: tuple[str, ...]
    keep_inputs: bool
    create_time: float  # seconds since the Unix epoch, as all times of the catalog
    epoch: int = 0
    dimension: int = 0
    space: str = ""  # active embedding space: "pushed" or the id of a backbone; "" until there is one
    backbone: str = ""  # id of the active backbone
    head: str = ""  # id of the active head
    next_fencing_token: int = 1
    next_row: int = 0


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One immutable file of a pool.

    Attributes:
        file: path below the data directory.
        kind: "samples" (ids, attributes, payloads, predictions, inputs) or "vectors" (embeddings, logits).
        space: embedding space of a vectors file, "" for samples.
        first_row, last_row: rows of its first and last sample; rows ascend within a file.
        count: number of samples.
        size: bytes.
        checksum: xxh3-128 of the whole file, hexadecimal.
    """

    file: str
    kind: str
    space: str
    first_row: int
    last_row: int
    count: int
    size: int
    checksum: str


@dataclass(frozen=True, slots=True)
class AttributeColumn:
    """One attribute of every sample of a batch; `values` is a list for text, else an array. kind: "string", "double",
    "int64" or "bool"."""

    kind: str
    values: Sequence[str] | npt.NDArray[Any]
    present_N: MaskArray | None = None


@dataclass(frozen=True, slots=True)
class SampleColumns:
    """Columns of a samples segment; those not given are None. All have one entry per id."""

    ids: Sequence[str]
    uris: Sequence[str] | None = None
    payloads: Sequence[bytes] | None = None
    payload_media_type: str = ""
    attributes: Mapping[str, AttributeColumn] = field(default_factory=dict)
    predictions_NC: FloatArray | None = None
    inputs: Mapping[str, npt.NDArray[Any]] | None = None


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """What a samples segment knows of one sample."""

    id: str
    uri: str = ""
    payload: bytes = b""
    payload_media_type: str = ""
    attributes: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """The label of a row."""

    row: int
    class_index: int
    worker: str
    create_time: float
    lease: str = ""  # lease id


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A claim of a worker on rows.

    Attributes:
        lease_id: server-made id, unique in the pool.
        fencing_token: grows with every lease of the pool.
        state: "live", "done" or "expired".
        rows: rows it still holds, ascending.
    """

    lease_id: str
    worker: str
    fencing_token: int
    create_time: float
    expire_time: float
    state: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input of a backbone; dimensions that vary are -1."""

    name: str
    dtype: str  # numpy name
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """What is known of a backbone: declared by the user or discovered from its file."""

    inputs: tuple[TensorSpec, ...]
    embedding_output: str
    logits_output: str
    pooling: Pooling
    mask_input: str
    normalize: bool
    dimension: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BackboneWishes:
    """What the user declared of a backbone; empty fields are discovered."""

    embedding_output: str = ""
    logits_output: str = ""
    pooling: Pooling | None = None
    mask_input: str = ""
    normalize: bool = False


@dataclass(frozen=True, slots=True)
class HeadMetrics:
    """Held-out quality of a head. log_loss in nats; calibration_error over 15 equal-width bins."""

    accuracy: float
    log_loss: float
    calibration_error: float
    samples: int


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """What is known of a head."""

    space: str
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


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model version as the catalog keeps it; `file` holds the ONNX graph or the head's weights."""

    model_id: str
    kind: ModelKind
    display_name: str
    create_time: float
    file: str
    info: BackboneInfo | HeadInfo


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """A long-running operation. `response` and `error` are set when done; both are the caller's encodings.

    Attributes:
        operation_id: server-made id.
        kind: "train_head" or "activate_model".
        pool_id: pool that it works on.
        done: whether it ended.
        response: encoded result, for a success.
        error_reason, error_message: for a failure.
    """

    operation_id: str
    kind: str
    pool_id: str
    create_time: float
    done: bool = False
    response: bytes = b""
    error_reason: str = ""
    error_message: str = ""


# --- filters -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compare:
    """attribute op value, op one of "==", "!=", "<", "<=", ">", ">="."""

    attribute: str
    op: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class OneOf:
    """attribute in values."""

    attribute: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every filter holds."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one filter holds."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The filter does not hold."""

    filter: "Filter"


@dataclass(frozen=True, slots=True)
class HasId:
    """The sample has one of these ids."""

    ids: tuple[str, ...]


Filter = Compare | OneOf | AllOf | AnyOf | Not | HasId
