"""Confident learning on hand-made arrays and against cleanlab."""

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint, estimate_latent, get_confident_thresholds
from cleanlab.filter import find_label_issues

from assay.strategies.audit import confident_learning
from assay.strategies.errors import StrategyError

FILTERS = {
    "off_diagonal": "confident_learning",
    "low_self_confidence": "low_self_confidence",
    "noise_rate": "prune_by_noise_rate",
    "class": "prune_by_class",
}


def noisy(seed: int, size: int = 400, classes: int = 5, noise: float = 0.2, sharpness: float = 2.0):
    """Float32 predictions of true classes, and labels of which some are wrong."""
    rng = np.random.default_rng(seed)
    true_N = rng.integers(0, classes, size)
    logits_NC = rng.normal(size=(size, classes)) + sharpness * np.eye(classes)[true_N]
    probs_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(1, keepdims=True)
    wrong_N = rng.random(size) < noise
    labels_N = np.where(wrong_N, (true_N + rng.integers(1, classes, size)) % classes, true_N)
    return probs_NC.astype(np.float32), labels_N, wrong_N


HAND_PROBS = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
HAND_LABELS = np.array([0, 0, 0, 1, 1, 1])


def test_by_hand():
    # t_0 = (.9 + .8 + .1) / 3 = .6, t_1 = (.8 + .7 + .4) / 3 = .6333: all six are confident; 2 and 5 contradict.
    found = confident_learning(HAND_PROBS, HAND_LABELS)
    assert found.thresholds_C == pytest.approx([0.6, 1.9 / 3])
    assert found.confident_N.tolist() == [0, 0, 1, 1, 1, 0]
    assert found.counted_CC.tolist() == [[2, 1], [1, 2]]
    assert found.joint_CC.tolist() == [[2, 1], [1, 2]]
    assert found.noise_CC == pytest.approx(np.array([[2, 1], [1, 2]]) / 3)
    assert found.inverse_noise_CC == pytest.approx(np.array([[2, 1], [1, 2]]) / 3)
    assert found.prior_C.tolist() == [0.5, 0.5]
    assert found.suspicious_N.tolist() == [False, False, True, False, False, True]
    assert found.worst_first.tolist() == [2, 5]


def test_not_confident_of_any_class_is_counted_nowhere():
    probs_NC = [[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.5, 0.5]]
    found = confident_learning(probs_NC, [0, 0, 1, 1, 0])
    assert found.confident_N.tolist() == [0, 0, 1, 1, -1]
    assert found.joint_CC.tolist() == [[3, 0], [0, 2]]


def test_the_likeliest_of_all_classes_counts_where_several_are_confident():
    # Thresholds .9, .25, .2; the last row is confident of 1 and 2, and its likeliest class is 0.
    probs_NC = [[0.9, 0.05, 0.05], [0.7, 0.2, 0.1], [0.7, 0.1, 0.2], [0.45, 0.3, 0.25]]
    labels_N = np.array([0, 1, 2, 1])
    assert confident_learning(probs_NC, labels_N).confident_N.tolist() == [0, -1, 2, 0]
    counts = compute_confident_joint(labels_N, np.asarray(probs_NC, np.float32), calibrate=False)
    assert confident_learning(probs_NC, labels_N).counted_CC.tolist() == counts.tolist()


def rounds_one_way_only(row_C: np.ndarray, total: int) -> bool:
    """Whether no two remainders tie for being rounded up: there the reference follows rounding errors."""
    remainders = sorted((int(count) * int(total)) % int(row_C.sum()) for count in row_C)
    up = sum(remainders) // int(row_C.sum())
    return up == 0 or remainders[-up] > remainders[-up - 1]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shape", [(30, 2), (400, 5), (300, 12)])
def test_joint_and_noise_equal_cleanlab(seed, shape):
    probs_NC, labels_N, _ = noisy(seed, *shape, noise=0.1 + 0.02 * seed)
    found = confident_learning(probs_NC, labels_N)
    assert found.thresholds_C == pytest.approx(get_confident_thresholds(labels_N, probs_NC), rel=1e-5)
    assert found.counted_CC.tolist() == compute_confident_joint(labels_N, probs_NC, calibrate=False).tolist()
    joint_CC = compute_confident_joint(labels_N, probs_NC)
    clear_C = np.array([rounds_one_way_only(row_C, (labels_N == c).sum()) for c, row_C in enumerate(found.counted_CC)])
    assert clear_C.any()
    assert found.joint_CC[clear_C].tolist() == joint_CC[clear_C].tolist()
    assert found.joint_CC == pytest.approx(joint_CC, abs=1)
    assert found.joint_CC.sum(axis=1).tolist() == joint_CC.sum(axis=1).tolist()
    prior_C, noise_CC, inverse_CC = estimate_latent(found.joint_CC, labels_N)
    assert found.prior_C == pytest.approx(prior_C, abs=1e-5)
    assert found.noise_CC == pytest.approx(noise_CC)
    assert found.inverse_noise_CC == pytest.approx(inverse_CC.T)


@pytest.mark.parametrize("prune", FILTERS)
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", [(40, 2), (400, 5), (120, 10)])
def test_suspicious_labels_equal_cleanlab(prune, seed, shape):
    probs_NC, labels_N, _ = noisy(seed, *shape, sharpness=1.5)
    found = confident_learning(probs_NC, labels_N, prune=prune)
    joint_CC = found.joint_CC if prune in ("noise_rate", "class") else None
    issues_N = find_label_issues(labels_N, probs_NC, filter_by=FILTERS[prune], confident_joint=joint_CC, n_jobs=1)
    assert found.suspicious_N.tolist() == issues_N.tolist()


def test_of_equal_remainders_the_first_is_rounded_up():
    # Thresholds .4667 and .8; the third row is confident of nothing: 3 labels over counts 1 and 1.
    probs_NC = [[0.9, 0.1], [0.1, 0.9], [0.4, 0.6], [0.2, 0.8], [0.2, 0.8]]
    found = confident_learning(probs_NC, [0, 0, 0, 1, 1])
    assert found.counted_CC.tolist() == [[1, 1], [0, 2]]
    assert found.joint_CC.tolist() == [[2, 1], [0, 2]]


def test_finds_most_planted_mistakes():
    probs_NC, labels_N, wrong_N = noisy(0, 2000, 5, sharpness=6.0)
    found = confident_learning(probs_NC, labels_N)
    hits = (found.suspicious_N & wrong_N).sum()
    assert hits / wrong_N.sum() > 0.9
    assert hits / found.suspicious_N.sum() > 0.9
    assert (np.diff(found.quality.self_confidence_N[found.worst_first]) >= 0).all()


def test_a_class_nobody_has_is_never_counted():
    probs_NC, labels_N, _ = noisy(1, 100, 3)
    probs_NC = np.insert(probs_NC * 0.5, 1, 0.5, axis=1)
    labels_N = np.where(labels_N > 0, labels_N + 1, 0)
    found = confident_learning(probs_NC, labels_N)
    assert found.thresholds_C[1] == np.inf
    assert found.joint_CC[1].tolist() == found.joint_CC[:, 1].tolist() == [0, 0, 0, 0]
    assert found.noise_CC[:, 1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("prune", FILTERS)
def test_one_class_or_one_sample_is_fine(prune):
    assert not confident_learning(np.ones((3, 1)), [0, 0, 0], prune=prune).suspicious_N.any()
    assert confident_learning([[0.3, 0.7]], [0], prune=prune).joint_CC.tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize("prune", FILTERS)
def test_permuting_samples_permutes_what_is_suspicious(prune):
    probs_NC, labels_N, _ = noisy(3)
    order_N = np.random.default_rng(0).permutation(len(labels_N))
    found = confident_learning(probs_NC, labels_N, prune=prune)
    permuted = confident_learning(probs_NC[order_N], labels_N[order_N], prune=prune)
    assert permuted.suspicious_N.tolist() == found.suspicious_N[order_N].tolist()
    assert permuted.joint_CC.tolist() == found.joint_CC.tolist()


def test_inputs_are_only_read():
    probs_NC, labels_N, _ = noisy(3)
    probs_NC.flags.writeable = labels_N.flags.writeable = False
    confident_learning(probs_NC, labels_N)


@pytest.mark.parametrize(
    ("probs_NC", "labels_N", "reason"),
    [
        ([[0.5, 0.5]], [2], "CLASS_OUT_OF_RANGE"),
        ([[0.5, 0.5]], [-1], "CLASS_OUT_OF_RANGE"),
        ([[0.5, 0.5]], [0, 1], "INVALID_ARRAY"),
        ([[0.5, 0.5]], [0.0], "INVALID_ARRAY"),
        ([[0.5, 0.5]], [[0]], "INVALID_ARRAY"),
        ([0.5, 0.5], [0], "INVALID_ARRAY"),
        (np.empty((0, 2)), np.empty(0, int), "INVALID_ARRAY"),
        (np.empty((2, 0)), [0, 0], "INVALID_ARRAY"),
        ([[0.5, np.nan]], [0], "PROBABILITIES_INVALID"),
        ([[0.5, 0.6]], [0], "PROBABILITIES_INVALID"),
    ],
)
def test_refusals(probs_NC, labels_N, reason):
    with pytest.raises(StrategyError) as refused:
        confident_learning(probs_NC, labels_N)
    assert refused.value.reason == reason


def test_an_unknown_way_to_prune_is_refused():
    with pytest.raises(StrategyError, match="prune"):
        confident_learning(HAND_PROBS, HAND_LABELS, prune="all")
