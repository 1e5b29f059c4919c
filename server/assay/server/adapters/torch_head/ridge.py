"""Numbers: ridge regression on a basis, half the weighted mean square of the error + l2 / 2 |W|^2, the bias free."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.basis import CORRELATE_AT_MOST, Basis, make_basis
from assay.server.adapters.torch_head.blocks import blocks
from assay.server.adapters.torch_head.folds import IntArray, bayesian_bootstrap, even_folds
from assay.server.adapters.torch_head.scaling import Scaling, factored, penalty, scaling
from assay.server.adapters.torch_head.training import (
    EVIDENCE,
    GAIN,
    STRENGTHS,
    Asked,
    Fit,
    Found,
    Progress,
    by_fold,
    enough,
    find,
    held_out_outputs,
    held_places,
    held_samples,
)
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.metrics import NO_METRICS, ClassScores, HeadMetrics, Score
from assay.server.core.records.models import HeadInfo, HeadWeights, NumberTargets, TrainedHead
from assay.server.core.records.tasks import TaskKind
from assay.strategies import checkpoint
from assay.strategies.kernels.lbfgs import minimise_many

# Numbers that embeddings say nothing of want more than classes do: their loss goes on growing with the weights.
_STRONGER = (10.0**1.25, 10.0**0.5, 10.0**-0.25)
_LEAST_PENALTY = 1e-12  # of the total variance: less is rounding
_KEPT_AT_MOST = 1 << 24  # entries of matrices that are kept from one strength to the next
_PASSES = 5000


def train_ridge(
    embeddings_ND: FloatArray, targets: NumberTargets, weights_N: npt.NDArray[np.float64], asked: Asked
) -> TrainedHead:
    """Ridge regression of each number, with one strength for all; see TorchHeads.train.

    Raises:
        AssayError: TOO_FEW_LABELS for fewer than two; NOT_FINITE where weights do not fit into float32.
        Interrupted: if the computation is to stop.
    """
    labels = len(embeddings_ND)
    if labels < 2:
        raise AssayError(
            Reason.TOO_FEW_LABELS,
            f"A head for numbers needs at least 2 labeled samples; there are {labels}. Label more samples.",
            labels=labels,
        )
    units = _Units.of(targets.values_NT, weights_N)
    fold_N = even_folds(np.zeros(labels, np.int64), asked.folds, asked.seed)
    order_N = by_fold(fold_N)
    fold_N, values_NT = fold_N[order_N], units.standard(targets.values_NT[order_N])
    problem = Ridge(make_basis(embeddings_ND, order_N), values_NT, torch.from_numpy(weights_N[order_N]))
    found = find(problem, fold_N, asked)
    weights = _serve(problem.basis, found, units)
    held_M, back_M = held_places(fold_N, order_N)
    predictions_MT, metrics = np.zeros((0, targets.values_NT.shape[1]), np.float32), NO_METRICS
    if found.held_out is not None:
        predictions_MT = units.plain(found.held_out.outputs_MT)[back_M]
        metrics = _measure(targets.values_NT[held_M], predictions_MT)
    info = HeadInfo(
        kind=TaskKind.REGRESSION,
        classes=(),
        classes_seen=0,
        members=asked.members,
        labels=labels,
        l2=found.strength * problem.basis.spread if asked.l2 is None else asked.l2,
        temperature=1.0,
        metrics=metrics,
        balanced=False,
        seed=asked.seed,
        deviations=tuple(units.deviation_T.tolist()),
    )
    return TrainedHead(weights, info, held_M, predictions_MT)


@dataclass(frozen=True)
class _Units:
    """Mean and deviation of each number [T], the deviation 1 where there is none."""

    mean_T: torch.Tensor
    deviation_T: torch.Tensor

    @classmethod
    def of(cls, values_NT: npt.NDArray[np.float64], weights_N: npt.NDArray[np.float64]) -> "_Units":
        shares_N = weights_N / weights_N.sum()
        # In units of the largest, so that no square overflows.
        largest_T = np.abs(values_NT).max(axis=0)
        unit_T = np.where(largest_T > 0, largest_T, 1.0)
        scaled_NT = values_NT / unit_T
        mean_T = shares_N @ scaled_NT
        deviation_T = np.sqrt(shares_N @ np.square(scaled_NT - mean_T))
        deviation_T = np.where(deviation_T > 1e-12, deviation_T, 1.0)
        return cls(torch.from_numpy(mean_T * unit_T), torch.from_numpy(deviation_T * unit_T))

    def standard(self, values_NT: npt.NDArray[np.float64]) -> torch.Tensor:
        return (torch.from_numpy(values_NT) - self.mean_T) / self.deviation_T

    def plain(self, standard_MT: torch.Tensor) -> FloatArray:
        plain_MT: FloatArray = (standard_MT * self.deviation_T + self.mean_T).float().numpy()
        return plain_MT


@dataclass(frozen=True)
class Ridge:
    """Standardised numbers [N, T] on a basis, and how much each sample counts [N], above 0."""

    basis: Basis
    values_NT: torch.Tensor
    weights_N: torch.Tensor

    @property
    def zeros(self) -> torch.Tensor:
        return torch.zeros(self.values_NT.shape[1], len(self.basis.variance_R), dtype=torch.float64)

    @property
    def strengths(self) -> tuple[float, ...]:
        return _STRONGER + enough(STRENGTHS, len(self.values_NT))

    def fits(self, times_GN: npt.NDArray[np.float64], *, rough: bool = False) -> "_Solved | _Approached":
        if len(self.basis.variance_R) <= CORRELATE_AT_MOST + 1:
            return _Solved(self, times_GN)
        return _Approached(self, times_GN)

    def held_out(self, fits_GCR: torch.Tensor, fold_N: IntArray, before: "HeldOutNumbers | None") -> "HeldOutNumbers":
        held_M = torch.from_numpy(held_samples(fold_N))
        outputs_MT = held_out_outputs(self.basis, fits_GCR, fold_N)
        return HeldOutNumbers(outputs_MT, self.values_NT[held_M], self.weights_N[held_M])

    def drawn(self, member: int, seed: int) -> npt.NDArray[np.float64]:
        return bayesian_bootstrap(len(self.values_NT), member, seed)

    @cached_property
    def sums(self) -> "_Sums":
        """Over all samples."""
        return _Sums.over(self, self.weights_N)


@dataclass(frozen=True)
class HeldOutNumbers:
    """Out-of-fold outputs [M, T] (float32), the numbers, and the weights [M] of the samples; standardised."""

    outputs_MT: torch.Tensor
    values_MT: torch.Tensor
    weights_M: torch.Tensor

    def loss(self) -> float:
        """Mean square of the error."""
        error_MT = self.outputs_MT - self.values_MT
        return float((self.weights_M @ error_MT.square_()).mean() / self.weights_M.sum())

    def to_beat(self, loss: float) -> float:
        # Twice the gain in likelihood, for each of the M T errors, is the change of the mean square's logarithm.
        return loss - max(GAIN, 2.0 * EVIDENCE / self.values_MT.numel()) * loss


@dataclass(frozen=True)
class _Sums:
    """Weighted sums over samples: products of features [R, R], of features and numbers [R, T], and the weight."""

    features_RR: torch.Tensor
    values_RT: torch.Tensor
    weight: float

    @classmethod
    def over(cls, problem: Ridge, weights_N: torch.Tensor) -> "_Sums":
        """Over the samples whose weight is not 0; a weight may be negative."""
        used_M = torch.nonzero(weights_N).flatten()
        width, numbers = len(problem.basis.variance_R), problem.values_NT.shape[1]
        features_RR = torch.zeros(width, width, dtype=torch.float64)
        values_RT = torch.zeros(width, numbers, dtype=torch.float64)
        for rows in blocks(len(used_M), width, width * (width + numbers)):
            used_B = used_M[rows]
            features_BR = problem.basis.features_NR[used_B]
            weighted_BR = features_BR * weights_N[used_B, None]
            features_RR.addmm_(weighted_BR.T, features_BR)
            values_RT.addmm_(weighted_BR.T, problem.values_NT[used_B])
        return cls(features_RR, values_RT, float(weights_N.sum()))

    def solve(self, penalty_R: torch.Tensor) -> torch.Tensor:
        """Weights [T, R]: the solution of the normal equations."""
        hessian_RR = self.features_RR / self.weight
        hessian_RR.diagonal().add_(penalty_R)
        lower_RR = factored(hessian_RR)
        half_RT = torch.linalg.solve_triangular(lower_RR, self.values_RT / self.weight, upper=False)
        checkpoint()
        weights_RT: torch.Tensor = torch.linalg.solve_triangular(lower_RR.T, half_RT, upper=True)
        return weights_RT.T


class _Solved:
    """Fits in closed form. What differs from the sums over all samples is taken from them: with folds, that is each
    sample once."""

    def __init__(self, problem: Ridge, times_GN: npt.NDArray[np.float64]) -> None:
        self._problem, self._times_GN = problem, times_GN
        self._keep = len(times_GN) * len(problem.basis.variance_R) ** 2 <= _KEPT_AT_MOST
        self._kept: dict[int, _Sums] = {}

    def solve(self, starts_GCR: torch.Tensor, asked: Fit, progress: Progress) -> torch.Tensor:
        penalty_R = penalty(self._problem.basis, max(asked.l2, _LEAST_PENALTY))
        found_GCR = torch.empty_like(starts_GCR)
        for place in range(len(starts_GCR)):
            found_GCR[place] = self._sums(place).solve(penalty_R)
            progress.advance()
        return found_GCR

    def _sums(self, place: int) -> _Sums:
        if place in self._kept:
            return self._kept[place]
        problem, times_N = self._problem, torch.from_numpy(self._times_GN[place])
        missing = _Sums.over(problem, problem.weights_N * (1.0 - times_N))
        everything = problem.sums
        sums = _Sums(
            everything.features_RR - missing.features_RR,
            everything.values_RT - missing.values_RT,
            everything.weight - missing.weight,
        )
        if self._keep:
            self._kept[place] = sums
        return sums


class _Approached:
    """Fits where there are too many features to hold their products: found step by step."""

    def __init__(self, problem: Ridge, times_GN: npt.NDArray[np.float64]) -> None:
        self._problem, self._times_GN = problem, times_GN

    def solve(self, starts_GCR: torch.Tensor, asked: Fit, progress: Progress) -> torch.Tensor:
        problem, found_GCR = self._problem, torch.empty_like(starts_GCR)
        penalty_R = penalty(problem.basis, max(asked.l2, _LEAST_PENALTY))
        for place, start_TR in enumerate(starts_GCR):
            weights_N = problem.weights_N * torch.from_numpy(self._times_GN[place])
            scaled = scaling(problem.basis, penalty_R, torch.ones(1, 1, dtype=torch.float64))
            squares = _Squares(problem, weights_N / weights_N.sum(), penalty_R, scaled, torch.arange(len(start_TR)))
            start_points_TR = scaled.point(start_TR[:, None])[:, 0]
            points_TR = minimise_many(
                squares, start_points_TR, tolerance=asked.tolerance, passes=_PASSES, check=checkpoint
            )
            found_GCR[place] = scaled.weights(points_TR[:, None])[:, 0]
            progress.advance()
        return found_GCR


@dataclass(frozen=True)
class _Squares:
    """Losses of some of the numbers by their points [T, R]."""

    problem: Ridge
    shares_N: torch.Tensor
    penalty_R: torch.Tensor
    scaled: Scaling
    numbers_T: torch.Tensor

    def __call__(self, points_TR: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights_TR = self.scaled.weights(points_TR[:, None])[:, 0]
        gradients_TR = self.penalty_R * weights_TR
        values_T = 0.5 * (gradients_TR * weights_TR).sum(dim=1)
        features_NR, values_NT = self.problem.basis.features_NR, self.problem.values_NT
        for rows in blocks(len(features_NR), features_NR.shape[1], weights_TR.numel()):
            error_BT = torch.addmm(values_NT[rows][:, self.numbers_T], features_NR[rows], weights_TR.T, beta=-1.0)
            weighted_BT = error_BT * self.shares_N[rows, None]
            values_T += 0.5 * (weighted_BT * error_BT).sum(dim=0)
            gradients_TR.addmm_(weighted_BT.T, features_NR[rows])
        return values_T, self.scaled.gradient(gradients_TR[:, None])[:, 0]

    def narrowed(self, kept_A: torch.Tensor) -> "_Squares":
        numbers_T = self.numbers_T[kept_A]
        return _Squares(self.problem, self.shares_N, self.penalty_R, self.scaled, numbers_T)


def _measure(values_MT: npt.NDArray[np.float64], predictions_MT: FloatArray) -> HeadMetrics:
    """Share of the variance that is explained, mean and root mean square of the error, in the numbers' own units."""
    numbers = []
    for t, (values_M, predictions_M) in enumerate(zip(values_MT.T, predictions_MT.T.astype(np.float64), strict=True)):
        away_M, error_M = values_M - values_M.mean(), predictions_M - values_M
        rmse, deviation = (float(np.linalg.norm(each_M)) / len(error_M) ** 0.5 for each_M in (error_M, away_M))
        scores = {
            "r2": Score(1.0 - (rmse / deviation) ** 2) if deviation > 0 else None,
            "mae": Score(float(np.abs(error_M).mean())),
            "rmse": Score(rmse),
        }
        numbers.append(ClassScores(t, len(error_M), scores))
    explained = [score.value for number in numbers if (score := number.scores["r2"]) is not None]
    scores = {"r2": Score(float(np.mean(explained))) if explained else None}
    return HeadMetrics(len(values_MT), scores, tuple(numbers))


def _serve(basis: Basis, found: Found[HeldOutNumbers], units: _Units) -> HeadWeights:
    """Fits as weights for raw embeddings and for the numbers' own units."""
    weights_KDT, bias_KT = [], []
    for weights_TR in found.fits_KCR:
        weights_DT, bias_T = basis.unfold(weights_TR.T)
        weights_KDT.append((weights_DT * units.deviation_T).float().numpy())
        bias_KT.append((bias_T * units.deviation_T + units.mean_T).float().numpy())
    weights = HeadWeights(np.stack(weights_KDT), np.stack(bias_KT), TaskKind.REGRESSION)
    if not (np.isfinite(weights.weights_KDC).all() and np.isfinite(weights.bias_KC).all()):
        raise AssayError(
            Reason.NOT_FINITE,
            "The numbers are too large for the embeddings they come with. Give them in a larger unit.",
        )
    return weights
