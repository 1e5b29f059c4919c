"""Temperature and held-out quality of probabilities."""

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.folds import IntArray
from assay.server.core.records.models import HeadMetrics

BINS = 15
_LOG_LIMIT = 3.0  # a temperature stays within e^-3 .. e^3
_LONGEST_STEP = 0.5
_STEPS, _PRECISION = 100, 1e-9
NO_METRICS = HeadMetrics(accuracy=None, log_loss=None, calibration_error=None, samples=0)


def log_loss(logits_NC: torch.Tensor, classes_N: torch.Tensor, shares_N: torch.Tensor) -> float:
    """Weighted mean of minus the log probability of the true class, in nats; shares sum to 1."""
    log_probs_NC = torch.log_softmax(logits_NC, dim=1)
    chosen_N = log_probs_NC.gather(1, classes_N[:, None])[:, 0]
    return -float((chosen_N * shares_N).sum(dtype=torch.float64))


def fit_temperature(logits_NC: torch.Tensor, classes_N: torch.Tensor, shares_N: torch.Tensor) -> float:
    """Temperature T that minimises the log loss of logits / T (Guo et al. 2017, On calibration of modern networks).

    A standard normal prior on ln T, worth one sample, keeps T finite where the held-out samples are all right, and is
    forgotten as they grow. T is within e^-3 .. e^3. Gauss-Newton on ln(1 / T); the log loss is convex in 1 / T.
    """
    prior = 1.0 / len(classes_N)
    log_beta = 0.0
    for _ in range(_STEPS):
        beta = float(np.exp(log_beta))
        slope, curvature = _temperature_slope(logits_NC, classes_N, shares_N, beta)
        step = -(beta * slope + prior * log_beta) / (beta * beta * curvature + prior)
        moved = float(np.clip(log_beta + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP), -_LOG_LIMIT, _LOG_LIMIT))
        done, log_beta = abs(moved - log_beta) < _PRECISION, moved
        if done:
            break
    return float(np.exp(-log_beta))


def _temperature_slope(
    logits_NC: torch.Tensor, classes_N: torch.Tensor, shares_N: torch.Tensor, beta: float
) -> tuple[float, float]:
    """First and second derivative of the log loss of beta * logits by beta: mean and variance of the logits."""
    probs_NC = torch.softmax(beta * logits_NC, dim=1)
    mean_N = (probs_NC * logits_NC).sum(dim=1)
    spread_N = (probs_NC * (logits_NC - mean_N[:, None]).square_()).sum(dim=1)
    chosen_N = logits_NC.gather(1, classes_N[:, None])[:, 0]
    slope = float(((mean_N - chosen_N) * shares_N).sum(dtype=torch.float64))
    return slope, float((spread_N * shares_N).sum(dtype=torch.float64))


def cross_fitted_probs(
    logits_NC: torch.Tensor, classes_N: torch.Tensor, shares_N: torch.Tensor, fold_N: IntArray
) -> torch.Tensor:
    """Held-out probabilities, those of each fold at the temperature that the other folds ask for."""
    probs_NC = torch.empty_like(logits_NC)
    for fold in np.unique(fold_N):
        held_N = torch.from_numpy(fold_N == fold)
        shares = shares_N[~held_N]
        temperature = fit_temperature(logits_NC[~held_N], classes_N[~held_N], shares / shares.sum())
        probs_NC[held_N] = torch.softmax(logits_NC[held_N] / temperature, dim=1)
    return probs_NC


def measure(probs_NC: npt.NDArray[np.floating], classes_N: IntArray) -> HeadMetrics:
    """Accuracy, log loss in nats (a probability counts as at least 1e-12) and expected calibration error."""
    chosen_N = probs_NC[np.arange(len(classes_N)), classes_N].astype(np.float64)
    return HeadMetrics(
        accuracy=float(np.mean(probs_NC.argmax(axis=1) == classes_N)),
        log_loss=float(-np.log(np.maximum(chosen_N, 1e-12)).mean()),
        calibration_error=expected_calibration_error(probs_NC, classes_N),
        samples=len(classes_N),
    )


def expected_calibration_error(probs_NC: npt.NDArray[np.floating], classes_N: IntArray) -> float:
    """Mean over samples of |accuracy - confidence| of their bin, 15 equal-width bins of the top probability (0, 1].

    Source: Guo et al. 2017, equation 3.
    """
    confidence_N = probs_NC.max(axis=1).astype(np.float64)
    right_N = (probs_NC.argmax(axis=1) == classes_N).astype(np.float64)
    bin_N = np.clip(np.ceil(confidence_N * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gap_B = np.bincount(bin_N, weights=right_N - confidence_N, minlength=BINS)
    return float(np.abs(gap_B).sum() / len(classes_N))
