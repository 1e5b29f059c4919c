"""Pools and samples."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from assay.client.filters import AttributeScalar
from assay.client.tasks import Task


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of samples in each state, and of all that are served; `damaged` ones cannot be, and are not among them."""

    unlabeled: int
    leased: int
    labeled: int
    excluded: int
    total: int
    damaged: int
    answered: int = 0
    disputed: int = 0


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
        task: what people say of its samples.
        dimension: length of the embeddings; 0 until there are some.
        discard_inputs: whether model inputs are forgotten once they are embedded.
        state: "open" or "degraded" (some files are damaged).
        attributes: types ("string", "double", "int64", "bool") by name.
        epoch: grows with every change.
        active_backbone, active_head: resource names; None where there is none.
        annotations_per_sample: annotations that are wanted of each sample.
        policy: how labels follow from them: "latest", "majority", "unanimous", "weighted" or "reviewed".
        metadata: your own texts by name.
        unseen_classes: ids of the classes in use that the active head was not trained on: it gives them a probability
            of 0 or nearly.
    """

    name: str
    metric: str
    task: Task | None
    dimension: int
    embedding_space: str
    discard_inputs: bool
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
    annotations_per_sample: int = 1
    policy: str = "latest"
    metadata: Mapping[str, str] = field(default_factory=dict)
    unseen_classes: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        """The id: the name without "pools/"."""
        return self.name.removeprefix("pools/")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the task's classes by id, which is the order of every probability column; none where it has none."""
        classes = getattr(self.task, "classes", ())
        return tuple(each.name for each in sorted(classes, key=lambda each: each.id))


@dataclass(frozen=True, slots=True)
class AddResult:
    """What an ingest did; every counted sample is durable.

    Attributes:
        labels_dropped, attributes_dropped: replaced samples that had a label and have none now, or that lost some of
            their attributes.
    """

    added: int
    skipped: int
    replaced: int
    epoch: int
    timings: Mapping[str, float]
    labels_dropped: int = 0
    attributes_dropped: int = 0


@dataclass(frozen=True, slots=True)
class UpdateSamplesResult:
    """How many samples were changed, and the epoch after it."""

    updated: int
    epoch: int


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
        name: resource name "pools/{pool}/samples/{id}".
    """

    id: str
    uri: str
    payload: bytes
    media_type: str
    attributes: Mapping[str, AttributeScalar]
    state: str
    label: str | None
    row: int
    name: str = ""

    @property
    def text(self) -> str:
        """The payload as text (UTF-8)."""
        return self.payload.decode()

    def json(self) -> Any:
        """The payload parsed as JSON."""
        return json.loads(self.payload)


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Samples to add, column by column; each column has one entry per id or is left out. What a column may be, and what
    counts as missing, is said at `Client.add_samples`.

    Attributes:
        ids: distinct ids.
        embeddings: matrix, data frame or column of vectors, one row per id; exactly one of embeddings and inputs is
            given.
        inputs: named model inputs that the server embeds; the first axis of each is the samples.
        uris: where each raw sample lives; None where that is not known.
        payloads: what a person looks at to label it: text, bytes, or what JSON can say; None where a sample has none.
        media_type: of all payloads; text and JSON are recognised.
        attributes: columns of scalars by name, or a data frame; None where a sample lacks it. A column is of one type.
        labels: values in the natural type of the pool's task, such as class names; None where a sample has none.
        predictions: class probabilities of the caller's own model, one row per id, one column per class.
    """

    ids: Any
    embeddings: Any = None
    inputs: Mapping[str, Any] | None = None
    uris: Any = None
    payloads: Any = None
    media_type: str | None = None
    attributes: Any = None
    labels: Any = None
    predictions: Any = None


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A sample found.

    Attributes:
        similarity: higher = nearer: the cosine or the inner product; in L2 pools, minus the distance.
        distance: lower = nearer: the squared Euclidean distance of the embeddings as they are stored, in a cosine pool
            2 - 2 similarity; in pools of inner products, minus the similarity.
    """

    sample: Sample
    similarity: float
    distance: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of each query, nearest first, and whether the search was exact."""

    hits: tuple[tuple[SearchHit, ...], ...]
    exact: bool
    epoch: int
    timings: Mapping[str, float]
