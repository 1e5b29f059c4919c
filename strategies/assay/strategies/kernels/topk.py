"""The highest k of many scores, exactly, in one streaming pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.strategies.errors import StrategyError
from assay.strategies.interrupt import checkpoint

Scores = np.ndarray[Any, Any]
Indices = NDArray[np.int64]

# Values per step: small enough to stay in cache between its passes, large enough to hide their overhead.
_CHUNK = 1 << 16


def top_k(scores_N: Scores, k: int, mask_N: NDArray[np.bool_] | None = None) -> Indices:
    """int64 indices of the k highest scores, highest first, ties by the smallest index; fewer if there are fewer.

    mask_N: True where a score counts; nothing is copied to apply it, and scores outside it may be anything.
    Infinities rank as the highest and the lowest score. O(N) time, O(k) memory: a threshold that only rises lets
    most of each chunk fall after one comparison.
    Raises StrategyError NOT_FINITE for a NaN that counts, INVALID_SIZE for k < 0, INVALID_ARRAY for bad shapes.
    """
    _check(scores_N, k, mask_N)
    if k == 0:
        return np.empty(0, np.int64)
    best = _Best(k)
    for start in range(0, len(scores_N), _CHUNK):
        checkpoint()
        chunk = slice(start, start + _CHUNK)
        best.offer(start, scores_N[chunk], None if mask_N is None else mask_N[chunk])
    return best.in_order()


def _check(scores_N: Scores, k: int, mask_N: NDArray[np.bool_] | None) -> None:
    if k < 0:
        raise StrategyError("INVALID_SIZE", f"cannot take the top {k}")
    if scores_N.ndim != 1 or not np.issubdtype(scores_N.dtype, np.floating):
        raise StrategyError("INVALID_ARRAY", f"scores must be a row of floats, not {scores_N.dtype} {scores_N.shape}")
    if mask_N is not None and (mask_N.shape != scores_N.shape or mask_N.dtype != np.bool_):
        raise StrategyError(
            "INVALID_ARRAY", f"the mask must be bool {scores_N.shape}, not {mask_N.dtype} {mask_N.shape}"
        )


class _Best:
    """The best k so far, in index order, with some that the threshold has yet to drop."""

    def __init__(self, k: int) -> None:
        self.k = k
        # None until k scores were seen: until then even -inf is in. Later ties lose to the earlier indices.
        self.threshold: Any = None
        self._indices: list[Indices] = []
        self._values: list[Scores] = []
        self._held = 0

    def offer(self, start: int, chunk: Scores, mask: NDArray[np.bool_] | None) -> None:
        # A maximum is NaN if any value is; below the threshold it settles the chunk alone.
        highest = chunk.max()
        if np.isnan(highest):
            _refuse_nan(chunk, mask)
        elif self.threshold is not None and highest <= self.threshold:
            return
        hits = self._hits(chunk, mask)
        self._indices.append(hits + start)
        self._values.append(chunk[hits])
        self._held += len(hits)
        if self._held >= self.k and (self.threshold is None or self._held >= 2 * self.k + _CHUNK):
            self._compact()

    def in_order(self) -> Indices:
        indices, values = self._merged()
        # Stable, over rising indices: ties stay in index order.
        return indices[np.argsort(-values, kind="stable")[: self.k]]

    def _hits(self, chunk: Scores, mask: NDArray[np.bool_] | None) -> Indices:
        if self.threshold is None:
            return np.arange(len(chunk)) if mask is None else np.flatnonzero(mask)
        above = chunk > self.threshold
        return np.flatnonzero(above if mask is None else np.logical_and(above, mask, out=above))

    def _compact(self) -> None:
        indices, values = self._merged()
        self.threshold = np.partition(values, len(values) - self.k)[len(values) - self.k]
        keep = values > self.threshold
        ties = np.flatnonzero(values == self.threshold)
        keep[ties[: self.k - np.count_nonzero(keep)]] = True
        self._indices, self._values, self._held = [indices[keep]], [values[keep]], self.k

    def _merged(self) -> tuple[Indices, Scores]:
        if not self._indices:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        return np.concatenate(self._indices), np.concatenate(self._values)


def _refuse_nan(chunk: Scores, mask: NDArray[np.bool_] | None) -> None:
    if mask is None or bool(np.isnan(chunk[mask]).any()):
        raise StrategyError("NOT_FINITE", "a score is NaN: it has no rank")
