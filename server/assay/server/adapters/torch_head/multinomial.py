"""One class of each sample: the problem of a multinomial head, and what is held out of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.basis import Basis, make_basis
from assay.server.adapters.torch_head.calibration import (
    Truth,
    cross_fitted,
    fit_temperature,
    guesses,
    log_loss,
    measure,
)
from assay.server.adapters.torch_head.design import TOGETHER_AT_MOST, Design
from assay.server.adapters.torch_head.folds import IntArray, bootstrap, stratified_folds
from assay.server.adapters.torch_head.inference import UNSEEN_LOGIT
from assay.server.adapters.torch_head.softmax import Answers, Hard, Soft, fit
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
from assay.server.core.records.metrics import NO_METRICS
from assay.server.core.records.models import ClassTargets, HeadInfo, HeadWeights, TrainedHead
from assay.server.core.records.tasks import TaskKind


def train_multinomial(
    embeddings_ND: FloatArray, targets: ClassTargets, weights_N: npt.NDArray[np.float64], asked: Asked
) -> TrainedHead:
    """Minimises mean cross-entropy + l2 / 2 |W|^2 (bias free); see TorchHeads.train.

    Raises:
        AssayError: TOO_FEW_CLASSES if fewer than two classes have a label.
        Interrupted: if the computation is to stop.
    """
    seen_S = _seen_classes(targets)
    classes_N = np.searchsorted(seen_S, targets.classes_N)
    fold_N = stratified_folds(classes_N, asked.folds, asked.seed)
    order_N = by_fold(fold_N)
    fold_N, basis = fold_N[order_N], make_basis(embeddings_ND, order_N)
    probs_NS = None if targets.probs_NC is None else torch.from_numpy(targets.probs_NC[order_N][:, seen_S])
    problem = Multinomial(basis, classes_N[order_N], weights_N[order_N], asked.balanced, probs_NS)
    found = find(problem, fold_N, asked)
    held_M, back_M = held_places(fold_N, order_N)
    temperature, metrics = 1.0, NO_METRICS
    predictions_MC = np.zeros((len(held_M), targets.class_count), np.float32)
    if found.held_out is not None:
        temperature = found.held_out.temperature
        probs_MS = found.held_out.probabilities()
        metrics = measure(guesses(probs_MS, found.held_out.truth.classes_M))
        predictions_MC[:, seen_S] = probs_MS.numpy()[back_M]
    info = HeadInfo(
        kind=TaskKind.CLASSIFICATION,
        classes=tuple(seen_S.tolist()),
        classes_seen=len(seen_S),
        members=asked.members,
        labels=len(targets.classes_N),
        l2=found.strength * basis.spread if asked.l2 is None else asked.l2,
        temperature=temperature,
        metrics=metrics,
        balanced=asked.balanced,
        seed=asked.seed,
    )
    weights = _serve(basis, found, temperature, seen_S, targets.class_count)
    return TrainedHead(weights, info, held_M, predictions_MC)


def _seen_classes(targets: ClassTargets) -> IntArray:
    """Classes with a label, ascending."""
    if targets.probs_NC is None:
        seen_S = np.unique(targets.classes_N)
    else:
        seen_S = np.flatnonzero(targets.probs_NC.any(axis=0))
    if len(seen_S) < 2:
        raise AssayError(
            Reason.TOO_FEW_CLASSES,
            f"A head needs labels of at least 2 classes; {len(targets.classes_N)} labels of {len(seen_S)} are there. "
            "Label samples of another class first.",
            labels=len(targets.classes_N),
            classes_seen=len(seen_S),
        )
    return seen_S


def _serve(
    basis: Basis, found: "Found[HeldOutClasses]", temperature: float, seen_S: IntArray, class_count: int
) -> HeadWeights:
    """Fits as weights for raw embeddings and all classes, logits of the seen classes centred and divided by T."""
    members = len(found.fits_KCR)
    weights_KDC = np.zeros((members, len(basis.centre_D), class_count), dtype=np.float32)
    bias_KC = np.full((members, class_count), UNSEEN_LOGIT, dtype=np.float32)
    for member, weights_SR in enumerate(found.fits_KCR):
        weights_DS, bias_S = basis.unfold((weights_SR - weights_SR.mean(dim=0)).T)
        weights_KDC[member][:, seen_S] = (weights_DS / temperature).numpy()
        bias_KC[member, seen_S] = (bias_S / temperature).numpy()
    return HeadWeights(weights_KDC, bias_KC)


@dataclass(frozen=True)
class Multinomial:
    """Labels on a basis; classes are 0..C-1 and each occurs.

    Attributes:
        basis: the embeddings.
        classes_N: the class of each sample; of soft labels, the likeliest.
        weights_N: how much each sample counts, above 0.
        balanced: whether classes count alike.
        probs_NC: float64 distributions of soft labels; None where each sample is of its class.
    """

    basis: Basis
    classes_N: IntArray
    weights_N: npt.NDArray[np.float64]
    balanced: bool
    probs_NC: torch.Tensor | None = None

    @property
    def class_count(self) -> int:
        return int(self.classes_N.max()) + 1 if self.probs_NC is None else self.probs_NC.shape[1]

    @property
    def zeros(self) -> torch.Tensor:
        return torch.zeros(self.class_count, len(self.basis.variance_R), dtype=torch.float64)

    @property
    def strengths(self) -> tuple[float, ...]:
        return enough(STRENGTHS, len(self.classes_N))

    def fits(self, times_GN: npt.NDArray[np.float64], *, rough: bool = False) -> "_Fits":
        return _Fits(self, times_GN, torch.float32 if rough else torch.float64)

    def held_out(self, fits_GCR: torch.Tensor, fold_N: IntArray, before: "HeldOutClasses | None") -> "HeldOutClasses":
        held_M, near = held_samples(fold_N), 1.0 if before is None else before.temperature
        logits_MC = held_out_outputs(self.basis, fits_GCR, fold_N)
        weights_M = torch.from_numpy(self.weights(np.ones(len(fold_N)))[held_M])
        probs_MC = None if self.probs_NC is None else self.probs_NC[torch.from_numpy(held_M)]
        classes_M = torch.from_numpy(self.classes_N[held_M])
        return HeldOutClasses(logits_MC, Truth(classes_M, probs_MC), fold_N[held_M], weights_M / weights_M.sum(), near)

    def drawn(self, member: int, seed: int) -> npt.NDArray[np.float64]:
        return bootstrap(self.classes_N, member, seed)

    def weights(self, times_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Weights of the samples: how much and how often each counts, and if balanced, in inverse proportion to the
        count of its class."""
        weights_N = times_N * self.weights_N
        if not self.balanced:
            return weights_N
        if self.probs_NC is None:
            counts_C = np.bincount(self.classes_N, weights=weights_N, minlength=self.class_count)
        else:
            counts_C = (torch.from_numpy(weights_N) @ self.probs_NC).numpy()
        factors_C = weights_N.sum() / (np.count_nonzero(counts_C) * np.where(counts_C > 0, counts_C, np.inf))
        if self.probs_NC is None:
            factors_N: npt.NDArray[np.float64] = factors_C[self.classes_N]
        else:
            factors_N = (self.probs_NC @ torch.from_numpy(factors_C)).numpy()
        return weights_N * factors_N


class _Fits:
    """Small ones are found together, with one product for all of them; large ones one by one."""

    def __init__(self, problem: Multinomial, times_GN: npt.NDArray[np.float64], dtype: torch.dtype) -> None:
        self._basis, self._dtype = problem.basis, dtype
        weights_GN = np.stack([problem.weights(times_N) for times_N in times_GN])
        self._design = Design.of(problem.basis.features_NR.to(dtype), weights_GN)
        self._answers: Answers = Hard(torch.from_numpy(problem.classes_N))
        if problem.probs_NC is not None:
            self._answers = Soft(problem.probs_NC.T.contiguous().to(dtype))

    def solve(self, starts_GCR: torch.Tensor, asked: Fit, progress: Progress) -> torch.Tensor:
        found_GCR = torch.empty(starts_GCR.shape, dtype=torch.float64)
        together = max(1, TOGETHER_AT_MOST // starts_GCR[0].numel())
        for fits_A in torch.split(torch.arange(len(starts_GCR)), together):
            design, starts_ACR = self._design.narrowed(fits_A), starts_GCR[fits_A].to(self._dtype)
            found_GCR[fits_A] = fit(self._basis, design, self._answers, starts_ACR, asked).double()
            progress.advance(len(fits_A))
        return found_GCR


@dataclass(frozen=True)
class HeldOutClasses:
    """Out-of-fold logits [M, C] (float32) of the M samples that some fold held out, with their classes, folds and
    shares of the loss (which sum to 1, and favour rare classes if the head is balanced); and a temperature that is
    about right."""

    logits_MC: torch.Tensor
    truth: Truth
    fold_M: IntArray
    shares_M: torch.Tensor
    near: float

    def loss(self) -> float:
        """Log loss at the best temperature: that of the head as it would serve."""
        return log_loss(self.logits_MC, self.truth, self.shares_M, self.temperature)

    def to_beat(self, loss: float) -> float:
        return loss - max(GAIN * loss, EVIDENCE / len(self.fold_M))

    @cached_property
    def temperature(self) -> float:
        """The best temperature for all held-out samples."""
        return fit_temperature(self.logits_MC, self.truth, self.shares_M, self.near)

    def probabilities(self) -> torch.Tensor:
        """Class probabilities [M, C] at temperatures that did not see the sample, and that are not far from the one of
        all. The logits are overwritten with them."""
        return cross_fitted(self.logits_MC, self.truth, self.shares_M, self.fold_M, self.temperature)
