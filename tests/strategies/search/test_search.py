"""nearest and within against plain loops over the same distance expression, on every screen there is."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assay.strategies import StrategyError
from assay.strategies.kernels import copies, screen, search
from assay.strategies.kernels.copies import without_copies
from assay.strategies.kernels.search import nearest, within

Rows = NDArray[np.float32]

rng = np.random.default_rng(0)


def _squared(queries_QD: Rows, base_ND: Rows) -> Rows:
    return np.stack([np.einsum("nd,nd->n", query_D - base_ND, query_D - base_ND) for query_D in queries_QD])


def _plain_nearest(queries_QD: Rows, base_ND: Rows, k: int, exclude_self: bool) -> tuple[Rows, NDArray[np.int64]]:
    squared_QN = _squared(queries_QD, base_ND)
    if exclude_self:
        np.fill_diagonal(squared_QN, np.inf)
    order_QK = np.argsort(squared_QN, axis=1, kind="stable")[:, : min(k, len(base_ND) - exclude_self)]
    return np.take_along_axis(squared_QN, order_QK, axis=1), order_QK


def _rows(kind: str, size: int, dim: int) -> Rows:
    normal_ND = rng.normal(size=(size, dim))
    made = {
        "isotropic": lambda: normal_ND,
        "clustered": lambda: rng.normal(size=(9, dim))[rng.integers(0, 9, size)] + 0.02 * normal_ND,
        "copies": lambda: normal_ND[rng.integers(0, max(1, size // 20), size)],
        "far_from_0": lambda: 1000 + normal_ND,
        "all_equal": lambda: np.full((size, dim), 3.0),
        "zeros": lambda: np.zeros((size, dim)),
        "tiny": lambda: 1e-15 * normal_ND,
        "huge": lambda: 1e15 * normal_ND,
        "of_all_sizes": lambda: normal_ND * np.exp(4 * rng.normal(size=(size, 1))),
        "one_outlier": lambda: normal_ND + 1e4 * (np.arange(size) == 5)[:, None],
    }
    return made[kind]().astype(np.float32)


KINDS = ["isotropic", "clustered", "copies", "far_from_0", "all_equal", "zeros"]
KINDS += ["tiny", "huge", "of_all_sizes", "one_outlier"]


def test_type_of_the_screen_can_be_chosen(each_screen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert screen.frame_of(_rows("isotropic", 9, 3)).dtype == getattr(torch, each_screen)
    monkeypatch.setenv(screen.SWITCH, "float16")
    with pytest.raises(StrategyError) as caught:
        nearest(*[_rows("isotropic", 9, 3)] * 2, 1)
    assert caught.value.reason == "INVALID_PARAMETER"
    monkeypatch.setenv(screen.SWITCH, "")
    assert screen.screen_dtype() in (torch.float32, torch.bfloat16)


@pytest.mark.usefixtures("each_screen")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "dim", "k"), [(1100, 24, 10), (5, 4, 8), (150, 100, 120)])
def test_nearest_is_the_plain_search(kind: str, size: int, dim: int, k: int) -> None:
    base_ND = _rows(kind, size, dim)
    for queries_QD, exclude_self in ((base_ND, True), (base_ND[::7] + 0.1 * base_ND.std(), False)):
        squared_QK, indices_QK = nearest(queries_QD, base_ND, k, exclude_self=exclude_self)
        expected_squared, expected = _plain_nearest(queries_QD, base_ND, k, exclude_self)
        found = expected.shape[1]
        np.testing.assert_array_equal(indices_QK[:, :found], expected)
        np.testing.assert_array_equal(squared_QK[:, :found], expected_squared)
        assert (indices_QK[:, found:] == -1).all()
        assert np.isposinf(squared_QK[:, found:]).all()


@pytest.mark.usefixtures("each_screen")
@pytest.mark.parametrize("kind", KINDS)
def test_within_is_the_plain_search(kind: str) -> None:
    base_ND = _rows(kind, 1100, 12)
    queries_QD = base_ND[::5]
    squared_QN = _squared(queries_QD, base_ND)
    radius = float(np.sqrt(np.quantile(squared_QN.astype(np.float64), 0.01))) or 1.0
    offsets_O, indices_M, squared_M = within(queries_QD, base_ND, radius)
    queries_M, expected_M = np.nonzero(squared_QN < radius * radius)
    assert len(expected_M) >= len(queries_QD)
    np.testing.assert_array_equal(indices_M, expected_M)
    np.testing.assert_array_equal(squared_M, squared_QN[queries_M, expected_M])
    np.testing.assert_array_equal(np.diff(offsets_O), np.bincount(queries_M, minlength=len(queries_QD)))


def test_copies_beyond_those_wanted_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    base_ND = rng.choice([-1.0, 1.0], (400, 4)).astype(np.float32)
    kept = without_copies(base_ND, 5)
    assert kept is not None
    names = [row_D.tobytes() for row_D in base_ND]
    np.testing.assert_array_equal(kept, [i for i, name in enumerate(names) if names[:i].count(name) < 5])
    assert without_copies(base_ND[kept], 5) is None
    monkeypatch.setattr(copies, "_hashes", lambda rows_ND: np.zeros(len(rows_ND), np.uint64))
    assert without_copies(base_ND, 5) is None
    np.testing.assert_array_equal(nearest(base_ND, base_ND, 9)[1], _plain_nearest(base_ND, base_ND, 9, False)[1])


@pytest.mark.usefixtures("each_screen")
def test_slabs_of_the_base_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    base_ND = _rows("clustered", 3000, 6)
    whole = (*nearest(base_ND[:90], base_ND, 9), *within(base_ND[:90], base_ND, 0.05))
    monkeypatch.setattr(search, "_SLAB_VALUES", 1)
    parts = (*nearest(base_ND[:90], base_ND, 9), *within(base_ND[:90], base_ND, 0.05))
    for left, right in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(left, right)


def test_products_of_bfloat16_sum_in_float32() -> None:
    """What the slack of the screen rests on."""
    left, right = (torch.from_numpy(_rows("isotropic", 300, 500)).bfloat16() for _ in range(2))
    right[:, 250:] = -right[:, :250]
    left[:, 250:] = left[:, :250]
    left[:, 7] = 2.0**-12
    exact = left.double() @ right.double().t()
    sizes = left.double().abs() @ right.double().abs().t()
    product = torch.mm(left, right.t()).double()
    slack = screen.Frame(torch.zeros(500), 1.0, torch.bfloat16).slack
    assert bool(((product - exact).abs() <= exact.abs() * 2.0**-8 + sizes * slack / 4).all())


def test_agrees_with_faiss() -> None:
    base_ND = _rows("isotropic", 2000, 16)
    squared_QK, indices_QK = nearest(base_ND[:300], base_ND, 7)
    reference, labels = faiss.knn(base_ND[:300], base_ND, 7)
    np.testing.assert_allclose(squared_QK, reference, rtol=1e-4, atol=1e-4)
    assert (indices_QK == labels).mean() > 0.999


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 12))
def test_distances_follow_their_rows(seed: int, size: int, k: int) -> None:
    """On a grid nearly everything ties; distances still go with the rows, and ties to the lower index."""
    draw = np.random.default_rng(seed)
    base_ND = draw.integers(0, 3, (size, 3)).astype(np.float32) / 3
    order = draw.permutation(size)
    straight, _ = nearest(base_ND, base_ND, k, exclude_self=True)
    moved, moved_indices = nearest(base_ND[order], base_ND[order], k, exclude_self=True)
    np.testing.assert_array_equal(straight[order], moved)
    for squared_K, indices_K in zip(moved, moved_indices, strict=True):
        pairs = [(d, i) for d, i in zip(squared_K, indices_K, strict=True) if i >= 0]
        assert pairs == sorted(pairs)


def test_nobody_to_find() -> None:
    rows = _rows("isotropic", 4, 3)
    assert nearest(rows[:0], rows, 2)[1].shape == (0, 2)
    assert nearest(rows, rows, 0)[1].shape == (4, 0)
    assert (nearest(rows, rows[:0], 2)[1] == -1).all()
    for queries, base, radius in ((rows[:0], rows, 1.0), (rows, rows[:0], 1.0), (rows, rows, 0.0)):
        offsets_O, indices_M, _ = within(queries, base, radius)
        np.testing.assert_array_equal(offsets_O, np.zeros(len(queries) + 1))
        assert len(indices_M) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_what_cannot_be_measured_is_refused(bad: float) -> None:
    good, spoilt = _rows("isotropic", 1100, 3), _rows("isotropic", 1100, 3)
    spoilt[1050, 1] = bad
    for queries, base in ((good, spoilt), (spoilt, good)):
        for call in (lambda q, b: nearest(q, b, 2), lambda q, b: within(q, b, 0.5)):
            with pytest.raises(StrategyError) as caught:
                call(queries, base)
            assert caught.value.reason == "NOT_FINITE"


def test_other_refusals() -> None:
    rows = _rows("isotropic", 50, 3)
    with pytest.raises(StrategyError, match="rows of one length"):
        nearest(rows, rows[:, :2], 2)
    with pytest.raises(StrategyError) as caught:
        within(rows, rows, 100.0, most=2499)
    assert caught.value.reason == "TOO_MANY_PAIRS"
    assert len(within(rows, rows, 100.0, most=2500)[1]) == 2500
