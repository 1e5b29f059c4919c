"""GALAXY: bisects, class by class, between labeled samples of different classes in the order of the model's margin."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import NoParams, Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.errors import StrategyError
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels import fused
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import Need


@dataclass(frozen=True)
class Galaxy:
    """Finds where the classes really part, in as few labels as bisection takes; rare classes get as much as common.

    For each class all samples, labeled or not, stand in a row by how likely they are of it. Two labeled samples, one
    of the class and one not, with only unlabeled ones between them, enclose a border: the closest such pair of a row
    is taken, and the sample halfway between them picked. Where all such pairs have become neighbours, a pick is the
    unlabeled sample nearest to a border, over the labeled ones in between. Picks look at one class each, in turn, so
    that the borders of rare classes are looked for as often as those of common ones; a class without a border is
    passed over. The turn begins where the labels so far would have left it.

    Within a batch nobody has said the class of a pick. It counts as labeled with the class that the model predicts,
    and so do samples that somebody has in hand. Where no border is to be seen (nothing is labeled, or all of one
    class), the pick is the sample of smallest margin. Copies in a row go by index; ties between borders to the
    one farther down the row.

    Formula: row c in ascending order of p_c - max p, then of max p, then of index
    Cost: O(C N log N) to sort and O(k C log N) to pick, O(k C L) copying of list entries at worst; memory O(N C).
    Use when: classes are unbalanced, and the classes that the model takes for rare matter most.
    Avoid when: nothing is labeled, or batches are large: the classes assumed for picks steer the later ones.
    Paper: Zhang, Katz-Samuels and Nowak, GALAXY: Graph-based Active Learning at the Extreme, ICML 2022.
    Reference: plain loops that walk every row anew for each pick. The authors' code takes the classes in turn as we
        do (at random in LabelBench). It breaks ties in the margin by adding 1e-8 max p, which rounds away; it sees the
        true class of a pick before the next one; without a border it picks at random. The steps to farther neighbours
        are those of the paper's growing graph.
    """

    name: ClassVar[str] = "galaxy"
    summary: ClassVar[str] = "Bisects between labeled samples of different classes in each class's order of margin."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROBS, Need.LABELED_PROBS, Need.LABELED_CLASSES})
    params: ClassVar[type[NoParams]] = NoParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: NoParams,
    ) -> Selection:
        """Scores of the picks: the margin score 1 - (p1 - p2); picks are not in its order.

        Raises NeedMissing, or StrategyError NOT_FINITE, PROBABILITIES_INVALID, INVALID_ARRAY, or CLASS_OUT_OF_RANGE.
        """
        size = checked_size(size, candidates)
        probs_NC = candidates.probs_NC
        margins_N = fused.from_probs(probs_NC, {"margin"})["margin"]
        labeled_LC, classes_L = _labeled(candidates, probs_NC.shape[1])
        if size == 0:
            return Selection.empty()
        search = _Search(np.concatenate([probs_NC, labeled_LC]), candidates.size, classes_L)
        by_margin = iter(top_k(margins_N, candidates.size).tolist())
        picks: list[int] = []
        while len(picks) < size:
            checkpoint()
            pick = search.next_pick()
            if pick is None:
                pick = next(index for index in by_margin if not search.is_labeled[index])
            search.label(pick)
            picks.append(pick)
        indices = np.array(picks, np.int64)
        return Selection(indices, margins_N[indices])


galaxy = Galaxy()


class _Search:
    """The rows of all classes, and the borders seen in them. Samples are candidates, then labeled ones.

    Heaps hold what was once true, the best first; what is no longer is dropped or renewed when it comes up.
    _gaps: by class, (unlabeled samples between, place, place) of labeled neighbours on both sides of a border.
    _steps: by class, (distance, place beyond the border, place, direction) of the unlabeled sample nearest to a
    border that two neighbours share.
    _turn: the class that the next pick looks at first.
    """

    def __init__(self, probs_MC: NDArray[np.float32], candidates: int, classes_L: NDArray[np.int64]) -> None:
        tops_M = probs_MC.max(axis=1)
        self._rows: list[_Row] = []
        for column_M in probs_MC.T:
            checkpoint()
            self._rows.append(_Row(column_M - tops_M, tops_M))
        predicted_M = probs_MC.argmax(axis=1)
        self._classes = np.concatenate([predicted_M[:candidates], _known(classes_L, predicted_M[candidates:])])
        self.is_labeled = np.zeros(len(probs_MC), np.bool_)
        self._gaps: list[list[tuple[int, int, int]]] = [[] for _ in self._rows]
        self._steps: list[list[tuple[int, int, int, int]]] = [[] for _ in self._rows]
        self._turn = len(classes_L) % max(len(self._rows), 1)
        for sample in range(candidates, len(probs_MC)):
            checkpoint()
            self.label(sample)

    def next_pick(self) -> int | None:
        """The pick of the first class, from the turn on, that has a border; None where none has."""
        for shift in range(len(self._rows)):
            c = (self._turn + shift) % len(self._rows)
            pick = self._pick_in(c)
            if pick is not None:
                self._turn = (c + 1) % len(self._rows)
                return pick
        return None

    def _pick_in(self, c: int) -> int | None:
        """The sample halfway across the shortest gap of a row, else the one nearest to a border; None without any."""
        gaps, steps = self._gaps[c], self._steps[c]
        while gaps:
            _, left, right = gaps[0]
            if self._rows[c].are_neighbours(left, right):
                return self._first_copy(c, (left + right) // 2)
            heapq.heappop(gaps)
        while steps:
            _, beyond, place, direction = steps[0]
            if not self.is_labeled[self._rows[c].order_M[place]]:
                return self._first_copy(c, place)
            heapq.heappop(steps)
            self._push_step(c, beyond, place, direction)
        return None

    def label(self, sample: int) -> None:
        """Count a sample as labeled with its class, in every row."""
        self.is_labeled[sample] = True
        for c, row in enumerate(self._rows):
            left, place, right = row.insert(sample)
            if left is not None:
                self._look_between(c, left, place)
            if right is not None:
                self._look_between(c, place, right)

    def _look_between(self, c: int, left: int, right: int) -> None:
        order_M = self._rows[c].order_M
        if (self._classes[order_M[left]] == c) == (self._classes[order_M[right]] == c):
            return
        if right - left > 1:
            heapq.heappush(self._gaps[c], (right - left - 1, left, right))
        else:
            self._push_step(c, right, left, -1)
            self._push_step(c, left, right, 1)

    def _push_step(self, c: int, beyond: int, place: int, direction: int) -> None:
        """The next unlabeled sample from `place` on, if there is one, as far as it is from `beyond` the border."""
        order_M = self._rows[c].order_M
        while 0 <= place < len(order_M):
            if not self.is_labeled[order_M[place]]:
                heapq.heappush(self._steps[c], (abs(place - beyond), beyond, place, direction))
                return
            place += direction

    def _first_copy(self, c: int, place: int) -> int:
        """The sample at a place of a row, or the first of those equal to it, as far down as they are unlabeled."""
        row = self._rows[c]
        while place > 0 and row.is_tied(place - 1) and not self.is_labeled[row.order_M[place - 1]]:
            place -= 1
        return int(row.order_M[place])


class _Row:
    """All samples by how likely they are of one class; and the places of those that are labeled, ascending."""

    def __init__(self, margins_M: NDArray[np.float32], tops_M: NDArray[np.float32]) -> None:
        order_M = np.lexsort((tops_M, margins_M))
        keys_2M = np.stack([margins_M[order_M], tops_M[order_M]])
        self.order_M = order_M.astype(np.int32)
        self._places_M = np.empty(len(order_M), np.int32)
        self._places_M[order_M] = np.arange(len(order_M), dtype=np.int32)
        self._tied_M = (keys_2M[:, 1:] == keys_2M[:, :-1]).all(axis=0)
        self._labeled: list[int] = []

    def insert(self, sample: int) -> tuple[int | None, int, int | None]:
        """The labeled place before a sample that becomes labeled, its own, and the one after."""
        place = int(self._places_M[sample])
        rank = bisect_left(self._labeled, place)
        left = self._labeled[rank - 1] if rank else None
        right = self._labeled[rank] if rank < len(self._labeled) else None
        self._labeled.insert(rank, place)
        return left, place, right

    def are_neighbours(self, left: int, right: int) -> bool:
        """Whether nothing between two labeled places has been labeled since."""
        return self._labeled[bisect_left(self._labeled, left) + 1] == right

    def is_tied(self, place: int) -> bool:
        """Whether a place and the following one are told apart by index only."""
        return bool(self._tied_M[place])


def _known(classes_L: NDArray[np.int64], predicted_L: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(classes_L < 0, predicted_L, classes_L)


def _labeled(candidates: Candidates, classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Predictions for the labeled samples, and their classes; none where the candidates carry none."""
    if not (candidates.has(Need.LABELED_PROBS) and candidates.has(Need.LABELED_CLASSES)):
        return np.empty((0, classes), np.float32), np.empty(0, np.int64)
    labeled_LC, classes_L = candidates.labeled_probs_LC, candidates.labeled_classes_L
    if labeled_LC.shape != (len(classes_L), classes):
        raise StrategyError(
            "INVALID_ARRAY", f"labeled_probs is {labeled_LC.shape}, not {(len(classes_L), classes)} as the others say"
        )
    if len(classes_L) and classes_L.max() >= classes:
        raise StrategyError("CLASS_OUT_OF_RANGE", f"labeled class {classes_L.max()} is not below {classes}")
    return labeled_LC, classes_L
