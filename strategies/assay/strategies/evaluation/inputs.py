"""What the evaluation takes, checked once at the edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.strategies.errors import InvalidParams, StrategyError

Floats = NDArray[np.float64]


def checked_values(values: ArrayLike, name: str, axes: int) -> Floats:
    """Finite numbers as float64 with this many axes, none of them empty.

    Raises StrategyError INVALID_ARRAY or NOT_FINITE.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != axes or 0 in array.shape:
        raise StrategyError("INVALID_ARRAY", f"{name} must be a non-empty array of {axes} axes; got {array.shape}")
    if not np.isfinite(array).all():
        raise StrategyError("NOT_FINITE", f"{name} holds NaN or infinity; leave out what was not measured")
    return array


def checked_curve(labels_Q: ArrayLike, curve: ArrayLike) -> tuple[Floats, Floats]:
    """Rising label counts and a curve over them, its last axis; the curve may have axes before."""
    labels = checked_values(labels_Q, "label counts", 1)
    values = checked_values(curve, "a curve", np.ndim(curve))
    if not bool((np.diff(labels) > 0).all()) or labels[0] < 0:
        raise StrategyError("INVALID_ARRAY", "label counts must rise strictly, from 0 or more")
    if values.ndim == 0 or values.shape[-1] != len(labels):
        raise StrategyError(
            "INVALID_ARRAY", f"there are {len(labels)} label counts and a curve of shape {values.shape}"
        )
    return labels, values


def checked_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InvalidParams("confidence", f"must lie between 0 and 1, as 0.95 does; got {confidence!r}")
    return float(confidence)
