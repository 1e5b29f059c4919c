"""One simulated labeling: pick, label, train, measure, again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from assay.strategies import Need, get, kind, select
from assay.strategies.base import optional_needs
from benchmarks.learning.data import DataSet

BATCH, ROUNDS = 20, 15
# Stands for the logit of a class that no label has shown yet.
_UNSEEN = -50.0


@dataclass(frozen=True)
class Entry:
    """A strategy as it is entered: utility names the scorer that a selector ranks by."""

    label: str
    strategy: str
    utility: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Head:
    """A logistic head over all classes."""

    weights_CD: NDArray[np.float32]
    bias_C: NDArray[np.float32]

    def logits(self, embeddings_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        logits_NC: NDArray[np.float32] = embeddings_ND @ self.weights_CD.T + self.bias_C
        return logits_NC


def curve(data: DataSet, entry: Entry, seed: int) -> list[float]:
    """Held-out accuracy after each round of BATCH labels. The first batch is the strategy's own where it needs no
    model, and random where it does; the same random one for all of a seed."""
    labeled: NDArray[np.int64] = np.empty(0, np.int64)
    head: Head | None = None
    accuracies = []
    for number in range(ROUNDS):
        left = np.setdiff1d(np.arange(len(data.pool_ND)), labeled)
        chosen = entry if head is not None or not _needs_model(entry) else Entry("random", "random")
        picks = select(
            chosen.strategy,
            size=BATCH,
            utility=chosen.utility,
            seed=seed * 1000 + number,
            **_arrays(data, chosen, head, labeled, left),
            **chosen.params,
        )
        labeled = np.concatenate([labeled, left[picks.indices]])
        head = train(data, labeled)
        predicted = head.logits(data.held_out_MD).argmax(axis=1)
        accuracies.append(float((predicted == data.held_out_classes_M).mean()))
    return accuracies


def train(data: DataSet, labeled: NDArray[np.int64]) -> Head:
    """A head on the labeled samples, in the float32 that a server would hold."""
    classes_L = data.pool_classes_N[labeled]
    weights_CD = np.zeros((data.classes, data.pool_ND.shape[1]), np.float32)
    bias_C = np.full(data.classes, _UNSEEN, np.float32)
    seen = np.unique(classes_L)
    if len(seen) == 1:
        bias_C[seen] = 0
        return Head(weights_CD, bias_C)
    model = LogisticRegression(C=data.inverse_l2, max_iter=200, tol=1e-3).fit(data.pool_ND[labeled], classes_L)
    if len(seen) == 2:
        weights_CD[seen[1]], bias_C[seen] = model.coef_[0], (0, model.intercept_[0])
    else:
        weights_CD[seen], bias_C[seen] = model.coef_, model.intercept_
    return Head(weights_CD, bias_C)


def _needs_model(entry: Entry) -> bool:
    strategy = get(entry.strategy)
    of_model = {Need.PROBS, Need.LABELED_PROBS, Need.HEAD_WEIGHTS}
    return bool(strategy.needs & of_model) or (kind(strategy) == "selector" and entry.utility is not None)


def _arrays(
    data: DataSet, entry: Entry, head: Head | None, labeled: NDArray[np.int64], left: NDArray[np.int64]
) -> dict[str, Any]:
    """What the strategy asks for and there is."""
    arrays: dict[Need, Any] = {
        Need.EMBEDDINGS: data.pool_ND[left],
        Need.LABELED_EMBEDDINGS: data.pool_ND[labeled],
        Need.LABELED_CLASSES: data.pool_classes_N[labeled],
    }
    if head is not None:
        logits_LC = head.logits(data.pool_ND[labeled])
        arrays[Need.LOGITS] = head.logits(data.pool_ND[left])
        arrays[Need.LABELED_PROBS] = _softmax(logits_LC)
        arrays[Need.HEAD_WEIGHTS], arrays[Need.HEAD_BIAS] = head.weights_CD, head.bias_C
    strategy = get(entry.strategy)
    wanted = strategy.needs | optional_needs(strategy)
    if Need.PROBS in wanted or entry.utility is not None:
        wanted |= {Need.LOGITS}
    # One array at least must say how many candidates there are.
    wanted |= {Need.EMBEDDINGS}
    return {need.value: array for need, array in arrays.items() if need in wanted}


def _softmax(logits_NC: NDArray[np.float32]) -> NDArray[np.float32]:
    weights_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    probs_NC: NDArray[np.float32] = weights_NC / weights_NC.sum(axis=1, keepdims=True)
    return probs_NC
