"""Policies: what the label of a sample is, given what its annotators say. Pure functions; they know no pool."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from assay.server.core.records.annotations import Policy
from assay.server.core.tasks.base import Task, Value
from assay.server.core.tasks.classification import Classification
from assay.server.core.tasks.voting import pairwise

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Skills nearer to 0 and 1 than this are not believed.
_DOUBT = 0.01
# Shares of weight that differ by less are equal.
_ROUNDING = 1e-9


class Outcome(IntEnum):
    """OPEN: fewer annotations than wanted. SETTLED: there is a label. DISPUTED: enough annotations, but the policy
    cannot decide: somebody has to."""

    OPEN = 0
    SETTLED = 1
    DISPUTED = 2


@dataclass(frozen=True, slots=True)
class Standing:
    """One worker's annotation that stands: neither superseded nor withdrawn.

    Attributes:
        worker: who.
        value: what was said.
        number: how new it is: those of later ones are higher.
        verdict: whether a reviewer settled the sample by it.
    """

    worker: str
    value: Value
    number: int
    verdict: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy makes of a sample.

    Attributes:
        outcome: see Outcome.
        value: the label, after merges, where it is SETTLED; else None.
        confidence: how much stands behind it, or behind what came nearest, in [0, 1]; NaN without an annotation.
        agreement: mean agreement of the annotations with each other, in [0, 1]; 1 for one, NaN for none.
    """

    outcome: Outcome
    value: Value | None
    confidence: float
    agreement: float


def decide(
    policy: Policy,
    task: Task,
    standing: Sequence[Standing],
    wanted: int,
    skills: Mapping[str, float] | None = None,
) -> Decision:
    """The label of one sample.

    A reviewer's verdict settles a sample under every policy, the newest of several. LATEST takes the newest value;
    MAJORITY the task's consensus; UNANIMOUS the same, if all stand behind all of it; WEIGHTED the consensus by skill;
    REVIEWED nothing but a verdict.

    Args:
        standing: one annotation of each worker, in any order.
        wanted: annotations that the sample is to have; fewer leave it OPEN.
        skills: for WEIGHTED: estimated skill of workers (`weighing.weigh`); one without counts as their mean, and all
            count alike where there are none.
    """
    if not standing:
        return Decision(Outcome.OPEN, None, math.nan, math.nan)
    verdicts = [each for each in standing if each.verdict]
    newest = max(verdicts or standing, key=lambda each: each.number)
    values = [task.resolve(each.value) for each in standing]
    if verdicts or policy is Policy.LATEST:
        return _by_one(task, newest, values, bool(verdicts) or len(standing) >= wanted)
    weights = vote_weights(task, [each.worker for each in standing], skills) if policy is Policy.WEIGHTED else None
    consensus = task.consensus(values, weights)
    settled = consensus.value is not None and (
        policy in (Policy.MAJORITY, Policy.WEIGHTED)
        or (policy is Policy.UNANIMOUS and consensus.confidence >= 1 - _ROUNDING)
    )
    if len(standing) < wanted:
        return Decision(Outcome.OPEN, None, consensus.confidence, consensus.agreement)
    if not settled:
        return Decision(Outcome.DISPUTED, None, consensus.confidence, consensus.agreement)
    return Decision(Outcome.SETTLED, consensus.value, consensus.confidence, consensus.agreement)


def _by_one(task: Task, newest: Standing, values: Sequence[Value], settled: bool) -> Decision:
    """The label that one annotation decides; its confidence is the mean agreement of all with it."""
    value = task.resolve(newest.value)
    confidence = min(1.0, math.fsum(task.agreement(value, each) for each in values) / len(values))
    agreement = pairwise(values, task.agreement)
    outcome = Outcome.SETTLED if settled else Outcome.OPEN
    return Decision(outcome, value if settled else None, confidence, agreement)


def vote_weights(task: Task, workers: Sequence[str], skills: Mapping[str, float] | None) -> list[float] | None:
    """How much each worker's vote counts: the log of its odds against a guess (Nitzan and Paroush, 1982), at least 0.

    A guess is right as often as one of `Task.choices` is. None, which is all alike, where no skill is known or none is
    better than a guess.
    """
    known = [skill for skill in (skills or {}).values() if math.isfinite(skill)]
    if not skills or not known:
        return None
    mean = math.fsum(known) / len(known)
    weights = [_log_odds(skills.get(worker, mean), mean, task.choices) for worker in workers]
    return weights if any(weights) else None


def _log_odds(skill: float, mean: float, choices: int) -> float:
    believed = min(max(skill if math.isfinite(skill) else mean, _DOUBT), 1 - _DOUBT)
    return max(0.0, math.log(believed * (choices - 1) / (1 - believed)))


# --- many samples of a classification at once ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClassDecisions:
    """Decisions on samples of a classification, one entry each.

    Attributes:
        outcomes_N: uint8 Outcome.
        labels_N: int32 class id where SETTLED, else -1.
        confidence_N, agreement_N: float32 as in Decision.
    """

    outcomes_N: npt.NDArray[np.uint8]
    labels_N: npt.NDArray[np.int32]
    confidence_N: npt.NDArray[np.float32]
    agreement_N: npt.NDArray[np.float32]


def decide_classes(
    policy: Policy,
    task: Classification,
    offsets_O: Ints,
    classes_A: npt.NDArray[np.int32],
    wanted_N: npt.NDArray[np.integer],
    weights_A: Floats | None = None,
) -> ClassDecisions:
    """What `decide` says of many samples of which none has a verdict, in a few passes over arrays.

    Args:
        offsets_O: int64 [N + 1]; sample n has the annotations offsets_O[n] to offsets_O[n + 1] - 1, oldest first.
        classes_A: class id that each annotation says.
        wanted_N: annotations that each sample is to have.
        weights_A: for WEIGHTED, how much each annotation counts; None counts all alike.
    """
    counts_N = np.diff(offsets_O)
    tallies = tally(offsets_O, task.classes.roots_C[classes_A], weights_A if policy is Policy.WEIGHTED else None)
    labels_N, confidence_N = tallies.winners_N, tallies.shares_N
    decided_N = labels_N >= 0
    some_N = counts_N > 0
    if policy is Policy.LATEST:
        newest_N = task.classes.roots_C[classes_A[offsets_O[1:][some_N] - 1]]
        labels_N, decided_N = np.full(len(counts_N), -1, np.int64), some_N
        labels_N[some_N] = newest_N
        said_as_newest_A = task.classes.roots_C[classes_A] == np.repeat(labels_N, counts_N)
        rows_A = np.repeat(np.arange(len(counts_N)), counts_N)
        confidence_N = np.full(len(counts_N), np.nan)
        np.divide(np.bincount(rows_A, said_as_newest_A, len(counts_N)), counts_N, out=confidence_N, where=some_N)
    elif policy is Policy.UNANIMOUS:
        decided_N &= confidence_N >= 1 - _ROUNDING
    elif policy is Policy.REVIEWED:
        decided_N = np.zeros(len(counts_N), np.bool_)
    enough_N = some_N & (counts_N >= wanted_N)
    settled_N = enough_N & decided_N
    outcomes_N = np.where(settled_N, Outcome.SETTLED, np.where(enough_N, Outcome.DISPUTED, Outcome.OPEN))
    return ClassDecisions(
        outcomes_N.astype(np.uint8),
        np.where(settled_N, labels_N, -1).astype(np.int32),
        confidence_N.astype(np.float32),
        tallies.agreement_N.astype(np.float32),
    )


@dataclass(frozen=True, slots=True)
class Tallies:
    """Votes on classes, one entry a sample.

    Attributes:
        winners_N: int64 class with the most weight; -1 where two have as much, or there is no vote.
        shares_N: its share of the weight; NaN without a vote.
        agreement_N: share of the pairs of votes that agree; 1 for a single vote, NaN for none.
    """

    winners_N: Ints
    shares_N: Floats
    agreement_N: Floats


def tally(offsets_O: Ints, classes_A: npt.NDArray[np.integer], weights_A: Floats | None = None) -> Tallies:
    """The votes on each sample, in one sort."""
    counts_N = np.diff(offsets_O)
    size = len(counts_N)
    winners_N, shares_N, agreement_N = np.full(size, -1, np.int64), np.full(size, np.nan), np.full(size, np.nan)
    if not len(classes_A):
        return Tallies(winners_N, shares_N, agreement_N)
    some = np.flatnonzero(counts_N > 0)
    width = int(classes_A.max()) + 1
    keys_A = np.repeat(np.arange(size), counts_N) * width + classes_A
    cells_S, cells_A, votes_S = np.unique(keys_A, return_inverse=True, return_counts=True)
    weight_S = np.bincount(cells_A, weights_A, len(cells_S)).astype(np.float64)
    samples_S, classes_S = np.divmod(cells_S, width)
    starts = np.searchsorted(samples_S, some)
    highest_N, total_N = np.full(size, np.nan), np.full(size, np.nan)
    highest_N[some] = np.maximum.reduceat(weight_S, starts)
    total_N[some] = np.add.reduceat(weight_S, starts)
    at_S = weight_S >= highest_N[samples_S] * (1 - _ROUNDING)
    alone = np.bincount(samples_S[at_S], minlength=size)[samples_S] == 1
    winners_N[samples_S[at_S & alone]] = classes_S[at_S & alone]
    shares_N[some] = highest_N[some] / total_N[some]
    pairs_N = counts_N * (counts_N - 1)
    agreeing_N = np.bincount(samples_S, votes_S * (votes_S - 1), size)
    agreement_N[some] = 1.0
    np.divide(agreeing_N, pairs_N, out=agreement_N, where=pairs_N > 0)
    return Tallies(winners_N, shares_N, agreement_N)
