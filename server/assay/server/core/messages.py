"""What the domain's services are asked and what they answer. All are immutable; the wire converts from and to them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy.typing as npt

from assay.server.core.terms import Plan, QuotaTerm
from assay.server.core.types import (
    Filter,
    FloatArray,
    LeaseRecord,
    Metric,
    ModelRecord,
    OperationRecord,
    PoolRecord,
    SampleColumns,
    SampleRecord,
    State,
)

Timings = tuple[tuple[str, float], ...]  # (stage, seconds) in order


# --- pools ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A pool to create. Checked by the pool service."""

    pool_id: str
    metric: Metric = Metric.COSINE
    class_names: tuple[str, ...] = ()
    dimension: int = 0
    keep_inputs: bool = True


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file that failed its checksum; first_row is that of its samples, -1 for a model."""

    file: str
    samples: int
    reason: str
    first_row: int = -1


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as it is now."""

    record: PoolRecord
    counts: Mapping[State, int]
    attributes: Mapping[str, str]
    index_kind: str  # "exact", "hnsw" or "ivf"
    indexed: int
    index_building: bool
    segments: int
    embedding_bytes: int
    damaged: tuple[DamagedFile, ...]


@dataclass(frozen=True, slots=True)
class IngestBatch:
    """A batch to store. Exactly one of embeddings_ND and columns.inputs is given; labels are class names, "" for
    none."""

    columns: SampleColumns
    embeddings_ND: FloatArray | None = None
    labels: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class AddResult:
    """What became of a batch."""

    added: int
    skipped: int
    replaced: int
    epoch: int
    timings: Timings = ()


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """What became of a deletion."""

    deleted: int
    epoch: int


@dataclass(frozen=True, slots=True)
class SampleView:
    """A sample as it is now; label is its class name, "" without one."""

    row: int
    record: SampleRecord
    state: State
    label: str


class SearchMode(StrEnum):
    """Whether a search may be approximate."""

    AUTO = "auto"
    EXACT = "exact"
    APPROXIMATE = "approximate"


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """A search by vectors or by samples of the pool: exactly one is given."""

    vectors_QD: FloatArray | None = None
    ids: tuple[str, ...] = ()
    k: int = 10
    filter: Filter | None = None
    states: tuple[State, ...] = ()
    mode: SearchMode = SearchMode.AUTO
    payload: bool = False


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits (sample, similarity or squared distance) per query, nearest first."""

    hits: tuple[tuple[tuple[SampleView, float], ...], ...]
    exact: bool
    epoch: int
    timings: Timings


# --- models --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model version as it is now."""

    record: ModelRecord
    active: bool


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """A head to train; l2 None chooses it by cross-validation."""

    display_name: str = ""
    l2: float | None = None
    balanced: bool = False
    members: int = 1
    folds: int = 5
    seed: int = 0
    activate: bool = False


@dataclass(frozen=True, slots=True)
class PredictSpec:
    """What to predict: exactly one of ids, embeddings_ND and inputs. head "" means the active one."""

    ids: tuple[str, ...] = ()
    embeddings_ND: FloatArray | None = None
    inputs: Mapping[str, npt.NDArray[Any]] | None = None
    head: str = ""
    embeddings: bool = False


@dataclass(frozen=True, slots=True)
class PredictResult:
    """Class probabilities and embeddings. source: "head", "backbone", "pushed" or "none"."""

    probs_NC: FloatArray | None
    embeddings_ND: FloatArray | None
    class_names: tuple[str, ...]
    head: str
    source: str
    space: str
    timings: Timings


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation is; total 0 and eta None where unknown."""

    stage: str = ""
    done: int = 0
    total: int = 0
    eta: float | None = None
    cancel_requested: bool = False


@dataclass(frozen=True, slots=True)
class OperationView:
    """An operation as it is now."""

    record: OperationRecord
    progress: Progress


# --- mining --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StrategyView:
    """A strategy of the registry."""

    name: str
    kind: str  # "scorer" or "selector"
    summary: str
    params_schema: Mapping[str, Any]
    needs: tuple[str, ...]
    optional_needs: tuple[str, ...] = ()
    deterministic: bool = True
    needs_utility: bool = False


@dataclass(frozen=True, slots=True)
class PresetView:
    """A named plan."""

    name: str
    summary: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class Provenance:
    """What picks were computed from."""

    backbone: str  # model id, "" where none
    head: str  # model id, "" where none
    source: str
    space: str
    epoch: int
    plan_digest: str
    seed: int
    candidates: int


@dataclass(frozen=True, slots=True)
class PickView:
    """One pick and why; predictions are (class name, probability), most likely first."""

    sample: SampleView
    rank: int
    score: float
    parts: Mapping[str, float]
    predictions: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class QuotaView:
    """What became of a quota: candidates of its group, and picks."""

    quota: QuotaTerm
    available: int
    picked: int


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a plan would cost."""

    candidates: int
    bytes_read: int
    gflop: float
    seconds: float


@dataclass(frozen=True, slots=True)
class MineSpec:
    """Picks to make. plan None means the preset "margin"."""

    size: int
    plan: Plan | None = None
    filter: Filter | None = None
    seed: int = 0
    validate_only: bool = False
    payload: bool = False
    predictions: int = 0


@dataclass(frozen=True, slots=True)
class MineResult:
    """Picks made; with validate_only, the estimate instead."""

    picks: tuple[PickView, ...]
    plan: Plan
    provenance: Provenance
    estimate: CostEstimate | None
    timings: Timings
    quotas: tuple[QuotaView, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """Scores to stream. states () means unlabeled."""

    plan: Plan | None = None
    filter: Filter | None = None
    states: tuple[State, ...] = ()
    chunk: int = 10_000


@dataclass(frozen=True, slots=True)
class ScoreStream:
    """Scores by row: an iterator of (ids, scores) to drain outside the event loop."""

    provenance: Provenance
    chunks: Iterator[tuple[list[str], FloatArray]]


# --- labeling ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """A batch to lease, for ttl seconds. plan None means "margin", or "random" where not every sample that may be
    picked has a prediction yet."""

    worker: str
    size: int
    plan: Plan | None = None
    filter: Filter | None = None
    ttl: float = 900.0
    seed: int = 0
    payload: bool = True
    predictions: int = 0


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease with the ids of the samples it still holds."""

    record: LeaseRecord
    sample_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A leased batch."""

    lease: LeaseView
    picks: tuple[PickView, ...]
    plan: Plan
    provenance: Provenance
    timings: Timings
    quotas: tuple[QuotaView, ...] = ()


@dataclass(frozen=True, slots=True)
class SubmitSpec:
    """Labels handed in: (sample id, class name). lease "" for labels from elsewhere."""

    worker: str
    labels: tuple[tuple[str, str], ...]
    lease: str = ""
    fencing_token: int = 0
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """What became of labels."""

    stored: int
    unchanged: int
    lease_remaining: int
    epoch: int


@dataclass(frozen=True, slots=True)
class LabelView:
    """A stored label."""

    sample_id: str
    row: int
    class_name: str
    class_index: int
    worker: str
    create_time: float
    lease: str
    uri: str = ""
