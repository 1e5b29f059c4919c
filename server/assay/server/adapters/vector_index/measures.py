"""Similarities and distances, twice: as a fast estimate of a block with a bound on its error, and exactly for a few
pairs.

Keys are "higher is nearer": similarities, or squared distances with the sign turned. An exact key is computed in double
precision from one pair alone and rounded once, so it does not depend on what else is in a block; the estimate, a
float32 matrix product, does, and only serves to find candidates.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.pools import Metric

UNIT = 2.0**-24  # rounding unit of float32
TINY = 1.2e-38  # smallest normal float32: bounds what underflow can lose in one product
LONGEST_UNIT_VECTOR = 1.001  # stored unit vectors are rounded

Positions = npt.NDArray[np.int64]
Bounds = npt.NDArray[np.float64]


class Measure(Protocol):
    """A metric applied to a set of queries."""

    def estimate(self, block_BD: FloatArray, out_QB: FloatArray) -> Bounds:
        """Writes estimated keys; returns for each query a bound on their distance from the exact keys."""

    def exact(self, queries_M: Positions, vectors_MD: FloatArray) -> FloatArray:
        """Exact keys of pairs of a query (by position) and a vector."""


class InnerProducts:
    """Keys are inner products.

    Args:
        queries_QD: queries.
        longest: bound on the length of all vectors, None if there is none.
    """

    def __init__(self, queries_QD: FloatArray, longest: float | None) -> None:
        self._queries = queries_QD
        self._wide = queries_QD.astype(np.float64)
        self._lengths = np.linalg.norm(self._wide, axis=1)
        self._longest = longest

    def estimate(self, block_BD: FloatArray, out_QB: FloatArray) -> Bounds:
        np.matmul(self._queries, block_BD.T, out=out_QB)
        longest = self._longest
        if longest is None:
            longest = float(np.sqrt(_squared_lengths(block_BD).max()))
        return _bound(self._lengths * longest, block_BD.shape[1])

    def exact(self, queries_M: Positions, vectors_MD: FloatArray) -> FloatArray:
        products = vectors_MD.astype(np.float64)
        products *= self._wide[queries_M]
        keys_M: FloatArray = products.sum(axis=1).astype(np.float32)
        return keys_M


class SquaredDistances:
    """Keys are squared Euclidean distances with the sign turned.

    The estimate measures from the centre of the queries: expanded squares of vectors that share a large offset would
    cancel.

    Args:
        queries_QD: queries.
        block_rows: rows in one block, at most.
    """

    def __init__(self, queries_QD: FloatArray, block_rows: int) -> None:
        self._wide = queries_QD.astype(np.float64)
        self._centre = self._wide.mean(axis=0).astype(np.float32)
        self._doubled = 2 * (queries_QD - self._centre)
        self._squares = _squared_lengths(queries_QD - self._centre)
        self._shifted = np.empty((block_rows, queries_QD.shape[1]), np.float32)

    def estimate(self, block_BD: FloatArray, out_QB: FloatArray) -> Bounds:
        shifted_BD = np.subtract(block_BD, self._centre, out=self._shifted[: len(block_BD)])
        squares_B = _squared_lengths(shifted_BD)
        np.matmul(self._doubled, shifted_BD.T, out=out_QB)
        out_QB -= squares_B
        out_QB -= self._squares[:, None]
        reach = np.sqrt(self._squares, dtype=np.float64) + float(np.sqrt(squares_B.max()))
        return _bound(reach**2, block_BD.shape[1])

    def exact(self, queries_M: Positions, vectors_MD: FloatArray) -> FloatArray:
        differences = vectors_MD.astype(np.float64)
        differences -= self._wide[queries_M]
        differences *= differences
        keys_M: FloatArray = (-differences.sum(axis=1)).astype(np.float32)
        return keys_M


def measure_for(metric: Metric, queries_QD: FloatArray, block_rows: int) -> Measure:
    """The measure of a pool's metric for blocks of so many rows at most, to be used by one thread at a time. Queries of
    a cosine pool must have unit length."""
    if metric is Metric.L2:
        return SquaredDistances(queries_QD, block_rows)
    return InnerProducts(queries_QD, LONGEST_UNIT_VECTOR if metric is Metric.COSINE else None)


def unit_vectors(vectors_ND: FloatArray) -> FloatArray:
    """Vectors scaled to length 1; zero vectors stay."""
    wide = vectors_ND.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def _squared_lengths(vectors_ND: FloatArray) -> FloatArray:
    squares: FloatArray = np.einsum("nd,nd->n", vectors_ND, vectors_ND)
    return squares


def _bound(magnitudes_Q: Bounds, dimension: int) -> Bounds:
    # A float32 inner product in any order of summation is off by at most dimension * UNIT * |a| |b| (Higham, Accuracy
    # and Stability of Numerical Algorithms, 3.1). The factor 2 and the 8 cover the shift, the rounded norms and the
    # key's own rounding.
    bounds: Bounds = (dimension + 8) * (2 * UNIT * magnitudes_Q + TINY)
    return bounds
