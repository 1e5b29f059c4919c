"""Confident learning: which labels are wrong, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.strategies.audit.inputs import checked_labels, checked_probs
from assay.strategies.audit.quality import LabelQuality, by_blocks, label_quality
from assay.strategies.errors import InvalidParams
from assay.strategies.kernels.tensors import spread

Prune = Literal["off_diagonal", "low_self_confidence", "noise_rate", "class"]

# Probabilities closer than this count as equal.
_TOLERANCE = 1e-6
# A threshold must stay above the tolerance, or a class of zeros would be everyone's.
_LEAST_THRESHOLD = 2e-6

Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ConfidentLearning:
    """What the probabilities say about the labels. In all matrices: row = given label, column = true class.

    thresholds_C: mean probability of each class over the samples labeled so, float64; infinity for unused classes.
    confident_N: the class that each sample is confidently counted into, int64; -1 where there is none.
    counted_CC: confident joint, how often label i was counted into class j, int64; at least 1 on the diagonal.
    joint_CC: the same scaled to the number of labels of each class, and rounded with row totals kept, int64.
    noise_CC: P(label i | true class j), columns sum to 1 (or are 0 for a class nobody is in), float64.
    inverse_noise_CC: P(true class j | label i), rows sum to 1 (or are 0), float64.
    prior_C: estimated share of each true class, float64.
    quality: scores of each label; lower = more likely wrong.
    suspicious_N: the labels that are probably wrong, bool.
    """

    thresholds_C: NDArray[np.float64]
    confident_N: Counts
    counted_CC: Counts
    joint_CC: Counts
    noise_CC: NDArray[np.float64]
    inverse_noise_CC: NDArray[np.float64]
    prior_C: NDArray[np.float64]
    quality: LabelQuality
    suspicious_N: Bools

    @property
    def worst_first(self) -> Counts:
        """Indices of the suspicious labels by rising self-confidence; equal ones by index."""
        indices_M: Counts = np.flatnonzero(self.suspicious_N)
        order_M: Counts = np.argsort(self.quality.self_confidence_N[indices_M], kind="stable")
        return indices_M[order_M]


def confident_learning(probs_NC: ArrayLike, labels_N: ArrayLike, *, prune: Prune = "off_diagonal") -> ConfidentLearning:
    """Estimate the joint distribution of given and true labels, and find the labels that are probably wrong.

    probs_NC: predictions for samples that the model was not trained on (cross-validated), (N, C).
    labels_N: the given classes, (N,).
    prune: which labels are suspicious. In all but low_self_confidence, never one that is the likeliest class.
        off_diagonal: those confidently counted into another class.
        low_self_confidence: as many as that, but those with the lowest p_y.
        noise_rate: for each pair of classes, as many as the joint says, with the largest p_j - p_label.
        class: for each class, as many as the joint says, with the lowest p_label.

    A sample is confident of class j if p_j >= t_j - 1e-6, t_j being the mean of p_j over samples labeled j; it is
    counted into that class, and where there are several, into its likeliest of all. (The paper takes the likeliest
    of the confident ones, which differs where the top class is not confident and two others are. We follow the
    reference, so that counts can be compared.) The last label of a class is never pruned by noise_rate and class.

    Operations O(N C + N log N), memory O(N + C^2) beside the input (noise_rate: and a copy of the largest class).
    Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021; reference:
    cleanlab 2.9 (`compute_confident_joint`, `estimate_latent`, `find_label_issues`). We differ in not clipping noise
    rates and priors away from 0 and 1, in infinity for the threshold of an unused class, and in ties (of ranks, of
    remainders to round), which go to the lower index: there the reference follows rounding errors and an unstable sort.
    Raises StrategyError INVALID_ARRAY, CLASS_OUT_OF_RANGE, PROBABILITIES_INVALID or INVALID_PARAMETER.
    """
    if prune not in _PRUNES:
        raise InvalidParams("prune", f"must be one of {', '.join(_PRUNES)}, not {prune!r}")
    probs = checked_probs(probs_NC)
    labels = checked_labels(labels_N, *probs.shape)
    quality = label_quality(probs, labels)
    labeled_C = np.bincount(labels, minlength=probs.shape[1])
    thresholds_C = _thresholds(quality.self_confidence_N, labels, labeled_C)
    confident_N = _confident_classes(probs, thresholds_C)
    counted_CC = _counted(confident_N, labels, len(labeled_C))
    joint_CC = _calibrated(counted_CC, labeled_C)
    evidence = _Evidence(probs, labels, quality, confident_N, joint_CC)
    return ConfidentLearning(
        thresholds_C,
        confident_N,
        counted_CC,
        joint_CC,
        _shares(joint_CC, joint_CC.sum(axis=0)),
        _shares(joint_CC, joint_CC.sum(axis=1)[:, None]),
        joint_CC.sum(axis=0) / len(labels),
        quality,
        _PRUNES[prune](evidence),
    )


@dataclass(frozen=True)
class _Evidence:
    probs_NC: NDArray[np.float32]
    labels_N: Counts
    quality: LabelQuality
    confident_N: Counts
    joint_CC: Counts

    @property
    def contradicted_N(self) -> Bools:
        """Whether some other class is likelier than the label."""
        contradicted_N: Bools = self.quality.normalized_margin_N < (1 - _TOLERANCE) / 2
        return contradicted_N


def _thresholds(own_N: NDArray[np.float32], labels_N: Counts, labeled_C: Counts) -> NDArray[np.float64]:
    totals_C = np.bincount(labels_N, own_N.astype(np.float64), len(labeled_C))
    means_C = np.full(len(labeled_C), np.inf)
    np.divide(totals_C, labeled_C, out=means_C, where=labeled_C > 0)
    np.maximum(means_C, _LEAST_THRESHOLD, out=means_C)
    return means_C


def _confident_classes(probs_NC: NDArray[np.float32], thresholds_C: NDArray[np.float64]) -> Counts:
    classes_N = np.empty(len(probs_NC), np.int64)
    bars_C = (thresholds_C - _TOLERANCE).astype(np.float32)

    def block(start: int, stop: int) -> None:
        probs_BC = probs_NC[start:stop]
        confident_BC = probs_BC >= bars_C
        count_B = np.count_nonzero(confident_BC, axis=1)
        chosen_B = np.where(count_B > 1, probs_BC.argmax(axis=1), confident_BC.argmax(axis=1))
        classes_N[start:stop] = np.where(count_B > 0, chosen_B, -1)

    spread(block, len(probs_NC), by_blocks(probs_NC))
    return classes_N


def _counted(confident_N: Counts, labels_N: Counts, classes: int) -> Counts:
    counted_N = confident_N >= 0
    cells_M = labels_N[counted_N] * classes + confident_N[counted_N]
    counted_CC = np.bincount(cells_M, minlength=classes * classes).reshape(classes, classes)
    np.fill_diagonal(counted_CC, np.maximum(counted_CC.diagonal(), 1))
    return counted_CC


def _calibrated(counted_CC: Counts, labeled_C: Counts) -> Counts:
    """Each row scaled to the number of labels of its class, in whole numbers: the largest remainders are rounded up."""
    totals_C1 = counted_CC.sum(axis=1, keepdims=True)
    joint_CC, remainders_CC = np.divmod(counted_CC * labeled_C[:, None], totals_C1)
    missing_C1 = labeled_C[:, None] - joint_CC.sum(axis=1, keepdims=True)
    ranks_CC = np.argsort(np.argsort(-remainders_CC, axis=1, kind="stable"), axis=1, kind="stable")
    calibrated_CC: Counts = joint_CC + (ranks_CC < missing_C1)
    return calibrated_CC


def _shares(joint_CC: Counts, totals: Counts) -> NDArray[np.float64]:
    return np.divide(joint_CC, totals, out=np.zeros(joint_CC.shape), where=totals > 0)


def _off_diagonal(evidence: _Evidence) -> Bools:
    confident_N, labels_N = evidence.confident_N, evidence.labels_N
    elsewhere_N: Bools = (confident_N >= 0) & (confident_N != labels_N)
    return elsewhere_N & evidence.contradicted_N


def _low_self_confidence(evidence: _Evidence) -> Bools:
    suspicious_N = np.zeros(len(evidence.labels_N), np.bool_)
    count = int(_off_diagonal(evidence).sum())
    suspicious_N[np.argsort(evidence.quality.self_confidence_N, kind="stable")[:count]] = True
    return suspicious_N


def _by_noise_rate(evidence: _Evidence) -> Bools:
    suspicious_N = np.zeros(len(evidence.labels_N), np.bool_)
    for label, rows_M, counts_C in _pruned_classes(evidence):
        columns_CM = np.ascontiguousarray(evidence.probs_NC[rows_M].T)
        for other in np.flatnonzero(counts_C):
            if other != label:
                suspicious_N[rows_M[_lowest(columns_CM[label] - columns_CM[other], counts_C[other])]] = True
    return suspicious_N & evidence.contradicted_N


def _lowest(values_M: NDArray[np.float32], count: int) -> Counts:
    """Places of the `count` (from 1) lowest values; of equal ones the first."""
    limit = np.partition(values_M, count - 1)[count - 1]
    below_M = np.flatnonzero(values_M < limit)
    equal_M: Counts = np.flatnonzero(values_M == limit)
    return np.concatenate([below_M, equal_M[: count - len(below_M)]])


def _by_class(evidence: _Evidence) -> Bools:
    suspicious_N = np.zeros(len(evidence.labels_N), np.bool_)
    for label, rows_M, counts_C in _pruned_classes(evidence):
        order_M = np.argsort(evidence.probs_NC[rows_M, label], kind="stable")
        suspicious_N[rows_M[order_M[: len(rows_M) - counts_C[label]]]] = True
    return suspicious_N & evidence.contradicted_N


def _pruned_classes(evidence: _Evidence) -> list[tuple[int, Counts, Counts]]:
    """Each class of two labels or more: its number, its samples, and how many of them are of each true class."""
    order_N = np.argsort(evidence.labels_N, kind="stable")
    labeled_C = np.bincount(evidence.labels_N, minlength=len(evidence.joint_CC))
    rows_C = np.split(order_N, np.cumsum(labeled_C)[:-1])
    kept_CC = _keeping_one(evidence.joint_CC)
    return [(label, rows_M, kept_CC[label]) for label, rows_M in enumerate(rows_C) if len(rows_M) > 1]


def _keeping_one(joint_CC: Counts) -> Counts:
    """The joint with at least 1 on the diagonal, taken from the other counts of the row in equal parts."""
    missing_C = np.maximum(1 - joint_CC.diagonal(), 0)
    givers_C = np.maximum(np.count_nonzero(joint_CC, axis=1) - 1, 1)
    kept_CC: Counts = np.floor(np.maximum(joint_CC - (missing_C / givers_C)[:, None], 0)).astype(np.int64)
    np.fill_diagonal(kept_CC, np.maximum(joint_CC.diagonal(), 1))
    return kept_CC


_PRUNES: dict[str, Callable[[_Evidence], Bools]] = {
    "off_diagonal": _off_diagonal,
    "low_self_confidence": _low_self_confidence,
    "noise_rate": _by_noise_rate,
    "class": _by_class,
}
