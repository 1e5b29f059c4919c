"""BatchBALD: the batch whose labels together tell most about which member of a committee is right.

Given what the picks' labels may turn out to be (outcomes y, each with its probability and with what it would tell
about the member), the gain of a further candidate c is

    I(label_c; member | y) = H(label_c | y) - mean_k H(p_kc),   p(label_c | y) = sum_k P(k | y) p_kc

so all outcomes times all candidates are one matrix product. No gain rises as picks are added, so old gains are upper
bounds, and only candidates whose bound could still win are brought up to date (lazy greedy).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels import committee
from assay.strategies.kernels.fused import times_log
from assay.strategies.kernels.tensors import alone, spread
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import Need

# float32 values in a block of predictions (outcomes x candidates x classes), which fits a core's cache with its
# logarithms, and its columns at least (candidates x classes): fewer make a slow matrix product.
_BLOCK_VALUES = 1 << 17
_COLUMNS = 256
# Candidates brought up to date first; twice as many each time that was not enough.
_REFRESHED = 64
# Gains in nats that are closer than this are ties, and none is left below it: what float32 can tell.
_RESOLUTION = 1e-5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BatchBaldParams:
    samples: int = field(
        default=10_000,
        metadata={
            "doc": "Joint outcomes of the picks' labels: exact up to so many, then this many are drawn at random.",
            "minimum": 1,
            "maximum": 1_000_000,
        },
    )


@dataclass(frozen=True)
class BatchBald:
    """The batch whose labels, together, would tell most about which member of the committee is right.

    `bald` scores samples one by one, so its best ones are often copies of one question; here each pick counts only
    for what it adds to the picks before it. The picks are greedy. While the possible joint labels of the picks are
    no more than `samples` they are all weighed (those of probability 0 are dropped); from then on as many are drawn,
    equally many from each member, and each further pick's label is drawn for every one of them: gains are then
    estimates, with an error that falls with the square root of `samples`.

    K members can be told apart by ln K nats in all, which is what the gains of a batch sum to at most: after some
    tens of picks nothing is left to gain. As soon as no candidate adds 1e-5 nats the batch is filled with the rest
    by `bald`, highest first. Gains closer than 1e-5 are ties, which go to the lower row.

    Formula: argmax_c I(label_c; member | labels of the picks) = H(label_c | labels of the picks) - mean_k H(p_kc)
    Cost: O(K N C) once; then each pick O(R S C K) in matrix products and R S C logarithms, where S is the number of
        outcomes, at most `samples`, and R the candidates whose bound could still win (N at worst, mostly far fewer);
        memory O(N + S (K + C)) beside blocks.
    Use when: a batch is small (up to some tens), and members disagree in different ways.
    Avoid when: batches are large, or members few: ln K is soon used up. Take `bald` with a diversity strategy.
    Paper: Kirsch, van Amersfoort and Gal, BatchBALD: Efficient and Diverse Batch Acquisition for Deep Bayesian Active
        Learning, NeurIPS 2019.
    Reference: batchbald_redux `get_batchbald_batch`: the same picks while exact. Its scores are the information of
        the batch so far; ours are what each pick adds, so their running sum is that. It is NaN where a probability is
        0, here 0 ln 0 = 0; it multiplies the probabilities of outcomes, which underflow in large batches, here each
        outcome carries its members' normalised weights. It draws all outcomes anew for every pick, here they are
        extended. scikit-activeml `batch_bald` gives the same picks with as many samples; by default it draws one per
        member. baal `BatchBALD` samples from the first pick on.
    """

    name: ClassVar[str] = "batch_bald"
    summary: ClassVar[str] = "The small batch whose labels together tell the committee's members apart best."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.MEMBER_PROBS})
    params: ClassVar[type[BatchBaldParams]] = BatchBaldParams
    deterministic: ClassVar[bool] = False
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: BatchBaldParams,
    ) -> Selection:
        """Scores of the picks: the nats that each adds to those before it; 0 for what only fills the batch.

        Raises NeedMissing; StrategyError INVALID_SIZE, PROBABILITIES_INVALID, or INVALID_ARRAY without members or
        classes.
        """
        size = checked_size(size, candidates)
        members_KNC = candidates.unchecked(Need.MEMBER_PROBS)
        if size == 0:
            return Selection.empty()
        return alone(lambda: _select(members_KNC, size, params.samples, rng))


batch_bald = BatchBald()


def _select(members_KNC: NDArray[np.float32], size: int, samples: int, rng: np.random.Generator) -> Selection:
    measures = committee.from_members(members_KNC, {"bald", "expected_entropy"})
    greedy = _Greedy(members_KNC, measures["bald"], measures["expected_entropy"], _Outcomes(len(members_KNC), samples))
    while len(greedy.picks) < size and greedy.advance(rng):
        pass
    informative = len(greedy.picks)
    rest = top_k(measures["bald"], size - informative, greedy.bounds_N > -np.inf)
    return Selection(
        np.append(np.array(greedy.picks, np.int64), rest),
        np.append(np.array(greedy.gains), np.zeros(len(rest))).astype(np.float32),
        {"informative": informative, "refreshed": greedy.refreshed},
    )


class _Outcomes:
    """What the labels of the picks may turn out to be.

    weights_S: the probability of each outcome.
    posterior_SK: the probability of each member given the outcome.
    origins_S: once outcomes are drawn, the member that each was drawn from; None while they are exact.
    """

    def __init__(self, members: int, samples: int) -> None:
        self._samples = samples
        self.weights_S: Floats = np.ones(1)
        self.posterior_SK: Floats = np.full((1, members), 1 / members)
        self.origins_S: NDArray[np.int64] | None = None

    def add(self, probs_KC: Floats, rng: np.random.Generator) -> None:
        """Take in the label of another pick."""
        if self.origins_S is None and len(self.weights_S) * probs_KC.shape[1] <= self._samples:
            self._expand(probs_KC)
        else:
            self._draw(probs_KC, rng)

    def _expand(self, probs_KC: Floats) -> None:
        """Every outcome with every label that it leaves possible."""
        joint_SCK = self.posterior_SK[:, None] * probs_KC.T
        joint_XK = (joint_SCK * self.weights_S[:, None, None]).reshape(-1, len(probs_KC))
        weights_X = joint_XK.sum(axis=1)
        possible_X = weights_X > 0
        self.weights_S = weights_X[possible_X] / weights_X.sum()
        self.posterior_SK = joint_XK[possible_X] / weights_X[possible_X, None]

    def _draw(self, probs_KC: Floats, rng: np.random.Generator) -> None:
        """A label for every outcome, from the member that the outcome was drawn from."""
        if self.origins_S is None:
            self.origins_S = self._sample(rng)
        cumulative_KC = np.cumsum(probs_KC, axis=1)
        cumulative_KC /= cumulative_KC[:, -1:]
        # The first class above the draw: never one of probability 0.
        labels_S = (cumulative_KC[self.origins_S] <= rng.random((len(self.origins_S), 1))).sum(axis=1)
        self.posterior_SK = self.posterior_SK * probs_KC[:, labels_S].T
        self.posterior_SK /= self.posterior_SK.sum(axis=1, keepdims=True)

    def _sample(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Replace the exact outcomes by draws, equally many from each member; returns these members."""
        members = self.posterior_SK.shape[1]
        draws = max(1, self._samples // members)
        cumulative_SK = np.cumsum(self.weights_S[:, None] * self.posterior_SK, axis=0)
        cumulative_SK /= cumulative_SK[-1]
        drawn = [np.searchsorted(cumulative_SK[:, k], rng.random(draws), side="right") for k in range(members)]
        self.posterior_SK = self.posterior_SK[np.concatenate(drawn)]
        self.weights_S = np.full(draws * members, 1 / (draws * members))
        return np.repeat(np.arange(members), draws)


class _Greedy:
    """The picks so far.

    bounds_N: the gain of each candidate, or an upper bound of it; -inf for picks.
    refreshed: how many gains were computed.
    """

    def __init__(
        self,
        members_KNC: NDArray[np.float32],
        bald_N: NDArray[np.float32],
        expected_entropy_N: NDArray[np.float32],
        outcomes: _Outcomes,
    ) -> None:
        self._members_KNC = members_KNC
        self._expected_entropy_N = expected_entropy_N
        self._outcomes = outcomes
        self.bounds_N = bald_N.copy()
        self.picks: list[int] = []
        self.gains: list[float] = []
        self.refreshed = 0

    def advance(self, rng: np.random.Generator) -> bool:
        """One more pick, or False where nothing is left to gain."""
        best = self._refresh()
        if best < _RESOLUTION:
            return False
        # Whoever is within reach of the best is up to date.
        pick = int(np.flatnonzero(self.bounds_N >= best - _RESOLUTION)[0])
        self.picks.append(pick)
        self.gains.append(float(self.bounds_N[pick]))
        self.bounds_N[pick] = -np.inf
        self._outcomes.add(self._members_KNC[:, pick].astype(np.float64), rng)
        return True

    def _refresh(self) -> float:
        """The best gain; brings up to date all candidates whose bound is within `_RESOLUTION` of it, or above."""
        best, count = 0.0, _REFRESHED
        stale_N = np.ones(len(self.bounds_N), np.bool_)
        while len(rows := self._within_reach(best, count, stale_N)):
            self.bounds_N[rows] = _gains(self._members_KNC, rows, self._outcomes) - self._expected_entropy_N[rows]
            best = max(best, float(self.bounds_N[rows].max()))
            stale_N[rows] = False
            self.refreshed += len(rows)
            count *= 2
        return best

    def _within_reach(self, best: float, count: int, stale_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The largest bounds among the stale ones that the best gain does not rule out."""
        rows = top_k(self.bounds_N, count, stale_N)
        return rows[self.bounds_N[rows] >= best - _RESOLUTION]


def _gains(members_KNC: NDArray[np.float32], rows_R: NDArray[np.int64], outcomes: _Outcomes) -> NDArray[np.float32]:
    """H(label | outcome) of some candidates, averaged over the outcomes; float32."""
    posterior_SK = torch.from_numpy(outcomes.posterior_SK).float()
    weights_S = torch.from_numpy(outcomes.weights_S).float()
    classes = members_KNC.shape[2]
    entropies_R = np.empty(len(rows_R), np.float32)

    def block(start: int, stop: int) -> None:
        probs_KX = torch.from_numpy(members_KNC[:, rows_R[start:stop]]).flatten(1)
        entropies_X = _entropy_terms(posterior_SK, weights_S, probs_KX)
        torch.sum(entropies_X.view(-1, classes), 1, out=torch.from_numpy(entropies_R[start:stop]))

    spread(block, len(rows_R), max(1, max(_COLUMNS, _BLOCK_VALUES // len(weights_S)) // classes))
    return entropies_R


def _entropy_terms(posterior_SK: torch.Tensor, weights_S: torch.Tensor, probs_KX: torch.Tensor) -> torch.Tensor:
    """-p ln p of each prediction X (candidates x classes), averaged over the outcomes, which are taken by blocks."""
    step = max(1, _BLOCK_VALUES // probs_KX.shape[1])
    totals_X = torch.zeros(probs_KX.shape[1])
    for start in range(0, len(weights_S), step):
        checkpoint()
        predictions_BX = posterior_SK[start : start + step] @ probs_KX
        totals_X.sub_(weights_S[start : start + step] @ times_log(predictions_BX))
    return totals_X
