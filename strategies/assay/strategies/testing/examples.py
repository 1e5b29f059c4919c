"""Example samples for the kit, and running a strategy on them."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Scorer, Selection, Selector, Strategy
from assay.strategies.candidates import AnyArray, Candidates, parts_of, softmax
from assay.strategies.errors import StrategyError
from assay.strategies.needs import PARTS, SPECS, Need

Arrays = dict[Need, AnyArray]

SIZE, CLASSES, DIM, MEMBERS, LABELED_SIZE, NEIGHBOURS, QUERIES, TARGETS = 60, 4, 5, 3, 7, 6, 4, 2


class StopAfter:
    """A stop that says no so many times, and yes from then on."""

    def __init__(self, times: int) -> None:
        self.asked = 0
        self._times = times
        self._lock = threading.Lock()

    def __call__(self) -> bool:
        with self._lock:
            self.asked += 1
            return self.asked > self._times


def require(holds: bool, message: str) -> None:
    """An assertion that `python -O` keeps."""
    if not holds:
        raise AssertionError(message)


def example_arrays(size: int = SIZE, classes: int = CLASSES, seed: int = 0) -> Arrays:
    """Every array that can be declared, random, read-only, without ties."""
    rng = np.random.default_rng(seed)
    logits_NC = rng.normal(0, 2, (size, classes)).astype(np.float32)
    members_KNC = logits_NC + rng.normal(0, 1, (MEMBERS, size, classes)).astype(np.float32)
    embeddings_ND = rng.normal(0, 1, (size, DIM)).astype(np.float32)
    arrays: Arrays = {
        Need.LOGITS: logits_NC,
        Need.PROBS: softmax(logits_NC),
        Need.EMBEDDINGS: embeddings_ND,
        Need.MEMBER_PROBS: np.stack([softmax(member_NC) for member_NC in members_KNC]),
        Need.LABELED_EMBEDDINGS: rng.normal(0, 1, (LABELED_SIZE, DIM)).astype(np.float32),
        Need.LABELED_CLASSES: rng.integers(0, classes, LABELED_SIZE),
        Need.KNN_GRAPH: neighbours(embeddings_ND),
        Need.CLUSTERS: rng.integers(0, 5, size),
        Need.LABEL_PROBS: rng.random((size, classes), np.float32),
        Need.MEMBER_VALUES: rng.normal(0, 1, (MEMBERS, size, TARGETS)).astype(np.float32),
        Need.PART_OFFSETS: np.append(0, rng.integers(0, 4, size).cumsum()).astype(np.int64),
        Need.LABELED_PROBS: softmax(rng.normal(0, 2, (LABELED_SIZE, classes)).astype(np.float32)),
        Need.QUERY_EMBEDDINGS: rng.normal(0, 1, (QUERIES, DIM)).astype(np.float32),
        Need.HEAD_WEIGHTS: rng.normal(0, 1, (classes, DIM)).astype(np.float32),
        Need.HEAD_BIAS: rng.normal(0, 1, classes).astype(np.float32),
        Need.WORTH: rng.random(size, np.float32),
    }
    parts = int(arrays[Need.PART_OFFSETS][-1])
    arrays[Need.PART_PROBS] = softmax(rng.normal(0, 2, (parts, classes)).astype(np.float32))
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def neighbours(embeddings_ND: NDArray[np.float32]) -> NDArray[np.int64]:
    squared_NN = np.square(embeddings_ND[:, None] - embeddings_ND[None]).sum(axis=2)
    np.fill_diagonal(squared_NN, np.inf)
    graph_NK = np.full((len(embeddings_ND), NEIGHBOURS), -1, np.int64)
    width = max(0, min(NEIGHBOURS, len(embeddings_ND) - 1))
    graph_NK[:, :width] = np.argsort(squared_NN, axis=1)[:, :width]
    return graph_NK


def given(strategy: Strategy, arrays: Arrays) -> Candidates:
    """Candidates that carry just what the strategy declared; reading anything else raises NeedMissing."""
    size = len(arrays[Need.EMBEDDINGS])
    return Candidates(size, {need: arrays[need] for need in strategy.needs})


def reordered(arrays: Arrays, order: NDArray[np.int64]) -> Arrays:
    """The same samples in another order: place i holds what was at order[i]."""
    new_of_old = np.append(np.argsort(order), -1)
    moved_arrays = _taken(arrays, order)
    return {**moved_arrays, Need.KNN_GRAPH: new_of_old[moved_arrays[Need.KNN_GRAPH]]}


def _taken(arrays: Arrays, rows: NDArray[np.int64]) -> Arrays:
    """Some rows of every array, in any order; the neighbours keep their old numbers."""
    parts, offsets_O = parts_of(arrays[Need.PART_OFFSETS], rows)
    taken: Arrays = {Need.PART_PROBS: arrays[Need.PART_PROBS][parts], Need.PART_OFFSETS: offsets_O}
    for need in arrays.keys() - PARTS:
        axis = SPECS[need].candidate_axis
        taken[need] = arrays[need] if axis is None else np.take(arrays[need], rows, axis=axis)
    return taken


def score(scorer: Scorer, arrays: Arrays) -> NDArray[np.float32]:
    return scorer.score(given(scorer, arrays), scorer.params())


def select(
    selector: Selector, arrays: Arrays, size: int, utility: NDArray[np.float32] | None = None, seed: int = 1
) -> Selection:
    candidates = given(selector, arrays)
    if utility is None and selector.needs_utility:
        utility = example_utility(candidates.size)
    return selector.select(candidates, size, np.random.default_rng(seed), utility, selector.params())


def example_utility(size: int) -> NDArray[np.float32]:
    return np.random.default_rng(2).permutation(np.arange(size, dtype=np.float32))


def run(strategy: Strategy, arrays: Arrays) -> None:
    """Score or pick, for checks that only ask whether it works and what it leaves behind."""
    if isinstance(strategy, Scorer):
        scores_N = score(strategy, arrays)
        require(bool(np.isfinite(scores_N).all()), "a score is NaN or infinite")
    else:
        require_valid(select(strategy, arrays, 5), 5)


def require_valid(selection: Selection, picks: int, size: int = SIZE) -> None:
    indices, scores = selection.indices, selection.scores
    require(indices.dtype == np.int64, f"indices are {indices.dtype}, not int64")
    require(scores.dtype == np.float32, f"scores are {scores.dtype}, not float32")
    require(len(selection) == picks, f"{len(selection)} picks, not {picks}")
    require(len(np.unique(indices)) == picks, "a candidate was picked twice")
    require(not picks or (indices.min() >= 0 and indices.max() < size), "a pick lies outside the candidates")
    require(bool(np.isfinite(scores).all()), "a pick's score is NaN or infinite")


def same(left: Selection, right: Selection) -> bool:
    return np.array_equal(left.indices, right.indices) and np.array_equal(left.scores, right.scores)


def repeated(arrays: Arrays, rows: NDArray[np.int64]) -> Arrays:
    """Rows repeated; the neighbours are those of the repeated embeddings."""
    taken = _taken(arrays, rows)
    return {**taken, Need.KNN_GRAPH: neighbours(taken[Need.EMBEDDINGS])}


def run_on(strategy: Strategy, candidates: Candidates) -> None:
    if isinstance(strategy, Scorer):
        strategy.score(candidates, strategy.params())
    else:
        utility = example_utility(candidates.size) if strategy.needs_utility else None
        strategy.select(candidates, 5, np.random.default_rng(1), utility, strategy.params())


def require_refused(strategy: Strategy, arrays: Arrays, what: str) -> None:
    try:
        run(strategy, arrays)
    except StrategyError:
        return
    raise AssertionError(f"{what} was accepted")
