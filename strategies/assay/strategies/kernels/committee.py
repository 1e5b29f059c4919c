"""How much the members of a committee (an ensemble, or passes with dropout) disagree, in one pass over their
probabilities: blocks of samples, and within each the members one after the other, so that besides the
probabilities there is only O(block x C) memory, never a second K x N x C.

`from_members` takes them all at once; `from_stream` takes one member after the other and keeps O(N C).
Natural logarithms; 0 ln 0 = 0; a member votes for its likeliest class, the lowest of equal ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.errors import StrategyError
from assay.strategies.kernels.fused import require_probabilities, times_log
from assay.strategies.kernels.tensors import borrow, spread

MEASURES = ("variation_ratio", "vote_entropy", "mean_std", "bald", "expected_entropy")

# float32 values in a block, 2 MB: smaller ones fit the cache better, but then waiting for the interpreter costs more.
_BLOCK_VALUES = 1 << 19

Scores = dict[str, NDArray[np.float32]]


def from_members(members_KNC: NDArray[np.float32], measures: Collection[str]) -> Scores:
    """The wanted measures of a committee, each float32 of shape (N,), all from one pass.

    measures: any of MEASURES.
    variation_ratio: 1 - the share of the most frequent vote. vote_entropy: the entropy of the votes' shares.
    mean_std: the standard deviation over members (divided by K), averaged over classes. expected_entropy: the mean
    of the members' entropies. bald: the entropy of the mean less the mean of the entropies, at least 0.
    Raises StrategyError PROBABILITIES_INVALID as `fused.from_probs`, INVALID_ARRAY without members or classes.
    """
    members, size, classes = members_KNC.shape
    _require_members(members, classes)
    scores = _empty_scores(size, measures)

    def block(start: int, stop: int) -> None:
        tally = _Tally((stop - start, classes), measures)
        for member_NC in members_KNC[:, start:stop]:
            tally.add(borrow(member_NC))
        tally.write(scores, slice(start, stop))

    if size:
        spread(block, size, _rows(classes))
    return scores


def from_stream(members: Iterable[NDArray[np.float32]], measures: Collection[str]) -> Scores:
    """As `from_members`, from float32 `probs_NC` that come one after the other: each is read once and let go.

    Memory: 4 N C bytes for each of the sums of probabilities (bald, expected_entropy), of p ln p (the same two),
    votes (variation_ratio, vote_entropy), means and squared deviations (mean_std) that `measures` need.
    Raises StrategyError INVALID_ARRAY besides, where a member has another shape or type than the first.
    """
    tallies: list[_Tally] = []
    shape: tuple[int, ...] | None = None
    for member_NC in members:
        if shape is None:
            shape = _checked_shape(member_NC, None)
            step = _rows(shape[1])
            tallies = [_Tally((min(step, shape[0] - i), shape[1]), measures) for i in range(0, shape[0], step)]
        _checked_shape(member_NC, shape)
        _add_member(member_NC, tallies, step)
    if shape is None:
        raise StrategyError("INVALID_ARRAY", "there are no members: give at least one")
    scores = _empty_scores(shape[0], measures)
    for place, tally in enumerate(tallies):
        tally.write(scores, slice(place * step, (place + 1) * step))
    return scores


def largest_divergence(members_KNC: NDArray[np.float32]) -> NDArray[np.float32]:
    """max over members of KL(member || mean of all), float32 of shape (N,), at least 0.

    The mean must be known before the first divergence, so each block is read twice.
    Raises StrategyError as `from_members`.
    """
    members, size, classes = members_KNC.shape
    _require_members(members, classes)
    scores_N = np.zeros(size, np.float32)

    def block(start: int, stop: int) -> None:
        members_KBC = [borrow(member_BC) for member_BC in members_KNC[:, start:stop]]
        mean_BC = torch.zeros((stop - start, classes))
        for probs_BC in members_KBC:
            _require_probabilities(probs_BC)
            mean_BC.add_(probs_BC)
        _raise_to_divergences(torch.from_numpy(scores_N[start:stop]), members_KBC, mean_BC.div_(members))

    if size:
        spread(block, size, _rows(classes))
    return scores_N


def _raise_to_divergences(out_B: torch.Tensor, members_KBC: list[torch.Tensor], mean_BC: torch.Tensor) -> None:
    tiny = torch.finfo(torch.float32).tiny
    log_mean_BC = mean_BC.clamp_min(tiny).log_()
    scratch_BC = torch.empty_like(mean_BC)
    for probs_BC in members_KBC:
        torch.clamp_min(probs_BC, tiny, out=scratch_BC).log_().sub_(log_mean_BC).mul_(probs_BC)
        torch.maximum(out_B, scratch_BC.sum(1), out=out_B)


class _Sums(Protocol):
    """What some measures need to know of the members so far."""

    measures: ClassVar[frozenset[str]]

    def __init__(self, shape: tuple[int, int]) -> None: ...

    def add(self, probs_BC: torch.Tensor, scratch_BC: torch.Tensor) -> None: ...

    def scores(self, members: int) -> dict[str, torch.Tensor]: ...


class _Entropies:
    measures: ClassVar[frozenset[str]] = frozenset({"bald", "expected_entropy"})

    def __init__(self, shape: tuple[int, int]) -> None:
        self._probs_BC = torch.zeros(shape)
        # Kept by class: adding whole blocks is faster than a sum over the classes of each member.
        self._times_logs_BC = torch.zeros(shape)

    def add(self, probs_BC: torch.Tensor, scratch_BC: torch.Tensor) -> None:
        self._probs_BC.add_(probs_BC)
        self._times_logs_BC.add_(times_log(probs_BC, scratch_BC))

    def scores(self, members: int) -> dict[str, torch.Tensor]:
        expected_B = self._times_logs_BC.sum(1).div_(-members)
        consensus_B = times_log(self._probs_BC / members).sum(1).neg_()
        return {"bald": (consensus_B - expected_B).clamp_min_(0), "expected_entropy": expected_B}


class _Votes:
    measures: ClassVar[frozenset[str]] = frozenset({"variation_ratio", "vote_entropy"})

    def __init__(self, shape: tuple[int, int]) -> None:
        self._votes_BC = torch.zeros(shape)

    def add(self, probs_BC: torch.Tensor, scratch_BC: torch.Tensor) -> None:
        # Comparing with the maximum is several times faster than argmax, which is left to blocks with ties.
        torch.eq(probs_BC, probs_BC.amax(1, keepdim=True), out=scratch_BC)
        if scratch_BC.sum(dtype=torch.float64).item() > len(probs_BC):
            scratch_BC.zero_().scatter_(1, probs_BC.argmax(1, keepdim=True), 1)
        self._votes_BC.add_(scratch_BC)

    def scores(self, members: int) -> dict[str, torch.Tensor]:
        return {
            "variation_ratio": (members - self._votes_BC.amax(1)).div_(members),
            "vote_entropy": times_log(self._votes_BC / members).sum(1).neg_().add_(0),
        }


class _Deviations:
    """Welford's running mean and squared deviation: nothing is lost where all members nearly agree."""

    measures: ClassVar[frozenset[str]] = frozenset({"mean_std"})

    def __init__(self, shape: tuple[int, int]) -> None:
        self._seen = 0
        self._means_BC = torch.zeros(shape)
        self._squares_BC = torch.zeros(shape)

    def add(self, probs_BC: torch.Tensor, scratch_BC: torch.Tensor) -> None:
        self._seen += 1
        torch.sub(probs_BC, self._means_BC, out=scratch_BC)
        self._means_BC.add_(scratch_BC, alpha=1 / self._seen)
        # Of n members, d being the distance of the last to the mean of those before: d^2 (n - 1) / n.
        self._squares_BC.addcmul_(scratch_BC, scratch_BC, value=(self._seen - 1) / self._seen)

    def scores(self, members: int) -> dict[str, torch.Tensor]:
        return {"mean_std": (self._squares_BC / members).sqrt_().mean(1)}


_SUMS: tuple[type[_Sums], ...] = (_Entropies, _Votes, _Deviations)


class _Tally:
    """The members so far, of one block of samples."""

    def __init__(self, shape: tuple[int, int], measures: Collection[str]) -> None:
        self._measures = measures
        self._sums = [kind(shape) for kind in _SUMS if not kind.measures.isdisjoint(measures)]
        self._members = 0

    def add(self, probs_BC: torch.Tensor) -> None:
        _require_probabilities(probs_BC)
        self._members += 1
        scratch_BC = torch.empty(probs_BC.shape)
        for sums in self._sums:
            sums.add(probs_BC, scratch_BC)

    def write(self, scores: Scores, rows: slice) -> None:
        for sums in self._sums:
            for measure, values_B in sums.scores(self._members).items():
                if measure in self._measures:
                    scores[measure][rows] = values_B.numpy()


def _add_member(member_NC: NDArray[np.float32], tallies: list[_Tally], step: int) -> None:
    def block(start: int, stop: int) -> None:
        tallies[start // step].add(borrow(member_NC[start:stop]))

    if len(member_NC):
        spread(block, len(member_NC), step)


def _require_probabilities(probs_BC: torch.Tensor) -> None:
    require_probabilities(probs_BC.amin(), probs_BC.amax(), probs_BC.sum(1))


def _require_members(members: int, classes: int) -> None:
    if members == 0 or classes == 0:
        raise StrategyError("INVALID_ARRAY", f"{members} members and {classes} classes: give at least one of each")


def _checked_shape(member_NC: NDArray[np.float32], shape: tuple[int, ...] | None) -> tuple[int, int]:
    if member_NC.ndim != 2 or member_NC.dtype != np.float32 or member_NC.shape != (shape or member_NC.shape):
        raise StrategyError(
            "INVALID_ARRAY",
            f"each member must be float32 {shape or '(N, C)'}, not {member_NC.dtype} {member_NC.shape}",
        )
    _require_members(1, member_NC.shape[1])
    return member_NC.shape


def _empty_scores(size: int, measures: Collection[str]) -> Scores:
    return {measure: np.empty(size, np.float32) for measure in measures}


def _rows(classes: int) -> int:
    return max(1, _BLOCK_VALUES // classes)
