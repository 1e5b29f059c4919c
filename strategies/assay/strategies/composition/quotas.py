"""Picks within quotas: how many of each group (a predicted class, an attribute) a batch holds.

Groups are numbers from 0; -1 is a sample of no group that anyone asked about. A group without a quota is bound by
nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assay.strategies.errors import StrategyError
from assay.strategies.kernels.topk import top_k

Groups = NDArray[np.int64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Quota:
    """How many picks a group gets: at least `minimum` and at most `maximum` (None: no limit), which are kept or the
    selection fails; and as near as they permit to `target`, a share of the batch from 0 to 1, if there is one."""

    group: int
    minimum: int = 0
    maximum: int | None = None
    target: float | None = None


@dataclass(frozen=True)
class Shortfall:
    """A bound that cannot be met.

    group: whose; None where it is the batch as a whole.
    bound: "minimum": the group has fewer samples than its minimum; "minimums": together they exceed the batch;
    "maximums": together they leave the batch short.
    wanted, available: how many picks the bound asks for, and how many there can be.
    """

    group: int | None
    bound: Literal["minimum", "minimums", "maximums"]
    wanted: int
    available: int


def group_counts(groups_N: Groups, quotas: Iterable[Quota]) -> Counts:
    """How many samples each group has, shape (G + 1,): those of no group are last, so counts[-1] is theirs."""
    size = max([int(groups_N.max(initial=-1)), *(quota.group for quota in quotas)]) + 1
    grouped = groups_N >= 0
    counts = np.bincount(groups_N[grouped], minlength=size)
    return np.append(counts, len(groups_N) - np.count_nonzero(grouped))


def shortfalls(available_G: Counts, quotas: Sequence[Quota], size: int) -> tuple[Shortfall, ...]:
    """Every bound that a batch of `size` cannot meet; empty where all can be met.

    available_G: candidates by group, as `group_counts` gives them.
    Raises StrategyError INVALID_QUOTA as `check` does.
    """
    check(quotas)
    short = [
        Shortfall(quota.group, "minimum", quota.minimum, int(available_G[quota.group]))
        for quota in quotas
        if quota.minimum > available_G[quota.group]
    ]
    least = sum(quota.minimum for quota in quotas)
    if least > size:
        short.append(Shortfall(None, "minimums", least, size))
    most = int(_bounds(available_G, quotas, size)[1].sum())
    if most < size:
        short.append(Shortfall(None, "maximums", size, most))
    return tuple(short)


def allocate(
    available_G: Counts, quotas: Sequence[Quota], size: int, desired_G: NDArray[np.float64] | None = None
) -> Counts:
    """How many picks each group gets, within the bounds and summing to `size`; in least squares nearest to the wish.

    The wish of a group with a target is its share of the batch. The others share the rest in proportion to
    `desired_G`, by default to the candidates that they have. Shapes (G + 1,) as `group_counts` has them.
    Raises StrategyError INVALID_QUOTA, or QUOTA_INFEASIBLE where `shortfalls` finds any.
    """
    short = shortfalls(available_G, quotas, size)
    if short:
        raise StrategyError("QUOTA_INFEASIBLE", "; ".join(map(describe, short)))
    lower_G, upper_G = _bounds(available_G, quotas, size)
    wish_G = _wishes(available_G if desired_G is None else desired_G, quotas, size)
    return _nearest(wish_G, lower_G, upper_G, size)


def top_within(utility_N: NDArray[np.float32], groups_N: Groups, quotas: Sequence[Quota], size: int) -> Groups:
    """Indices of the batch of highest total utility within the quotas, highest first, ties by index.

    Without targets this is the optimum: the best `minimum` of each group are in, all beyond the best `maximum` of
    their group are out, and the best of what is left fill the batch. Targets fix how many each group gets, as near to
    that optimum as they permit. Cost O(N) for each quota.
    Raises StrategyError INVALID_QUOTA, QUOTA_INFEASIBLE, or NOT_FINITE for NaN.
    """
    available_G = group_counts(groups_N, quotas)
    short = shortfalls(available_G, quotas, size)
    if short:
        raise StrategyError("QUOTA_INFEASIBLE", "; ".join(map(describe, short)))
    chosen = _best_within(utility_N, groups_N, quotas, size)
    if any(quota.target is not None for quota in quotas):
        best_G = group_counts(groups_N[chosen], [Quota(len(available_G) - 2)])
        counts_G = allocate(available_G, quotas, size, best_G.astype(np.float64))
        chosen = _best_within(utility_N, groups_N, _fixed(counts_G), size)
    return chosen[np.lexsort((chosen, -utility_N[chosen]))]


def describe(shortfall: Shortfall) -> str:
    """A shortfall in words."""
    if shortfall.bound == "minimum":
        return f"group {shortfall.group} has {shortfall.available} candidates, fewer than its {shortfall.wanted}"
    if shortfall.bound == "minimums":
        return f"the minimums add up to {shortfall.wanted}, more than the batch of {shortfall.available}"
    return f"the maximums leave {shortfall.available} candidates for a batch of {shortfall.wanted}"


def check(quotas: Sequence[Quota]) -> None:
    """Raises StrategyError INVALID_QUOTA for bounds out of range or crossed, and for a group named twice."""
    for quota in quotas:
        if quota.group < 0 or quota.minimum < 0 or (quota.maximum is not None and quota.maximum < quota.minimum):
            raise StrategyError("INVALID_QUOTA", f"0 <= minimum <= maximum does not hold for {quota}")
        if quota.target is not None and not 0 <= quota.target <= 1:
            raise StrategyError("INVALID_QUOTA", f"a target is a share from 0 to 1, not {quota.target}")
    if len({quota.group for quota in quotas}) != len(quotas):
        raise StrategyError("INVALID_QUOTA", "a group has two quotas: give it one")
    if sum(quota.target or 0 for quota in quotas) > 1 + 1e-9:
        raise StrategyError("INVALID_QUOTA", "the targets add up to more than the whole batch")


def _bounds(available_G: Counts, quotas: Sequence[Quota], size: int) -> tuple[Counts, Counts]:
    """The fewest and the most picks of each group."""
    lower_G, upper_G = np.zeros_like(available_G), np.minimum(available_G, size)
    for quota in quotas:
        lower_G[quota.group] = quota.minimum
        if quota.maximum is not None:
            upper_G[quota.group] = min(quota.maximum, int(upper_G[quota.group]))
    return lower_G, upper_G


def _wishes(desired_G: NDArray[np.float64] | Counts, quotas: Sequence[Quota], size: int) -> NDArray[np.float64]:
    wish_G = np.asarray(desired_G, np.float64).copy()
    targets = {quota.group: quota.target * size for quota in quotas if quota.target is not None}
    free_G = np.ones(len(wish_G), np.bool_)
    free_G[list(targets)] = False
    left = max(size - sum(targets.values()), 0.0)
    total = float(wish_G[free_G].sum())
    wish_G[free_G] *= left / total if total > 0 else 0.0
    for group, wish in targets.items():
        wish_G[group] = wish
    return wish_G


def _nearest(wish_G: NDArray[np.float64], lower_G: Counts, upper_G: Counts, size: int) -> Counts:
    """The whole numbers within the bounds that sum to `size`, nearest to the wishes in least squares.

    From the nearest ones of any sum, one pick at a time is added or taken where that costs least, which is exact for
    a separable convex cost (Gross 1956; Ibaraki and Katoh 1988). Ties go to the lower group.
    """
    counts_G = np.clip(np.rint(wish_G).astype(np.int64), lower_G, upper_G)
    step = 1 if counts_G.sum() < size else -1
    limit_G = upper_G if step > 0 else lower_G
    heap = [(step * (counts_G[g] - wish_G[g]), g) for g in range(len(wish_G)) if counts_G[g] != limit_G[g]]
    heapq.heapify(heap)
    for _ in range(abs(size - int(counts_G.sum()))):
        cost, group = heapq.heappop(heap)
        counts_G[group] += step
        if counts_G[group] != limit_G[group]:
            heapq.heappush(heap, (cost + 1, group))
    return counts_G


def _best_within(utility_N: NDArray[np.float32], groups_N: Groups, quotas: Sequence[Quota], size: int) -> Groups:
    open_N = np.ones(len(utility_N), np.bool_)
    must: list[Groups] = []
    for quota in quotas:
        inside_N = groups_N == quota.group
        if quota.maximum is not None and quota.maximum < size:
            open_N &= ~inside_N
            open_N[top_k(utility_N, quota.maximum, inside_N)] = True
        if quota.minimum:
            must.append(top_k(utility_N, quota.minimum, inside_N))
    taken = np.concatenate([np.empty(0, np.int64), *must])
    open_N[taken] = False
    return np.concatenate([taken, top_k(utility_N, size - len(taken), open_N)])


def _fixed(counts_G: Counts) -> list[Quota]:
    """Quotas that leave no choice of how many; samples of no group take what is left."""
    return [Quota(group, int(count), int(count)) for group, count in enumerate(counts_G[:-1])]
