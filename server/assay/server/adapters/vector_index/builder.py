"""Builds, extends, stores and loads approximate indexes."""

import dataclasses
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from assay.server.adapters.vector_index.approximate import HNSW, IVF, FaissIndex
from assay.server.adapters.vector_index.files import IndexFiles
from assay.server.adapters.vector_index.growing import Blocks, are_held, fill, new_hnsw, new_ivf
from assay.server.adapters.vector_index.library import CORES, Index, threads
from assay.server.adapters.vector_index.sidecar import Sidecar
from assay.server.core.ports.search import SearchIndex
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.pools import Metric

MOST_DEAD = 0.2  # share of indexed rows that are gone, above which an index is built afresh
MOST_GROWTH = 4  # times the count that an inverted file was laid out for, above which it is laid out afresh


class FaissIndexBuilder:
    """A graph (HNSW) for pools of a size up to `ivf_from`, an inverted file (IVF) above.

    A finished index is stored and searched through a map of its file, so it costs page cache, not memory. While one is
    built or extended its vectors are in memory: 2 bytes a component for cosine pools, 4 for others, whose range half
    precision may not cover; and for HNSW 8 `links` bytes a vector and a little more. An extension works on a copy read
    from the file: searches of the base go on and never see it. Graphs built by several threads differ a little.

    Args:
        derived_dir: directory for derived files.
        hnsw_from: number of vectors from which an index is worth its while.
        ivf_from: number of vectors from which it is an inverted file.
        links: neighbours of a vertex of the graph.
        construction: neighbours kept while a vertex is placed; more find more, slower to build.
        chunk: vectors added between two looks at `stop`, at most.
        build_threads: threads for building, 0 for half the cores: the rest serves.
    """

    def __init__(
        self,
        derived_dir: Path,
        *,
        hnsw_from: int = 20_000,
        ivf_from: int = 200_000,
        links: int = 32,
        construction: int = 80,
        chunk: int = 4096,
        build_threads: int = 0,
    ) -> None:
        self._files = IndexFiles(derived_dir)
        self._files_lock = threading.Lock()
        self._hnsw_from = hnsw_from
        self._ivf_from = ivf_from
        self._links = links
        self._construction = construction
        self._chunk = chunk
        self._threads = build_threads or max(1, CORES // 2)

    def worthwhile(self, count: int) -> bool:
        """Whether a pool of this size gains from an approximate index."""
        return count >= self._hnsw_from

    def load(self, pool_uid: int, space: str, metric: Metric, dimension: int) -> FaissIndex | None:
        """The stored index, mapped, if it fits and is intact; otherwise it is deleted and None returned. Reads the
        whole file once, against its checksum."""
        with self._files_lock:
            found = self._files.load(pool_uid, space, metric, dimension)
        return None if found is None else FaissIndex(*found)

    def build(
        self,
        pool_uid: int,
        space: str,
        metric: Metric,
        dimension: int,
        blocks: Blocks,
        epoch: int,
        base: SearchIndex | None,
        stop: Callable[[], bool],
    ) -> FaissIndex | None:
        """Builds an index over all blocks of an epoch, or extends base by the rows that it lacks, and stores it; None
        if stopped.

        The base is not extended but replaced by a new index if many of its rows are gone, if it was loaded for another
        space, or if the pool has outgrown it.

        Raises:
            AssayError: STORAGE_FULL or STORAGE_FAILED; what was stored before is still there.
        """
        present_N = np.sort(np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in blocks())]))
        kind = IVF if len(present_N) >= self._ivf_from else HNSW
        wanted = Sidecar(space, metric, dimension, kind, len(present_N), epoch, trained=len(present_N))
        ours = base if isinstance(base, FaissIndex) and _extensible(base, wanted, present_N) else None
        if ours is not None and are_held(present_N, ours.indexed_rows).all():
            return ours
        with threads(self._threads):
            copy = None if ours is None else self._files.copy(pool_uid, ours.sidecar)
            if copy is None or ours is None:
                index, held_N = self._start(wanted, blocks, stop), np.empty(0, np.int64)
            else:
                index, held_N = copy, ours.indexed_rows
                wanted = dataclasses.replace(wanted, trained=ours.sidecar.trained)
            if index is None or not fill(index, blocks, held_N, self._chunk, stop):
                return None
        return self._store(pool_uid, index, dataclasses.replace(wanted, count=index.ntotal))

    def forget(self, pool_uid: int, space: str = "") -> None:
        """Deletes the stored index of a space of a pool, or of all of them. A build for it must have ended: it would
        store its index again."""
        with self._files_lock:
            self._files.forget(pool_uid, space)

    def sweep(self, epochs: Mapping[int, int]) -> None:
        """Deletes stored indexes of pools that are not named, and those built from an epoch beyond the pool's."""
        with self._files_lock:
            self._files.sweep(epochs)

    def _start(self, wanted: Sidecar, blocks: Blocks, stop: Callable[[], bool]) -> Index | None:
        if wanted.kind == HNSW:
            return new_hnsw(wanted.metric, wanted.dimension, self._links, self._construction)
        return new_ivf(wanted.metric, wanted.dimension, wanted.count, blocks, stop)

    def _store(self, pool_uid: int, index: Index, sidecar: Sidecar) -> FaissIndex:
        with self._files_lock:
            sidecar = self._files.store(pool_uid, index, sidecar)
            mapped = self._files.map(pool_uid, sidecar)
        return FaissIndex(index if mapped is None else mapped, sidecar)


def _extensible(base: FaissIndex, wanted: Sidecar, present_N: RowArray) -> bool:
    if not base.sidecar.fits(wanted.space, wanted.metric, wanted.dimension) or base.kind != wanted.kind:
        return False
    alive = np.count_nonzero(are_held(base.indexed_rows, present_N))
    outgrown = wanted.kind == IVF and len(present_N) > MOST_GROWTH * base.sidecar.trained
    return bool(alive >= (1 - MOST_DEAD) * len(base.indexed_rows)) and not outgrown
