"""Which objects of two people are the same: intersection over union (Jaccard, 1912) in one dimension or two."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.strategies.interrupt import checkpoint

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Pairs that are looked at in one block, and pairs that are kept: beyond them the rest counts as apart.
_BLOCK = 1 << 18
_KEPT = 1 << 21
# Pairs between two looks at the stop.
_STEP = 1 << 14


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects as arrays: class ids, and lower and upper ends [N, dimensions]; lower < upper."""

    classes_N: Ints
    lows_ND: Floats
    highs_ND: Floats


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of objects of two sets: object first[i] of one and second[i] of the other."""

    first: Ints
    second: Ints
    iou: Floats


def overlapping(a: Objects, b: Objects, least_iou: float) -> Pairs:
    """All pairs of one class whose intersection over union is at least so much, the largest first.

    Operations O((N + M) log M) and one for each pair whose ends are near on one axis; memory for the pairs found, two
    million at most: of more that overlap so much, some are left out.
    """
    slots = [_Windows(a, b, axis, least_iou) for axis in range(a.lows_ND.shape[1])]
    found: list[Pairs] = []
    kept = 0
    for first, second in min(slots, key=lambda windows: windows.total).pairs():
        checkpoint()
        iou = _iou(a, first, b, second)
        near = iou >= least_iou
        found.append(Pairs(first[near], second[near], iou[near]))
        kept += int(near.sum())
        if kept >= _KEPT:
            break
    first, second, iou = (_joined(found, name) for name in ("first", "second", "iou"))
    order = np.lexsort((second, first, -iou))
    return Pairs(first[order], second[order], iou[order])


def matched(pairs: Pairs) -> int:
    """How many pairs remain if each object is in one at most, the largest overlaps first."""
    taken_a: set[int] = set()
    taken_b: set[int] = set()
    for place, (i, j) in enumerate(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)):
        if place % _STEP == 0:
            checkpoint()
        if i not in taken_a and j not in taken_b:
            taken_a.add(i)
            taken_b.add(j)
    return len(taken_a)


def clusters(objects: Objects, owners_N: Ints, least_iou: float) -> list[list[int]]:
    """Groups of objects that mean one thing: grown along the largest overlaps first, never with two of one owner.

    Every object is in one group, by itself if nobody else has drawn it. Members ascend, groups by their first member.
    """
    pairs = overlapping(objects, objects, least_iou)
    ahead = (pairs.first < pairs.second) & (owners_N[pairs.first] != owners_N[pairs.second])
    groups = [[i] for i in range(len(owners_N))]
    owners = [{int(owner)} for owner in owners_N]
    home = list(range(len(owners_N)))
    for place, (i, j) in enumerate(zip(pairs.first[ahead].tolist(), pairs.second[ahead].tolist(), strict=True)):
        if place % _STEP == 0:
            checkpoint()
        into, other = home[i], home[j]
        if into == other or owners[into] & owners[other]:
            continue
        for member in groups[other]:
            home[member] = into
        groups[into] += groups[other]
        owners[into] |= owners[other]
        groups[other] = []
    return sorted(sorted(group) for group in groups if group)


class _Windows:
    """For each object of a, the objects of b whose lower end on one axis is near enough for the overlap.

    With w the length of an object of a and t the least IoU: one that begins later begins by (1 - t) w at most; one
    that begins earlier is no longer than w / t, and so begins by (1 - t) w / t at most before it.
    """

    def __init__(self, a: Objects, b: Objects, axis: int, least_iou: float) -> None:
        low_N, high_N = a.lows_ND[:, axis], a.highs_ND[:, axis]
        reach = 1.0 + max(a.highs_ND[:, axis].max(initial=0.0), b.highs_ND[:, axis].max(initial=0.0))
        length_N = high_N - low_N
        # Classes lie apart on the axis, so that one search finds those of the same class.
        stride = 4 * reach
        keys_M = b.classes_N * stride + b.lows_ND[:, axis]
        self._order_M = np.argsort(keys_M, kind="stable")
        slack = 1e-9 * reach
        before_N = np.minimum((1 - least_iou) / least_iou * length_N, reach) + slack
        base_N = a.classes_N * stride + low_N
        self._starts_N = np.searchsorted(keys_M[self._order_M], base_N - before_N)
        ends_N = np.searchsorted(keys_M[self._order_M], base_N + (1 - least_iou) * length_N + slack, side="right")
        self._counts_N = ends_N - self._starts_N
        self.total = int(self._counts_N.sum())

    def pairs(self) -> Iterator[tuple[Ints, Ints]]:
        """The pairs, in blocks that fit in memory."""
        ends_N = np.cumsum(self._counts_N)
        start = 0
        while start < len(ends_N):
            done = ends_N[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends_N, done + _BLOCK, side="right")))
            counts = self._counts_N[start:stop]
            first = np.repeat(np.arange(start, stop), counts)
            within = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
            yield first, self._order_M[self._starts_N[first] + within]
            start = stop


def _iou(a: Objects, first: Ints, b: Objects, second: Ints) -> Floats:
    a_low, a_high, b_low, b_high = a.lows_ND[first], a.highs_ND[first], b.lows_ND[second], b.highs_ND[second]
    shared = np.clip(np.minimum(a_high, b_high) - np.maximum(a_low, b_low), 0, None).prod(axis=1)
    union = (a_high - a_low).prod(axis=1) + (b_high - b_low).prod(axis=1) - shared
    iou: Floats = shared / union
    return iou


def _joined(found: list[Pairs], name: str) -> npt.NDArray[Any]:
    parts = [getattr(each, name) for each in found]
    kind = np.float64 if name == "iou" else np.int64
    return np.concatenate(parts) if parts else np.empty(0, kind)
