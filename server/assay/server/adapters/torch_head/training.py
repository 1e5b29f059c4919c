"""How a head is found: strength by cross-validation, temperature from held-out logits, then the fits that serve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.basis import Basis
from assay.server.adapters.torch_head.blocks import blocks
from assay.server.adapters.torch_head.calibration import cross_fitted, fit_temperature, log_loss, measure
from assay.server.adapters.torch_head.folds import NEVER, IntArray, bootstrap
from assay.server.adapters.torch_head.logistic import Fit, class_weights, fit
from assay.server.core.records.models import HeadMetrics

# Tried from strong to weak. All strengths here are in units of the embeddings' total variance.
_STRENGTHS = tuple(10.0**-exponent for exponent in (1.0, 1.75, 2.5, 3.25, 4.0, 4.75, 5.5, 6.25))
DEFAULT_STRENGTH = 1e-3  # where nothing can be held out
# The least that a strength may weigh, over all labels: this share of a sample's loss. What is weaker no longer decides
# where the optimum is, or how far away; the temperature sees to the size of the logits as well.
_LEAST_WEIGHT = 1e-3
_PATIENCE = 2  # weaker strengths tried in vain before the rest is skipped
# What a weaker strength must gain to be worth it: this share of the loss, and this much likelihood of all held-out
# samples together, in nats. Less than that is chance, and near ties must not hang on rounding.
_GAIN, _EVIDENCE = 1e-4, 0.1
# Largest entry of the gradient where a fit is done. Strengths are compared by rough fits. Those that decide what is
# served are done where probabilities are within 1e-5 or so of those of the optimum, whatever the path to it: the order
# of sums differs between processors and thread counts, the optimum does not. A weak penalty holds the optimum loosely:
# the gradient of what serves is that share of it at most, and not below what is rounding.
_ROUGH, _HELD_OUT, _SERVING = 3e-5, 2e-7, 1e-8
_SHARE_OF_PENALTY, _ROUNDING = 1e-2, 1e-12
_AHEAD = 0.7  # of the way from one strength's optimum to the next, that the one after it is expected to lie ahead


class Progress:
    """Counts fits and reports them."""

    def __init__(self, total: int, report: Callable[[int, int], None]) -> None:
        self._done = 0
        self._total = total
        self._report = report

    def advance(self, fits: int = 1) -> None:
        """Counts fits that are done, or that turned out to be needless."""
        if fits:
            self._done += fits
            self._report(self._done, self._total)


@dataclass(frozen=True)
class Problem:
    """Labels on a basis; classes are 0..C-1 and each occurs."""

    basis: Basis
    classes_N: IntArray
    balanced: bool

    @property
    def class_count(self) -> int:
        return int(self.classes_N.max()) + 1

    @property
    def zeros(self) -> torch.Tensor:
        """Weights to start from where nothing better is known."""
        return torch.zeros(len(self.basis.variance_R), self.class_count, dtype=torch.float64)

    def solve(
        self, times_N: npt.NDArray[np.float64], start_RC: torch.Tensor, asked: Fit, progress: Progress
    ) -> torch.Tensor:
        """The optimum where each sample counts as often as said."""
        weights_N = class_weights(self.classes_N, times_N, self.balanced)
        weights_RC = fit(self.basis, torch.from_numpy(self.classes_N), weights_N, start_RC, asked)
        progress.advance()
        return weights_RC


@dataclass(frozen=True)
class HeldOut:
    """Out-of-fold logits [M, C] (float32) of the M samples that some fold held out, with their classes, folds and
    shares of the loss (which sum to 1, and favour rare classes if the head is balanced)."""

    logits_MC: torch.Tensor
    classes_M: torch.Tensor
    fold_M: IntArray
    shares_M: torch.Tensor

    def loss(self) -> float:
        """Log loss at the best temperature: that of the head as it would serve."""
        return log_loss(self.logits_MC, self.classes_M, self.shares_M, self.temperature())

    def temperature(self) -> float:
        """The best temperature for all held-out samples."""
        return fit_temperature(self.logits_MC, self.classes_M, self.shares_M)

    def metrics(self, temperature: float) -> HeadMetrics:
        """Quality at temperatures that did not see the sample, and that are not far from the one of all."""
        return measure(cross_fitted(self.logits_MC, self.classes_M, self.shares_M, self.fold_M, temperature))


@dataclass(frozen=True)
class Validated:
    """What cross-validation says: the strength to serve with, held-out logits at it, and the mean of the folds' weights
    [R, C], from which it is not far to the fit on all labels."""

    l2: float
    held_out: HeldOut
    start_RC: torch.Tensor


def strengths_for(labels: int) -> tuple[float, ...]:
    """The strengths to choose from, from strong to weak: the more labels, the weaker ones too."""
    return tuple(l2 for l2 in _STRENGTHS if l2 * labels >= _LEAST_WEIGHT)


def fits_in_all(strengths: int, folds: int, members: int) -> int:
    """How many fits there are: folds at every strength, once more at the chosen one, and what serves."""
    return folds * (strengths + 1) + members


def cross_validate(problem: Problem, strengths: Sequence[float], fold_N: IntArray, progress: Progress) -> Validated:
    """The strength with the least held-out loss, the stronger of near ties, and what it says of held-out samples."""
    l2, starts = _choose(problem, strengths, fold_N, progress)
    starts = _fold_fits(problem, Fit(l2, _HELD_OUT), starts, fold_N, progress)
    mean_RC = torch.zeros_like(problem.zeros)
    for weights_RC in starts:
        mean_RC.add_(weights_RC, alpha=1.0 / len(starts))
    return Validated(l2, _held_out(problem, starts, fold_N), mean_RC)


def _choose(
    problem: Problem, strengths: Sequence[float], fold_N: IntArray, progress: Progress
) -> tuple[float, list[torch.Tensor]]:
    """The best strength and rough fits of the folds at it; every strength starts ahead of where the one before it
    ended, in the direction in which that one went."""
    fits = starts = [problem.zeros] * (int(fold_N.max()) + 1)
    best, to_beat, vain, tried = (strengths[0], fits), float("inf"), 0, 0
    held = int(np.count_nonzero(fold_N != NEVER))
    while tried < len(strengths) and vain < _PATIENCE and to_beat > 0.0:
        before, fits = fits, _fold_fits(problem, Fit(strengths[tried], _ROUGH), starts, fold_N, progress)
        loss = _held_out(problem, fits, fold_N).loss()
        if loss < to_beat:
            best, vain = (strengths[tried], fits), 0
            to_beat = loss - max(_GAIN * loss, _EVIDENCE / held)
        else:
            vain += 1
        starts = [here + _AHEAD * (here - there) for here, there in zip(fits, before, strict=True)] if tried else fits
        tried += 1
    progress.advance((len(strengths) - tried) * len(starts))
    return best


def _fold_fits(
    problem: Problem, asked: Fit, starts: list[torch.Tensor], fold_N: IntArray, progress: Progress
) -> list[torch.Tensor]:
    """Weights [R, C] of each fold's fit, on the labels that it does not hold out."""
    return [
        problem.solve((fold_N != fold).astype(np.float64), start_RC, asked, progress)
        for fold, start_RC in enumerate(starts)
    ]


def _held_out(problem: Problem, fits: list[torch.Tensor], fold_N: IntArray) -> HeldOut:
    held_M = np.flatnonzero(fold_N != NEVER)
    fold_M, classes_M = fold_N[held_M], torch.from_numpy(problem.classes_N[held_M])
    weights_M = class_weights(problem.classes_N, np.ones(len(fold_N)), problem.balanced)[held_M]
    logits_MC = torch.empty(len(held_M), problem.class_count)
    for fold, weights_RC in enumerate(fits):
        inside = torch.from_numpy(np.flatnonzero(fold_M == fold))
        rows = torch.from_numpy(held_M)[inside]
        for block in blocks(len(rows), max(weights_RC.shape), weights_RC.numel()):
            logits_MC[inside[block]] = (problem.basis.features_NR[rows[block]] @ weights_RC).float()
    return HeldOut(logits_MC, classes_M, fold_M, weights_M / weights_M.sum())


def serving_fits(
    problem: Problem, l2: float, start_RC: torch.Tensor, members: int, seed: int, progress: Progress
) -> list[torch.Tensor]:
    """Weights [R, C] of the fit on all labels, then of members - 1 fits on labels drawn again."""
    tolerance = max(_ROUNDING, min(_SERVING, _SHARE_OF_PENALTY * l2))
    fits = [problem.solve(np.ones(len(problem.classes_N)), start_RC, Fit(l2, tolerance), progress)]
    for member in range(1, members):
        times_N = bootstrap(problem.classes_N, member, seed)
        fits.append(problem.solve(times_N, fits[0], Fit(l2, _HELD_OUT), progress))
    return fits
