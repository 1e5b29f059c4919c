"""Nearest neighbours."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from assay.server.core.ports.segments import VectorSegment
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.pools import Metric


class SearchIndex(Protocol):
    """An approximate index over the vectors of one pool and space. Labels of vectors are rows."""

    @property
    def kind(self) -> str:
        """ "hnsw" or "ivf"."""

    @property
    def version(self) -> str:
        """Tells it from every other index of its space, also after a restart."""

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
        epoch: int,
        base: SearchIndex | None,
        stop: Callable[[], bool],
    ) -> SearchIndex | None:
        """Builds an index over all blocks of an epoch, or extends base by the rows that it lacks, and stores it. None
        if stopped."""

    def forget(self, pool_uid: int, space: str = "") -> None:
        """Deletes the stored index of a space of a pool, or of all of them."""

    def sweep(self, epochs: Mapping[int, int]) -> None:
        """Deletes stored indexes of pools that are not named by uid, and those built from an epoch beyond the one
        given: after a restore of the catalog, rows are given out again, to other samples."""


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
