"""What the services of pools and samples are asked and what they answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from assay.server.core.records.annotations import Policy
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.filters import Filter
from assay.server.core.records.pools import Metric, PoolRecord, State
from assay.server.core.records.predictions import PredictionColumns
from assay.server.core.records.samples import SampleColumns, SampleRecord
from assay.server.core.records.tasks import TaskKind, TaskRecord
from assay.server.core.stopwatch import Timings
from assay.server.core.tasks.base import PredictionForm
from assay.server.core.tasks.editing import ClassEdit
from assay.server.core.tasks.given import Given

# Of a pool without labels.
WITHOUT_CLASSES = TaskRecord(TaskKind.CLASSIFICATION)


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A pool to create. Checked by the pool service."""

    pool_id: str
    metric: Metric = Metric.COSINE
    task: TaskRecord = WITHOUT_CLASSES
    dimension: int = 0
    keep_inputs: bool = True
    annotations_per_sample: int = 1
    policy: Policy = Policy.LATEST
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PoolUpdate:
    """What of a pool is to be otherwise; None leaves it as it is.

    Attributes:
        kind: that of the task that `classes` are of.
        classes: all classes, see `editing.edit_classes`.
        annotations_per_sample: answers that are wanted of a sample.
        policy: how labels follow from what stands.
        metadata: all of the user's own texts.
    """

    kind: TaskKind | None = None
    classes: tuple[ClassEdit, ...] | None = None
    annotations_per_sample: int | None = None
    policy: Policy | None = None
    metadata: Mapping[str, str] | None = None


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
    unseen: tuple[int, ...] = ()  # ids of the classes in use that the active head was not trained on


@dataclass(frozen=True, slots=True)
class IngestBatch:
    """A batch to store. Exactly one of embeddings_ND and columns.inputs is given; labels are values of the pool's task,
    None for none."""

    columns: SampleColumns
    embeddings_ND: FloatArray | None = None
    labels: Sequence[Given] | None = None


@dataclass(frozen=True, slots=True)
class SampleUpdate:
    """What is to be otherwise of samples.

    Attributes:
        columns: their ids, and the uris, payloads and attributes that they are to have; those not given stay. No
            predictions and no inputs.
        removed: attributes that they are not to have.
        all_attributes: that they are to have no attributes but those given.
    """

    columns: SampleColumns
    removed: tuple[str, ...] = ()
    all_attributes: bool = False


@dataclass(frozen=True, slots=True)
class UpdateSamplesResult:
    """What became of an update."""

    updated: int
    epoch: int


@dataclass(frozen=True, slots=True)
class PredictionUpdate:
    """What a source says of samples.

    Attributes:
        source: its name.
        ids: of the samples.
        form: what the columns are.
        columns: as the source has them.
        names: the class or the target of each column; () stands for all classes by id, or all targets.
    """

    source: str
    ids: Sequence[str]
    form: PredictionForm
    columns: PredictionColumns
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpdatePredictionsResult:
    """What became of predictions."""

    updated: int
    epoch: int


@dataclass(frozen=True, slots=True)
class SourceView:
    """A named source of predictions as it is now.

    Attributes:
        name: as its user calls it.
        form: what it predicts.
        samples: how many it predicts, of those that the pool serves.
        lost: predictions that were in a damaged file.
        has_spread: whether it says how sure it is of its numbers.
        size: bytes on disk.
        epoch: of its last update.
    """

    name: str
    form: PredictionForm
    samples: int
    lost: int
    has_spread: bool
    size: int
    epoch: int


@dataclass(frozen=True, slots=True)
class AddResult:
    """What became of a batch; the dropped are replaced samples that lost their label, or some of their attributes."""

    added: int
    skipped: int
    replaced: int
    epoch: int
    timings: Timings = ()
    labels_dropped: int = 0
    attributes_dropped: int = 0


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """What became of a deletion."""

    deleted: int
    epoch: int


@dataclass(frozen=True, slots=True)
class SampleView:
    """A sample as it is now; label is as a caller gives it, None without one."""

    row: int
    record: SampleRecord
    state: State
    label: Given


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
class Hit:
    """A sample that a search found.

    Attributes:
        similarity: higher = nearer: the cosine, the inner product, or minus the squared Euclidean distance.
        distance: lower = nearer: the squared Euclidean distance of the embeddings as they are stored; minus the
            similarity in pools of inner products.
    """

    sample: SampleView
    similarity: float
    distance: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits per query, nearest first."""

    hits: tuple[tuple[Hit, ...], ...]
    exact: bool
    epoch: int
    timings: Timings
