"""Hand-made pools for the tests of the search, and the plainest search there is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.pools import Metric
from assay.server.core.records.samples import SegmentFile


@dataclass(frozen=True)
class Segment:
    """A vectors segment in memory."""

    rows_N: RowArray
    embeddings_ND: FloatArray
    logits_NC: FloatArray | None = None

    @property
    def file(self) -> SegmentFile:
        first, last = int(self.rows_N[0]), int(self.rows_N[-1])
        return SegmentFile("in-memory", "vectors", "pushed", first, last, len(self.rows_N), 0, "")


def as_stored(metric: Metric, embeddings_ND: FloatArray) -> FloatArray:
    """Embeddings as a pool of this metric keeps them, read-only."""
    stored = embeddings_ND.astype(np.float32)
    if metric is Metric.COSINE:
        wide = embeddings_ND.astype(np.float64)
        lengths = np.sqrt((wide**2).sum(axis=1, keepdims=True))
        stored = (wide / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    stored.flags.writeable = False
    return stored


def clustered(count: int, dimension: int, seed: int, clusters: int = 200) -> FloatArray:
    """Gaussian clusters; the centres are the same for every seed."""
    centres_CD = np.random.default_rng(12345).standard_normal((clusters, dimension))
    rng = np.random.default_rng(seed)
    noise_ND = 0.6 * rng.standard_normal((count, dimension))
    return (centres_CD[rng.integers(clusters, size=count)] + noise_ND).astype(np.float32)


def cut(rows_N: RowArray, embeddings_ND: FloatArray, pieces: int) -> list[Segment]:
    """The same pool in so many segments."""
    parts = zip(np.array_split(rows_N, pieces), np.array_split(embeddings_ND, pieces), strict=True)
    return [Segment(rows, embeddings) for rows, embeddings in parts if len(rows)]


def blocks_of(segments: Sequence[Segment]) -> Iterator[tuple[RowArray, FloatArray]]:
    """Segments as an index is built from them."""
    return ((segment.rows_N, segment.embeddings_ND) for segment in segments)


def keys(metric: Metric, queries_QD: FloatArray, embeddings_ND: FloatArray) -> FloatArray:
    """All similarities, or squared distances with the sign turned, in double precision, rounded once."""
    if metric is Metric.COSINE:
        queries_QD = as_stored(metric, queries_QD)
    queries, embeddings = queries_QD.astype(np.float64), embeddings_ND.astype(np.float64)
    with np.errstate(over="ignore"):
        if metric is Metric.L2:
            return np.array([-((embeddings - query) ** 2).sum(axis=1) for query in queries]).astype(np.float32)
        return np.array([(embeddings * query).sum(axis=1) for query in queries]).astype(np.float32)


def brute_force(
    metric: Metric,
    queries_QD: FloatArray,
    rows_N: RowArray,
    embeddings_ND: FloatArray,
    k: int,
    allowed: MaskArray | None,
) -> tuple[FloatArray, RowArray]:
    """The right answer, by sorting everything."""
    worst = np.inf if metric is Metric.L2 else -np.inf
    values_QK = np.full((len(queries_QD), k), worst, np.float32)
    rows_QK = np.full((len(queries_QD), k), -1, np.int64)
    usable = np.array([allowed is None or (row < len(allowed) and bool(allowed[row])) for row in rows_N], bool)
    rows_M = rows_N[usable]
    for query, keys_M in enumerate(keys(metric, queries_QD, embeddings_ND[usable])):
        order = np.lexsort((rows_M, -keys_M))[:k]
        values_QK[query, : len(order)] = -keys_M[order] if metric is Metric.L2 else keys_M[order]
        rows_QK[query, : len(order)] = rows_M[order]
    return values_QK, rows_QK
