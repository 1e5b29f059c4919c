"""Outputs of a graph as one vector a sample."""

from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.models import Pooling

RANKS = {Pooling.NONE: 2, Pooling.MEAN: 3, Pooling.CLS: 3, Pooling.SPATIAL_MEAN: 4}
# What an output's axes after the batch are.
AXES = {
    Pooling.NONE: "features",
    Pooling.MEAN: "tokens, features",
    Pooling.CLS: "tokens, features",
    Pooling.SPATIAL_MEAN: "features, height, width",
}
_SMALLEST_NORM = 1e-12


def default_pooling(rank: int) -> Pooling | None:
    """How an output of a rank is pooled unless declared otherwise; None if there is no way."""
    return {2: Pooling.NONE, 3: Pooling.MEAN, 4: Pooling.SPATIAL_MEAN}.get(rank)


def pool(output: npt.NDArray[Any], pooling: Pooling, mask_NT: npt.NDArray[Any] | None) -> FloatArray:
    """One float32 vector a sample.

    Args:
        output: [N, D] for NONE, [N, T, D] for MEAN (over tokens, those with mask 1 where there is a mask) and CLS
            (first token), [N, D, H, W] for SPATIAL_MEAN.
        pooling: how.
        mask_NT: 1 on tokens, 0 on padding.
    """
    values: FloatArray = output.astype(np.float32, copy=False)
    if pooling is Pooling.CLS:
        return np.ascontiguousarray(values[:, 0])
    if pooling is Pooling.SPATIAL_MEAN:
        return np.asarray(values.mean(axis=(2, 3)))
    if pooling is Pooling.MEAN:
        return np.asarray(values.mean(axis=1)) if mask_NT is None else _masked_mean(values, mask_NT.astype(np.float32))
    return values


def _masked_mean(values_NTD: FloatArray, mask_NT: FloatArray) -> FloatArray:
    sums_ND = np.matmul(mask_NT[:, None, :], values_NTD)[:, 0]
    counts_N1 = np.maximum(mask_NT.sum(axis=1, keepdims=True), 1.0)
    mean_ND: FloatArray = sums_ND / counts_N1
    return mean_ND


def normalize_rows(vectors_ND: FloatArray) -> None:
    """Scales rows to length 1, in place. A row of zeros stays: what to think of it is the caller's."""
    norm_N = np.sqrt(np.einsum("nd,nd->n", vectors_ND, vectors_ND, dtype=np.float64))
    vectors_ND /= np.maximum(norm_N, _SMALLEST_NORM)[:, None].astype(np.float32)
