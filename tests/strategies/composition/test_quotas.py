"""Picks within quotas, against every batch there is."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from assay.strategies import StrategyError
from assay.strategies.composition.quotas import (
    Quota,
    Shortfall,
    allocate,
    describe,
    group_counts,
    shortfalls,
    top_within,
)
from assay.strategies.kernels.topk import top_k

GROUPS = 3


@st.composite
def pools(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[Quota], int]:
    groups = draw(st.lists(st.integers(-1, GROUPS - 1), min_size=1, max_size=9))
    utility = draw(st.permutations(range(len(groups))))
    quotas = []
    for group in draw(st.sets(st.integers(0, GROUPS - 1))):
        low = draw(st.integers(0, 3))
        quotas.append(Quota(group, low, draw(st.none() | st.integers(low, 4))))
    size = draw(st.integers(0, len(groups)))
    return np.array(utility, np.float32), np.array(groups, np.int64), quotas, size


def within(chosen_groups: np.ndarray, quotas: list[Quota]) -> bool:
    counts = {quota.group: int((chosen_groups == quota.group).sum()) for quota in quotas}
    return all(q.minimum <= counts[q.group] <= (q.maximum if q.maximum is not None else 99) for q in quotas)


@settings(max_examples=150, deadline=None)
@given(pools())
def test_top_within_is_the_best_batch_there_is(pool: tuple[np.ndarray, np.ndarray, list[Quota], int]) -> None:
    utility, groups, quotas, size = pool
    allowed = [c for c in combinations(range(len(groups)), size) if within(groups[list(c)], quotas)]
    short = shortfalls(group_counts(groups, quotas), quotas, size)
    assert bool(allowed) == (not short)
    if not allowed:
        with pytest.raises(StrategyError, match=describe(short[0])):
            top_within(utility, groups, quotas, size)
        return
    chosen = top_within(utility, groups, quotas, size)
    assert within(groups[chosen], quotas)
    assert utility[chosen].sum() == max(utility[list(c)].sum() for c in allowed)
    assert (np.diff(utility[chosen]) < 0).all()


@settings(max_examples=150, deadline=None)
@given(pools(), st.lists(st.floats(0, 1), min_size=GROUPS, max_size=GROUPS))
def test_allocation_is_the_nearest_there_is(
    pool: tuple[np.ndarray, np.ndarray, list[Quota], int], shares: list[float]
) -> None:
    _, groups, plain, size = pool
    assume(sum(shares[q.group] for q in plain) <= 1)
    quotas = [Quota(q.group, q.minimum, q.maximum, shares[q.group]) for q in plain]
    available = group_counts(groups, [*quotas, Quota(GROUPS - 1)])
    if shortfalls(available, quotas, size):
        return
    counts = allocate(available, quotas, size)
    targeted = {q.group: shares[q.group] * size for q in quotas}
    rest = sum(n for g, n in enumerate(available) if g not in targeted)
    left = max(size - sum(targeted.values()), 0)
    wish = np.array([targeted.get(g, left * n / rest if rest else 0) for g, n in enumerate(available)])
    lows = {q.group: q.minimum for q in quotas}
    highs = {q.group: q.maximum for q in quotas if q.maximum is not None}
    ranges = [range(lows.get(g, 0), min(int(n), highs.get(g, size)) + 1) for g, n in enumerate(available)]
    costs = [((np.array(c) - wish) ** 2).sum() for c in product(*ranges) if sum(c) == size]
    assert counts.sum() == size
    assert all(count in allowed for count, allowed in zip(counts, ranges, strict=True))
    assert ((counts - wish) ** 2).sum() <= min(costs) + 1e-9


def test_without_quotas_it_is_the_top() -> None:
    utility = np.random.default_rng(0).random(500, np.float32)
    assert np.array_equal(top_within(utility, np.zeros(500, np.int64), [], 40), top_k(utility, 40))


def test_target_moves_the_batch_and_bounds_hold_it() -> None:
    utility = np.linspace(1, 0, 100, dtype=np.float32)
    groups = np.arange(100) // 50
    assert group_counts(groups[top_within(utility, groups, [], 20)], []).tolist() == [20, 0]
    half = top_within(utility, groups, [Quota(1, target=0.5)], 20)
    assert group_counts(groups[half], []).tolist() == [10, 10, 0]
    assert half.tolist() == [*range(10), *range(50, 60)]
    held = top_within(utility, groups, [Quota(1, maximum=4, target=0.5)], 20)
    assert group_counts(groups[held], []).tolist() == [16, 4, 0]


def test_ties_go_to_the_lower_index() -> None:
    utility = np.ones(6, np.float32)
    assert top_within(utility, np.array([0, 1, 0, 1, 0, 1]), [Quota(1, 1, 2)], 4).tolist() == [0, 1, 2, 3]


def test_every_shortfall_is_named() -> None:
    available = np.array([5, 2, 0, 1])
    quotas = [Quota(0, 4, 4), Quota(1, 3), Quota(2, 1)]
    assert shortfalls(available, quotas, 7) == (
        Shortfall(1, "minimum", 3, 2),
        Shortfall(2, "minimum", 1, 0),
        Shortfall(None, "minimums", 8, 7),
    )
    assert shortfalls(available, [Quota(0, 0, 1)], 7) == (Shortfall(None, "maximums", 7, 4),)


@pytest.mark.parametrize(
    "quotas",
    [
        [Quota(-1)],
        [Quota(0, -1)],
        [Quota(0, 3, 2)],
        [Quota(0, target=1.5)],
        [Quota(0, target=float("nan"))],
        [Quota(0), Quota(0)],
        [Quota(0, target=0.6), Quota(1, target=0.6)],
    ],
)
def test_bad_quotas_are_refused(quotas: list[Quota]) -> None:
    with pytest.raises(StrategyError) as caught:
        top_within(np.ones(3, np.float32), np.zeros(3, np.int64), quotas, 1)
    assert caught.value.reason == "INVALID_QUOTA"
