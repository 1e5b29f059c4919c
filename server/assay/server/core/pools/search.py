"""Nearest neighbours in a snapshot: exact over the mapped segments, or approximate and re-ranked exactly."""

import numpy as np

from assay.server.core import checks
from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import MAX_HITS, MAX_K, MAX_QUERIES
from assay.server.core.pools.messages import Hit, SampleView, SearchMode, SearchResult, SearchSpec
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.search import ExactSearch, SearchIndex
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.pools import LIVE_STATES, Metric
from assay.server.core.stopwatch import Stopwatch
from assay.strategies import checkpoint

# Candidates fetched per neighbour asked for, so that the exact order of the best survives the index's rounding.
OVERSAMPLING = 3
# Samples whose payloads are read at once, before their bytes are counted.
DESCRIBED_AT_ONCE = 256


class Search:
    """Answers searches."""

    def __init__(self, exact: ExactSearch) -> None:
        self._exact = exact

    def run(self, snapshot: Snapshot, spec: SearchSpec, max_bytes: int) -> SearchResult:
        """Neighbours of each query, of at most max_bytes of ids, uris and payloads together.

        Raises:
            AssayError: INVALID_ARGUMENT, DIMENSION_MISMATCH, NOT_FINITE, SAMPLE_NOT_FOUND, INDEX_NOT_READY, TOO_LARGE,
            filter errors.
        """
        if not 1 <= spec.k <= MAX_K:
            raise AssayError(Reason.INVALID_ARGUMENT, f"k is 1 to {MAX_K}, not {spec.k}.")
        checks.filter_fits(spec.filter, snapshot.attributes)
        watch = Stopwatch()
        with watch.stage("filter"):
            allowed_N = snapshot.mask(spec.states or LIVE_STATES, spec.filter)
        queries_QD, own_Q = self._queries(snapshot, spec)
        if len(queries_QD) * spec.k > MAX_HITS:
            raise AssayError(
                Reason.TOO_LARGE,
                f"{len(queries_QD):,} queries with k {spec.k:,} are {len(queries_QD) * spec.k:,} neighbors; at most "
                f"{MAX_HITS:,} are sought at once. Ask for fewer, or in several searches.",
                hits=len(queries_QD) * spec.k,
                max_hits=MAX_HITS,
            )
        # A sample is always its own nearest neighbour: fetch one more and leave it out.
        k = spec.k + (own_Q is not None)
        with watch.stage("search"):
            values_QK, rows_QK, exact = self.nearest(snapshot, queries_QD, k, allowed_N, spec.mode)
        with watch.stage("describe"):
            own = [-1] * len(queries_QD) if own_Q is None else own_Q.tolist()
            describing = _Describing(snapshot, spec, max_bytes)
            hits = tuple(describing.hits(values_QK[q], rows_QK[q], own[q]) for q in range(len(queries_QD)))
        return SearchResult(hits, exact, snapshot.pool.epoch, watch.timings)

    def _queries(self, snapshot: Snapshot, spec: SearchSpec) -> tuple[FloatArray, RowArray | None]:
        if (spec.vectors_QD is None) == (not spec.ids):
            raise AssayError(Reason.INVALID_ARGUMENT, "Search by vectors or by samples: give exactly one of them.")
        if spec.ids:
            checks.ids(spec.ids, MAX_QUERIES)
            rows_Q = snapshot.require(spec.ids)
            return snapshot.gather(rows_Q), rows_Q
        vectors_QD = spec.vectors_QD
        assert vectors_QD is not None
        if not 1 <= len(vectors_QD) <= MAX_QUERIES:
            raise AssayError(Reason.INVALID_ARGUMENT, f"Give 1 to {MAX_QUERIES} query vectors, not {len(vectors_QD)}.")
        if snapshot.pool.dimension == 0:
            raise AssayError(Reason.DIMENSION_MISMATCH, "The pool holds no vectors yet; add samples first.")
        return checks.embeddings(vectors_QD, snapshot.pool.dimension, snapshot.pool.metric), None

    def nearest(
        self, snapshot: Snapshot, queries_QD: FloatArray, k: int, allowed_N: MaskArray, mode: SearchMode
    ) -> tuple[FloatArray, RowArray, bool]:
        """Values and rows of the nearest k allowed rows of each query, best first, -1 where there are fewer; and
        whether they are exact. Raises AssayError(INDEX_NOT_READY)."""
        index = snapshot.index
        if index is None and mode is SearchMode.APPROXIMATE:
            raise AssayError(
                Reason.INDEX_NOT_READY,
                "The pool has no approximate index: it is small, or the index is being built. Search exactly instead.",
            )
        if index is not None and mode is not SearchMode.EXACT:
            found = self._approximate(snapshot, index, queries_QD, k, allowed_N)
            if found is not None:
                return *found, False
        values_QK, rows_QK = self._exact.search(snapshot.vectors, snapshot.pool.metric, queries_QD, k, allowed_N)
        return values_QK, rows_QK, True

    def _approximate(
        self, snapshot: Snapshot, index: SearchIndex, queries_QD: FloatArray, k: int, allowed_N: MaskArray
    ) -> tuple[FloatArray, RowArray] | None:
        """None where the filter leaves the index too few to find: an exact search is then cheap, and right."""
        indexed_N = np.zeros(len(allowed_N), np.bool_)
        rows = index.indexed_rows
        indexed_N[rows[rows < len(allowed_N)]] = True
        reachable = int(np.count_nonzero(allowed_N & indexed_N))
        _, rows_QM = index.search(queries_QD, k * OVERSAMPLING, allowed_N & indexed_N)
        if (np.count_nonzero(rows_QM >= 0, axis=1) < min(k, reachable)).any():
            return None
        fresh_N = allowed_N & ~indexed_N
        values_QK, rows_QK = self._rerank(snapshot, queries_QD, rows_QM, k)
        if not fresh_N.any():
            return values_QK, rows_QK
        more_QK, more_rows_QK = self._exact.search(snapshot.vectors, snapshot.pool.metric, queries_QD, k, fresh_N)
        return _best(np.hstack([values_QK, more_QK]), np.hstack([rows_QK, more_rows_QK]), k, snapshot.pool.metric)

    def _rerank(
        self, snapshot: Snapshot, queries_QD: FloatArray, rows_QM: RowArray, k: int
    ) -> tuple[FloatArray, RowArray]:
        values_QM = np.empty(rows_QM.shape, np.float32)
        for query_D, rows_M, values_M in zip(queries_QD, rows_QM, values_QM, strict=True):
            checkpoint()
            found = rows_M >= 0
            values_M[found] = _compare(query_D, snapshot.gather(rows_M[found]), snapshot.pool.metric)
            values_M[~found] = _worst(snapshot.pool.metric)
        return _best(values_QM, rows_QM, k, snapshot.pool.metric)


def _compare(query_D: FloatArray, vectors_MD: FloatArray, metric: Metric) -> FloatArray:
    if metric is Metric.L2:
        squares_M: FloatArray = np.square(vectors_MD - query_D).sum(axis=1)
        return squares_M
    products_M: FloatArray = vectors_MD @ query_D
    return products_M


def _nearness(values_K: FloatArray, metric: Metric) -> tuple[FloatArray, FloatArray]:
    """Similarities (higher = nearer) and distances (lower = nearer) of what a search compares by; see Hit."""
    match metric:
        case Metric.L2:
            return -values_K, values_K
        case Metric.COSINE:
            # Rounding takes the cosine of a copy beyond 1, and no distance is below 0.
            return values_K, np.maximum(2 - 2 * values_K, 0)
        case Metric.INNER_PRODUCT:
            return values_K, -values_K


def _worst(metric: Metric) -> float:
    return np.inf if metric is Metric.L2 else -np.inf


def _best(values_QM: FloatArray, rows_QM: RowArray, k: int, metric: Metric) -> tuple[FloatArray, RowArray]:
    keys_QM = values_QM if metric is Metric.L2 else -values_QM
    order_QK = np.lexsort((rows_QM, keys_QM), axis=1)[:, :k]
    return np.take_along_axis(values_QM, order_QK, 1), np.take_along_axis(rows_QM, order_QK, 1)


class _Describing:
    """Describes hits, until they have more bytes than a reply."""

    def __init__(self, snapshot: Snapshot, spec: SearchSpec, max_bytes: int) -> None:
        self._snapshot = snapshot
        self._spec = spec
        self._max_bytes = max_bytes
        self._bytes = 0

    def hits(self, values_K: FloatArray, rows_K: RowArray, own: int) -> tuple[Hit, ...]:
        """Hits of one query, without the row that it asks for itself. Raises AssayError(TOO_LARGE)."""
        keep = np.flatnonzero((rows_K >= 0) & (rows_K != own))[: self._spec.k]
        samples: list[SampleView] = []
        for start in range(0, len(keep), DESCRIBED_AT_ONCE):
            checkpoint()
            block = keep[start : start + DESCRIBED_AT_ONCE]
            samples += self._counted(self._snapshot.describe(rows_K[block], payload=self._spec.payload))
        similarities_K, distances_K = _nearness(values_K[keep], self._snapshot.pool.metric)
        return tuple(map(Hit, samples, similarities_K.tolist(), distances_K.tolist()))

    def _counted(self, samples: list[SampleView]) -> list[SampleView]:
        self._bytes += sum(
            len(each.record.id) + len(each.record.uri) + len(each.record.payload or b"") for each in samples
        )
        if self._bytes > self._max_bytes:
            raise AssayError(
                Reason.TOO_LARGE,
                f"The neighbors have more than the {self._max_bytes:,} bytes of a reply. Ask for fewer at once, or "
                "without payloads.",
                max_bytes=self._max_bytes,
            )
        return samples
