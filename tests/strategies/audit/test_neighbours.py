"""Neighbours on hand-made points, against plain loops and scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from assay.strategies.audit import knn_disagreement, uniqueness
from assay.strategies.errors import StrategyError

LINE = np.array([[0.0], [1.0], [2.0], [10.0]])

pytestmark = pytest.mark.usefixtures("each_screen")


def test_disagreement_by_hand():
    assert knn_disagreement(LINE, [0, 0, 1, 1], k=1).tolist() == [0, 0, 1, 0]
    assert knn_disagreement(LINE, [0, 0, 1, 1], k=2).tolist() == [0.5, 0.5, 1, 0.5]


def test_disagreement_is_that_of_plain_loops():
    rng = np.random.default_rng(0)
    points_ND, labels_N = rng.normal(size=(200, 6)), rng.integers(0, 3, 200)
    distances_NN = np.linalg.norm(points_ND[:, None] - points_ND, axis=2) + np.diag(np.full(200, np.inf))
    expected_N = [
        (labels_N[np.argsort(row)[:7]] != own).mean() for row, own in zip(distances_NN, labels_N, strict=True)
    ]
    assert knn_disagreement(points_ND, labels_N, k=7) == pytest.approx(expected_N)


def test_cosine_sees_direction_only():
    points_ND = np.array([[1, 0], [50, 1], [0, 1], [1, 50]])
    assert knn_disagreement(points_ND, [0, 0, 1, 1], k=1, metric="cosine").tolist() == [0, 0, 0, 0]
    assert knn_disagreement(points_ND, [0, 0, 1, 1], k=1).tolist() == [1, 0, 1, 0]


def test_few_samples_have_few_neighbours():
    assert knn_disagreement([[1.0, 2.0]], [0], k=5).tolist() == [0]
    assert knn_disagreement(LINE, [0, 0, 0, 1], k=99) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    assert uniqueness(LINE[:3]).tolist() == [1, 1, 1]


def test_copies_are_each_other_s_neighbours():
    points_ND = np.repeat([[0.0, 0.0], [9.0, 9.0]], 6, axis=0)
    labels_N = np.repeat([0, 1], 6)
    assert not knn_disagreement(points_ND, labels_N, k=5).any()


def test_uniqueness_by_hand():
    # Distances to the three others: 1 2 10; 1 1 9; 1 2 8; 8 9 10.
    sums_N = [0.6 + 0.6 + 1, 0.6 + 0.3 + 0.9, 0.6 + 0.6 + 0.8, 4.8 + 2.7 + 1]
    assert uniqueness(LINE, metric="l2") == pytest.approx(np.array(sums_N) / 8.5)


@pytest.mark.parametrize(("metric", "theirs"), [("l2", "euclidean"), ("cosine", "cosine")])
def test_uniqueness_is_fiftyone_s_formula(metric, theirs):
    points_ND = np.random.default_rng(2).normal(size=(150, 8)).astype(np.float32)
    distances_NK, _ = NearestNeighbors(n_neighbors=4, metric=theirs).fit(points_ND).kneighbors(points_ND)
    expected_N = np.mean(distances_NK[:, 1:] * [0.6, 0.3, 0.1], axis=1)
    assert uniqueness(points_ND, metric=metric) == pytest.approx(expected_N / expected_N.max(), abs=1e-4)


def test_where_all_coincide_nobody_is_unique():
    assert uniqueness(np.zeros((9, 2)), metric="l2").tolist() == [0] * 9


@pytest.mark.parametrize(
    ("embeddings_ND", "reason"),
    [
        (np.zeros(3), "INVALID_ARRAY"),
        (np.zeros((0, 3)), "INVALID_ARRAY"),
        (np.zeros((3, 0)), "INVALID_ARRAY"),
        ([[0.0], [np.nan]], "NOT_FINITE"),
        ([[0.0], [1e30]], "NOT_FINITE"),
    ],
)
def test_bad_embeddings_are_refused(embeddings_ND, reason):
    for call in (uniqueness, lambda points: knn_disagreement(points, np.zeros(len(points), int))):
        with pytest.raises(StrategyError) as refused:
            call(embeddings_ND)
        assert refused.value.reason == reason


def test_bad_parameters_are_refused():
    for k in (0, -1, 1.5, True):
        with pytest.raises(StrategyError, match="'k'"):
            knn_disagreement(LINE, [0, 0, 0, 0], k=k)
    with pytest.raises(StrategyError, match="metric"):
        uniqueness(LINE, metric="dot")
    with pytest.raises(StrategyError, match="3 labels for 4"):
        knn_disagreement(LINE, [0, 0, 0])
