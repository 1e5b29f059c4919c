"""Calibration, folds and the optimiser on arrays made by hand."""

import numpy as np
import pytest
import torch

from assay.server.adapters.torch_head.calibration import (
    Guesses,
    Truth,
    cross_fitted,
    expected_calibration_error,
    fit_temperature,
    guesses,
    log_loss,
    measure,
)
from assay.server.adapters.torch_head.folds import NEVER, bootstrap, stratified_folds
from assay.strategies.kernels.lbfgs import minimise


def even(count: int) -> torch.Tensor:
    return torch.full((count,), 1.0 / count, dtype=torch.float64)


def test_calibration_error_by_hand() -> None:
    """Two in the bin of 0.8 (one right), two in the bin of 0.95 (both right)."""
    error = expected_calibration_error(np.array([0.79, 0.79, 0.95, 0.95]), np.array([True, False, True, True]))
    assert error == pytest.approx(0.5 * (0.79 - 0.5) + 0.5 * (1 - 0.95), abs=1e-6)


def test_calibration_error_of_certainty() -> None:
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0.0
    assert expected_calibration_error(np.ones(3), np.zeros(3, bool)) == 1.0


def test_metrics_by_hand() -> None:
    """Probabilities (0.5, 0.25, 0.25), (0.1, 0.8, 0.1) and (1, 0, 0), all of class 1."""
    metrics = measure(Guesses(np.array([0.5, 0.8, 1.0]), np.array([False, True, False]), np.array([0.25, 0.8, 0.0])))
    assert metrics.value("accuracy") == pytest.approx(1 / 3)
    assert metrics.value("log_loss") == pytest.approx(-(np.log(0.25) + np.log(0.8) + np.log(1e-12)) / 3, rel=1e-6)
    assert metrics.samples == 3


def test_temperature_undoes_a_scale() -> None:
    rng = np.random.default_rng(0)
    logits_NC = torch.from_numpy(2 * rng.standard_normal((5_000, 5)))
    classes_N = torch.multinomial(torch.softmax(logits_NC, dim=1), 1, generator=torch.manual_seed(0))[:, 0]
    for scale in (0.3, 1.0, 4.0):
        assert fit_temperature(scale * logits_NC, Truth(classes_N), even(5_000)) == pytest.approx(scale, rel=0.06)


def test_temperature_is_the_best_on_a_grid() -> None:
    rng = np.random.default_rng(1)
    logits_NC = torch.from_numpy(3 * rng.standard_normal((300, 4)))
    classes_N = torch.from_numpy(np.where(rng.random(300) < 0.5, logits_NC.numpy().argmax(1), rng.integers(0, 4, 300)))

    def loss(temperature: float) -> float:
        return log_loss(logits_NC, Truth(classes_N), even(300), temperature) + np.log(temperature) ** 2 / 600

    best = min(np.geomspace(0.2, 5, 300), key=loss)
    assert fit_temperature(logits_NC, Truth(classes_N), even(300)) == pytest.approx(best, rel=0.02)


def test_temperature_stays_finite() -> None:
    right = 5 * torch.eye(3, dtype=torch.float64)
    assert 0.05 <= fit_temperature(right, Truth(torch.arange(3)), even(3)) < 1
    wrong = 1e6 * torch.eye(3, dtype=torch.float64)
    assert 1 < fit_temperature(wrong, Truth(torch.tensor([1, 2, 0])), even(3)) < 21
    assert fit_temperature(torch.zeros(3, 3), Truth(torch.arange(3)), even(3)) == 1.0


def test_cross_fitted_temperature_is_of_the_other_fold() -> None:
    """Fold 0 is all right, fold 1 all wrong: each gets the temperature that the other asks for."""
    logits_NC = torch.tensor([[4.0, 0.0]] * 40, dtype=torch.float64)
    classes_N = torch.tensor([0] * 20 + [1] * 20)
    fold_N = np.array([0] * 20 + [1] * 20)
    plain = float(torch.softmax(logits_NC[0], dim=0)[0])
    found = guesses(cross_fitted(logits_NC, Truth(classes_N), even(40), fold_N), classes_N)
    assert found.confidence_M[0] < plain < found.confidence_M[-1]
    assert found.right_M.tolist() == [True] * 20 + [False] * 20
    np.testing.assert_allclose(found.chosen_M[:20], found.confidence_M[:20])
    np.testing.assert_allclose(found.chosen_M[20:], 1 - found.confidence_M[20:])


@pytest.mark.parametrize("folds", [2, 5, 100])
def test_folds_spread_every_class(folds: int) -> None:
    classes_N = np.array([0] * 17 + [1] * 9 + [2] * 2 + [3])
    fold_N = stratified_folds(classes_N, folds, seed=3)
    assert fold_N[-1] == NEVER
    assert fold_N.max() + 1 == min(folds, 28)
    for class_index in range(3):
        counts = np.bincount(fold_N[classes_N == class_index], minlength=min(folds, 28))
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(fold_N[fold_N != NEVER])
    assert sizes.max() - sizes.min() <= 1


def test_no_folds_where_nothing_can_be_held_out() -> None:
    assert (stratified_folds(np.arange(4), 5, seed=0) == NEVER).all()


def test_bootstrap_keeps_class_counts() -> None:
    classes_N = np.array([0] * 50 + [1] * 3 + [2])
    times_N = bootstrap(classes_N, 1, seed=0)
    assert np.bincount(classes_N, weights=times_N).tolist() == [50, 3, 1]
    assert (times_N == 0).any()
    assert not np.array_equal(times_N, bootstrap(classes_N, 2, seed=0))


def test_optimiser_solves_a_bad_quadratic_and_a_log_cosh() -> None:
    curvature = torch.logspace(-1, 1, 30, dtype=torch.float64)
    target = torch.linspace(-1, 1, 30, dtype=torch.float64)

    def quadratic(x: torch.Tensor) -> tuple[float, torch.Tensor]:
        error = x - target
        return 0.5 * float((curvature * error * error).sum()), curvature * error

    def log_cosh(x: torch.Tensor) -> tuple[float, torch.Tensor]:
        return float((x - target).cosh().log().sum()), (x - target).tanh()

    for objective in (quadratic, log_cosh):
        start = torch.full((30,), 3.0, dtype=torch.float64)
        found = minimise(objective, start, tolerance=1e-7, passes=500, check=lambda: None)
        assert float((found - target).abs().max()) < 1e-4
