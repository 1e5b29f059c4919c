"""How a head is found: strength by cross-validation, temperature from held-out logits, then the fits that serve."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.basis import Basis
from assay.server.adapters.torch_head.calibration import fit_temperature, log_loss
from assay.server.adapters.torch_head.folds import NEVER, IntArray, bootstrap
from assay.server.adapters.torch_head.logistic import Fit, class_weights, fit
from assay.server.core.errors import AssayError, Reason

# Tried from strong to weak. All strengths here are in units of the embeddings' total variance.
STRENGTHS = tuple(10.0**-exponent for exponent in (1.0, 1.75, 2.5, 3.25, 4.0, 4.75, 5.5, 6.25))
DEFAULT_STRENGTH = 1e-3  # where nothing can be held out
_PATIENCE = 2  # weaker strengths tried in vain before the rest is skipped
_GAIN = 1e-4  # relative gain below which a weaker strength is not worth it
_ROUGH, _FINE = 1e-4, 1e-6  # tolerances: where fits are only compared (folds, draws), and where one serves


class Progress:
    """Counts fits, reports them and lets the caller stop between two steps of the optimiser."""

    def __init__(self, total: int, report: Callable[[int, int], None], stop: Callable[[], bool]) -> None:
        self._done = 0
        self._total = total
        self._report = report
        self._stop = stop

    def check(self) -> None:
        """Raises AssayError(CANCELLED) if asked to stop."""
        if self._stop():
            raise AssayError(Reason.CANCELLED, "The training was cancelled. Nothing was changed.")

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
        weights_RC = fit(self.basis, torch.from_numpy(self.classes_N), weights_N, start_RC, asked, progress.check)
        progress.advance()
        return weights_RC


@dataclass(frozen=True)
class HeldOut:
    """Out-of-fold logits [M, C] of the M samples that some fold held out, with their classes, folds and shares of the
    loss (which sum to 1, and favour rare classes if the head is balanced)."""

    logits_MC: torch.Tensor
    classes_M: torch.Tensor
    fold_M: IntArray
    shares_M: torch.Tensor

    def loss(self) -> float:
        """Log loss at the best temperature: that of the head as it would serve."""
        temperature = fit_temperature(self.logits_MC, self.classes_M, self.shares_M)
        return log_loss(self.logits_MC / temperature, self.classes_M, self.shares_M)


def cross_validate(
    problem: Problem, strengths: Sequence[float], fold_N: IntArray, progress: Progress
) -> tuple[float, HeldOut]:
    """The strength with the least held-out loss, the stronger of equals, and what it says of held-out samples."""
    best: tuple[float, HeldOut] | None = None
    best_loss, vain, tried = float("inf"), 0, 0
    for l2, held_out in zip(strengths, _path(problem, strengths, fold_N, progress), strict=False):
        loss = held_out.loss()
        tried += 1
        if best is None or loss < best_loss * (1.0 - _GAIN):
            best, best_loss, vain = (l2, held_out), loss, 0
        else:
            vain += 1
        if vain == _PATIENCE:
            break
    progress.advance((len(strengths) - tried) * (int(fold_N.max()) + 1))
    assert best is not None
    return best


def _path(problem: Problem, strengths: Sequence[float], fold_N: IntArray, progress: Progress) -> Iterator[HeldOut]:
    """Held-out logits at one strength after the other, every fold starting where it ended before."""
    held_M = np.flatnonzero(fold_N != NEVER)
    fold_M, classes_M = fold_N[held_M], torch.from_numpy(problem.classes_N[held_M])
    weights_M = class_weights(problem.classes_N, np.ones(len(fold_N)), problem.balanced)[held_M]
    starts = [problem.zeros for _ in range(int(fold_N.max()) + 1)]
    for l2 in strengths:
        logits_MC = torch.empty(len(held_M), problem.class_count)
        for fold, start_RC in enumerate(starts):
            times_N = (fold_N != fold).astype(np.float64)
            starts[fold] = problem.solve(times_N, start_RC, Fit(l2, _ROUGH), progress)
            inside = np.flatnonzero(fold_M == fold)
            logits_MC[inside] = problem.basis.features_NR[held_M[inside]] @ starts[fold].to(torch.float32)
        yield HeldOut(logits_MC, classes_M, fold_M, weights_M / weights_M.sum())


def serving_fits(problem: Problem, l2: float, members: int, seed: int, progress: Progress) -> list[torch.Tensor]:
    """Weights [R, C] of the fit on all labels, then of members - 1 fits on labels drawn again."""
    fits = [problem.solve(np.ones(len(problem.classes_N)), problem.zeros, Fit(l2, _FINE), progress)]
    for member in range(1, members):
        times_N = bootstrap(problem.classes_N, member, seed)
        fits.append(problem.solve(times_N, fits[0], Fit(l2, _ROUGH), progress))
    return fits
