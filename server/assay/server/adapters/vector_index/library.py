"""The one place that imports FAISS, with its settings."""

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from assay.server.core.records.pools import Metric

# Untyped on purpose: the stubs that FAISS ships know neither its Python additions nor the constructors it replaces.
faiss: Any = importlib.import_module("faiss")
Index = Any  # a faiss.Index

# FAISS's own default takes a slow path in flat search (here: the assignment to lists of an inverted file) while
# queries x dimension is small; matrix products win long before.
faiss.cvar.distance_compute_blas_threshold = 20

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)

_running = 0
_lock = threading.Lock()


def faiss_metric(metric: Metric) -> int:
    """FAISS's name of a metric. Embeddings of a cosine pool have unit length: their inner product is the cosine."""
    return int(faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Lets FAISS calls of this thread use `count` threads; OpenMP keeps that setting for each calling thread."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


@contextmanager
def shared_threads(queries: int) -> Iterator[None]:
    """Divides the cores among the searches that run at once, so that they do not fight over them. FAISS gives each
    query to one thread: more threads than queries would only wait."""
    global _running
    with _lock:
        _running += 1
        count = max(1, min(queries, CORES // _running))
    try:
        with threads(count):
            yield
    finally:
        with _lock:
            _running -= 1
