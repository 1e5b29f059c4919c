"""Is the next label better spent on a new sample, or on one that somebody has labeled already? Both on one scale."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.strategies.audit.annotators import Answers, Counts, checked_answers
from assay.strategies.audit.inputs import checked_probs
from assay.strategies.audit.quality import by_blocks
from assay.strategies.errors import InvalidParams
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.fused import from_probs

Floats = NDArray[np.float64]

# The temperatures tried first; then as many between the best and each of its neighbours as _FINER says.
_TEMPERATURES = (0.1, 0.2, 0.5, 0.8, 1.0, 2.0, 3.0, 5.0, 8.0)
_FINER = 4
# No probability is less than this under a logarithm, and no weight or rate less than that.
_LEAST_PROBABILITY = 1e-30
_LEAST_WEIGHT = 1e-6


@dataclass(frozen=True)
class Relabeling:
    """What another label is worth for each sample, and what the labels say so far.

    worth_N: float32 within [0, 1], higher = more to be learned from one more label, whether it is the first or not.
    consensus_N: what answers and prediction together make likeliest, int64; -1 where there is no answer. It may be a
        class that nobody gave, where the model counts for more than those who answered.
    quality_N: how likely the consensus is right, float32; of samples without an answer, the highest probability.
    agreement_N: the share of a sample's answers that are the consensus, float32; 1 where there is none.
    annotator_weights_W: what each annotator's answer counts for, float64, at least 1e-6; 0 for who has not answered.
    model_weight: what the model's prediction counts for.
    temperature: by which the predictions were softened (above 1) or sharpened to fit the answers.
    """

    worth_N: NDArray[np.float32]
    consensus_N: Counts
    quality_N: NDArray[np.float32]
    agreement_N: NDArray[np.float32]
    annotator_weights_W: Floats
    model_weight: float
    temperature: float


def relabeling(
    probs_NC: ArrayLike,
    offsets_O: ArrayLike,
    annotators_A: ArrayLike,
    classes_A: ArrayLike,
    *,
    skills_W: ArrayLike | None = None,
) -> Relabeling:
    """ActiveLab: rank new labels and second opinions together.

    The quality of a sample's consensus is the mean of what the model and each of its annotators make of it, weighted by
    how far each is better than always naming the commonest class; annotators are judged by their agreement with each
    other, the model by its agreement with the consensus. The consensus is the most frequent answer at first, then the
    class of the highest quality by the weights that follow from that, and the weights follow anew. The worth of another
    label is one minus that quality, drawn towards that of knowing nothing (1 - 1/C) as much as one more average
    annotator would count for: so a sample without answers whose prediction is unsure comes first, before or after one
    whose answers contradict each other, and a sample that many trusted people agree about comes last.

    probs_NC: predictions, (N, C), of labeled samples best by a model that did not see their labels.
    offsets_O: sample i has the answers offsets_O[i] to offsets_O[i + 1] - 1, (N + 1,); none where it is not labeled.
    annotators_A: who gave each answer, numbers from 0, (A,). classes_A: the class of each answer, (A,).
    skills_W: how often each annotator is right, within [0, 1], (W,), where something better is known than how often
        they agree with each other, such as the estimate of Dawid and Skene, or answers to samples with known labels.

    Where no sample has two answers nobody can be judged: model and annotators then count 1 each, and the predictions
    are taken as they are.

    Operations O(N C + A log A), and O(N C) again for each of 17 temperatures over the samples with answers; memory
    O(N + A) and a block beside the input. Goh and Mueller, "ActiveLab: Active Learning with Re-Labeling by Multiple
    Annotators", ICLR workshop 2023; Goh, Tkachenko and Mueller, "CROWDLAB", NeurIPS workshop 2022. Reference: cleanlab
    2.9 (`get_active_learning_scores`, whose scores are 1 - worth). We differ in ties of the most frequent answer that
    neither the predictions nor the rarer class decide: they go to the lower class (there: to the annotators who agree
    more, then at random); and in skills that are given.
    Raises StrategyError INVALID_ARRAY, CLASS_OUT_OF_RANGE, PROBABILITIES_INVALID, or INVALID_PARAMETER for skills.
    """
    probs = checked_probs(probs_NC)
    # Refuses what is no probability.
    from_probs(probs, ())
    answers = checked_answers(offsets_O, annotators_A, classes_A, *probs.shape)
    skills = _checked_skills(skills_W, answers)
    judged = bool((answers.counts_N > 1).any())
    temperature = _best_temperature(probs, answers) if judged and probs.shape[1] > 1 else 1.0
    table = _Table.of(probs, answers, temperature)
    if not judged:
        return _rated(table, answers, _unjudged(answers), probs.shape[1], temperature)
    at_first = _weighed(table, answers, skills, probs.shape[1])
    table = table.decided(probs, answers, at_first, temperature)
    weights = _weighed(table, answers, skills, probs.shape[1])
    return _rated(table, answers, weights, probs.shape[1], temperature)


def first_answers(
    probs_NC: ArrayLike, *, model_weight: float = 1.0, annotator_weight: float = 1.0, temperature: float = 1.0
) -> NDArray[np.float32]:
    """What the first answer is worth to samples that have none, on the scale of `relabeling`: float32 of shape (N,).

    probs_NC: predictions, (N, C). model_weight, temperature: those of a Relabeling; annotator_weight: the mean weight
    of its annotators who answered. Left out, nobody was judged. `relabeling` gives samples without answers the same.
    Operations O(N C), memory O(N) and a block. Raises StrategyError INVALID_ARRAY or PROBABILITIES_INVALID.
    """
    probs = checked_probs(probs_NC)
    from_probs(probs, ())
    known = model_weight + annotator_weight
    worth_N = np.empty(len(probs), np.float32)
    step = by_blocks(probs)
    for start in range(0, len(probs), step):
        checkpoint()
        top_B = _scaled(probs[start : start + step], temperature).max(axis=1)
        worth_N[start : start + step] = 1 - (top_B * model_weight + annotator_weight / probs.shape[1]) / known
    return worth_N


@dataclass(frozen=True)
class _Table:
    """What is needed of each sample's probabilities at the chosen temperature.

    likeliest_N, top_N: the likeliest class and its probability. consensus_N, support_N: what is taken for right, the
    most frequent answer at first (-1: none), and how many gave it. believed_N: the probability of the consensus.
    """

    likeliest_N: Counts
    top_N: Floats
    consensus_N: Counts
    support_N: Counts
    believed_N: Floats

    @staticmethod
    def of(probs_NC: NDArray[np.float32], answers: Answers, temperature: float) -> _Table:
        size, classes = probs_NC.shape
        frequency_C = np.bincount(answers.classes_A, minlength=classes)
        table = _Table(
            np.empty(size, np.int64),
            np.empty(size),
            np.full(size, -1, np.int64),
            np.zeros(size, np.int64),
            np.ones(size),
        )
        step = by_blocks(probs_NC)
        for start in range(0, size, step):
            checkpoint()
            table._fill(slice(start, start + step), probs_NC[start : start + step], answers, frequency_C, temperature)
        return table

    def _fill(
        self, rows: slice, probs_BC: NDArray[np.float32], answers: Answers, frequency_C: Counts, temperature: float
    ) -> None:
        scaled_BC = _scaled(probs_BC, temperature)
        places_B = np.arange(len(scaled_BC))
        self.likeliest_N[rows] = scaled_BC.argmax(axis=1)
        self.top_N[rows] = scaled_BC.max(axis=1)
        counts_BC = _tally(answers, rows, scaled_BC.shape)
        consensus_B = _most_frequent(counts_BC, scaled_BC, frequency_C)
        answered_B = counts_BC.any(axis=1)
        self.support_N[rows] = counts_BC[places_B, consensus_B]
        self.consensus_N[rows] = np.where(answered_B, consensus_B, -1)
        self.believed_N[rows] = scaled_BC[places_B, consensus_B]

    def decided(self, probs_NC: NDArray[np.float32], answers: Answers, weights: _Weights, temperature: float) -> _Table:
        """With the class of the highest quality as the consensus; of equal ones, what it was before."""
        table = replace(
            self,
            consensus_N=self.consensus_N.copy(),
            support_N=self.support_N.copy(),
            believed_N=self.believed_N.copy(),
        )
        step = by_blocks(probs_NC)
        for start in range(0, len(probs_NC), step):
            checkpoint()
            block = slice(start, start + step)
            table._decide(block, _scaled(probs_NC[block], temperature), answers, weights)
        return table

    def _decide(self, rows: slice, scaled_BC: Floats, answers: Answers, weights: _Weights) -> None:
        given_A = weights.annotators_W[answers.annotators_A]
        # What all classes of a sample have in common does not change which is the best.
        told = weights.right - weights.wrong(scaled_BC.shape[1])
        quality_BC = weights.model * scaled_BC + told * _tally(answers, rows, scaled_BC.shape, given_A)
        best_BC = quality_BC == quality_BC.max(axis=1, keepdims=True)
        decided_B = (self.consensus_N[rows] >= 0) & (best_BC.sum(axis=1) == 1)
        classes_M, places_M = best_BC.argmax(axis=1)[decided_B], np.flatnonzero(decided_B)
        self.consensus_N[rows][places_M] = classes_M
        self.support_N[rows][places_M] = _tally(answers, rows, scaled_BC.shape)[places_M, classes_M]
        self.believed_N[rows][places_M] = scaled_BC[places_M, classes_M]


def _scaled(probs_BC: NDArray[np.float32], temperature: float) -> Floats:
    """Probabilities to the power of 1 / temperature, adding up to 1 again."""
    raised_BC: Floats = np.maximum(probs_BC.astype(np.float64), _LEAST_PROBABILITY)
    if temperature != 1:
        raised_BC **= 1 / temperature
    raised_BC /= raised_BC.sum(axis=1, keepdims=True)
    return raised_BC


def _tally(answers: Answers, rows: slice, shape: tuple[int, ...], weights_A: Floats | None = None) -> NDArray[Any]:
    """How many annotators gave each class to each sample of a block, or what they weigh together."""
    offsets = answers.offsets_O[rows.start : rows.start + shape[0] + 1]
    given = slice(int(offsets[0]), int(offsets[-1]))
    samples_A = np.repeat(np.arange(shape[0]), np.diff(offsets))
    cells_A = samples_A * shape[1] + answers.classes_A[given]
    given_weights_A = None if weights_A is None else weights_A[given]
    return np.bincount(cells_A, given_weights_A, minlength=shape[0] * shape[1]).reshape(shape)


def _most_frequent(counts_BC: Counts, probs_BC: Floats, frequency_C: Counts) -> Counts:
    """The most frequent class of each row; of equal ones the likeliest, then the rarer, then the lower."""
    first_BC = counts_BC == counts_BC.max(axis=1, keepdims=True)
    probs_BC = np.where(first_BC, probs_BC, -1)
    second_BC = probs_BC == probs_BC.max(axis=1, keepdims=True)
    rarest_B: Counts = np.where(second_BC, frequency_C, np.iinfo(np.int64).max).argmin(axis=1)
    return rarest_B


def _best_temperature(probs_NC: NDArray[np.float32], answers: Answers) -> float:
    """The temperature at which the predictions fit the shares of the answers best: least mean cross-entropy."""
    labeled_M = np.flatnonzero(answers.counts_N)
    losses = [_cross_entropy(probs_NC, answers, labeled_M, temperature) for temperature in _TEMPERATURES]
    best = int(np.argmin(losses))
    finer = _between(best)
    losses = [_cross_entropy(probs_NC, answers, labeled_M, temperature) for temperature in finer]
    return finer[int(np.argmin(losses))]


def _between(best: int) -> list[float]:
    lower = _TEMPERATURES[max(best - 1, 0) : best + 1]
    upper = _TEMPERATURES[best : best + 2]
    below = np.linspace(*lower, _FINER, endpoint=False) if len(lower) == 2 else np.empty(0)
    above = np.linspace(*upper, _FINER + 1) if len(upper) == 2 else np.empty(0)
    return [float(temperature) for temperature in np.concatenate([below, above])]


def _cross_entropy(probs_NC: NDArray[np.float32], answers: Answers, labeled_M: Counts, temperature: float) -> float:
    """The mean over samples of -sum_c share_c ln p_c at a temperature, where share_c of a sample's answers are c."""
    total, step = 0.0, by_blocks(probs_NC)
    for start in range(0, len(labeled_M), step):
        checkpoint()
        rows_B = labeled_M[start : start + step]
        raised_BC = probs_NC[rows_B].astype(np.float64) ** (1 / temperature)
        counts_B = answers.counts_N[rows_B]
        places_A = np.repeat(np.arange(len(rows_B)), counts_B)
        # Samples without an answer take no room, so a block's answers lie together.
        said_A = answers.classes_A[answers.offsets_O[rows_B[0]] : answers.offsets_O[rows_B[-1] + 1]]
        told_A = raised_BC[places_A, said_A] / raised_BC.sum(axis=1)[places_A]
        total -= float((np.log(np.maximum(told_A, _LEAST_PROBABILITY)) / counts_B[places_A]).sum())
    return total / len(labeled_M)


@dataclass(frozen=True)
class _Weights:
    """annotators_W: of each annotator, 0 for who has not answered. right: how likely an answer is the consensus."""

    model: float
    annotators_W: Floats
    right: float

    def wrong(self, classes: int) -> float:
        """How likely an answer is any one class but the consensus."""
        return (1 - self.right) / max(classes - 1, 1)

    @property
    def average(self) -> float:
        """That of an average annotator; 1 where there is none."""
        active_W = self.annotators_W[self.annotators_W > 0]
        return float(active_W.mean()) if len(active_W) else 1.0


def _unjudged(answers: Answers) -> _Weights:
    active_W = np.bincount(answers.annotators_A) > 0
    # A consensus of one answer is that answer; what the model says of it alone is its quality.
    return _Weights(1.0, active_W.astype(np.float64), math.nan)


def _weighed(table: _Table, answers: Answers, skills_W: Floats | None, classes: int) -> _Weights:
    """Weights by how far model and annotators are better than naming the commonest class of all."""
    counts_N = answers.counts_N
    shared_N = counts_N > 1
    consensus_M = table.consensus_N[shared_N]
    commonest = np.bincount(consensus_M, minlength=classes).argmax()
    baseline = max(float((consensus_M != commonest).mean()), _LEAST_WEIGHT)
    right_W = _agreement_with_others(answers) if skills_W is None else skills_W
    weights_W = np.maximum(1 - (1 - right_W) / baseline, _LEAST_WEIGHT)
    weights_W[np.bincount(answers.annotators_A, minlength=len(weights_W)) == 0] = 0
    wrong = float((table.likeliest_N[shared_N] != consensus_M).mean())
    model = max(1 - wrong / baseline, _LEAST_WEIGHT) * math.sqrt(counts_N[counts_N > 0].mean())
    return _Weights(model, weights_W, float((table.support_N[shared_N] / counts_N[shared_N]).mean()))


def _agreement_with_others(answers: Answers) -> Floats:
    """How often each annotator's answer is that of another one to the same sample; the mean of all for whom nobody
    else has looked at the same samples."""
    samples_A, counts_N = answers.samples_A, answers.counts_N
    classes = int(answers.classes_A.max()) + 1
    _, cell_A, in_cell_X = np.unique(samples_A * classes + answers.classes_A, return_inverse=True, return_counts=True)
    alike_W = np.bincount(answers.annotators_A, in_cell_X[cell_A] - 1)
    others_W = np.bincount(answers.annotators_A, counts_N[samples_A] - 1)
    compared_W = others_W > 0
    agreement_W = np.divide(alike_W, others_W, out=np.zeros(len(others_W)), where=compared_W)
    agreement_W[~compared_W] = agreement_W[compared_W].mean()
    return agreement_W


def _rated(table: _Table, answers: Answers, weights: _Weights, classes: int, temperature: float) -> Relabeling:
    counts_N, answered_N = answers.counts_N, answers.counts_N > 0
    samples_A = answers.samples_A
    given_A = weights.annotators_W[answers.annotators_A]
    trust_N = np.bincount(samples_A, given_A, len(counts_N))
    quality_N = np.where(answered_N, table.believed_N, table.top_N)
    if not math.isnan(weights.right):
        says_A = np.where(answers.classes_A == table.consensus_N[samples_A], weights.right, weights.wrong(classes))
        said_N = np.bincount(samples_A, given_A * says_A, len(counts_N))
        quality_N = (quality_N * weights.model + said_N) / (weights.model + trust_N)
    known_N = weights.model + trust_N
    score_N = (quality_N * known_N + weights.average / classes) / (known_N + weights.average)
    agreement_N = np.divide(table.support_N, counts_N, out=np.ones(len(counts_N)), where=answered_N)
    return Relabeling(
        (1 - score_N).astype(np.float32),
        table.consensus_N,
        quality_N.astype(np.float32),
        agreement_N.astype(np.float32),
        weights.annotators_W,
        weights.model,
        temperature,
    )


def _checked_skills(skills_W: ArrayLike | None, answers: Answers) -> Floats | None:
    if skills_W is None:
        return None
    skills = np.asarray(skills_W, np.float64)
    most = int(answers.annotators_A.max(initial=-1)) + 1
    # Written so that NaN fails.
    if skills.ndim != 1 or len(skills) < most or not bool(((skills >= 0) & (skills <= 1)).all()):
        raise InvalidParams("skills_W", f"must be a number from 0 to 1 for each of {most} annotators")
    return skills
