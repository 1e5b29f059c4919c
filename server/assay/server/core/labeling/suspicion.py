"""What contradicts the labels of a pool: pure functions from labels, vectors and answers to suspects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise as successive

import numpy as np
import numpy.typing as npt

from assay.server.core.labeling.policies import Ints
from assay.server.core.labeling.weighing import Annotations, at
from assay.server.core.records.arrays import FloatArray, RowArray
from assay.server.core.records.suspects import Rating, SuspectKind
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.base import Task
from assay.server.core.tasks.voting import pairwise
from assay.strategies.audit import (
    annotator_disagreement,
    confident_learning,
    duplicate_disagreement,
    knn_disagreement,
    near_duplicates,
    relabeling,
)

# Suspects of a kind that are kept, those with the highest scores: an audit takes so much memory and no more.
MOST_SUSPECTS = 100_000
# A label is suspect when more than this share of its neighbours have another one.
_MOST_NEIGHBORS = 0.5
# Answers of many parts hardly ever are alike: they are suspect when they agree by less than this.
_LEAST_AGREEMENT = 0.5

# What can contradict the labels of each task. Neighbours and copies can where labels are equal or not; a model can
# where it gives each class a probability, of which one is right.
KINDS: Mapping[TaskKind, tuple[SuspectKind, ...]] = {
    TaskKind.CLASSIFICATION: tuple(SuspectKind),
    TaskKind.MULTILABEL: (SuspectKind.ANNOTATORS, SuspectKind.DUPLICATES),
    TaskKind.REGRESSION: (SuspectKind.ANNOTATORS,),
    TaskKind.BOXES: (SuspectKind.ANNOTATORS,),
    TaskKind.SPANS: (SuspectKind.ANNOTATORS,),
    TaskKind.FREEFORM: (SuspectKind.ANNOTATORS,),
}


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Suspects of one kind, those with the highest scores first.

    Attributes:
        rows_M: which samples.
        scores_M: how strongly the label is contradicted, in (0, 1].
        suggested_M: class id that is likelier, -1 where nothing suggests one.
        count: how many there are, of which at most MOST_SUSPECTS are kept.
    """

    rows_M: RowArray
    scores_M: FloatArray
    suggested_M: npt.NDArray[np.int32]
    count: int


def by_model(rows_N: RowArray, probs_NC: FloatArray, classes_N: Ints) -> Found:
    """Labels that confident learning counts into another class; the score is one minus the probability of the label.

    Args:
        rows_N: the samples.
        probs_NC: predictions by models that did not see the sample's label.
        classes_N: their labels, as class ids.
    """
    learned = confident_learning(probs_NC, classes_N)
    return _found(rows_N, learned.suspicious_N, 1 - learned.quality.self_confidence_N, learned.confident_N)


def by_neighbors(rows_N: RowArray, embeddings_ND: FloatArray, classes_N: Ints, neighbors: int) -> Found:
    """Labels that most of the nearest labeled samples do not have; the score is the share of those."""
    share_N = knn_disagreement(embeddings_ND, classes_N, neighbors)
    return _found(rows_N, share_N > _MOST_NEIGHBORS, share_N)


def by_duplicates(rows_N: RowArray, embeddings_ND: FloatArray, codes_N: Ints, radius: float) -> Found:
    """Labels that copies of the sample do not have; the score is the share of its copies with another label."""
    share_N = duplicate_disagreement(near_duplicates(embeddings_ND, radius), codes_N)
    return _found(rows_N, share_N > 0, share_N)


def by_annotators(rows_N: RowArray, given: Annotations, task: Task) -> Found:
    """Samples whose annotators differ: the score is one minus the mean agreement of pairs of answers. rows_N: by
    the numbers of samples in `given`."""
    order_A = np.argsort(given.samples_A, kind="stable")
    offsets_O = np.concatenate([[0], np.cumsum(np.bincount(given.samples_A, minlength=given.samples))])
    values = at(given.values, order_A)
    if isinstance(values, np.ndarray):
        classes_A = task.targets(values)
        assert classes_A is not None  # a classification
        differ_N = annotator_disagreement(offsets_O, classes_A)
        return _found(rows_N, differ_N > 0, differ_N)
    differ_N = np.array(
        [1 - _agreement(task, values[start:stop]) for start, stop in successive(offsets_O)],
        np.float32,
    )
    return _found(rows_N, differ_N > 1 - _LEAST_AGREEMENT, differ_N)


def _agreement(task: Task, values: Sequence[object]) -> float:
    return pairwise([task.resolve(value) for value in values], task.agreement) if len(values) > 1 else 1.0


def _found(
    rows_N: RowArray,
    suspicious_N: npt.NDArray[np.bool_],
    scores_N: FloatArray,
    suggested_N: Ints | None = None,
) -> Found:
    places = np.flatnonzero(suspicious_N)
    kept = places[np.argsort(-scores_N[places], kind="stable")[:MOST_SUSPECTS]]
    suggested_M = np.full(len(kept), -1) if suggested_N is None else suggested_N[kept]
    return Found(rows_N[kept], scores_N[kept].astype(np.float32), suggested_M.astype(np.int32), len(places))


def rating(rows_N: RowArray, probs_NC: FloatArray, given: Annotations, task: Task) -> Rating:
    """What one more answer to each sample is worth, by ActiveLab. rows_N, ascending: by the numbers of samples in
    `given`; probs_NC: predictions by models that did not see the sample's answers."""
    order_A = np.argsort(given.samples_A, kind="stable")
    classes_A = task.targets(at(given.values, order_A))
    assert classes_A is not None  # a classification
    offsets_O = np.concatenate([[0], np.cumsum(np.bincount(given.samples_A, minlength=given.samples))])
    rated = relabeling(probs_NC, offsets_O, given.workers_A[order_A], classes_A)
    weights_W = rated.annotator_weights_W[rated.annotator_weights_W > 0]
    average = float(weights_W.mean()) if len(weights_W) else 1.0
    return Rating(rows_N, rated.worth_N, rated.model_weight, average, rated.temperature)
