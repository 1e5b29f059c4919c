"""Sets of classes: the problem of a head with a sigmoid for each class, and how its classes are calibrated."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.basis import Basis, make_basis
from assay.server.adapters.torch_head.blocks import blocks
from assay.server.adapters.torch_head.design import TOGETHER_AT_MOST, Design
from assay.server.adapters.torch_head.folds import NEVER, IntArray, bayesian_bootstrap, even_folds
from assay.server.adapters.torch_head.platt import (
    GRID,
    HeldOutSets,
    Platt,
    Said,
    best_threshold,
    cross_fitted,
    decided,
    fit_platt,
    said,
)
from assay.server.adapters.torch_head.sigmoid import Outcomes, fit
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
    kept,
)
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.metrics import NO_METRICS, ClassScores, HeadMetrics, Score
from assay.server.core.records.models import HeadInfo, HeadWeights, SetTargets, TrainedHead
from assay.server.core.records.tasks import TaskKind


def train_multilabel(
    embeddings_ND: FloatArray, targets: SetTargets, weights_N: npt.NDArray[np.float64], asked: Asked
) -> TrainedHead:
    """A logistic regression for each class; see TorchHeads.train.

    Raises:
        AssayError: TOO_FEW_CLASSES if no class is there in some samples and missing in others.
        Interrupted: if the computation is to stop.
    """
    labels = len(embeddings_ND)
    with_C = targets.members_NC.sum(axis=0, dtype=np.int64)
    learned_S = np.flatnonzero((with_C > 0) & (with_C < labels))
    if len(learned_S) == 0:
        raise _nothing_to_learn(with_C, labels)
    has_NS = torch.from_numpy(targets.members_NC[:, learned_S])
    fold_N = set_folds(has_NS, asked.folds, asked.seed)
    order_N = by_fold(fold_N)
    fold_N = fold_N[order_N]
    problem = Multilabel(
        make_basis(embeddings_ND, order_N), has_NS[order_N], torch.from_numpy(weights_N[order_N]), asked.balanced
    )
    found = find(problem, fold_N, asked)
    held_M, back_M = held_places(fold_N, order_N)
    calibrated = _calibrate(found.held_out, learned_S)
    frequency_C = (with_C + 0.5) / (labels + 1.0)
    predictions_MC = np.tile(frequency_C.astype(np.float32), (len(held_M), 1))
    decided_MC = predictions_MC >= 0.5
    if calibrated.held is not None:
        predictions_MC[:, learned_S] = calibrated.held.probs_MC.numpy()[back_M]
        decided_MC[:, learned_S] = calibrated.held.decided_MC.numpy()[back_M]
    info = HeadInfo(
        kind=TaskKind.MULTILABEL,
        classes=tuple(learned_S.tolist()),
        classes_seen=len(learned_S),
        members=asked.members,
        labels=labels,
        l2=found.strength * problem.basis.spread if asked.l2 is None else asked.l2,
        temperature=1.0,
        metrics=calibrated.metrics,
        balanced=asked.balanced,
        seed=asked.seed,
    )
    weights = _serve(problem.basis, found, calibrated, learned_S, frequency_C)
    return TrainedHead(weights, info, held_M, predictions_MC, decided_MC)


def _nothing_to_learn(with_C: IntArray, samples: int) -> AssayError:
    return AssayError(
        Reason.TOO_FEW_CLASSES,
        f"A head needs a class that some samples have and others have not; {samples} samples are labeled, and each of "
        f"{len(with_C)} classes is in all of them or in none. Label more samples.",
        labels=samples,
        classes_seen=int(np.count_nonzero(with_C)),
    )


def set_folds(has_NC: torch.Tensor, folds: int, seed: int) -> IntArray:
    """Fold of each sample, spread by the rarest of its classes; none where no fold could be asked about any class, for
    what trains it would know one outcome alone."""
    counts_C = class_weights(has_NC, torch.ones(1, len(has_NC), dtype=torch.float64))[0]
    rarest_N = torch.empty(len(has_NC), dtype=torch.int64)
    for rows in blocks(*has_NC.shape):
        fewest_B = torch.where(has_NC[rows], counts_C, torch.inf).min(dim=1)
        rarest_N[rows] = torch.where(torch.isinf(fewest_B.values), -1, fewest_B.indices)
    fold_N = even_folds(rarest_N.numpy(), folds, seed)
    if not bool(known(has_NC, kept(fold_N)).any()):
        fold_N[:] = NEVER
    return fold_N


def class_weights(has_NC: torch.Tensor, weights_GN: torch.Tensor) -> torch.Tensor:
    """Weight of the samples with each class [G, C], in each of G weightings."""
    sums_GC = torch.zeros(len(weights_GN), has_NC.shape[1], dtype=torch.float64)
    for rows in blocks(len(has_NC), has_NC.shape[1], sums_GC.numel()):
        sums_GC += weights_GN[:, rows] @ has_NC[rows].double()
    return sums_GC


def known(has_NC: torch.Tensor, times_GN: npt.NDArray[np.float64]) -> torch.Tensor:
    """Whether a fit sees both outcomes of a class [G, C]."""
    takes_GN = torch.from_numpy((times_GN > 0).astype(np.float64))
    with_GC = class_weights(has_NC, takes_GN)
    return (with_GC > 0) & (with_GC < takes_GN.sum(dim=1, keepdim=True))


@dataclass(frozen=True)
class Multilabel:
    """Sets of classes on a basis.

    Attributes:
        basis: the embeddings.
        has_NC: whether a sample has a class; each class is there in some and missing in others.
        weights_N: how much each sample counts, above 0.
        balanced: whether the samples with a class and those without it weigh alike.
    """

    basis: Basis
    has_NC: torch.Tensor
    weights_N: torch.Tensor
    balanced: bool

    @property
    def zeros(self) -> torch.Tensor:
        return torch.zeros(self.has_NC.shape[1], len(self.basis.variance_R), dtype=torch.float64)

    @property
    def strengths(self) -> tuple[float, ...]:
        return enough(STRENGTHS, len(self.has_NC))

    @cached_property
    def has_CN(self) -> torch.Tensor:
        """As the fits read it."""
        return self.has_NC.T.contiguous()

    def factors(self, weights_N: torch.Tensor) -> torch.Tensor | None:
        """How much a sample without and one with each class counts [C, 2]; None where all count alike."""
        if not self.balanced:
            return None
        total, with_C = float(weights_N.sum()), class_weights(self.has_NC, weights_N[None])[0]
        # A class with one outcome alone is learned by no fit.
        return 0.5 * total / torch.stack([total - with_C, with_C], dim=1).clamp_(min=1e-9 * total)

    def fits(self, times_GN: npt.NDArray[np.float64], *, rough: bool = False) -> "_Fits":
        return _Fits(self, times_GN, torch.float32 if rough else torch.float64)

    def held_out(self, fits_GCR: torch.Tensor, fold_N: IntArray, before: "Held | None") -> "Held":
        held_M = held_samples(fold_N)
        sets = HeldOutSets(
            held_out_outputs(self.basis, fits_GCR, fold_N),
            self.has_NC[held_M],
            torch.from_numpy(fold_N[held_M]),
            self.weights_N[held_M, None],
            known(self.has_NC, kept(fold_N)).double(),
            self.factors(self.weights_N),
        )
        return Held(sets, before.platt if before else Platt.none(self.has_NC.shape[1]))

    def drawn(self, member: int, seed: int) -> npt.NDArray[np.float64]:
        return bayesian_bootstrap(len(self.has_NC), member, seed)


class _Fits:
    """One by one, and of each the classes in groups that the optimiser has room for."""

    def __init__(self, problem: Multilabel, times_GN: npt.NDArray[np.float64], dtype: torch.dtype) -> None:
        self._problem, self._times_GN = problem, times_GN
        self._features_NR = problem.basis.features_NR.to(dtype)
        self._known_GC = known(problem.has_NC, times_GN)

    def solve(self, starts_GCR: torch.Tensor, asked: Fit, progress: Progress) -> torch.Tensor:
        found_GCR = torch.zeros(starts_GCR.shape, dtype=torch.float64)
        for place, start_CR in enumerate(starts_GCR):
            self._solve_one(place, start_CR, found_GCR[place], asked)
            progress.advance()
        return found_GCR

    def _solve_one(self, place: int, start_CR: torch.Tensor, found_CR: torch.Tensor, asked: Fit) -> None:
        problem = self._problem
        weights_N = problem.weights_N * torch.from_numpy(self._times_GN[place])
        design = Design.of(self._features_NR, weights_N[None].numpy())
        outcomes = Outcomes(problem.has_CN, problem.factors(weights_N))
        known_A = torch.nonzero(self._known_GC[place]).flatten()
        for classes_A in torch.split(known_A, max(1, TOGETHER_AT_MOST // start_CR.shape[1])):
            start_AR = start_CR[classes_A].to(self._features_NR.dtype)
            found_CR[classes_A] = fit(problem.basis, design, outcomes.narrowed(classes_A), start_AR, asked).double()


@dataclass(frozen=True)
class Held:
    """What the folds say, how good it is, and a calibration that is about right."""

    sets: HeldOutSets
    near: Platt

    @cached_property
    def platt(self) -> Platt:
        """The best calibration on all held-out samples."""
        return fit_platt(self.sets, self.near)

    def loss(self) -> float:
        """Log loss, summed over the classes, as the head would serve."""
        return float(self.sets.losses(self.platt).sum())

    def to_beat(self, loss: float) -> float:
        return loss - max(GAIN * loss, EVIDENCE / len(self.sets.fold_M))


@dataclass(frozen=True)
class _Predicted:
    """What is said of held-out samples [M, C]: probabilities, and which classes are there, by calibrations and by
    thresholds that did not see them."""

    probs_MC: torch.Tensor
    decided_MC: torch.Tensor


@dataclass(frozen=True)
class _Calibrated:
    """How the classes serve, and what that is worth on held-out samples."""

    platt: Platt
    thresholds_C: npt.NDArray[np.float32]
    metrics: HeadMetrics
    held: _Predicted | None = None


def _calibrate(held: Held | None, learned_S: IntArray) -> _Calibrated:
    """Calibrates; the held-out logits are overwritten with probabilities."""
    if held is None:
        classes = len(learned_S)
        return _Calibrated(Platt.none(classes), np.full(classes, 0.5, np.float32), NO_METRICS)
    platt = held.platt
    cross_fitted(held.sets, platt)
    counts = said(held.sets)
    thresholds_C = best_threshold(counts.with_GCT.sum(dim=0), counts.without_GCT.sum(dim=0))
    places_GC = _places_of_folds(counts)
    metrics = _measure(held.sets, counts, places_GC, learned_S)
    predicted = _Predicted(held.sets.logits_MC, decided(held.sets, places_GC))
    return _Calibrated(platt, (thresholds_C.numpy() / GRID).astype(np.float32), metrics, predicted)


def _measure(sets: HeldOutSets, counts: Said, places_GC: torch.Tensor, learned_S: IntArray) -> HeadMetrics:
    """Quality of each class at thresholds, as at calibrations, that did not see the sample."""
    right_C, wrong_C = (yeses_C.numpy() for yeses_C in _yeses(counts, places_GC))
    all_C = counts.with_GCT[:, :, 0].sum(dim=0).numpy()
    losses_C = sets.probability_losses().numpy()
    taking_C = sets.samples_C.numpy()
    classes = tuple(
        ClassScores(
            int(learned_S[c]),
            int(all_C[c]),
            {
                "f1": _ratio(2 * right_C[c], all_C[c] + right_C[c] + wrong_C[c]) if all_C[c] else None,
                "precision": _ratio(right_C[c], right_C[c] + wrong_C[c]),
                "recall": _ratio(right_C[c], all_C[c]),
                "log_loss": Score(float(losses_C[c])) if taking_C[c] else None,
            },
        )
        for c in range(len(learned_S))
    )
    f1_scores = [score.value for each in classes if (score := each.scores["f1"]) is not None]
    losses = losses_C[taking_C > 0]
    scores = {
        "macro_f1": Score(float(np.mean(f1_scores))) if f1_scores else None,
        "micro_f1": _ratio(2 * right_C.sum(), (all_C + right_C + wrong_C).sum()) if all_C.any() else None,
        "log_loss": Score(float(losses.mean())) if len(losses) else None,
    }
    return HeadMetrics(len(sets.fold_M), scores, classes)


def _ratio(part: float, whole: float) -> Score | None:
    return Score(float(part / whole)) if whole else None


def _places_of_folds(counts: Said) -> torch.Tensor:
    """Places on the grid [G, C] of the thresholds that serve each fold: those that the other folds ask for."""
    with_CT, without_CT = counts.with_GCT.sum(dim=0), counts.without_GCT.sum(dim=0)
    folds = zip(counts.with_GCT, counts.without_GCT, strict=True)
    return torch.stack([best_threshold(with_CT - own_CT, without_CT - foreign_CT) for own_CT, foreign_CT in folds])


def _yeses(counts: Said, places_GC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Right and wrong yeses of each class [C], in each fold at its thresholds."""
    right_C, wrong_C = (
        counts_GCT.gather(2, places_GC[:, :, None])[:, :, 0].sum(dim=0)
        for counts_GCT in (counts.with_GCT, counts.without_GCT)
    )
    return right_C, wrong_C


def _serve(
    basis: Basis, found: Found[Held], calibrated: _Calibrated, learned_S: IntArray, frequency_C: npt.NDArray[np.float64]
) -> HeadWeights:
    """Fits as weights for raw embeddings and all classes, logits calibrated."""
    members, classes = len(found.fits_KCR), len(frequency_C)
    weights_KDC = np.zeros((members, len(basis.centre_D), classes), dtype=np.float32)
    bias_KC = np.tile(np.log(frequency_C / (1.0 - frequency_C)).astype(np.float32), (members, 1))
    platt = calibrated.platt
    for member, weights_SR in enumerate(found.fits_KCR):
        weights_DS, bias_S = basis.unfold(weights_SR.T)
        weights_KDC[member][:, learned_S] = (weights_DS * platt.slope_C).numpy()
        bias_KC[member, learned_S] = (bias_S * platt.slope_C + platt.offset_C).numpy()
    thresholds_C = np.full(classes, 0.5, dtype=np.float32)
    thresholds_C[learned_S] = calibrated.thresholds_C
    return HeadWeights(weights_KDC, bias_KC, TaskKind.MULTILABEL, thresholds_C)
