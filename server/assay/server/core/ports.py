"""What the domain asks of the outside: one protocol per need, each with one conformance suite over its adapters."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from assay.server.core.types import (
    BackboneInfo,
    BackboneWishes,
    Filter,
    FloatArray,
    HeadInfo,
    HeadWeights,
    LabelRecord,
    LeaseRecord,
    MaskArray,
    Metric,
    ModelKind,
    ModelRecord,
    OperationRecord,
    PoolRecord,
    RequestKey,
    RowArray,
    SampleColumns,
    SampleRecord,
    SegmentFile,
)


class CatalogTx(Protocol):
    """One transaction of the catalog: all its changes become durable together, or none."""

    # pools
    def insert_pool(self, pool: PoolRecord) -> PoolRecord:
        """Stores a pool and gives it back with its uid. Raises AssayError(POOL_EXISTS)."""

    def pools(self) -> list[PoolRecord]:
        """All pools, ordered by pool_id."""

    def delete_pool(self, pool_uid: int) -> None:
        """Deletes the pool with all that belongs to it, its remembered requests excepted."""

    def update_pool(self, pool_uid: int, **changes: object) -> None:
        """Sets fields of PoolRecord by name (epoch, dimension, space, backbone, head, next_fencing_token, next_row)."""

    # attributes
    def attributes(self, pool_uid: int) -> dict[str, str]:
        """Attribute names and kinds."""

    def add_attributes(self, pool_uid: int, kinds: Mapping[str, str]) -> None:
        """Records new attributes."""

    # segments
    def segments(self, pool_uid: int) -> list[SegmentFile]:
        """All segment files of a pool, ordered by kind, space, first_row."""

    def all_segment_files(self) -> set[str]:
        """Files of all segments and models of all pools: what a sweep must keep."""

    def add_segments(self, pool_uid: int, files: Sequence[SegmentFile]) -> None:
        """Makes segment files part of the pool."""

    def remove_segments(self, pool_uid: int, files: Iterable[str]) -> None:
        """Forgets segment files."""

    # row states
    def delete_rows(self, pool_uid: int, rows: RowArray) -> None:
        """Marks rows as deleted, and drops their labels and exclusions."""

    def deleted_rows(self, pool_uid: int) -> RowArray:
        """Deleted rows that some segment may still hold, ascending."""

    def forget_deleted_rows(self, pool_uid: int, rows: RowArray) -> None:
        """Drops tombstones of rows that no segment holds any more."""

    def exclude_rows(self, pool_uid: int, rows: RowArray, worker: str, reason: str) -> None:
        """Sets rows aside."""

    def excluded_rows(self, pool_uid: int) -> RowArray:
        """Rows set aside, ascending."""

    # labels
    def put_labels(self, pool_uid: int, labels: Sequence[LabelRecord]) -> None:
        """Stores labels; one that a row already has is replaced."""

    def put_label_columns(
        self, pool_uid: int, rows: RowArray, classes: npt.NDArray[np.int32], worker: str, now: float
    ) -> None:
        """Stores many labels that came with an ingest."""

    def label_columns(self, pool_uid: int) -> tuple[RowArray, npt.NDArray[np.int32]]:
        """Rows (ascending) and class indices of all labels."""

    def labels(
        self, pool_uid: int, *, after_row: int = -1, limit: int = 1000, worker: str = "", class_index: int = -1
    ) -> list[LabelRecord]:
        """Labels by row, for pages; empty worker and class -1 mean all."""

    # leases
    def add_lease(self, pool_uid: int, lease: LeaseRecord) -> None:
        """Stores a live lease on its rows. Raises AssayError(CONFLICT) if a row is under another live lease."""

    def lease(self, pool_uid: int, lease_id: str) -> LeaseRecord | None:
        """A lease with the rows it still holds."""

    def live_leases(self, pool_uid: int) -> list[LeaseRecord]:
        """All live leases, ordered by fencing token; the clock is not consulted."""

    def renew_lease(self, pool_uid: int, lease_id: str, expire_time: float) -> None:
        """Moves the end of a live lease."""

    def drop_lease_rows(self, pool_uid: int, lease_id: str, rows: Iterable[int], reason: str) -> None:
        """Takes rows out of a lease; the reason is kept. The lease becomes "done" when it holds none."""

    def expire_lease(self, pool_uid: int, lease_id: str) -> None:
        """Ends a lease as "expired"; its rows are free."""

    # models
    def add_model(self, pool_uid: int, model: ModelRecord) -> None:
        """Stores a model version. Raises AssayError(MODEL_EXISTS)."""

    def models(self, pool_uid: int) -> list[ModelRecord]:
        """All model versions of a pool, oldest first."""

    def delete_model(self, pool_uid: int, model_id: str) -> None:
        """Forgets a model version and its activations."""

    def record_activation(self, pool_uid: int, kind: ModelKind, model_id: str, space: str, now: float) -> None:
        """Appends to the history of activations ("" = none active; space = embedding space active from then on)."""

    def activations(self, pool_uid: int, kind: ModelKind) -> list[tuple[str, str]]:
        """(model_id, space) of all activations, oldest first."""

    # operations
    def put_operation(self, operation: OperationRecord) -> None:
        """Stores or replaces an operation."""

    def operation(self, operation_id: str) -> OperationRecord | None:
        """An operation."""

    def operations(self, *, after: tuple[float, str] | None = None, limit: int = 1000) -> list[OperationRecord]:
        """Operations by (create_time, operation_id)."""

    def delete_operation(self, operation_id: str) -> None:
        """Forgets an operation."""

    # requests
    def recall(self, key: RequestKey) -> bytes | None:
        """The response remembered under a key, None if there is none or request_id is empty. Raises
        AssayError(REQUEST_ID_REUSED) if it was remembered for another fingerprint."""

    def remember(self, key: RequestKey, response: bytes, now: float) -> None:
        """Remembers a response; does nothing if request_id is empty."""

    def forget_requests(self, before: float) -> None:
        """Drops responses remembered before a time."""


class Catalog(Protocol):
    """The mutable truth, in SQL."""

    @property
    def identity(self) -> str:
        """Made at random with the catalog; tells it from any other."""

    def transaction(self) -> AbstractContextManager[CatalogTx]:
        """A writing transaction, durable when the context ends without an exception, undone otherwise. One at a time.
        Raises AssayError(STORAGE_FULL | STORAGE_FAILED)."""

    def reading(self) -> AbstractContextManager[CatalogTx]:
        """A reading transaction; does not wait for writers."""

    def close(self) -> None:
        """Closes connections."""


class SampleSegment(Protocol):
    """An open samples file, memory-mapped."""

    @property
    def file(self) -> SegmentFile: ...
    @property
    def rows_N(self) -> RowArray:
        """Rows, ascending."""

    @property
    def predictions_NC(self) -> FloatArray | None:
        """Pushed class probabilities; rows of NaN where a sample of a merged file has none. None if no sample has."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the stored model inputs; empty where none."""

    @property
    def input_runs(self) -> tuple[tuple[int, int], ...]:
        """Position ranges (start, stop) within which the inputs have one shape, ascending; samples outside them have
        none. A merged file has several where its parts were padded to different lengths."""

    def find(self, ids: Sequence[str]) -> RowArray:
        """Row of each id, the newest where an id occurs twice, -1 where it does not."""

    def find_all(self, ids: Sequence[str]) -> tuple[npt.NDArray[np.int64], RowArray]:
        """(position in ids, row) of every occurrence."""

    def ids(self, positions: npt.NDArray[np.int64]) -> list[str]:
        """Ids at positions (0..count-1) of the file."""

    def describe(
        self, positions: npt.NDArray[np.int64], *, payload: bool = True, attributes: bool = True
    ) -> list[SampleRecord]:
        """Records at positions of the file."""

    def matches(self, filter: Filter) -> MaskArray:
        """Which samples of the file match; an attribute that the file lacks matches nothing."""

    def inputs(self, start: int, stop: int) -> Mapping[str, npt.NDArray[Any]] | None:
        """Stored model inputs of positions start..stop, which lie within one of input_runs; None where the file has
        none."""


class VectorSegment(Protocol):
    """An open vectors file, memory-mapped."""

    @property
    def file(self) -> SegmentFile: ...
    @property
    def rows_N(self) -> RowArray:
        """Rows, ascending."""

    @property
    def embeddings_ND(self) -> FloatArray:
        """Embeddings: read-only, zero copy."""

    @property
    def logits_NC(self) -> FloatArray | None:
        """The backbone's own logits: read-only, zero copy; None where it has none."""


class SegmentStore(Protocol):
    """Immutable files below the data directory. A write is complete and on disk when it returns, under its final name,
    but part of no pool until the catalog says so."""

    def write_samples(self, pool_uid: int, rows_N: RowArray, columns: SampleColumns) -> SegmentFile:
        """Writes a samples file. Raises AssayError(STORAGE_FULL | STORAGE_FAILED), leaving nothing behind."""

    def write_vectors(
        self, pool_uid: int, space: str, rows_N: RowArray, embeddings_ND: FloatArray, logits_NC: FloatArray | None
    ) -> SegmentFile:
        """Writes a vectors file. Raises as write_samples."""

    def prepare_ids(self, ids: Sequence[str]) -> Sequence[str]:
        """The same ids with what find() computes of them: worth it where several files are asked."""

    def open_samples(self, file: SegmentFile, *, verify: bool) -> SampleSegment:
        """Maps a samples file; with verify, checks its checksum first. Raises AssayError(SEGMENT_DAMAGED)."""

    def open_vectors(self, file: SegmentFile, *, verify: bool) -> VectorSegment:
        """Maps a vectors file; with verify, checks its checksum first. Raises AssayError(SEGMENT_DAMAGED)."""

    def verify(self, file: SegmentFile) -> None:
        """Reads a whole file against its checksum. Raises AssayError(SEGMENT_DAMAGED)."""

    def mergeable(self, segments: Sequence[SampleSegment]) -> bool:
        """Whether merge_samples can make one file of these: columns of one name have one type in all."""

    def merge_samples(
        self, pool_uid: int, segments: Sequence[SampleSegment], keep: Callable[[RowArray], MaskArray]
    ) -> SegmentFile | None:
        """Writes adjacent samples files as one, without the rows that keep() refuses; None if no row is left. Raises as
        write_samples, and AssayError(SEGMENT_DAMAGED) for a damaged source."""

    def merge_vectors(
        self, pool_uid: int, segments: Sequence[VectorSegment], keep: Callable[[RowArray], MaskArray]
    ) -> SegmentFile | None:
        """Writes adjacent vectors files of one space as one; None if no row is left. Raises as merge_samples."""

    def write_model(self, pool_uid: int, model_id: str, chunks: Iterable[bytes]) -> tuple[str, int, str]:
        """Writes a model file; returns (file, size, sha256 hexadecimal). Raises as write_samples."""

    def open_model(self, file: str) -> BinaryIO:
        """Opens a model file for reading."""

    def model_path(self, file: str) -> str:
        """Path of a model file for libraries that map it themselves."""

    def discard(self, files: Iterable[str]) -> None:
        """Deletes files; those mapped stay readable until they are closed. Missing files are ignored."""

    def claim(self, identity: str) -> None:
        """Ties the data directory to a catalog, for good. Raises AssayError(STORAGE_FAILED) if it is tied to
        another."""

    def sweep(self, keep: set[str]) -> list[str]:
        """Deletes all files of the store that are not named; returns them. Derived files (the index) excepted."""


class SearchIndex(Protocol):
    """An approximate index over the vectors of one pool and space. Labels of vectors are rows."""

    @property
    def kind(self) -> str:
        """ "hnsw" or "ivf"."""

    @property
    def indexed_rows(self) -> RowArray:
        """Rows that it holds, ascending."""

    def search(self, queries_QD: FloatArray, k: int, allowed: MaskArray | None) -> tuple[FloatArray, RowArray]:
        """Nearest k of the indexed rows where allowed[row] (None allows all): similarities or squared distances, and
        rows, best first; -1 fills up."""


class IndexBuilder(Protocol):
    """Builds, extends, stores and loads approximate indexes (derived files)."""

    def worthwhile(self, count: int) -> bool:
        """Whether a pool of this size gains from an approximate index."""

    def load(self, pool_uid: int, space: str, metric: Metric, dimension: int) -> SearchIndex | None:
        """The stored index, memory-mapped, if it fits the space, metric and dimension; None otherwise."""

    def build(
        self,
        pool_uid: int,
        space: str,
        metric: Metric,
        dimension: int,
        blocks: Callable[[], Iterator[tuple[RowArray, FloatArray]]],
        count: int,
        base: SearchIndex | None,
        stop: Callable[[], bool],
    ) -> SearchIndex | None:
        """Builds an index over all blocks, or extends base by the rows that it lacks, and stores it. None if
        stopped."""

    def forget(self, pool_uid: int) -> None:
        """Deletes the stored indexes of a pool."""


class ExactSearch(Protocol):
    """Exact nearest neighbours over mapped segments."""

    def search(
        self,
        segments: Sequence[VectorSegment],
        metric: Metric,
        queries_QD: FloatArray,
        k: int,
        allowed: MaskArray | None,
    ) -> tuple[FloatArray, RowArray]:
        """As SearchIndex.search, over every row of the segments; ties by row. Memory O(block + Q k)."""


class Backbone(Protocol):
    """A loaded backbone, safe to call from several threads."""

    @property
    def info(self) -> BackboneInfo: ...
    @property
    def classes(self) -> int:
        """Columns of the logits, 0 without logits."""

    def check_inputs(self, inputs: Mapping[str, npt.NDArray[Any]]) -> int:
        """Number of samples in the inputs. Raises AssayError(INPUTS_INVALID) for unknown or missing names, wrong dtypes
        or shapes, unequal counts."""

    def embed(self, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[FloatArray, FloatArray | None]:
        """Embeddings [N, D] and logits [N, C] if it has them, in blocks. Raises AssayError(INFERENCE_FAILED |
        NOT_FINITE)."""


class BackboneLoader(Protocol):
    """Opens ONNX files."""

    def load(self, path: str, wishes: BackboneWishes, sha256: str) -> Backbone:
        """Opens, checks and warms up a file. Raises AssayError(MODEL_INVALID): not ONNX, outside files referred to,
        output missing, warm-up failed, no embedding found."""

    def reopen(self, path: str, info: BackboneInfo) -> Backbone:
        """Opens a file that was accepted before."""


class Heads(Protocol):
    """Trains, stores and applies heads."""

    def train(
        self,
        embeddings_ND: FloatArray,
        classes_N: npt.NDArray[np.int32],
        class_count: int,
        *,
        space: str,
        l2: float | None,
        balanced: bool,
        members: int,
        folds: int,
        seed: int,
        progress: Callable[[int, int], None],
        stop: Callable[[], bool],
    ) -> tuple[HeadWeights, HeadInfo]:
        """Multinomial logistic regression. Raises AssayError(TOO_FEW_CLASSES | CANCELLED)."""

    def encode(self, weights: HeadWeights) -> bytes:
        """Weights as a file."""

    def decode(self, stream: BinaryIO) -> HeadWeights:
        """Weights from a file. Raises AssayError(SEGMENT_DAMAGED)."""

    def logits(self, weights: HeadWeights, embeddings_ND: FloatArray, out_NC: FloatArray) -> None:
        """Writes the first member's logits of a block into out."""

    def member_probs(self, weights: HeadWeights, embeddings_ND: FloatArray) -> FloatArray:
        """Class probabilities [K, N, C] of every member for a block."""


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""


class Scratch(Protocol):
    """Room for derived arrays."""

    def array(self, shape: tuple[int, int]) -> FloatArray:
        """A writable float32 array, in memory or, where it is large, in a file that vanishes with the process. Raises
        AssayError(STORAGE_FULL)."""


@dataclass(frozen=True, slots=True)
class Ports:
    """One adapter for each port."""

    catalog: Catalog
    segments: SegmentStore
    exact: ExactSearch
    indexes: IndexBuilder
    backbones: BackboneLoader
    heads: Heads
    scratch: Scratch
    clock: Clock
