"""Picks that are apart, against the plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.strategies import StrategyError
from assay.strategies.composition.spacing import apart


def plain(rows: np.ndarray, radius: float, size: int, around: np.ndarray) -> list[int]:
    kept: list[int] = []
    for position, row in enumerate(rows.astype(np.float64)):
        others = np.concatenate([around, rows[kept]]).astype(np.float64)
        if len(kept) < size and (np.sqrt(((others - row) ** 2).sum(1)) > radius).all():
            kept.append(position)
    return kept


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 60),
    st.integers(0, 8),
    st.sampled_from([0.0, 1.0, 1.5, 2.0]),
    st.integers(0, 70),
)
def test_keeps_what_the_plain_loop_keeps(seed: int, rows: int, labeled: int, radius: float, size: int) -> None:
    """On a grid of whole numbers, where many distances are exactly the radius and many samples are copies."""
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 4, (rows, 3)).astype(np.float32)
    around = rng.integers(0, 4, (labeled, 3)).astype(np.float32)
    assert apart(points, radius, size, around).tolist() == plain(points, radius, size, around)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_blocks_make_no_difference(offset: float) -> None:
    rng = np.random.default_rng(1)
    centres = rng.normal(0, 3, (200, 8))
    points = (offset + centres[rng.integers(0, 200, 1500)] + rng.normal(0, 0.1, (1500, 8))).astype(np.float32)
    around = (offset + centres[:20]).astype(np.float32)
    kept = apart(points, 1.0, 1500, around)
    assert kept.tolist() == plain(points, 1.0, 1500, around)
    assert 100 < len(kept) < 200


def test_radius_of_zero_leaves_out_exact_copies() -> None:
    base = np.random.default_rng(2).normal(50, 1, (40, 16)).astype(np.float32)
    assert apart(np.repeat(base, 3, axis=0), 0.0, 99).tolist() == list(range(0, 120, 3))


def test_nothing_around_and_nothing_wanted() -> None:
    rows = np.eye(3, dtype=np.float32)
    assert apart(rows, 0.5, 0).tolist() == []
    assert apart(rows[:0], 0.5, 5).tolist() == []


@pytest.mark.parametrize("radius", [-1.0, np.nan, np.inf])
def test_bad_radius_is_refused(radius: float) -> None:
    with pytest.raises(StrategyError) as caught:
        apart(np.eye(2, dtype=np.float32), radius, 1)
    assert caught.value.reason == "INVALID_RADIUS"


def test_nan_is_refused() -> None:
    rows = np.eye(2, dtype=np.float32)
    with pytest.raises(StrategyError):
        apart(rows * np.float32(np.nan), 0.1, 1)
    with pytest.raises(StrategyError):
        apart(rows, 0.1, 1, rows * np.float32(np.nan))
