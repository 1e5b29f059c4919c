"""How well each given label fits what a model predicts, and how likely it is a mistake."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.strategies.audit.inputs import checked_labels, checked_probs
from assay.strategies.errors import InvalidParams
from assay.strategies.kernels.fused import from_probs
from assay.strategies.kernels.tensors import spread

# Float32 values in a block of rows: 1 MB, so that the passes over it stay in a core's cache.
_BLOCK_VALUES = 1 << 18
_LEAST_CONFIDENCE = 1e-6


@dataclass(frozen=True)
class LabelQuality:
    """Scores of given labels, each float32 of shape (N,) within [0, 1]; lower = more likely wrong.

    self_confidence_N: the probability of the given class, p_y.
    normalized_margin_N: (p_y - the largest other probability + 1) / 2; below 1/2 another class is likelier.
    confidence_weighted_entropy_N: ln(1 + e) / e with e = entropy / ln C / p_y, p_y at least 1e-6.
    """

    self_confidence_N: NDArray[np.float32]
    normalized_margin_N: NDArray[np.float32]
    confidence_weighted_entropy_N: NDArray[np.float32]


def label_quality(probs_NC: ArrayLike, labels_N: ArrayLike) -> LabelQuality:
    """Three scores of how well the labels fit the probabilities, which should be of samples not trained on.

    Operations O(N C), memory O(N) beside the input (a block per core). Definitions are those of cleanlab.rank
    (Northcutt, Jiang, Chuang, "Confident Learning", JAIR 2021; Kuan and Mueller, "Model-agnostic label quality
    scoring to detect real-world label errors", ICML DataPerf workshop 2022). Where we differ: cleanlab gives a row
    with one probability of exactly 1 a weighted entropy of 0, the worst, though it be on the given class; here
    ln(1 + e) / e has its limit, 1, there, and 0 only where the 1 is on another class.
    Raises StrategyError INVALID_ARRAY, CLASS_OUT_OF_RANGE or PROBABILITIES_INVALID.
    """
    probs = checked_probs(probs_NC)
    labels = checked_labels(labels_N, *probs.shape)
    entropy_N = from_probs(probs, ("entropy",))["entropy"]
    own_N, other_N = _own_and_best_other(probs, labels)
    margin_N: NDArray[np.float32] = (own_N - other_N + 1) / np.float32(2)
    return LabelQuality(own_N, margin_N, _weighted_entropy(entropy_N, own_N, probs.shape[1]))


def mistakenness(
    probs_NC: ArrayLike, labels_N: ArrayLike, *, confidence: Literal["top", "entropy"] = "top"
) -> NDArray[np.float32]:
    """The chance that each label is a mistake, float32 of shape (N,) within [0, 1]; higher = more likely wrong.

    (m c + 1) / 2, with m = -1 where the likeliest class (the lowest of equals) is the label and 1 where it is
    not: a sure contradiction nears 1, sure agreement 0, and a prediction without confidence says nothing, 1/2.
    confidence: c is the top probability ("top", what fiftyone takes from a prediction's `confidence`), or
    exp(-entropy) with the natural logarithm ("entropy", what it computes with `use_logits=True`).
    Definition: fiftyone's compute_mistakenness for classification. Raises as `label_quality` does, and
    StrategyError INVALID_PARAMETER.
    """
    if confidence not in ("top", "entropy"):
        raise InvalidParams("confidence", f"must be 'top' or 'entropy', not {confidence!r}")
    probs = checked_probs(probs_NC)
    labels = checked_labels(labels_N, *probs.shape)
    if confidence == "top":
        confidence_N = 1 - from_probs(probs, ("least_confidence",))["least_confidence"]
    else:
        confidence_N = np.exp(-from_probs(probs, ("entropy",))["entropy"])
    signs_N = np.where(probs.argmax(axis=1) == labels, np.float32(-1), np.float32(1))
    return np.clip((signs_N * confidence_N + 1) / 2, 0, 1)


def by_blocks(probs_NC: NDArray[np.float32]) -> int:
    """How many rows of the probabilities make a block."""
    classes: int = probs_NC.shape[1]
    return max(1, _BLOCK_VALUES // classes)


def _own_and_best_other(
    probs_NC: NDArray[np.float32], labels_N: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Each row's probability of its label, and the largest of the others (0 where there is no other)."""
    own_N = probs_NC[np.arange(len(labels_N)), labels_N]
    other_N = np.empty_like(own_N)

    def block(start: int, stop: int) -> None:
        others_BC = probs_NC[start:stop].copy()
        others_BC[np.arange(stop - start), labels_N[start:stop]] = 0
        others_BC.max(axis=1, out=other_N[start:stop])

    spread(block, len(labels_N), by_blocks(probs_NC))
    return own_N, other_N


def _weighted_entropy(entropy_N: NDArray[np.float32], own_N: NDArray[np.float32], classes: int) -> NDArray[np.float32]:
    if classes == 1:
        return np.ones_like(own_N)
    ratio_N = np.maximum(entropy_N, 0) / math.log(classes) / np.maximum(own_N, _LEAST_CONFIDENCE)
    limit_N = (own_N > 0).astype(np.float32)
    return np.divide(np.log1p(ratio_N), ratio_N, out=limit_N, where=ratio_N > 0)
