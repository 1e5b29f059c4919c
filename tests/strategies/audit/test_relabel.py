"""ActiveLab against cleanlab, against a transcription in plain loops, and by what must hold of it."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from cleanlab import multiannotator
from cleanlab.internal import multiannotator_utils
from cleanlab.multiannotator import get_active_learning_scores
from hypothesis import given
from hypothesis import strategies as st

from assay.strategies.audit import first_answers, relabeling
from assay.strategies.errors import StrategyError


@dataclass
class Case:
    """A made-up pool: dense_NW holds the class that each annotator gave, NaN where they did not look."""

    probs_NC: np.ndarray
    dense_NW: np.ndarray

    @property
    def answers(self):
        given_NW = ~np.isnan(self.dense_NW)
        offsets = np.append(0, given_NW.sum(axis=1).cumsum())
        return offsets, np.nonzero(given_NW)[1], self.dense_NW[given_NW].astype(int)

    @property
    def labeled_N(self):
        return ~np.isnan(self.dense_NW).all(axis=1)


def case_of(seed, size=60, classes=3, annotators=4, share=0.5, error=0.2, overlap=True):
    """Every annotator answers something; whoever does errs at their own rate. Predictions are right about half."""
    rng = np.random.default_rng(seed)
    true_N = rng.integers(0, classes, size)
    logits_NC = rng.normal(0, 1.5, (size, classes)) + 2 * np.eye(classes)[true_N] * (rng.random((size, 1)) < 0.7)
    probs_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(axis=1, keepdims=True)
    dense_NW = np.full((size, annotators), np.nan)
    for w in range(annotators):
        rows = rng.random(size) < share
        rows[rng.integers(0, size - 10)] = True
        wrong = rng.random(size) < error * (w + 1)
        dense_NW[rows, w] = np.where(wrong, rng.integers(0, classes, size), true_N)[rows]
    dense_NW[size - 10 :] = np.nan
    if not overlap:
        first_N = np.where(np.isnan(dense_NW).all(axis=1), 0, (~np.isnan(dense_NW)).argmax(axis=1))
        only = np.arange(annotators) == first_N[:, None]
        dense_NW = np.where(only, dense_NW, np.nan)
        dense_NW = dense_NW[:, ~np.isnan(dense_NW).all(axis=0)]
    return Case(probs_NC.astype(np.float32).astype(np.float64), dense_NW)


def counted(labels_A, *, num_classes):
    """How often each class was answered."""
    return np.bincount(labels_A.astype(int), minlength=num_classes)


def by_cleanlab(case):
    """One minus its scores, labeled and unlabeled in one array. It draws by chance where all else is equal.

    Its own count of answers, which come as floats beside the NaN of those that are missing, takes the classes that
    occur for the first ones: answers that are all of class 1 count as class 0, for the consensus and the temperature.
    """
    scores_N = np.empty(len(case.probs_NC))
    known_N = case.labeled_N
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        for module in (multiannotator, multiannotator_utils):
            patch.setattr(module, "value_counts", counted)
        warnings.simplefilter("ignore")
        scores_N[known_N], scores_N[~known_N] = get_active_learning_scores(
            case.dense_NW[known_N], case.probs_NC[known_N], case.probs_NC[~known_N]
        )
    return 1 - scores_N


@given(
    st.integers(0, 2**31), st.integers(2, 6), st.integers(2, 6), st.floats(0.2, 0.9), st.floats(0, 0.3), st.booleans()
)
def test_worth_equals_cleanlab(seed, classes, annotators, share, error, overlap):
    case = case_of(seed, 60, classes, annotators, share, error, overlap)
    found = relabeling(case.probs_NC, *case.answers)
    np.testing.assert_allclose(found.worth_N, by_cleanlab(case), atol=2e-6)


def transcribed(case, skills=None):
    """The formulas of the papers, sample by sample and answer by answer; no two answers may tie."""
    classes = case.probs_NC.shape[1]
    said = [{int(w): int(c) for w, c in enumerate(row) if not np.isnan(c)} for row in case.dense_NW]
    labeled = [i for i, answers in enumerate(said) if answers]

    def softened(temperature):
        return [[p ** (1 / temperature) / sum(q ** (1 / temperature) for q in row) for p in row] for row in probs]

    def loss(temperature):
        rows = softened(temperature)
        return sum(-sum(math.log(rows[i][c]) for c in said[i].values()) / len(said[i]) for i in labeled)

    probs = case.probs_NC.tolist()
    coarse = [0.1, 0.2, 0.5, 0.8, 1, 2, 3, 5, 8]
    best = min(range(9), key=lambda place: loss(coarse[place]))
    fine = [coarse[best]]
    for other in (coarse[max(best - 1, 0)], coarse[min(best + 1, 8)]):
        fine += [coarse[best] + (other - coarse[best]) * quarter / 4 for quarter in range(1, 5)]
    probs = softened(min(fine, key=loss))

    def votes(i, c):
        return list(said[i].values()).count(c)

    shared = [i for i in labeled if len(said[i]) > 1]

    def weighed(consensus):
        commonest = max(range(classes), key=lambda c: [consensus[i] for i in shared].count(c))
        baseline = max(np.mean([consensus[i] != commonest for i in shared]), 1e-6)
        right = np.mean([votes(i, consensus[i]) / len(said[i]) for i in shared])
        weights = []
        for w in range(case.dense_NW.shape[1]):
            compared = [(votes(i, said[i][w]) - 1, len(said[i]) - 1) for i in shared if w in said[i]]
            skill = sum(a for a, _ in compared) / sum(b for _, b in compared) if skills is None else skills[w]
            weights.append(max(1 - (1 - skill) / baseline, 1e-6))
        wrong = np.mean([np.argmax(probs[i]) != consensus[i] for i in shared])
        return max(1 - wrong / baseline, 1e-6) * math.sqrt(np.mean([len(said[i]) for i in labeled])), weights, right

    def what_is_said(i, told, model, weights, right):
        votes_for, weight = [probs[i][told]], [model]
        for w, c in said[i].items():
            votes_for.append(right if c == told else (1 - right) / (classes - 1))
            weight.append(weights[w])
        return votes_for, weight

    def quality(i, told, weighed_by):
        votes_for, weight = what_is_said(i, told, *weighed_by)
        return np.average(votes_for, weights=weight)

    most_frequent = {i: max(range(classes), key=lambda c: (votes(i, c), probs[i][c])) for i in labeled}
    at_first = weighed(most_frequent)
    consensus = {i: max(range(classes), key=lambda c: quality(i, c, at_first)) for i in labeled}
    model, weights, right = weighed(consensus)
    average = np.mean(weights)
    worth = []
    for i, row in enumerate(probs):
        votes_for, weight = what_is_said(i, consensus.get(i, int(np.argmax(row))), model, weights, right)
        worth.append(1 - np.average([*votes_for, 1 / classes], weights=[*weight, average]))
    return worth


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("skills", [None, [0.95, 0.9, 0.7, 0.4]])
def test_worth_is_the_formula(seed, skills):
    case = case_of(seed, share=0.7)
    found = relabeling(case.probs_NC, *case.answers, skills_W=skills)
    np.testing.assert_allclose(found.worth_N, transcribed(case, skills), atol=2e-6)


def test_what_is_reported_by_hand():
    """Two annotators agree about samples 0 and 1 and not about 2; nobody has looked at 3."""
    probs_NC = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]]
    found = relabeling(probs_NC, [0, 2, 4, 6, 6], [0, 1, 0, 1, 0, 1], [0, 0, 1, 1, 0, 1])
    assert found.consensus_N.tolist() == [0, 1, 0, -1]
    np.testing.assert_allclose(found.agreement_N, [1, 1, 0.5, 1])
    assert found.annotator_weights_W[0] == found.annotator_weights_W[1]
    assert found.quality_N[3] == pytest.approx(0.5)
    assert np.argsort(-found.worth_N).tolist()[:2] == [3, 2]


def test_a_weak_annotator_counts_for_less_and_their_samples_are_worth_more():
    rng = np.random.default_rng(0)
    true_N = rng.integers(0, 3, 400)
    said_NW = np.repeat(true_N[:, None], 3, axis=1)
    weak = rng.random(400) < 0.5
    said_NW[weak, 2] = rng.integers(0, 3, weak.sum())
    probs_NC = np.where(np.eye(3)[true_N] > 0, 0.6, 0.2)
    offsets = np.arange(0, 1201, 3)
    found = relabeling(probs_NC, offsets, np.tile([0, 1, 2], 400), said_NW.reshape(-1))
    assert found.annotator_weights_W.argmin() == 2
    disputed = said_NW[:, 2] != true_N
    assert found.worth_N[disputed].min() > found.worth_N[~disputed].max()


def test_the_order_of_samples_and_the_names_of_annotators_do_not_matter():
    case = case_of(5, size=80)
    order, renamed = np.random.default_rng(1).permutation(80), [2, 0, 3, 1]
    moved = Case(case.probs_NC[order], case.dense_NW[order][:, renamed])
    straight, other = relabeling(case.probs_NC, *case.answers), relabeling(moved.probs_NC, *moved.answers)
    np.testing.assert_allclose(straight.worth_N[order], other.worth_N, atol=1e-6)
    np.testing.assert_allclose(straight.annotator_weights_W[renamed], other.annotator_weights_W)


def test_many_samples_are_rated_by_blocks_as_one():
    case = case_of(6, size=3000, classes=200, error=0.05)
    np.testing.assert_allclose(relabeling(case.probs_NC, *case.answers).worth_N, by_cleanlab(case), atol=2e-6)


def test_without_any_answer_the_least_confident_come_first():
    probs_NC = np.array([[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]])
    found = relabeling(probs_NC, [0, 0, 0, 0], [], [])
    np.testing.assert_allclose(found.worth_N, 1 - (probs_NC.max(axis=1) + 0.5) / 2, rtol=1e-6)
    assert found.consensus_N.tolist() == [-1, -1, -1]


def test_one_class_is_worth_nothing():
    found = relabeling([[1.0], [1.0]], [0, 2, 2], [0, 1], [0, 0])
    assert found.worth_N.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("offsets", "annotators", "classes", "skills", "reason"),
    [
        ([0, 1], [0], [0], None, "INVALID_ARRAY"),
        ([1, 1, 2], [0], [0], None, "INVALID_ARRAY"),
        ([0, 2, 1], [0], [0], None, "INVALID_ARRAY"),
        ([0, 1, 3], [0], [0], None, "INVALID_ARRAY"),
        ([0, 1, 1], [0], [0.5], None, "INVALID_ARRAY"),
        ([0, 2, 2], [3, 3], [0, 1], None, "INVALID_ARRAY"),
        ([0, 1, 1], [0], [2], None, "CLASS_OUT_OF_RANGE"),
        ([0, 1, 1], [-1], [0], None, "CLASS_OUT_OF_RANGE"),
        ([0, 2, 2], [0, 1], [0, 1], [0.5], "INVALID_PARAMETER"),
        ([0, 2, 2], [0, 1], [0, 1], [0.5, math.nan], "INVALID_PARAMETER"),
    ],
)
def test_refusals(offsets, annotators, classes, skills, reason):
    with pytest.raises(StrategyError) as caught:
        relabeling([[0.5, 0.5], [0.5, 0.5]], offsets, annotators, classes, skills_W=skills)
    assert caught.value.reason == reason


def test_what_is_no_probability_is_refused():
    with pytest.raises(StrategyError, match="sum to 1"):
        relabeling([[0.5, np.nan]], [0, 0], [], [])


@pytest.mark.parametrize("shared", [True, False])
def test_first_answers_are_worth_what_relabeling_says(shared: bool) -> None:
    rng = np.random.default_rng(3)
    probs = rng.dirichlet(np.ones(3), 60).astype(np.float32)
    counts = np.where(np.arange(60) < 40, 2 if shared else 1, 0)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    annotators = np.concatenate([np.arange(count) for count in counts])
    said = rng.integers(3, size=int(counts.sum()))
    rated = relabeling(probs, offsets, annotators, said)
    weights = rated.annotator_weights_W[rated.annotator_weights_W > 0]
    first = first_answers(
        probs[40:],
        model_weight=rated.model_weight,
        annotator_weight=float(weights.mean()),
        temperature=rated.temperature,
    )
    np.testing.assert_allclose(first, rated.worth_N[40:], rtol=1e-6)
    if not shared:
        np.testing.assert_array_equal(first_answers(probs[40:]), first)
