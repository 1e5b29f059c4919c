"""The port `Heads`: from labels to a served head."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head import inference, storage
from assay.server.adapters.torch_head.basis import Basis, make_basis
from assay.server.adapters.torch_head.calibration import NO_METRICS
from assay.server.adapters.torch_head.folds import NEVER, stratified_folds
from assay.server.adapters.torch_head.tensors import one_thread
from assay.server.adapters.torch_head.training import (
    DEFAULT_STRENGTH,
    Problem,
    Progress,
    cross_validate,
    fits_in_all,
    serving_fits,
    strengths_for,
)
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.models import HeadInfo, HeadWeights
from assay.strategies import Interrupted, interruptible

# Logits of the classes with labels have mean 0, so their largest is at least 0: this is a probability below e^-30.
UNSEEN_LOGIT = -30.0

_SMALL = 1_000_000_000  # labels x dimension x classes: up to about 0.1 s a step on one core


class TorchHeads:
    """Multinomial logistic heads. Stateless, safe to call from several threads."""

    def train(
        self,
        embeddings_ND: FloatArray,
        classes_N: npt.NDArray[np.int32],
        class_count: int,
        *,
        l2: float | None,
        balanced: bool,
        members: int,
        folds: int,
        seed: int,
        progress: Callable[[int, int], None],
        stop: Callable[[], bool],
    ) -> tuple[HeadWeights, HeadInfo]:
        """Minimises mean cross-entropy + l2 / 2 |W|^2 (bias free) by L-BFGS; deterministic under the seed.

        With balanced, a sample's loss is weighted in inverse proportion to the count of its class. Without l2, the
        strength with the least held-out loss (at its best temperature) of a log grid in units of the total variance of
        the embeddings is taken. The temperature is fitted on out-of-fold logits and divided into the weights; the
        metrics are of out-of-fold probabilities, those of each fold at the temperature that the other folds ask for.
        Where no class has two labels nothing can be held out: temperature 1, l2 0.001 of the total variance, and
        metrics of 0 samples, all 0. Of several members the first is the fit on all labels, the others are fits on
        labels drawn again within each class, at the same l2 and temperature.

        Args:
            embeddings_ND: float32 embeddings of the labeled samples, finite.
            classes_N: their classes, 0..class_count-1.
            class_count: classes of the pool; those without a label get a probability below e^-30.
            l2: strength, or None to choose.
            balanced: whether classes count alike.
            members: heads of the committee; 0 or 1 for none.
            folds: parts of the cross-validation; fewer where there are fewer samples to hold out.
            seed: of folds and bootstraps.
            progress: told (fits done, fits in all).
            stop: asked before every block of work whether to give up.

        Raises:
            AssayError: TOO_FEW_CLASSES if fewer than two classes have a label; NOT_FINITE if the embeddings are so
                large that their squares overflow; CANCELLED.
        """
        seen_S, dense_N = _seen_classes(classes_N)
        asked = _Asked(l2, balanced, max(1, members), folds, seed & ((1 << 64) - 1))
        small = embeddings_ND.size * len(seen_S) <= _SMALL
        with _stopped_by(stop), one_thread() if small else nullcontext():
            problem = Problem(make_basis(embeddings_ND), dense_N, balanced)
            fits, info = _fit(problem, asked, progress)
            return _serve(problem.basis, fits, info.temperature, seen_S, class_count), info

    def encode(self, weights: HeadWeights) -> bytes:
        """Weights as a file: a fixed header with a checksum, then the arrays."""
        return storage.encode(weights)

    def decode(self, stream: BinaryIO) -> HeadWeights:
        """Weights from a file. Raises AssayError(SEGMENT_DAMAGED)."""
        return storage.decode(stream)

    def logits(self, weights: HeadWeights, embeddings_ND: FloatArray, out_NC: FloatArray) -> None:
        """Writes the first member's logits of a block into out: one matrix product, no copies."""
        inference.logits(weights, embeddings_ND, out_NC)

    def member_probs(self, weights: HeadWeights, embeddings_ND: FloatArray) -> FloatArray:
        """Class probabilities [K, N, C] of every member for a block."""
        return inference.member_probs(weights, embeddings_ND)


@dataclass(frozen=True)
class _Asked:
    """The arguments of `train` that say how."""

    l2: float | None
    balanced: bool
    members: int
    folds: int
    seed: int


@contextmanager
def _stopped_by(stop: Callable[[], bool]) -> Iterator[None]:
    """Ends the block with AssayError(CANCELLED) once stop() is true."""
    try:
        with interruptible(stop):
            yield
    except Interrupted:
        if not stop():
            raise
        raise AssayError(Reason.CANCELLED, "The training was cancelled. Nothing was changed.") from None


def _fit(problem: Problem, asked: _Asked, progress: Callable[[int, int], None]) -> tuple[list[torch.Tensor], HeadInfo]:
    """Chooses what is left open, and fits what will serve."""
    fold_N = stratified_folds(problem.classes_N, asked.folds, asked.seed)
    spread = problem.basis.spread
    strengths = strengths_for(len(problem.classes_N)) if asked.l2 is None else (asked.l2 / spread,)
    steps = Progress(fits_in_all(len(strengths), int(fold_N.max()) + 1, asked.members), progress)
    strength, start_RC = DEFAULT_STRENGTH if asked.l2 is None else strengths[0], problem.zeros
    temperature, metrics = 1.0, NO_METRICS
    if fold_N.max() > NEVER:
        validated = cross_validate(problem, strengths, fold_N, steps)
        strength, start_RC = validated.l2, validated.start_RC
        temperature = validated.held_out.temperature()
        metrics = validated.held_out.metrics(temperature)
    fits = serving_fits(problem, strength, start_RC, asked.members, asked.seed, steps)
    info = HeadInfo(
        classes_seen=problem.class_count,
        members=asked.members,
        labels=len(problem.classes_N),
        l2=strength * spread if asked.l2 is None else asked.l2,
        temperature=temperature,
        metrics=metrics,
        balanced=asked.balanced,
        seed=asked.seed,
    )
    return fits, info


def _seen_classes(classes_N: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Classes with a label, ascending, and the place of each label's class among them."""
    seen_S, dense_N = np.unique(classes_N.astype(np.int64), return_inverse=True)
    if len(seen_S) < 2:
        raise AssayError(
            Reason.TOO_FEW_CLASSES,
            f"A head needs labels of at least 2 classes; {len(classes_N)} labels of {len(seen_S)} are there. "
            "Label samples of another class first.",
            labels=len(classes_N),
            classes_seen=len(seen_S),
        )
    return seen_S, dense_N.astype(np.int64)


def _serve(
    basis: Basis, fits: list[torch.Tensor], temperature: float, seen_S: npt.NDArray[np.int64], class_count: int
) -> HeadWeights:
    """Fits as weights for raw embeddings and all classes, logits of the seen classes centred and divided by T."""
    weights_KDC = np.zeros((len(fits), len(basis.centre_D), class_count), dtype=np.float32)
    bias_KC = np.full((len(fits), class_count), UNSEEN_LOGIT, dtype=np.float32)
    for member, weights_RS in enumerate(fits):
        weights_DS, bias_S = basis.unfold(weights_RS - weights_RS.mean(dim=1, keepdim=True))
        weights_KDC[member][:, seen_S] = (weights_DS / temperature).numpy()
        bias_KC[member, seen_S] = (bias_S / temperature).numpy()
    return HeadWeights(weights_KDC, bias_KC)
