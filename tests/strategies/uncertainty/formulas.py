"""Plain transcriptions of the uncertainty formulas, in float64, to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

Floats = NDArray[np.float64]


def uncertainty(probs_NC: NDArray[Any]) -> dict[str, Floats]:
    """The measures of the fused kernel, by sorting and plain loops over the classes."""
    probs = probs_NC.astype(np.float64)
    second, first = np.sort(np.pad(probs, ((0, 0), (1, 0))), axis=1)[:, -2:].T
    return {
        "least_confidence": 1 - first,
        "margin": 1 - (first - second) if probs.shape[1] > 1 else np.zeros(len(probs)),
        "ratio": second / first,
        "entropy": -xlogy(probs, probs).sum(axis=1),
        "gradient_length": gradient_length(probs),
    }


def gradient_length(probs_NC: Floats) -> Floats:
    lengths_N = np.zeros(len(probs_NC))
    for label, one_hot_C in enumerate(np.eye(probs_NC.shape[1])):
        lengths_N += probs_NC[:, label] * np.linalg.norm(probs_NC - one_hot_C, axis=1)
    return lengths_N
