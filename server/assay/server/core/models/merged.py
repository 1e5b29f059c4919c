"""Predictions after classes were merged: what a model says of a class goes to the class that took its place.

Heads that were trained before a merge, backbones and pushed predictions know the classes as they were.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.core.records.arrays import FloatArray
from assay.strategies import Need

# A logit that is nothing beside any other.
UNSEEN_LOGIT = -30.0


def fold(merges_C: npt.NDArray[np.int32] | None, need: Need | None, values_NC: npt.NDArray[Any]) -> None:
    """Folds predictions in place; None folds nothing, and neither do numbers.

    Probabilities of one class add up, as logits or as they are. Of a set of classes, that any of several applies is at
    least as probable as each of them: the greatest is taken. A class that was merged is left with next to nothing.

    Args:
        merges_C: the class that each class is counted as.
        need: LOGITS, PROBS or LABEL_PROBS.
        values_NC: predictions, or those of each member of a committee [..., N, C].
    """
    if merges_C is None or need is None:
        return
    for merged in np.flatnonzero(merges_C != np.arange(len(merges_C))).tolist():
        own_N, into_N = values_NC[..., merged], values_NC[..., merges_C[merged]]
        match need:
            case Need.LOGITS:
                np.logaddexp(into_N, own_N, out=into_N)
                own_N[...] = UNSEEN_LOGIT
            case Need.PROBS:
                into_N += own_N
                own_N[...] = 0
            case Need.LABEL_PROBS:
                np.maximum(into_N, own_N, out=into_N)
                own_N[...] = 0


def version(merges_C: npt.NDArray[np.int32] | None) -> str:
    """Names merges: predictions that are kept under it are folded alike."""
    return "" if merges_C is None else str(hash(merges_C.tobytes()))


def reached(merges_C: npt.NDArray[np.int32] | None, thresholds_C: FloatArray) -> FloatArray:
    """Thresholds of sets of classes after a merge: the least of those whose probabilities a class now stands for, so
    that whoever was said to have one of them still is."""
    if merges_C is None:
        return thresholds_C
    least_C = thresholds_C.copy()
    np.minimum.at(least_C, merges_C, thresholds_C)
    return least_C
