"""The arithmetic of learning curves, on curves worked out by hand."""

import numpy as np
import pytest

from demo.curves import Curves

CURVES = Curves.of([40, 60, 100], [[0.2, 0.4, 0.4], [0.4, 0.6, 0.8]])


def test_mean_and_sd() -> None:
    np.testing.assert_allclose(CURVES.mean_L, [0.3, 0.5, 0.6])
    np.testing.assert_allclose(CURVES.sd_L, np.array([0.2, 0.2, 0.4]) / np.sqrt(2))


def test_sd_of_one_seed_is_zero() -> None:
    assert Curves.of([1, 2], [[0.1, 0.2]]).sd_L.tolist() == [0, 0]


def test_area_is_the_mean_height() -> None:
    np.testing.assert_allclose(CURVES.areas_S(), [(0.3 * 20 + 0.4 * 40) / 60, (0.5 * 20 + 0.7 * 40) / 60])
    assert Curves.of([7, 9, 30], [[0.5] * 3]).areas_S().tolist() == [0.5]


@pytest.mark.parametrize(
    ("accuracy", "labels"),
    [(0.1, 40.0), (0.3, 40.0), (0.4, 50.0), (0.5, 60.0), (0.55, 80.0), (0.6, 100.0), (0.61, None)],
)
def test_labels_to_reach(accuracy: float, labels: float | None) -> None:
    assert CURVES.labels_to_reach(accuracy) == (None if labels is None else pytest.approx(labels))


def test_labels_to_reach_takes_the_first_crossing() -> None:
    assert Curves.of([1, 2, 3, 4], [[0.0, 1.0, 0.0, 1.0]]).labels_to_reach(0.5) == 1.5


def test_ragged_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="one accuracy per label count"):
        Curves.of([1, 2], [[0.1, 0.2], [0.1]])
