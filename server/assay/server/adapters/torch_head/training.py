"""How a head is found, whatever it learns: strength by cross-validation, then the fits that serve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from assay.server.adapters.torch_head.basis import Basis
from assay.server.adapters.torch_head.blocks import blocks
from assay.server.adapters.torch_head.folds import NEVER, IntArray

# Tried from strong to weak. All strengths here are in units of the embeddings' total variance.
STRENGTHS = tuple(10.0**-exponent for exponent in (1.0, 1.75, 2.5, 3.25, 4.0, 4.75, 5.5, 6.25))
# The least that a strength may weigh, over all labels: this share of a sample's loss. What is weaker no longer decides
# where the optimum is, or how far away; the calibration sees to the size of the logits as well.
_LEAST_WEIGHT = 1e-3
DEFAULT_STRENGTH = 1e-3  # where nothing can be held out
_PATIENCE = 2  # weaker strengths tried in vain before the rest is skipped
# What a weaker strength must gain to be worth it: this share of the loss, and this much likelihood of all held-out
# samples together, in nats. Less than that is chance, and near ties must not hang on rounding.
GAIN, EVIDENCE = 1e-4, 0.1
# Largest entry of the gradient where a fit is done. Strengths are compared by rough fits, in float32. Those that decide
# what is served are done where probabilities are within 1e-5 or so of those of the optimum, whatever the path to it:
# the order of sums differs between processors and thread counts, the optimum does not. A weak penalty holds the optimum
# loosely: the gradient of what serves is that share of it at most, and not below what is rounding.
_ROUGH, _HELD_OUT, _SERVING = 3e-5, 2e-7, 1e-8
_SHARE_OF_PENALTY, _ROUNDING = 1e-2, 1e-12
_AHEAD = 0.7  # of the way from one strength's optimum to the next, that the one after it is expected to lie ahead


@dataclass(frozen=True)
class Fit:
    """What a fit is asked for.

    Attributes:
        l2: strength of the penalty on the weights of the basis: that of raw embeddings, divided by their spread.
        tolerance: largest entry of the gradient, in scaled coordinates, at which it is done.
    """

    l2: float
    tolerance: float


def enough(strengths: Sequence[float], labels: int) -> tuple[float, ...]:
    """Those of the strengths that can matter: the more labels, the weaker ones too."""
    return tuple(l2 for l2 in strengths if l2 * labels >= _LEAST_WEIGHT)


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


class HeldOut(Protocol):
    """What fits say of the samples that they did not see."""

    def loss(self) -> float:
        """Mean loss of the head as it would serve."""

    def to_beat(self, loss: float) -> float:
        """A weaker strength is worth it if its loss is below this."""


Held = TypeVar("Held", bound=HeldOut)


class Fits(Protocol):
    """G fits of one problem on samples that count as often as said."""

    def solve(self, starts_GCR: torch.Tensor, asked: Fit, progress: Progress) -> torch.Tensor:
        """Their optima [G, C, R], float64. Raises Interrupted."""


class Problem(Protocol[Held]):
    """Labels on a basis, and a loss."""

    @property
    def basis(self) -> Basis: ...
    @property
    def zeros(self) -> torch.Tensor:
        """Weights [C, R] to start from where nothing better is known."""

    @property
    def strengths(self) -> tuple[float, ...]:
        """The strengths to choose from, from strong to weak."""

    def fits(self, times_GN: npt.NDArray[np.float64], *, rough: bool = False) -> Fits:
        """Fits in which each sample counts as often as said; rough ones may compute in float32."""

    def held_out(self, fits_GCR: torch.Tensor, fold_N: IntArray, before: Held | None) -> Held:
        """What fit g says of fold g, for all folds. It is calibrated like what was held out before, or nearly."""

    def drawn(self, member: int, seed: int) -> npt.NDArray[np.float64]:
        """How often each sample counts [N] for a member of a committee."""


@dataclass(frozen=True)
class Asked:
    """The arguments of `train` that say how."""

    l2: float | None
    balanced: bool
    members: int
    folds: int
    seed: int
    progress: Callable[[int, int], None]


@dataclass(frozen=True)
class Found(Generic[Held]):
    """A head on its basis.

    Attributes:
        strength: of the penalty, for weights of the basis.
        held_out: what fits that did not see them say of samples; None where nothing could be held out.
        fits_KCR: weights of the members; the first is the fit on all labels.
    """

    strength: float
    held_out: Held | None
    fits_KCR: torch.Tensor


def find(problem: Problem[Held], fold_N: IntArray, asked: Asked) -> Found[Held]:
    """Chooses what is left open, and fits what will serve. Raises Interrupted."""
    spread = problem.basis.spread
    strengths = problem.strengths if asked.l2 is None else (asked.l2 / spread,)
    folds = int(fold_N.max()) + 1
    # Folds at every strength, once more at the chosen one, and what serves.
    progress = Progress(folds * (len(strengths) + 1) + asked.members, asked.progress)
    strength, start_CR, held_out = DEFAULT_STRENGTH if asked.l2 is None else strengths[0], problem.zeros, None
    if folds:
        strength, fits_GCR, before = _cross_validate(problem, strengths, fold_N, progress)
        held_out, start_CR = problem.held_out(fits_GCR, fold_N, before), fits_GCR.mean(dim=0)
    return Found(strength, held_out, _serving_fits(problem, strength, start_CR, asked, progress))


def by_fold(fold_N: IntArray) -> IntArray:
    """The order of samples [N] in which every fold is a stretch of neighbours, those in none first."""
    return np.argsort(fold_N, kind="stable")


def held_places(fold_N: IntArray, order_N: IntArray) -> tuple[IntArray, IntArray]:
    """Places of the held-out samples before they were put in order, ascending, and where each is among those that are
    held out after it; fold_N is in order."""
    places_M = order_N[held_samples(fold_N)]
    back_M = np.argsort(places_M)
    return places_M[back_M], back_M


def kept(fold_N: IntArray) -> npt.NDArray[np.float64]:
    """1 where the fit of a fold trains on a sample, 0 where it holds it out [G, N]."""
    times_GN: npt.NDArray[np.float64] = (fold_N != np.arange(int(fold_N.max()) + 1)[:, None]).astype(np.float64)
    return times_GN


def held_samples(fold_N: IntArray) -> IntArray:
    """Places of the samples that some fold holds out, ascending."""
    return np.flatnonzero(fold_N != NEVER)


def held_out_outputs(basis: Basis, fits_GCR: torch.Tensor, fold_N: IntArray) -> torch.Tensor:
    """What fit g gives for the samples of fold g: outputs [M, C] (float32) of the samples that are held out."""
    held_M = held_samples(fold_N)
    fold_M = fold_N[held_M]
    outputs_MC = torch.empty(len(held_M), fits_GCR.shape[1])
    for fold, weights_CR in enumerate(fits_GCR):
        inside = torch.from_numpy(np.flatnonzero(fold_M == fold))
        rows = torch.from_numpy(held_M)[inside]
        for block in blocks(len(rows), max(weights_CR.shape), weights_CR.numel()):
            outputs_MC[inside[block]] = (basis.features_NR[rows[block]] @ weights_CR.T).float()
    return outputs_MC


def _cross_validate(
    problem: Problem[Held], strengths: Sequence[float], fold_N: IntArray, progress: Progress
) -> tuple[float, torch.Tensor, Held | None]:
    """The strength with the least held-out loss, the stronger of near ties; the folds' fits at it, and what rough ones
    held out."""
    times_GN = kept(fold_N)
    strength, starts_GCR, before = _choose(problem, strengths, fold_N, times_GN, progress)
    return strength, problem.fits(times_GN).solve(starts_GCR, Fit(strength, _HELD_OUT), progress), before


def _choose(
    problem: Problem[Held],
    strengths: Sequence[float],
    fold_N: IntArray,
    times_GN: npt.NDArray[np.float64],
    progress: Progress,
) -> tuple[float, torch.Tensor, Held | None]:
    """The best strength, rough fits of the folds at it, and what they hold out.

    Every strength starts ahead of where the one before it ended, in the direction in which that one went.
    """
    folds = len(times_GN)
    here_GCR = problem.zeros.expand(folds, *problem.zeros.shape)
    if len(strengths) == 1:
        progress.advance(folds)
        return strengths[0], here_GCR, None
    rough = problem.fits(times_GN, rough=True)
    held_out: Held | None = None
    best, to_beat, vain, tried = (strengths[0], here_GCR, held_out), float("inf"), 0, 0
    starts_GCR = here_GCR
    while tried < len(strengths) and vain < _PATIENCE and to_beat > 0.0:
        before_GCR, here_GCR = here_GCR, rough.solve(starts_GCR, Fit(strengths[tried], _ROUGH), progress)
        held_out = problem.held_out(here_GCR, fold_N, held_out)
        loss = held_out.loss()
        if loss < to_beat:
            best, vain, to_beat = (strengths[tried], here_GCR, held_out), 0, held_out.to_beat(loss)
        else:
            vain += 1
        starts_GCR = torch.lerp(before_GCR, here_GCR, 1.0 + _AHEAD) if tried else here_GCR
        tried += 1
    progress.advance((len(strengths) - tried) * folds)
    return best


def _serving_fits(
    problem: Problem[Held], strength: float, start_CR: torch.Tensor, asked: Asked, progress: Progress
) -> torch.Tensor:
    """Weights [K, C, R] of the fit on all labels, then of members - 1 fits on labels drawn again."""
    tolerance = max(_ROUNDING, min(_SERVING, _SHARE_OF_PENALTY * strength))
    count, others = len(problem.basis.features_NR), asked.members - 1
    first_1CR = problem.fits(np.ones((1, count))).solve(start_CR[None], Fit(strength, tolerance), progress)
    if not others:
        return first_1CR
    times_GN = np.stack([problem.drawn(member + 1, asked.seed) for member in range(others)])
    starts_GCR = first_1CR.expand(others, *start_CR.shape)
    return torch.cat([first_1CR, problem.fits(times_GN).solve(starts_GCR, Fit(strength, _HELD_OUT), progress)])
