"""FAISS indexes while they are built: the two kinds behind one way to start and to add."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from assay.server.adapters.vector_index.library import Index, faiss, faiss_metric
from assay.server.adapters.vector_index.measures import unit_vectors
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.pools import Metric

Blocks = Callable[[], Iterator[tuple[RowArray, FloatArray]]]

TRAINING_POINTS = 40  # per list
TRAINING_VALUES = 1 << 27  # float32 values in the training sample, at most
ROUNDS = 10  # of k-means
ASSIGNED_WORK = 1 << 30  # multiplications between two looks at the stop
ADDED_VALUES = 1 << 16  # float32 values that are added between two looks at the stop, at most


def new_hnsw(metric: Metric, dimension: int, links: int, construction: int) -> Index:
    """An empty graph whose ids are rows.

    Args:
        links: neighbours of a vertex on the upper layers; twice as many on the lowest.
        construction: neighbours kept while a vertex is placed.

    Source: Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using HNSW graphs, 2018.
    """
    if metric is Metric.COSINE:
        graph = faiss.IndexHNSWSQ(dimension, faiss.ScalarQuantizer.QT_fp16, links, faiss_metric(metric))
        graph.is_trained = True  # half precision has nothing to learn
    else:
        graph = faiss.IndexHNSWFlat(dimension, links, faiss_metric(metric))
    graph.hnsw.efConstruction = construction
    return faiss.IndexIDMap(graph)


def new_ivf(metric: Metric, dimension: int, count: int, blocks: Blocks, stop: Callable[[], bool]) -> Index | None:
    """An empty inverted file with 4 sqrt(count) lists, laid out by k-means on a sample; None if stopped.

    Source: Jegou, Douze and Schmid, Product quantization for nearest neighbor search, 2011 (the inverted file).
    """
    lists = max(1, int(4 * math.sqrt(count)))
    sample_SD = _sample(blocks, count, min(count, lists * TRAINING_POINTS, TRAINING_VALUES // dimension))
    lists = min(lists, len(sample_SD))
    centroids_LD = _centroids(sample_SD, lists, metric, stop)
    if centroids_LD is None:
        return None
    quantizer = faiss.IndexFlat(dimension, faiss_metric(metric))
    quantizer.add(centroids_LD)
    if metric is Metric.COSINE:
        kind = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexIVFScalarQuantizer(quantizer, dimension, lists, kind, faiss_metric(metric), False)
    else:
        index = faiss.IndexIVFFlat(quantizer, dimension, lists, faiss_metric(metric))
    index.train(sample_SD)  # finds its centroids in place and only marks itself as trained
    return index


def fill(index: Index, blocks: Blocks, held_N: RowArray, chunk: int, stop: Callable[[], bool]) -> bool:
    """Adds the vectors of all rows that are not held (ascending), in chunks; False if stopped in between."""
    chunk = max(1, min(chunk, ADDED_VALUES // index.d))
    for rows_B, embeddings_BD in blocks():
        missing = np.flatnonzero(~are_held(rows_B, held_N))
        for start in range(0, len(missing), chunk):
            if stop():
                return False
            chosen = missing[start : start + chunk]
            index.add_with_ids(embeddings_BD[chosen], rows_B[chosen])
    return True


def are_held(rows_N: RowArray, held_N: RowArray) -> MaskArray:
    """Which rows are among those held (ascending)."""
    if not len(held_N):
        return np.zeros(len(rows_N), np.bool_)
    places = np.minimum(np.searchsorted(held_N, rows_N), len(held_N) - 1)
    held: MaskArray = held_N[places] == rows_N
    return held


def _sample(blocks: Blocks, count: int, size: int) -> FloatArray:
    """About `size` of `count` vectors, drawn evenly, the same ones each time."""
    rng = np.random.default_rng(0)
    parts = []
    for rows_B, embeddings_BD in blocks():
        share = min(len(rows_B), math.ceil(len(rows_B) * size / count))
        parts.append(embeddings_BD[np.sort(rng.choice(len(rows_B), share, replace=False))])
    return np.concatenate(parts)


def _centroids(sample_SD: FloatArray, lists: int, metric: Metric, stop: Callable[[], bool]) -> FloatArray | None:
    """k-means in blocks of points, between which it can be stopped: FAISS's own takes seconds a round."""
    centroids_LD = sample_SD[np.sort(np.random.default_rng(0).choice(len(sample_SD), lists, replace=False))]
    for _ in range(ROUNDS):
        nearest_S = _assigned(sample_SD, centroids_LD, metric, stop)
        if nearest_S is None:
            return None
        centroids_LD = _moved(sample_SD, nearest_S, centroids_LD)
        if metric is not Metric.L2:
            centroids_LD = unit_vectors(centroids_LD)
    return centroids_LD


def _assigned(
    sample_SD: FloatArray, centroids_LD: FloatArray, metric: Metric, stop: Callable[[], bool]
) -> RowArray | None:
    """The nearest centroid of each point; None if stopped."""
    flat = faiss.IndexFlat(sample_SD.shape[1], faiss_metric(metric))
    flat.add(centroids_LD)
    nearest_S = np.empty(len(sample_SD), np.int64)
    step = max(1, ASSIGNED_WORK // centroids_LD.size)
    for start in range(0, len(sample_SD), step):
        if stop():
            return None
        nearest_S[start : start + step] = flat.search(sample_SD[start : start + step], 1)[1][:, 0]
    return nearest_S


def _moved(sample_SD: FloatArray, nearest_S: RowArray, centroids_LD: FloatArray) -> FloatArray:
    """The mean of the points of each centroid; one without points stays where it is."""
    order_S = np.argsort(nearest_S, kind="stable")
    used, starts, counts = np.unique(nearest_S[order_S], return_index=True, return_counts=True)
    moved_LD = centroids_LD.copy()
    moved_LD[used] = np.add.reduceat(sample_SD[order_S], starts, axis=0) / counts[:, None]
    return moved_LD
