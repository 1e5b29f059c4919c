"""Near-duplicates on hand-made points and against plain loops and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

from assay.strategies.audit import groups, near_duplicate_pairs, near_duplicates
from assay.strategies.errors import StrategyError

LINE = np.array([[5.0], [0.0], [1.0], [2.0], [5.5], [100.0]])

pytestmark = pytest.mark.usefixtures("each_screen")


def lowest_of_component(close_NN: np.ndarray) -> list[int]:
    _, names_N = connected_components(coo_matrix(close_NN), directed=False)
    return [int(np.flatnonzero(names_N == name)[0]) for name in names_N]


def test_by_hand():
    groups_N = near_duplicates(LINE, 1.0)
    assert groups_N.tolist() == [0, 1, 1, 1, 0, 5]
    assert [members.tolist() for members in groups(groups_N)] == [[0, 4], [1, 2, 3]]
    pairs = near_duplicate_pairs(LINE, 1.0)
    assert list(zip(pairs.first_M.tolist(), pairs.second_M.tolist(), strict=True)) == [(0, 4), (1, 2), (2, 3)]
    assert pairs.distances_M.tolist() == [0.5, 1, 1]


def test_cosine_by_hand():
    points_ND = [[1, 0], [100, 0], [0, 3], [1, 1]]
    assert near_duplicates(points_ND, 0.0, metric="cosine").tolist() == [0, 0, 2, 3]
    pairs = near_duplicate_pairs(points_ND, 0.5, metric="cosine")
    assert pairs.second_M.tolist() == [1, 3, 3, 3]
    assert pairs.distances_M == pytest.approx([0, 1 - 2**-0.5, 1 - 2**-0.5, 1 - 2**-0.5])


@given(st.integers(0, 2**31), st.integers(1, 40), st.floats(0, 3))
def test_groups_and_pairs_are_those_of_plain_loops(seed, size, radius):
    points_ND = np.random.default_rng(seed).normal(size=(size, 2)).astype(np.float32)
    distances_NN = squareform(pdist(points_ND.astype(np.float64)))
    assert near_duplicates(points_ND, radius).tolist() == lowest_of_component(distances_NN <= radius)
    pairs = near_duplicate_pairs(points_ND, radius)
    assert (pairs.first_M * size + pairs.second_M).tolist() == np.flatnonzero(
        np.triu(distances_NN <= radius, 1)
    ).tolist()


def test_tiles_meet():
    """More samples than a tile holds, with duplicates across tiles."""
    rng = np.random.default_rng(0)
    originals_ND = rng.normal(size=(2500, 8)).astype(np.float32)
    order_N = rng.permutation(5000)
    names_N = np.tile(np.arange(2500), 2)[order_N]
    found = near_duplicates(originals_ND[names_N] + rng.normal(scale=1e-4, size=(5000, 8)), 0.01)
    assert (names_N[found] == names_N).all()
    assert len(np.unique(found)) == 2500
    pairs = near_duplicate_pairs(originals_ND[names_N], 0.0)
    assert len(pairs.first_M) == 2500
    assert (pairs.first_M < pairs.second_M).all()
    assert (np.diff(pairs.first_M) > 0).all()


def test_a_long_chain_is_one_group():
    order_N = np.random.default_rng(1).permutation(3000)
    assert not near_duplicates(order_N[:, None].astype(np.float32), 1.0).any()
    assert near_duplicates(order_N[:, None].astype(np.float32), 0.99).tolist() == list(range(3000))


def test_distances_far_from_the_origin_are_exact():
    """A float32 product loses differences of 0.01 beside lengths of 1000: |x|^2 is 1e6, its rounding 0.06."""
    points_ND = np.array([[1000.0, 0.0], [1000.0, 0.0078125], [1000.0, 0.015625]], np.float32)
    assert near_duplicates(points_ND, 0.0078).tolist() == [0, 1, 2]
    assert near_duplicate_pairs(points_ND, 0.0078125).distances_M.tolist() == [0.0078125, 0.0078125]


def test_all_alike_are_one_group_and_too_many_pairs():
    assert not near_duplicates(np.ones((3000, 4)), 0.0).any()
    with pytest.raises(StrategyError) as refused:
        near_duplicate_pairs(np.ones((200, 4)), 0.0, most=19_899)
    assert refused.value.reason == "TOO_MANY_PAIRS"
    assert len(near_duplicate_pairs(np.ones((200, 4)), 0.0, most=19_900).first_M) == 19_900


def test_one_sample_is_alone():
    assert near_duplicates([[1.0]], 5.0).tolist() == [0]
    assert groups(near_duplicates([[1.0]], 5.0)) == []
    assert near_duplicate_pairs([[1.0]], 5.0).first_M.tolist() == []


@pytest.mark.parametrize("radius", [-1.0, np.nan, np.inf])
def test_bad_radii_are_refused(radius):
    with pytest.raises(StrategyError, match="radius"):
        near_duplicates(LINE, radius)


def test_bad_embeddings_are_refused():
    with pytest.raises(StrategyError, match="NaN"):
        near_duplicates([[np.nan]], 1.0)
    with pytest.raises(StrategyError, match="samples x dimensions"):
        near_duplicates([1.0], 1.0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 4))
def test_equal_samples_are_grouped_as_those_within_next_to_nothing(seed: int, size: int, dim: int) -> None:
    points = np.random.default_rng(seed).integers(-1, 2, (size, dim)).astype(np.float32)
    points[points == 0] *= -1  # zeros with a sign
    points[::2] += 0
    groups_N = near_duplicates(points, 0)
    np.testing.assert_array_equal(groups_N, near_duplicates(points, 1e-6))
    assert groups_N.dtype == np.int64
