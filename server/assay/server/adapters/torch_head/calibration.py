"""Temperature and held-out quality of probabilities."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.blocks import blocks
from assay.server.adapters.torch_head.folds import IntArray
from assay.server.core.records.models import HeadMetrics

BINS = 15
_LOG_LIMIT = 3.0  # a temperature stays within e^-3 .. e^3
_LONGEST_STEP = 0.5
_STEPS, _PRECISION = 100, 1e-9
NO_METRICS = HeadMetrics(accuracy=None, log_loss=None, calibration_error=None, samples=0)


def log_loss(logits_NC: torch.Tensor, classes_N: torch.Tensor, shares_N: torch.Tensor, temperature: float) -> float:
    """Weighted mean of minus the log probability of the true class, in nats; shares sum to 1."""
    loss = 0.0
    for rows, logits_BC in _scaled(logits_NC, 1.0 / temperature):
        chosen_B = torch.log_softmax(logits_BC, dim=1).gather(1, classes_N[rows, None])[:, 0]
        loss -= float((chosen_B * shares_N[rows]).sum())
    return loss


def fit_temperature(
    logits_NC: torch.Tensor, classes_N: torch.Tensor, shares_N: torch.Tensor, start: float = 1.0
) -> float:
    """Temperature T that minimises the log loss of logits / T (Guo et al. 2017, On calibration of modern networks).

    A standard normal prior on ln T, worth one sample, keeps T finite where the held-out samples are all right, and is
    forgotten as they grow. T is within e^-3 .. e^3. Gauss-Newton on ln(1 / T); the log loss is convex in 1 / T.

    Args:
        logits_NC: logits of held-out samples, of any floating type.
        classes_N: their classes.
        shares_N: float64 shares of the loss, which sum to 1; a sample without a share takes no part.
        start: where to look first.

    Raises:
        Interrupted: if the computation is to stop.
    """
    prior = 1.0 / int(torch.count_nonzero(shares_N))
    log_beta = -float(np.log(start))
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
    slope = curvature = 0.0
    for rows, logits_BC in _scaled(logits_NC, beta):
        shares_B = shares_N[rows]
        probs_BC = torch.softmax(logits_BC, dim=1)
        mean_B = (probs_BC * logits_BC).sum(dim=1)
        chosen_B = logits_BC.gather(1, classes_N[rows, None])[:, 0]
        spread_B = (logits_BC.sub_(mean_B[:, None]).square_().mul_(probs_BC)).sum(dim=1)
        slope += float(((mean_B - chosen_B) * shares_B).sum()) / beta
        curvature += float((spread_B * shares_B).sum()) / beta**2
    return slope, curvature


def _scaled(logits_NC: torch.Tensor, beta: float) -> Iterator[tuple[slice, torch.Tensor]]:
    """Blocks of rows with beta times their logits, in float64."""
    for rows in blocks(*logits_NC.shape):
        yield rows, beta * logits_NC[rows].double()


@dataclass(frozen=True)
class Guesses:
    """What held-out probabilities say of each sample: the largest, whether it is that of the true class, and the one of
    the true class."""

    confidence_N: npt.NDArray[np.float64]
    right_N: npt.NDArray[np.bool_]
    chosen_N: npt.NDArray[np.float64]


def cross_fitted(
    logits_NC: torch.Tensor, classes_N: torch.Tensor, shares_N: torch.Tensor, fold_N: IntArray, start: float = 1.0
) -> Guesses:
    """Held-out guesses, those of each fold at the temperature that the other folds ask for."""
    temperature_N1 = torch.empty(len(classes_N), 1, dtype=torch.float64)
    for fold in np.unique(fold_N):
        held_N = torch.from_numpy(fold_N == fold)
        shares = shares_N.masked_fill(held_N, 0.0)
        temperature_N1[held_N] = fit_temperature(logits_NC, classes_N, shares / shares.sum(), start)
    guesses = Guesses(np.empty(len(fold_N)), np.empty(len(fold_N), np.bool_), np.empty(len(fold_N)))
    for rows in blocks(*logits_NC.shape):
        probs_BC = torch.softmax(logits_NC[rows].double() / temperature_N1[rows], dim=1)
        confidence_B, best_B = probs_BC.max(dim=1)
        guesses.confidence_N[rows] = confidence_B.numpy()
        guesses.right_N[rows] = (best_B == classes_N[rows]).numpy()
        guesses.chosen_N[rows] = probs_BC.gather(1, classes_N[rows, None])[:, 0].numpy()
    return guesses


def measure(guesses: Guesses) -> HeadMetrics:
    """Accuracy, log loss in nats (a probability counts as at least 1e-12) and expected calibration error."""
    return HeadMetrics(
        accuracy=float(np.mean(guesses.right_N)),
        log_loss=float(-np.log(np.maximum(guesses.chosen_N, 1e-12)).mean()),
        calibration_error=expected_calibration_error(guesses.confidence_N, guesses.right_N),
        samples=len(guesses.right_N),
    )


def expected_calibration_error(confidence_N: npt.NDArray[np.float64], right_N: npt.NDArray[np.bool_]) -> float:
    """Mean over samples of |accuracy - confidence| of their bin, 15 equal-width bins of the top probability (0, 1].

    Source: Guo et al. 2017, equation 3.
    """
    bin_N = np.clip(np.ceil(confidence_N * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gap_B = np.bincount(bin_N, weights=right_N - confidence_N, minlength=BINS)
    return float(np.abs(gap_B).sum() / len(right_N))
