"""What calls return. Times are aware datetimes in UTC, timings are seconds by stage."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from assay.client.filters import AttributeScalar
from assay.client.plans import Plan

AttributeValues: TypeAlias = Sequence[AttributeScalar | None] | NDArray[Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of samples in each state; `damaged` counts those of them that cannot be served."""

    unlabeled: int
    leased: int
    labeled: int
    excluded: int
    total: int
    damaged: int


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """The approximate index of a pool: kind "exact" (none), "hnsw" or "ivf", and how many samples it holds."""

    kind: str
    indexed: int
    building: bool


@dataclass(frozen=True, slots=True)
class DamagedSegment:
    """A file of the pool that failed its checksum."""

    file: str
    samples: int
    reason: str


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool of samples.

    Attributes:
        name: resource name "pools/{id}".
        metric: "cosine", "l2" or "inner_product".
        class_names: in the order of every probability column.
        dimension: length of the embeddings; 0 until there are some.
        state: "open" or "degraded" (some files are damaged).
        attributes: types ("string", "double", "int64", "bool") by name.
        epoch: grows with every change.
        active_backbone, active_head: resource names; None where there is none.
    """

    name: str
    metric: str
    class_names: tuple[str, ...]
    dimension: int
    embedding_space: str
    keep_inputs: bool
    counts: Counts
    state: str
    epoch: int
    active_backbone: str | None
    active_head: str | None
    attributes: Mapping[str, str]
    index: IndexStatus
    segments: int
    embedding_bytes: int
    damaged_segments: tuple[DamagedSegment, ...]
    create_time: datetime | None

    @property
    def id(self) -> str:
        """The id: the name without "pools/"."""
        return self.name.removeprefix("pools/")


@dataclass(frozen=True, slots=True)
class AddResult:
    """What an ingest did; every counted sample is durable."""

    added: int
    skipped: int
    replaced: int
    epoch: int
    timings: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """How many samples were deleted, and the epoch after it."""

    deleted: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of a pool.

    Attributes:
        state: "unlabeled", "leased", "labeled" or "excluded".
        label: class name; None where it has none.
        row: the server's own number for it, never reused.
    """

    id: str
    uri: str
    payload: bytes
    media_type: str
    attributes: Mapping[str, AttributeScalar]
    state: str
    label: str | None
    row: int

    @property
    def text(self) -> str:
        """The payload as text (UTF-8)."""
        return self.payload.decode()

    def json(self) -> Any:
        """The payload parsed as JSON."""
        return json.loads(self.payload)


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A sample found. `distance` is a similarity (higher = nearer) for cosine and inner product, else squared L2."""

    sample: Sample
    distance: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of each query, nearest first, and whether the search was exact."""

    hits: tuple[tuple[SearchHit, ...], ...]
    exact: bool
    epoch: int
    timings: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input of a backbone; -1 stands for dimensions that vary, the first is the batch."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """What is known of an ONNX backbone. `logits_output` and `mask_input` are empty where it has none."""

    inputs: tuple[TensorSpec, ...]
    embedding_output: str
    logits_output: str
    pooling: str
    mask_input: str
    normalize: bool
    dimension: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class HeadMetrics:
    """Quality of a head on labels that it was not trained on; log loss is natural, the rest from 0 to 1."""

    accuracy: float
    log_loss: float
    calibration_error: float
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


@dataclass(frozen=True, slots=True)
class Provenance:
    """What scores or picks were computed from. Same provenance and seed: same picks."""

    backbone: str | None
    head: str | None
    prediction_source: str
    embedding_space: str
    epoch: int
    plan_digest: str
    seed: int
    candidates: int


@dataclass(frozen=True, slots=True)
class Pick:
    """A picked sample and why it was picked: rank from 1, score (higher = more informative) and its parts."""

    sample: Sample
    rank: int
    score: float
    parts: Mapping[str, float]
    predictions: tuple[Prediction, ...]

    @property
    def id(self) -> str:
        """The sample's id."""
        return self.sample.id


@dataclass(frozen=True, slots=True)
class QuotaReport:
    """What became of a quota: how many picks come from its group, and how many candidates that has after the filter."""

    value: AttributeScalar
    picked: int
    available: int
    minimum: int
    maximum: int | None
    target: float | None


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a plan would cost."""

    candidates: int
    bytes_read: int
    gflop: float
    duration: timedelta


@dataclass(frozen=True, slots=True)
class MineResult:
    """Picks, best first, the plan as it ran, and what became of its quotas; `estimate` is set instead of picks by a dry
    run."""

    picks: tuple[Pick, ...]
    plan: Plan
    provenance: Provenance
    estimate: CostEstimate | None
    timings: Mapping[str, float]
    quotas: tuple[QuotaReport, ...] = ()

    @property
    def ids(self) -> list[str]:
        """Ids of the picks, best first."""
        return [pick.id for pick in self.picks]


@dataclass(frozen=True, slots=True, eq=False)
class ScoreResult:
    """One score per sample, ordered by row; higher = more informative."""

    ids: list[str]
    scores_N: NDArray[np.float32]
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy.

    Attributes:
        kind: "scorer" or "selector".
        params_schema: JSON Schema of its parameters.
        needs: arrays that it cannot do without.
        optional_needs: arrays that it uses where there are any.
        deterministic: whether its picks are the same for every seed.
        needs_utility: whether its plan needs scores.
    """

    name: str
    kind: str
    summary: str
    params_schema: Mapping[str, Any]
    needs: tuple[str, ...]
    optional_needs: tuple[str, ...] = ()
    deterministic: bool = True
    needs_utility: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """A named plan."""

    name: str
    summary: str
    plan: Plan


class Strategies(NamedTuple):
    """The strategies and presets of a server, by name."""

    strategies: tuple[Strategy, ...]
    presets: tuple[Preset, ...]


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's claim on samples; name and fencing token prove it.

    Attributes:
        state: "live", "done" or "expired".
        sample_ids: samples that it still holds.
    """

    name: str
    fencing_token: int
    worker: str = ""
    state: str = "live"
    create_time: datetime | None = None
    expire_time: datetime | None = None
    sample_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples to label, best first, under a lease, and what became of the plan's quotas."""

    lease: Lease
    picks: tuple[Pick, ...]
    plan: Plan
    provenance: Provenance
    timings: Mapping[str, float]
    quotas: tuple[QuotaReport, ...] = ()

    @property
    def ids(self) -> list[str]:
        """Ids of the picks, best first."""
        return [pick.id for pick in self.picks]


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """What a submission did; every counted label is durable. `lease_remaining` counts what the lease still holds."""

    stored: int
    unchanged: int
    lease_remaining: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Label:
    """A stored label. `lease` is None where it came without one."""

    sample_id: str
    class_name: str
    class_index: int
    worker: str
    create_time: datetime | None
    lease: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation is: units done of total in this stage (total 0 and eta None where unknown)."""

    stage: str = ""
    done: int = 0
    total: int = 0
    eta: timedelta | None = None
    create_time: datetime | None = None
    target: str = ""
    kind: str = ""
    cancel_requested: bool = False


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Samples to add, column by column; each column has one entry per id or is left out.

    Attributes:
        ids: distinct ids.
        embeddings: matrix, one row per id; exactly one of embeddings and inputs is given.
        inputs: named model inputs that the server embeds; the first axis of each is the samples.
        payloads: what a person looks at to label it: text, bytes, or JSON objects; None where a sample has none.
        media_type: of all payloads; text and JSON are recognised.
        attributes: scalars by name; None where a sample lacks it. A column is of one type.
        labels: class names; None where a sample has none.
        predictions: class probabilities of the caller's own model, one row per id, one column per class.
    """

    ids: Sequence[str]
    embeddings: Any = None
    inputs: Mapping[str, Any] | None = None
    uris: Sequence[str] | None = None
    payloads: Sequence[str | bytes | Mapping[str, Any] | None] | None = None
    media_type: str | None = None
    attributes: Mapping[str, AttributeValues] = field(default_factory=dict)
    labels: Sequence[str | None] | None = None
    predictions: Any = None
