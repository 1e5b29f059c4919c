"""What audit and stopping take, checked once at the edge."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.strategies.errors import InvalidParams, StrategyError

Metric = Literal["l2", "cosine"]


def checked_probs(probs_NC: ArrayLike) -> NDArray[np.float32]:
    """Probabilities as float32 of shape (N, C), at least one of each; their values are for `from_probs` to check."""
    probs = np.asarray(probs_NC, np.float32)
    if probs.ndim != 2 or 0 in probs.shape:
        raise StrategyError("INVALID_ARRAY", f"probabilities must be samples x classes, not empty; got {probs.shape}")
    return probs


def checked_classes(classes_N: ArrayLike, name: str, count: int | None = None) -> NDArray[np.int64]:
    """Class numbers as int64 of shape (N,), at least one, from 0 up to `count` - 1 where that is given.

    Raises StrategyError INVALID_ARRAY, or CLASS_OUT_OF_RANGE.
    """
    classes = np.asarray(classes_N)
    if classes.ndim != 1 or not np.issubdtype(classes.dtype, np.integer) or not classes.size:
        raise StrategyError(
            "INVALID_ARRAY", f"{name} must be a list of class numbers, not empty; got {classes.dtype} {classes.shape}"
        )
    if classes.min() < 0 or (count is not None and classes.max() >= count):
        allowed = "0 or more" if count is None else f"0 to {count - 1}"
        raise StrategyError("CLASS_OUT_OF_RANGE", f"{name} must be {allowed}; got {classes.min()} to {classes.max()}")
    return classes.astype(np.int64, copy=False)


def checked_labels(labels_N: ArrayLike, size: int, count: int | None = None) -> NDArray[np.int64]:
    """The class numbers of `size` samples."""
    labels = checked_classes(labels_N, "labels", count)
    require_same_size(size, len(labels), "labels")
    return labels


def require_same_size(wanted: int, got: int, name: str) -> None:
    if got != wanted:
        raise StrategyError("INVALID_ARRAY", f"there are {got} {name} for {wanted} samples; give one each")


def checked_points(embeddings_ND: ArrayLike, metric: Metric) -> NDArray[np.float32]:
    """Embeddings as float32 of shape (N, D), at least one of each; scaled to unit length for cosine.

    A zero vector has no direction and stays zero. Raises StrategyError INVALID_ARRAY, NOT_FINITE (values that
    overflow float32 when squared too) or INVALID_PARAMETER.
    """
    points = np.ascontiguousarray(embeddings_ND, np.float32)
    if points.ndim != 2 or 0 in points.shape:
        raise StrategyError("INVALID_ARRAY", f"embeddings must be samples x dimensions, not empty; got {points.shape}")
    squared_N = np.einsum("nd,nd->n", points, points)
    if not np.isfinite(squared_N).all():
        raise StrategyError("NOT_FINITE", "an embedding holds NaN, infinity, or values beyond float32 when squared")
    if metric == "l2":
        return points
    if metric != "cosine":
        raise InvalidParams("metric", f"must be 'l2' or 'cosine', not {metric!r}")
    lengths_N = np.sqrt(squared_N)
    lengths_N[lengths_N == 0] = 1
    directions: NDArray[np.float32] = points / lengths_N[:, None]
    return directions


def distances(squared: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Squared distances of points from `checked_points` as distances: Euclidean, or 1 - cosine similarity."""
    result: NDArray[np.float32] = np.sqrt(squared) if metric == "l2" else squared / np.float32(2)
    return result


def checked_count(value: int, name: str) -> int:
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise InvalidParams(name, f"must be a whole number from 1, not {value!r}")
    return int(value)
