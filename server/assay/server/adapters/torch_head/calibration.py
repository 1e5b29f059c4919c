"""Temperature and held-out quality of class probabilities."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.blocks import blocks
from assay.server.adapters.torch_head.folds import IntArray
from assay.server.core.records.metrics import HeadMetrics, Score

BINS = 15
_LOG_LIMIT = 3.0  # a temperature stays within e^-3 .. e^3
_LONGEST_STEP = 0.5
_STEPS, _PRECISION = 100, 1e-9


@dataclass(frozen=True)
class Truth:
    """The classes [M] (int64) of samples; of soft labels the likeliest, and their distributions [M, C]."""

    classes_M: torch.Tensor
    probs_MC: torch.Tensor | None = None

    def chosen(self, values_BC: torch.Tensor, rows: slice) -> torch.Tensor:
        """The value [B] of the true class in a block, the mean of them where there are several."""
        if self.probs_MC is None:
            return values_BC.gather(1, self.classes_M[rows, None])[:, 0]
        return (values_BC * self.probs_MC[rows]).sum(dim=1)


def log_loss(logits_MC: torch.Tensor, truth: Truth, shares_M: torch.Tensor, temperature: float) -> float:
    """Weighted mean of minus the log probability of the true class, in nats; shares sum to 1."""
    loss = 0.0
    for rows, logits_BC in _scaled(logits_MC, 1.0 / temperature):
        chosen_B = truth.chosen(torch.log_softmax(logits_BC, dim=1), rows)
        loss -= float((chosen_B * shares_M[rows]).sum())
    return loss


def fit_temperature(logits_MC: torch.Tensor, truth: Truth, shares_M: torch.Tensor, start: float = 1.0) -> float:
    """Temperature T that minimises the log loss of logits / T (Guo et al. 2017, On calibration of modern networks).

    A standard normal prior on ln T, worth one sample, keeps T finite where the held-out samples are all right, and is
    forgotten as they grow. T is within e^-3 .. e^3. Gauss-Newton on ln(1 / T); the log loss is convex in 1 / T.

    Args:
        logits_MC: logits of held-out samples, of any floating type.
        truth: their classes.
        shares_M: float64 shares of the loss, which sum to 1; a sample without a share takes no part.
        start: where to look first.

    Raises:
        Interrupted: if the computation is to stop.
    """
    prior = 1.0 / int(torch.count_nonzero(shares_M))
    log_beta = -float(np.log(start))
    for _ in range(_STEPS):
        beta = float(np.exp(log_beta))
        slope, curvature = _temperature_slope(logits_MC, truth, shares_M, beta)
        step = -(beta * slope + prior * log_beta) / (beta * beta * curvature + prior)
        moved = float(np.clip(log_beta + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP), -_LOG_LIMIT, _LOG_LIMIT))
        done, log_beta = abs(moved - log_beta) < _PRECISION, moved
        if done:
            break
    return float(np.exp(-log_beta))


def _temperature_slope(
    logits_MC: torch.Tensor, truth: Truth, shares_M: torch.Tensor, beta: float
) -> tuple[float, float]:
    """First and second derivative of the log loss of beta * logits by beta: mean and variance of the logits."""
    slope = curvature = 0.0
    for rows, logits_BC in _scaled(logits_MC, beta):
        shares_B = shares_M[rows]
        probs_BC = torch.softmax(logits_BC, dim=1)
        mean_B = (probs_BC * logits_BC).sum(dim=1)
        chosen_B = truth.chosen(logits_BC, rows)
        spread_B = (logits_BC.sub_(mean_B[:, None]).square_().mul_(probs_BC)).sum(dim=1)
        slope += float(((mean_B - chosen_B) * shares_B).sum()) / beta
        curvature += float((spread_B * shares_B).sum()) / beta**2
    return slope, curvature


def _scaled(logits_MC: torch.Tensor, beta: float) -> Iterator[tuple[slice, torch.Tensor]]:
    """Blocks of rows with beta times their logits, in float64."""
    for rows in blocks(*logits_MC.shape):
        yield rows, beta * logits_MC[rows].double()


def cross_fitted(
    logits_MC: torch.Tensor, truth: Truth, shares_M: torch.Tensor, fold_M: IntArray, start: float = 1.0
) -> torch.Tensor:
    """Held-out probabilities [M, C], those of each fold at the temperature that the other folds ask for. The logits are
    overwritten with them."""
    temperature_M1 = torch.empty(len(fold_M), 1, dtype=torch.float64)
    for fold in np.unique(fold_M):
        held_M = torch.from_numpy(fold_M == fold)
        shares = shares_M.masked_fill(held_M, 0.0)
        temperature_M1[held_M] = fit_temperature(logits_MC, truth, shares / shares.sum(), start)
    for rows in blocks(*logits_MC.shape):
        logits_MC[rows] = torch.softmax(logits_MC[rows].double() / temperature_M1[rows], dim=1).to(logits_MC.dtype)
    return logits_MC


@dataclass(frozen=True)
class Guesses:
    """What held-out probabilities say of each sample: the largest, whether it is that of the true class, and the one of
    the true class."""

    confidence_M: npt.NDArray[np.float64]
    right_M: npt.NDArray[np.bool_]
    chosen_M: npt.NDArray[np.float64]


def guesses(probs_MC: torch.Tensor, classes_M: torch.Tensor) -> Guesses:
    """What probabilities say of samples."""
    count = len(classes_M)
    found = Guesses(np.empty(count), np.empty(count, np.bool_), np.empty(count))
    for rows in blocks(*probs_MC.shape):
        confidence_B, best_B = probs_MC[rows].max(dim=1)
        found.confidence_M[rows] = confidence_B.numpy()
        found.right_M[rows] = (best_B == classes_M[rows]).numpy()
        found.chosen_M[rows] = probs_MC[rows].gather(1, classes_M[rows, None])[:, 0].numpy()
    return found


def measure(found: Guesses) -> HeadMetrics:
    """Accuracy, log loss in nats (a probability counts as at least 1e-12) and expected calibration error."""
    scores = {
        "accuracy": float(np.mean(found.right_M)),
        "log_loss": float(-np.log(np.maximum(found.chosen_M, 1e-12)).mean()),
        "calibration_error": expected_calibration_error(found.confidence_M, found.right_M),
    }
    return HeadMetrics(len(found.right_M), {name: Score(value) for name, value in scores.items()})


def expected_calibration_error(confidence_M: npt.NDArray[np.float64], right_M: npt.NDArray[np.bool_]) -> float:
    """Mean over samples of |accuracy - confidence| of their bin, 15 equal-width bins of the top probability (0, 1].

    Source: Guo et al. 2017, equation 3.
    """
    bin_M = np.clip(np.ceil(confidence_M * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gap_B = np.bincount(bin_M, weights=right_M - confidence_M, minlength=BINS)
    return float(np.abs(gap_B).sum() / len(right_M))
