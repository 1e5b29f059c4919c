"""The candidates of one selection: one index space, arrays computed when first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.strategies.errors import NeedMissing, StrategyError
from assay.strategies.interrupt import checkpoint
from assay.strategies.needs import PARTS, SPECS, Need

AnyArray = np.ndarray[Any, Any]
ArraySource = AnyArray | Callable[[], AnyArray]

# Values of a softmax that are computed at a time.
_BLOCK_VALUES = 1 << 20


class Candidates:
    """Samples numbered 0..size-1 with lazily computed, read-only arrays over them. Safe to read from many threads.

    keys_N: an int64 name for each candidate that outlives this selection, strictly ascending (a server gives its
    row number); default 0..size-1. Hash orders use the key, ties the index, and as keys ascend both agree.
    """

    def __init__(self, size: int, arrays: Mapping[Need, ArraySource], keys_N: NDArray[np.int64] | None = None) -> None:
        """Raises StrategyError INVALID_ARRAY for a bad size or bad keys; the arrays are checked when first read."""
        self.size = _checked_count(size)
        self.keys_N = _checked_keys(keys_N, self.size)
        self._sources: dict[Need, ArraySource] = {Need(need): source for need, source in arrays.items()}
        self._arrays: dict[Need, AnyArray] = {}
        self._finite: set[Need] = set()
        self._lock = threading.RLock()

    def has(self, need: Need) -> bool:
        """Whether `array(need)` can answer. PROBS is met by LOGITS too."""
        return need in self._sources or (need is Need.PROBS and Need.LOGITS in self._sources)

    def array(self, need: Need) -> AnyArray:
        """The array of a need: computed once, checked once, read-only.

        Raises NeedMissing, or StrategyError with reason INVALID_ARRAY (shape or type) or NOT_FINITE.
        """
        with self._lock:
            array = self.unchecked(need)
            if need not in self._finite:
                _check_finite(array, need)
                self._finite.add(need)
            return array

    def unchecked(self, need: Need) -> AnyArray:
        """As `array`, without the pass that looks for NaN and infinity: for kernels that refuse them on their way."""
        with self._lock:
            if need not in self._arrays:
                self._arrays[need] = _read_only(self._produce(need))
            return self._arrays[need]

    def take(self, indices: NDArray[np.int64]) -> Candidates:
        """The candidates at strictly ascending `indices`, renumbered 0..len-1; labeled arrays are shared.

        Raises StrategyError INVALID_ARRAY for indices that repeat, descend or lie outside.
        """
        picked = _checked_indices(indices, self.size)
        return self._part(len(picked), picked)

    def block(self, start: int, stop: int) -> Candidates:
        """The candidates start..stop-1 as views, for streaming; labeled arrays are shared."""
        start, stop, _ = slice(start, stop).indices(self.size)
        return self._part(max(stop - start, 0), slice(start, max(stop, start)))

    @property
    def logits_NC(self) -> NDArray[np.float32]:
        return self.array(Need.LOGITS)

    @property
    def probs_NC(self) -> NDArray[np.float32]:
        return self.array(Need.PROBS)

    @property
    def embeddings_ND(self) -> NDArray[np.float32]:
        return self.array(Need.EMBEDDINGS)

    @property
    def member_probs_KNC(self) -> NDArray[np.float32]:
        return self.array(Need.MEMBER_PROBS)

    @property
    def labeled_embeddings_LD(self) -> NDArray[np.float32]:
        return self.array(Need.LABELED_EMBEDDINGS)

    @property
    def labeled_classes_L(self) -> NDArray[np.int64]:
        return self.array(Need.LABELED_CLASSES)

    @property
    def knn_graph_NK(self) -> NDArray[np.int64]:
        return self.array(Need.KNN_GRAPH)

    @property
    def clusters_N(self) -> NDArray[np.int64]:
        return self.array(Need.CLUSTERS)

    @property
    def label_probs_NC(self) -> NDArray[np.float32]:
        return self.array(Need.LABEL_PROBS)

    @property
    def member_values_KNT(self) -> NDArray[np.float32]:
        return self.array(Need.MEMBER_VALUES)

    @property
    def part_probs_MC(self) -> NDArray[np.float32]:
        return self.array(Need.PART_PROBS)

    @property
    def part_offsets_O(self) -> NDArray[np.int64]:
        return self.array(Need.PART_OFFSETS)

    @property
    def labeled_probs_LC(self) -> NDArray[np.float32]:
        return self.array(Need.LABELED_PROBS)

    @property
    def query_embeddings_QD(self) -> NDArray[np.float32]:
        return self.array(Need.QUERY_EMBEDDINGS)

    @property
    def head_weights_CD(self) -> NDArray[np.float32]:
        return self.array(Need.HEAD_WEIGHTS)

    @property
    def head_bias_C(self) -> NDArray[np.float32]:
        return self.array(Need.HEAD_BIAS)

    @property
    def worth_N(self) -> NDArray[np.float32]:
        return self.array(Need.WORTH)

    def _produce(self, need: Need) -> AnyArray:
        if need not in self._sources:
            if need is Need.PROBS and Need.LOGITS in self._sources:
                return softmax(self.array(Need.LOGITS))
            raise NeedMissing(need)
        source = self._sources[need]
        array = source() if callable(source) else source
        _check_shape(array, need, self.size)
        if need in PARTS:
            self._check_parts(need, array)
        return array

    def _check_parts(self, need: Need, array: AnyArray) -> None:
        """Offsets must ascend from 0, and end where the parts do."""
        if need is Need.PART_PROBS:
            count = int(self.unchecked(Need.PART_OFFSETS)[-1])
            if len(array) != count:
                raise StrategyError("INVALID_ARRAY", f"part_offsets end at {count}, but there are {len(array)} parts")
        elif array[0] != 0 or bool((array[1:] < array[:-1]).any()):
            raise StrategyError("INVALID_ARRAY", "part_offsets must begin with 0 and never descend")

    def _part(self, size: int, rows: slice | NDArray[np.int64]) -> Candidates:
        sources = {need: self._part_source(need, rows) for need in self._sources}
        part = Candidates(size, sources, self.keys_N[rows])
        part._finite = set(self._finite)
        return part

    def _part_source(self, need: Need, rows: slice | NDArray[np.int64]) -> ArraySource:
        def produce() -> AnyArray:
            array = self.unchecked(need)
            axis = SPECS[need].candidate_axis
            if need in PARTS:
                probs_rows, offsets_O = parts_of(self.unchecked(Need.PART_OFFSETS), rows)
                return offsets_O if need is Need.PART_OFFSETS else array[probs_rows]
            if axis is None:
                return array
            part = _taken(array, axis, rows)
            return _renumbered(part, rows, self.size) if need is Need.KNN_GRAPH else part

        return produce


def softmax(logits_NC: NDArray[np.float32]) -> NDArray[np.float32]:
    """Row-wise softmax, safe for any finite logits."""
    if logits_NC.shape[1] == 0:
        return np.empty(logits_NC.shape, np.float32)
    weights_NC = np.empty(logits_NC.shape, np.float32)
    step = max(1, _BLOCK_VALUES // logits_NC.shape[1])
    for start in range(0, len(logits_NC), step):
        checkpoint()
        rows, weights_BC = logits_NC[start : start + step], weights_NC[start : start + step]
        np.exp(np.subtract(rows, rows.max(axis=1, keepdims=True), out=weights_BC), out=weights_BC)
        weights_BC /= weights_BC.sum(axis=1, keepdims=True)
    return weights_NC


def parts_of(
    offsets_O: NDArray[np.int64], rows: slice | NDArray[np.int64]
) -> tuple[slice | NDArray[np.int64], NDArray[np.int64]]:
    """Where the parts of some candidates are, and the offsets that these then have."""
    starts_M, stops_M = offsets_O[:-1][rows], offsets_O[1:][rows]
    new_offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(stops_M - starts_M)])
    if isinstance(rows, slice):
        first = int(starts_M[0]) if len(starts_M) else 0
        return slice(first, first + int(new_offsets[-1])), new_offsets
    shifts_M = np.repeat(starts_M - new_offsets[:-1], stops_M - starts_M)
    return shifts_M + np.arange(new_offsets[-1]), new_offsets


def _renumbered(neighbours_MK: AnyArray, rows: slice | NDArray[np.int64], size: int) -> AnyArray:
    """Neighbour indices of the whole in the numbering of a part; -1 for those outside it."""
    new_of_old = np.full(size + 1, -1, np.int64)
    new_of_old[rows] = np.arange(len(neighbours_MK))
    return new_of_old[neighbours_MK]


def _taken(array: AnyArray, axis: int, rows: slice | NDArray[np.int64]) -> AnyArray:
    """Some rows along an axis; single ones are copied a block at a time."""
    before: tuple[Any, ...] = (slice(None),) * axis
    if isinstance(rows, slice):
        return array[(*before, rows)]
    taken = np.empty((*array.shape[:axis], len(rows), *array.shape[axis + 1 :]), array.dtype)
    step = max(1, _BLOCK_VALUES * len(rows) // max(taken.size, 1))
    for start in range(0, len(rows), step):
        checkpoint()
        part = slice(start, start + step)
        taken[(*before, part)] = array[(*before, rows[part])]
    return taken


def _read_only(array: AnyArray) -> AnyArray:
    view = array.view()
    view.flags.writeable = False
    return view


def _checked_count(size: int) -> int:
    if size < 0:
        raise StrategyError("INVALID_ARRAY", f"there cannot be {size} candidates")
    return int(size)


def _checked_keys(keys_N: NDArray[np.int64] | None, size: int) -> NDArray[np.int64]:
    keys = np.arange(size, dtype=np.int64) if keys_N is None else keys_N
    if keys.dtype != np.int64 or keys.shape != (size,):
        raise StrategyError("INVALID_ARRAY", f"keys must be {size} int64 values, not {keys.dtype} {keys.shape}")
    if keys_N is not None and not bool((keys[1:] > keys[:-1]).all()):
        raise StrategyError("INVALID_ARRAY", "keys must ascend strictly")
    return _read_only(keys)


def _checked_indices(indices: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    picked = np.asarray(indices)
    if picked.ndim != 1 or (picked.size and not np.issubdtype(picked.dtype, np.integer)):
        raise StrategyError("INVALID_ARRAY", f"indices must be a list of integers, not {picked.dtype} {picked.shape}")
    picked = picked.astype(np.int64)
    if picked.size and (picked[0] < 0 or picked[-1] >= size or not bool((picked[1:] > picked[:-1]).all())):
        raise StrategyError("INVALID_ARRAY", f"indices must ascend strictly within 0..{size - 1}")
    return picked


def _check_shape(array: AnyArray, need: Need, size: int) -> None:
    spec = SPECS[need]
    if not spec.matches(array, size):
        wanted = f"{np.dtype(spec.dtype).name} {spec.axes} with N = {size}"
        raise StrategyError("INVALID_ARRAY", f"{need.value} must be {wanted}, not {array.dtype} {array.shape}")


def _check_finite(array: AnyArray, need: Need) -> None:
    if not np.issubdtype(array.dtype, np.floating):
        return
    # A sum is finite only if every term is, and takes no temporary; one that overflowed is looked at closely.
    step = max(1, _BLOCK_VALUES * len(array) // max(array.size, 1))
    for start in range(0, len(array), step):
        checkpoint()
        block = array[start : start + step]
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = not np.isfinite(block.sum())
        if suspicious and not all_finite(block):
            raise StrategyError("NOT_FINITE", f"{need.value} holds NaN or infinity")


def all_finite(array: AnyArray) -> bool:
    """Whether every value is finite, by blocks, so that a mapped file is never doubled in memory."""
    flat = array.reshape(-1) if array.flags.c_contiguous else array
    for start in range(0, len(flat), 65536):
        checkpoint()
        if not np.isfinite(flat[start : start + 65536]).all():
            return False
    return True
