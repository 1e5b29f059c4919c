"""What annotators say of the same samples: counts of their answers, and how much they disagree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.strategies.audit.inputs import checked_classes, checked_labels, require_same_size
from assay.strategies.errors import StrategyError

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """The class that each annotator gave to each sample that they answered, one sample's answers after the other.

    offsets_O: sample i has the answers offsets_O[i] to offsets_O[i + 1] - 1, which may be none; int64, N + 1 of them.
    annotators_A: who answered, as numbers from 0; int64. Nobody answers for a sample twice.
    classes_A: what they said; int64.
    """

    offsets_O: Counts
    annotators_A: Counts
    classes_A: Counts

    @property
    def counts_N(self) -> Counts:
        """How many answers each sample has."""
        counts_N: Counts = np.diff(self.offsets_O)
        return counts_N

    @property
    def samples_A(self) -> Counts:
        """The sample of each answer."""
        return np.repeat(np.arange(len(self.offsets_O) - 1), self.counts_N)


def checked_answers(
    offsets_O: ArrayLike, annotators_A: ArrayLike, classes_A: ArrayLike, size: int, classes: int | None = None
) -> Answers:
    """Answers for `size` samples, checked. Raises StrategyError INVALID_ARRAY or CLASS_OUT_OF_RANGE."""
    offsets, annotators, said = (_integers(a) for a in (offsets_O, annotators_A, classes_A))
    if offsets.shape != (size + 1,) or offsets[0] != 0 or bool((np.diff(offsets) < 0).any()):
        raise StrategyError("INVALID_ARRAY", f"offsets must be {size + 1} numbers that begin with 0 and never descend")
    for array, name in ((annotators, "annotators"), (said, "classes")):
        if array.shape != (int(offsets[-1]),):
            raise StrategyError("INVALID_ARRAY", f"offsets end at {offsets[-1]}, but there are {len(array)} {name}")
    if len(said):
        checked_classes(annotators, "annotators")
        checked_classes(said, "classes", classes)
    answers = Answers(offsets, annotators, said)
    pairs_A = np.sort(answers.samples_A * (int(annotators.max(initial=0)) + 1) + annotators)
    if bool((pairs_A[1:] == pairs_A[:-1]).any()):
        raise StrategyError("INVALID_ARRAY", "an annotator answers for a sample twice: give the one that stands")
    return answers


def annotator_disagreement(offsets_O: ArrayLike, classes_A: ArrayLike) -> NDArray[np.float32]:
    """The share of pairs of answers to a sample that differ, float32 of shape (N,); 0 with fewer than two answers.

    0 = all say the same, 1 = no two do. One minus the agreement on a sample in Fleiss, "Measuring Nominal Scale
    Agreement Among Many Raters", Psychological Bulletin 1971; the number of answers may differ between samples.
    offsets_O: sample i has the answers offsets_O[i] to offsets_O[i + 1] - 1, N + 1 offsets. classes_A: the class of
    each answer, from 0. Operations O(A log A), memory O(A + N) for A answers. Raises StrategyError INVALID_ARRAY or
    CLASS_OUT_OF_RANGE.
    """
    said = _integers(classes_A)
    answers = checked_answers(offsets_O, np.arange(len(said)), said, max(np.size(offsets_O) - 1, 0))
    counts_N = answers.counts_N
    order_A = np.lexsort((answers.classes_A, answers.samples_A))
    keys_2A = np.stack([answers.samples_A[order_A], answers.classes_A[order_A]])
    starts = np.flatnonzero(np.concatenate([[True], (keys_2A[:, 1:] != keys_2A[:, :-1]).any(axis=0)])[: len(said)])
    alike_G = np.diff(np.append(starts, len(said)))
    # Of each sample, the ordered pairs of answers with one class.
    alike_N = np.bincount(keys_2A[0][starts], alike_G * (alike_G - 1), len(counts_N))
    pairs_N = counts_N * (counts_N - 1)
    shares_N = np.zeros(len(counts_N), np.float64)
    np.divide(pairs_N - alike_N, pairs_N, out=shares_N, where=pairs_N > 0)
    return shares_N.astype(np.float32)


def duplicate_disagreement(groups_N: ArrayLike, labels_N: ArrayLike) -> NDArray[np.float32]:
    """The share of each sample's labeled copies that have another label, float32 of shape (N,).

    1 = all copies contradict the label, 0 = none does; a sample without label, or without labeled copies, is 0.
    groups_N: the group of each sample, as `near_duplicates` gives it. labels_N: classes from 0, -1 where there is none.
    Operations O(N log N), memory O(N). Raises StrategyError INVALID_ARRAY or CLASS_OUT_OF_RANGE.
    """
    groups = checked_classes(groups_N, "groups")
    labels = _integers(labels_N)
    require_same_size(len(groups), len(labels), "labels")
    labels = checked_labels(labels + 1, len(groups)) - 1
    shares_N = np.zeros(len(groups), np.float32)
    rows_M = np.flatnonzero(labels >= 0)
    _, group_M, in_group_G = np.unique(groups[rows_M], return_inverse=True, return_counts=True)
    cells_M = group_M * (int(labels.max(initial=0)) + 1) + labels[rows_M]
    _, cell_M, in_cell_X = np.unique(cells_M, return_inverse=True, return_counts=True)
    others_M = in_group_G[group_M] - 1
    unlike_M = in_group_G[group_M] - in_cell_X[cell_M]
    shares_N[rows_M] = np.divide(unlike_M, others_M, out=np.zeros(len(rows_M)), where=others_M > 0)
    return shares_N


def _integers(values: ArrayLike) -> Counts:
    """Whole numbers as int64 of one axis; an empty list of any type is taken. Raises StrategyError INVALID_ARRAY."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise StrategyError("INVALID_ARRAY", f"expected a list of whole numbers, got {array.dtype} {array.shape}")
    return array.astype(np.int64, copy=False)
