"""Calibration of sigmoids, class by class: slope and offset of the logits, and the threshold of the best F1."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from assay.server.adapters.torch_head.blocks import blocks
from assay.strategies import checkpoint
from assay.strategies.kernels.lbfgs import minimise_many

_LEAST_SLOPE, _LARGEST_SLOPE = 0.05, 20.0
_TOLERANCE = 1e-7  # of the gradient, in units of the root of the curvature
_PASSES = 500
GRID = 100  # a threshold is a multiple of 1 / so many


@dataclass(frozen=True)
class Platt:
    """Slopes and offsets [C]: the calibrated logit is slope x logit + offset."""

    slope_C: torch.Tensor
    offset_C: torch.Tensor

    @classmethod
    def none(cls, classes: int) -> "Platt":
        """Logits as they are."""
        return cls(torch.ones(classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64))

    def logits(self, logits_BC: torch.Tensor) -> torch.Tensor:
        """Calibrated logits, float64."""
        return torch.addcmul(self.offset_C, logits_BC.double(), self.slope_C)


@dataclass(frozen=True)
class HeldOutSets:
    """What folds say of the samples that they hold out.

    Attributes:
        logits_MC: float32 logits.
        has_MC: whether the sample has the class.
        fold_M: int64 fold of each sample.
        weights_M1: float64 weights of the samples.
        counts_GC: 1 where a fold knows a class and is looked at, else 0: there its samples take no part.
        factors_C2: how much a sample without and one with the class counts; None where all count alike.
    """

    logits_MC: torch.Tensor
    has_MC: torch.Tensor
    fold_M: torch.Tensor
    weights_M1: torch.Tensor
    counts_GC: torch.Tensor
    factors_C2: torch.Tensor | None

    def without(self, fold: int) -> "HeldOutSets":
        """What all other folds say."""
        counts_GC = self.counts_GC.clone()
        counts_GC[fold] = 0.0
        return replace(self, counts_GC=counts_GC)

    def narrowed(self, kept_A: torch.Tensor) -> "HeldOutSets":
        """What they say of some of the classes."""
        logits_MA = self.logits_MC.new_empty(len(self.logits_MC), len(kept_A))
        has_MA = self.has_MC.new_empty(logits_MA.shape)
        for rows in blocks(*self.logits_MC.shape):
            logits_MA[rows], has_MA[rows] = self.logits_MC[rows][:, kept_A], self.has_MC[rows][:, kept_A]
        factors_A2 = None if self.factors_C2 is None else self.factors_C2[kept_A]
        return replace(
            self, logits_MC=logits_MA, has_MC=has_MA, counts_GC=self.counts_GC[:, kept_A], factors_C2=factors_A2
        )

    def has(self, rows: slice) -> torch.Tensor:
        """1 where a sample of a block has a class, else 0; float64."""
        return self.has_MC[rows].double()

    def weights(self, rows: slice, has_BC: torch.Tensor) -> torch.Tensor:
        """Weights of a block in the loss of each class [B, C], or [B, 1] where all classes have the same."""
        weights_BC = self._counts[self.fold_M[rows]] * self.weights_M1[rows]
        if self.factors_C2 is not None:
            without_C, with_C = self.factors_C2.T
            weights_BC = weights_BC * torch.addcmul(without_C, has_BC, with_C - without_C)
        return weights_BC

    @cached_property
    def _counts(self) -> torch.Tensor:
        """As counts_GC, but [G, 1] where all classes have the same."""
        first_G1 = self.counts_GC[:, :1]
        return first_G1 if bool((self.counts_GC == first_G1).all()) else self.counts_GC

    @cached_property
    def totals_C(self) -> torch.Tensor:
        """Total weight of each class, 1 where it is nothing."""
        totals_C = torch.zeros(self.logits_MC.shape[1], dtype=torch.float64)
        for rows in blocks(*self.logits_MC.shape):
            totals_C += self.weights(rows, self.has(rows)).sum(dim=0)
        return torch.where(totals_C > 0, totals_C, 1.0)

    @cached_property
    def samples_C(self) -> torch.Tensor:
        """Samples that take part, of each class."""
        sizes_G = torch.bincount(self.fold_M, minlength=len(self.counts_GC)).double()
        return sizes_G @ self.counts_GC

    def losses(self, platt: Platt) -> torch.Tensor:
        """Log loss of each class [C] in nats, 0 where nothing takes part."""
        losses_C = torch.zeros(self.logits_MC.shape[1], dtype=torch.float64)
        for rows in blocks(*self.logits_MC.shape):
            has_BC, logits_BC = self.has(rows), platt.logits(self.logits_MC[rows])
            losses_BC = torch.nn.functional.softplus(logits_BC).addcmul_(has_BC, logits_BC, value=-1.0)
            losses_C += (losses_BC * self.weights(rows, has_BC)).sum(dim=0)
        return losses_C / self.totals_C

    def probability_losses(self) -> torch.Tensor:
        """Mean log loss of each class [C], all samples alike, where the logits have been overwritten with
        probabilities; a probability counts as at least 1e-12."""
        losses_C = torch.zeros(self.logits_MC.shape[1], dtype=torch.float64)
        for rows in blocks(*self.logits_MC.shape):
            probs_BC = self.logits_MC[rows].double()
            chosen_BC = torch.where(self.has_MC[rows], probs_BC, 1.0 - probs_BC).clamp_(min=1e-12)
            losses_C -= (chosen_BC.log_() * self.counts_GC[self.fold_M[rows]]).sum(dim=0)
        return losses_C / self.samples_C.clamp(min=1.0)


def fit_platt(held_out: HeldOutSets, start: Platt) -> Platt:
    """Slope and offset that minimise the log loss of each class (Platt 1999, Probabilistic outputs for support vector
    machines).

    Normal priors around slope 1 and offset 0, worth one sample, keep both finite where the held-out samples are all
    right, and are forgotten as they grow. The slope stays within 0.05 .. 20, where the offset is the best beside it. A
    class of which nothing is held out keeps slope 1 and offset 0.

    Raises:
        Interrupted: if the computation is to stop.
    """
    start_C2 = torch.stack([start.slope_C, start.offset_C], dim=1)
    found_C2 = _minimum(held_out, start_C2, torch.ones(2, dtype=torch.float64))
    within_C2 = found_C2.clone()
    within_C2[:, 0].clamp_(_LEAST_SLOPE, _LARGEST_SLOPE)
    outside_A = torch.nonzero(within_C2[:, 0] != found_C2[:, 0]).flatten()
    if len(outside_A):
        of_offset_2 = torch.tensor([0.0, 1.0], dtype=torch.float64)
        within_C2[outside_A] = _minimum(held_out.narrowed(outside_A), within_C2[outside_A], of_offset_2)
    return Platt(within_C2[:, 0], within_C2[:, 1])


def _minimum(held_out: HeldOutSets, start_C2: torch.Tensor, free_2: torch.Tensor) -> torch.Tensor:
    """Slopes and offsets [C, 2] of the least loss, only those moved that are free (1, else 0)."""
    prior_C1 = 1.0 / held_out.samples_C.clamp(min=1.0)[:, None]
    roots_C2 = (_curvature(held_out, start_C2) + prior_C1).sqrt_()
    problems = _Losses(held_out, prior_C1, roots_C2, free_2)
    points_C2 = minimise_many(problems, start_C2 * roots_C2, tolerance=_TOLERANCE, passes=_PASSES, check=checkpoint)
    return points_C2 / roots_C2


def _curvature(held_out: HeldOutSets, places_C2: torch.Tensor) -> torch.Tensor:
    """Second derivatives of the loss of each class by its slope and by its offset [C, 2]."""
    platt, sums_C2 = Platt(*places_C2.T), torch.zeros_like(places_C2)
    for rows in blocks(*held_out.logits_MC.shape):
        logits_BC = held_out.logits_MC[rows].double()
        probs_BC = torch.sigmoid(platt.logits(logits_BC))
        curved_BC = probs_BC.sub_(probs_BC.square()).mul_(held_out.weights(rows, held_out.has(rows)))
        sums_C2[:, 1] += curved_BC.sum(dim=0)
        sums_C2[:, 0] += curved_BC.mul_(logits_BC).mul_(logits_BC).sum(dim=0)
    return sums_C2 / held_out.totals_C[:, None]


@dataclass(frozen=True)
class _Losses:
    """The losses of C classes by their points [C, 2]: slopes and offsets times the roots of the curvature."""

    held_out: HeldOutSets
    prior_C1: torch.Tensor
    roots_C2: torch.Tensor
    free_2: torch.Tensor

    def __call__(self, points_C2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        held_out, places_C2 = self.held_out, points_C2 / self.roots_C2
        values_C, gradients_C2 = torch.zeros_like(places_C2[:, 0]), torch.zeros_like(places_C2)
        platt = Platt(*places_C2.T)
        for rows in blocks(*held_out.logits_MC.shape):
            has_BC, logits_BC = held_out.has(rows), held_out.logits_MC[rows].double()
            weights_BC, calibrated_BC = held_out.weights(rows, has_BC), platt.logits(logits_BC)
            losses_BC = torch.nn.functional.softplus(calibrated_BC).addcmul_(has_BC, calibrated_BC, value=-1.0)
            values_C += losses_BC.mul_(weights_BC).sum(dim=0)
            error_BC = calibrated_BC.sigmoid_().sub_(has_BC).mul_(weights_BC)
            gradients_C2[:, 1] += error_BC.sum(dim=0)
            gradients_C2[:, 0] += error_BC.mul_(logits_BC).sum(dim=0)
        away_C2 = places_C2 - places_C2.new_tensor([1.0, 0.0])
        values_C = values_C / held_out.totals_C + 0.5 * (self.prior_C1 * away_C2.square()).sum(dim=1)
        gradients_C2 = gradients_C2 / held_out.totals_C[:, None] + self.prior_C1 * away_C2
        return values_C, gradients_C2 * self.free_2 / self.roots_C2

    def narrowed(self, kept_A: torch.Tensor) -> "_Losses":
        return _Losses(self.held_out.narrowed(kept_A), self.prior_C1[kept_A], self.roots_C2[kept_A], self.free_2)


def cross_fitted(held_out: HeldOutSets, start: Platt) -> torch.Tensor:
    """Held-out probabilities [M, C], those of each fold as the other folds calibrate them. The logits are overwritten
    with them."""
    logits_MC = held_out.logits_MC
    folds = [fit_platt(held_out.without(fold), start) for fold in range(len(held_out.counts_GC))]
    slopes_GC = torch.stack([platt.slope_C for platt in folds])
    offsets_GC = torch.stack([platt.offset_C for platt in folds])
    for rows in blocks(*logits_MC.shape):
        fold_B = held_out.fold_M[rows]
        calibrated_BC = torch.addcmul(offsets_GC[fold_B], logits_MC[rows].double(), slopes_GC[fold_B])
        logits_MC[rows] = torch.sigmoid(calibrated_BC).float()
    return logits_MC


@dataclass(frozen=True)
class Said:
    """What thresholds say: right and wrong yeses and noes of each fold and class, at each threshold of the grid.

    Attributes:
        with_GCT: samples with the class whose probability is at least the threshold t / 100, t = 0..100.
        without_GCT: samples without it.
    """

    with_GCT: torch.Tensor
    without_GCT: torch.Tensor


def said(held_out: HeldOutSets) -> Said:
    """Counts of held-out samples by threshold, where the logits have been overwritten with probabilities."""
    folds, classes = held_out.counts_GC.shape
    counts_2GCT = torch.zeros(2, folds, classes, GRID + 1, dtype=torch.int64)
    place_C = (GRID + 1) * torch.arange(classes)
    for rows in blocks(*held_out.logits_MC.shape):
        bin_BC = _bins(held_out, rows)
        bin_BC += place_C + held_out.fold_M[rows, None] * (classes * (GRID + 1))
        bin_BC += held_out.has_MC[rows] * (folds * classes * (GRID + 1))
        counts_2GCT.view(-1).scatter_add_(0, bin_BC.flatten(), torch.ones_like(bin_BC).flatten())
    for fold in range(folds):
        checkpoint()
        counts_2CT = counts_2GCT[:, fold] * held_out.counts_GC[fold].to(torch.int64)[:, None]
        counts_2GCT[:, fold] = counts_2CT.flip(2).cumsum(dim=2).flip(2)
    without_GCT, with_GCT = counts_2GCT
    return Said(with_GCT, without_GCT)


def decided(held_out: HeldOutSets, places_GC: torch.Tensor) -> torch.Tensor:
    """Which classes are said to be there [M, C], in each fold at its thresholds; as `said` counts them."""
    decided_MC = torch.empty(held_out.logits_MC.shape, dtype=torch.bool)
    for rows in blocks(*held_out.logits_MC.shape):
        decided_MC[rows] = _bins(held_out, rows) >= places_GC[held_out.fold_M[rows]]
    return decided_MC


def _bins(held_out: HeldOutSets, rows: slice) -> torch.Tensor:
    """Between which thresholds of the grid each probability of some rows lies."""
    return (held_out.logits_MC[rows].double() * GRID + 1e-6).to(torch.int64).clamp_(0, GRID)


def best_threshold(with_CT: torch.Tensor, without_CT: torch.Tensor) -> torch.Tensor:
    """Places [C] on the grid of the threshold of the largest F1 of each class, the nearest to 0.5 of equals; 0.5 where
    no sample has the class.

    A grid is enough, and ends before 1: with calibrated probabilities the best threshold is half the best F1 (Lipton et
    al. 2014, Optimal thresholding of classifiers to maximize F1 measure). And it does not move with rounding.
    """
    checkpoint()
    scores_CT = f1(with_CT[:, 1:GRID], without_CT[:, 1:GRID], with_CT[:, :1])
    distance_T = (torch.arange(1, GRID) - GRID // 2).abs()
    best_C1 = scores_CT.amax(dim=1, keepdim=True)
    return torch.where(scores_CT >= best_C1, distance_T, GRID).argmin(dim=1) + 1


def f1(with_CT: torch.Tensor, without_CT: torch.Tensor, all_CT: torch.Tensor) -> torch.Tensor:
    """F1 from right yeses, wrong yeses and all samples with the class; 0 where nobody has it."""
    # 2 TP / (2 TP + FP + FN)
    return 2.0 * with_CT / (all_CT + with_CT + without_CT).clamp(min=1)
